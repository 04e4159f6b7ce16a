"""Smaller ONNX graphs: 16-bit floats, 4- and 8-bit blocks."""

from __future__ import annotations

import io
import logging
import warnings
from contextlib import redirect_stdout
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx

BLOCK = 32
_SMALL = 1024  # elements; norms, biases and constants below it stay float32


def to_fp16(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Weights and arithmetic in float16; inputs, outputs and the cache stay float32, so every runtime feeds it alike."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        return convert_float_to_float16(graph, keep_io_types=True, disable_shape_infer=True)


def store_fp16(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Large weights in float16 on disk and widened at load; the arithmetic stays float32 and needs no float16 kernels."""
    from onnx import TensorProto, helper, numpy_helper

    widened = []
    for tensor in graph.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < _SMALL:
            continue
        values = numpy_helper.to_array(tensor)
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_fp16"))
        widened.append(helper.make_node("Cast", [f"{name}_fp16"], [name], name=f"widen_{name}", to=TensorProto.FLOAT))
    nodes = list(graph.graph.node)
    del graph.graph.node[:]
    graph.graph.node.extend(widened + nodes)
    return graph


def to_blocks(graph: onnx.ModelProto, bits: int, keep: tuple[str, ...] = ()) -> onnx.ModelProto:
    """Every matrix product with a constant as MatMulNBits: symmetric blocks of 32, int8 activations on the CPU.

    bits: 4 or 8. keep: names of nodes that stay as they are.
    """
    from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer

    logger = logging.getLogger("onnxruntime.quantization.matmul_nbits_quantizer")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        config = DefaultWeightOnlyQuantConfig(block_size=BLOCK, is_symmetric=True, accuracy_level=4, bits=bits)
        quantizer = MatMulNBitsQuantizer(graph, nodes_to_exclude=list(keep), algo_config=config)
        quantizer.process()
    finally:
        logger.setLevel(level)
    return quantizer.model.model


def products_of(graph: onnx.ModelProto, output: str) -> tuple[str, ...]:
    """Names of the matrix products that ``output`` comes from directly, such as the language model's head for ``logits``."""
    return tuple(node.name for node in graph.graph.node if output in node.output and node.op_type in ("MatMul", "Gemm"))
