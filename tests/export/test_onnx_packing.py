"""Blocks, against onnxruntime's own quantizers on the same matrices."""

from __future__ import annotations

import logging

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

pytest.importorskip("onnxruntime")
from onnxruntime.quantization import matmul_nbits_quantizer as theirs

from edgereverie.export import packing
from edgereverie.export.packing import BLOCK, block_shapes, to_blocks


def matrix(rows: int = 48, columns: int = 160) -> np.ndarray:
    """Weights of all sizes: halves between codes, blocks of zeros, of one value, of one sign, and single giants."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((rows, columns)).astype(np.float32) * rng.choice([1e-6, 0.02, 3], (rows, 1))
    values = values.astype(np.float32)
    values[0] = 0
    values[1, :BLOCK] = 0.25
    values[2] = np.abs(values[2])
    values[3] = -np.abs(values[3])
    values[4, 5] = 1e4
    values[5] = np.tile(np.arange(-16, 16, dtype=np.float32) / 2, columns // BLOCK)  # scale 1 at 4 bits: halves
    return values


def by_onnxruntime(values: np.ndarray, config: theirs.WeightOnlyQuantConfig) -> list[np.ndarray]:
    """A model of one product, quantized: what its MatMulNBits multiplies with."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")], "one",
        [helper.make_tensor_value_info("x", 1, ["n", values.shape[1]])],
        [helper.make_tensor_value_info("y", 1, ["n", values.shape[0]])],
        [numpy_helper.from_array(np.ascontiguousarray(values.T), "w")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    logging.getLogger(theirs.__name__).setLevel(logging.ERROR)
    quantizer = theirs.MatMulNBitsQuantizer(model, block_size=BLOCK, algo_config=config)
    quantizer.process()
    (node,) = (node for node in quantizer.model.model.graph.node if node.op_type == "MatMulNBits")
    kept = {tensor.name: numpy_helper.to_array(tensor) for tensor in quantizer.model.model.graph.initializer}
    return [kept[name] for name in node.input[1:]]


@pytest.mark.parametrize("bits", [4, 8])
def test_rounding_to_nearest_is_onnxruntimes_to_the_bit(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    values = matrix()
    config = theirs.DefaultWeightOnlyQuantConfig(block_size=BLOCK, is_symmetric=True, bits=bits)
    packed, scales = by_onnxruntime(values, config)
    for chunk in (1 << 18, 700):
        monkeypatch.setattr(packing, "_CHUNK", chunk)
        found = to_blocks(values, bits, "rtn")
        assert [part.shape for part in found] == [shape for _, shape, _ in block_shapes(values.shape, bits, "rtn")]
        assert found[0].tobytes() == packed.tobytes()
        assert found[1].tobytes() == scales.tobytes()


def test_k_quant_is_onnxruntimes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own packing of zero points works for an even number of blocks a row only."""
    values = matrix(columns=128)[1:]  # of a row of zeros theirs divides by nothing
    with np.errstate(all="ignore"):
        packed, scales, zeros = by_onnxruntime(values, theirs.KQuantWeightOnlyQuantConfig())
    monkeypatch.setattr(packing, "_CHUNK", 900)
    found = to_blocks(values, 4, "k_quant")
    for ours, expected in zip(found, (packed, scales, zeros), strict=True):
        assert ours.tobytes() == expected.tobytes()


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")  # within onnxruntime's
def test_hqq_is_onnxruntimes() -> None:
    pytest.importorskip("torch")
    values = matrix()
    config = theirs.HQQWeightOnlyQuantConfig(block_size=BLOCK, bits=4)
    for ours, expected in zip(to_blocks(values, 4, "hqq"), by_onnxruntime(values, config), strict=True):
        assert ours.tobytes() == expected.tobytes()


@pytest.mark.parametrize(("algorithm", "bits"), [("rtn", 4), ("rtn", 8), ("k_quant", 4), ("hqq", 4)])
def test_a_product_with_blocks_is_near_the_product(algorithm: str, bits: int) -> None:
    """Through onnxruntime's kernel, an odd number of blocks a row; a code is at most half a step from its value."""
    import onnxruntime as ort

    rng = np.random.default_rng(1)
    values = rng.standard_normal((64, 96)).astype(np.float32)
    parts = to_blocks(values, bits, algorithm)
    names = [name for name, *_ in block_shapes(values.shape, bits, algorithm)]
    node = helper.make_node("MatMulNBits", ["x", *names], ["y"], domain="com.microsoft", K=96, N=64, bits=bits,
                            block_size=BLOCK)  # fmt: skip
    graph = helper.make_graph(
        [node], "one", [helper.make_tensor_value_info("x", 1, ["n", 96])], [helper.make_tensor_value_info("y", 1, ["n", 64])],
        [numpy_helper.from_array(part, name) for part, name in zip(parts, names, strict=True)],
    )  # fmt: skip
    model = helper.make_model(graph, ir_version=9, opset_imports=[
        helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)])  # fmt: skip
    onnx.checker.check_model(model)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    unpacked = session.run(None, {"x": np.eye(96, dtype=np.float32)})[0].T
    peaks = np.abs(values.reshape(64, 3, BLOCK)).max(-1, keepdims=True)
    worst = np.abs((unpacked - values).reshape(64, 3, BLOCK)) / peaks
    assert worst.max() < (0.14 if bits == 4 else 0.009)
    assert np.sqrt((worst**2).mean()) < (0.05 if bits == 4 else 0.0025)
