"""Matrices as 4- and 8-bit blocks of 32 for onnxruntime's MatMulNBits, one matrix at a time.

A block is 32 neighbours of one row of (outputs, inputs): value = (code - zero point) x scale, the lower nibble first.
``rtn`` rounds to nearest and is onnxruntime's own quantizer, bit for bit; ``k_quant`` (llama.cpp's search over scales and
minima) and ``hqq`` (half-quadratic quantization) are onnxruntime's functions. Between them, measured on tuned starters
(three of them, 5,520 positions each): mean KL to the model in 32 bits 0.0236, 0.0215 and 0.0178 nats. But hqq's zero points
are no whole numbers, for which onnxruntime has no quick kernel on the CPU: a step takes thirty times as long.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np

Algorithm = Literal["rtn", "k_quant", "hqq"]
BLOCK = 32
_CHUNK = 1 << 18  # elements at a time: what lies between stays in the processor's cache


def block_shapes(shape: tuple[int, int], bits: int, algorithm: Algorithm) -> list[tuple[str, tuple[int, ...], bool]]:
    """(name, shape, whether it is of the scales' type) of what ``to_blocks`` gives for a matrix of this shape."""
    rows, blocks = shape[0], shape[1] // BLOCK
    found = [("packed", (rows, blocks, BLOCK * bits // 8), False), ("scales", (rows, blocks), True)]
    if algorithm == "k_quant":
        found.append(("zero_points", (rows, (blocks * bits + 7) // 8), False))
    if algorithm == "hqq":
        found.append(("zero_points", (rows, blocks), True))
    return found


def to_blocks(matrix: np.ndarray, bits: int, algorithm: Algorithm) -> list[np.ndarray]:
    """Codes, scales and, but for ``rtn``, zero points of a float32 matrix (outputs, inputs), as ``block_shapes`` says."""
    if algorithm == "hqq":
        return _hqq(matrix, bits)
    pack = _rtn if algorithm == "rtn" else _k_quant
    step = max(1, _CHUNK // matrix.shape[1])
    pieces = [matrix[start : start + step] for start in range(0, len(matrix), step)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        parts = list(pool.map(pack, pieces, [bits] * len(pieces)))
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def _rtn(matrix: np.ndarray, bits: int) -> Sequence[np.ndarray]:
    """MlasQuantizeBlockwise, symmetric: the value farthest from zero becomes code 0, at -2^(bits-1) x scale."""
    half, top = float(1 << (bits - 1)), float((1 << bits) - 1)
    blocks = matrix.reshape(len(matrix), -1, BLOCK)
    low, high = np.minimum(blocks.min(-1), 0), np.maximum(blocks.max(-1), 0)
    scales = (-np.where(np.abs(high) > np.abs(low), high, low) / np.float32(half)).astype(np.float32)
    inverse = np.divide(1, scales, out=np.zeros_like(scales), where=scales != 0)
    codes = blocks * inverse[..., None]
    codes += np.float32(half)
    np.clip(codes, 0, top, out=codes)
    whole = codes.astype(np.uint8)
    codes -= whole
    whole += codes >= 0.5  # halves away from zero, as C's roundf has it
    return _packed(whole, bits), scales


def _k_quant(matrix: np.ndarray, bits: int) -> Sequence[np.ndarray]:
    from onnxruntime.quantization.neural_compressor.weight_only import quant_tensor_k_quant_cpu

    rows, blocks = len(matrix), matrix.shape[1] // BLOCK
    with np.errstate(
        divide="ignore", invalid="ignore"
    ):  # of blocks that are all one value, which it leaves as they are
        codes, scales, zeros = quant_tensor_k_quant_cpu(matrix, bits, BLOCK)
    zeros = np.pad(zeros.reshape(rows, blocks), ((0, 0), (0, blocks % (8 // bits))))
    return (
        _packed(codes.astype(np.uint8).reshape(rows, blocks, BLOCK), bits),
        scales.reshape(rows, blocks).astype(np.float32),
        _packed(zeros, bits),
    )


def _hqq(matrix: np.ndarray, bits: int) -> list[np.ndarray]:
    import torch
    from onnxruntime.quantization.matmul_nbits_quantizer import HQQWeightOnlyQuantConfig, HQQWeightOnlyQuantizer

    quantizer = HQQWeightOnlyQuantizer(HQQWeightOnlyQuantConfig(block_size=BLOCK, bits=bits))
    codes, scales, zeros = quantizer.quantize_internal(torch.from_numpy(matrix), bits=bits, group_size=BLOCK)
    blocks = codes.numpy().astype(np.uint8).reshape(len(matrix), -1, BLOCK)
    return [_packed(blocks, bits), scales.numpy(), zeros.numpy()]


def _packed(codes: np.ndarray, bits: int) -> np.ndarray:
    return codes if bits == 8 else codes[..., ::2] | codes[..., 1::2] << 4
