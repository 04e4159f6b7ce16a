"""What vision towers and language models have in common as ONNX operators: linears, norms, activations.

Inputs, outputs, sums and the cache are of one type, ``io``. Matrices may be smaller: then only the product itself is
computed from 16-bit values or blocks, and what stands between the products loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from edgereverie.errors import ExportError
from edgereverie.export.onnx_file import Graph, Tensor
from edgereverie.export.packing import BLOCK, Algorithm, block_shapes, to_blocks

Matrices = Literal["fp32", "fp16", "widened", "int8", "int4"]
MICROSOFT = "com.microsoft"  # the domain of onnxruntime's own operators
_HALF_MAX = float(np.finfo(np.float16).max)
_TANH_GELU = ("gelu_new", "gelu_pytorch_tanh")
_SWISH = ("silu", "swish")
ACTIVATIONS = ("gelu", *_TANH_GELU, "quick_gelu", *_SWISH, "relu")


@dataclass(frozen=True, slots=True)
class Precision:
    """How a graph computes.

    io: type of inputs, outputs, cache and of all that is no matrix product. matrices: ``fp32``; ``fp16``, products in 16
    bit; ``widened``, 16 bit on disk and 32 in memory; ``int8`` and ``int4``, blocks. algorithm: how the 4-bit blocks are
    found. int8_activations: on the CPU, blocks are multiplied with inputs that are rounded to 8 bits.
    """

    io: Literal["float32", "float16"] = "float32"
    matrices: Matrices = "fp32"
    algorithm: Algorithm = "k_quant"
    int8_activations: bool = True


class Source(Protocol):
    """Where weights come from, by stable name; ``Weights`` is one."""

    def __contains__(self, name: str) -> bool: ...
    def shape(self, name: str) -> tuple[int, ...]: ...
    def array(self, name: str) -> np.ndarray: ...


class Layers:
    """Operators with weights, added to a graph."""

    def __init__(self, graph: Graph, source: Source, precision: Precision) -> None:
        self.graph, self.source, self.precision = graph, source, precision
        self.io = precision.io

    def linear(self, x: str, names: Sequence[str], *, matrices: Matrices | None = None, into: str = "") -> str:
        """x times the modules' weights, one above the other, plus their biases where they have any.

        names: of modules. matrices: in place of the precision's own. ``fp32`` computes in 32 bit whatever ``io`` is.
        """
        kind = matrices or self.precision.matrices
        if kind in ("int8", "int4"):
            return self._biased(lambda last: self._blocks(x, names, int(kind[3:]), last), names, self.io, into)
        dtype = {"fp16": "float16", "fp32": "float32"}.get(kind, self.io)
        stored = "float32" if kind == "fp32" else "float16"

        def product(last: str) -> str:
            weight = self.matrix(names, stored)
            return self.graph.op("MatMul", self.cast(x, self.io, dtype), self.cast(weight, stored, dtype), into=last)

        whole = self._biased(product, names, dtype, into if dtype == self.io else "")
        return whole if dtype == self.io else self.cast(whole, dtype, self.io, into=into)

    def layer_norm(self, x: str, name: str, eps: float) -> str:
        inputs = [self.stored(f"{name}.weight"), self.stored(f"{name}.bias")]
        return self.graph.op("LayerNormalization", x, *inputs, axis=-1, epsilon=eps)

    def rms_norm(self, x: str, name: str, eps: float) -> str:
        """Squares are summed in 32 bit: in 16, a value beyond 255 would be infinite. As onnxruntime knows it and fuses it."""
        graph = self.graph
        wide = self.cast(x, self.io, "float32")
        square = graph.op("Pow", wide, graph.constant(2, "float32"))
        mean = graph.op("ReduceMean", square, graph.constant([-1]), keepdims=1)
        root = graph.op("Sqrt", graph.op("Add", mean, graph.constant(eps, "float32")))
        scaled = self.cast(graph.op("Div", wide, root), "float32", self.io)
        return graph.op("Mul", scaled, self.stored(f"{name}.weight"))

    def activate(self, x: str, kind: str) -> str:
        """One of ACTIVATIONS, as transformers names them."""
        graph = self.graph
        if kind == "relu":
            return graph.op("Relu", x)
        if kind == "gelu" or kind in _TANH_GELU:
            return graph.op("Gelu", x, approximate="tanh" if kind in _TANH_GELU else "none")
        gate = x if kind in _SWISH else graph.op("Mul", x, graph.constant(1.702, self.io))
        return graph.op("Mul", x, graph.op("Sigmoid", gate))

    def stored(self, name: str, shape: tuple[int, ...] | None = None) -> str:
        """A weight that is no linear's, in the type ``io``; at 16 bits on disk where it is large and matrices are."""
        shape = shape or self.source.shape(name)
        whole = len(shape) == 1 or self.precision.matrices == "fp32"
        dtype = self.io if whole else "float16"
        weight = self.graph.weight(name, shape, dtype, lambda: self.read(name, dtype).reshape(shape))
        return self.cast(weight, dtype, self.io)

    def cast(self, x: str, found: str, wanted: str, into: str = "") -> str:
        from onnx import helper

        if found == wanted:
            return x
        return self.graph.op("Cast", x, to=helper.np_dtype_to_tensor_dtype(np.dtype(wanted)), into=into)

    def _biased(self, product: Callable[[str], str], names: Sequence[str], dtype: str, into: str) -> str:
        """product: adds the operator whose output gets the name that it is given."""
        biases = [f"{name}.bias" in self.source for name in names]
        if not any(biases):
            return product(into)
        rows = [self.source.shape(f"{name}.weight")[0] for name in names]

        def make() -> np.ndarray:
            parts = [self.read(f"{name}.bias", dtype) if has else np.zeros(count, dtype)
                     for name, has, count in zip(names, biases, rows, strict=True)]  # fmt: skip
            return np.concatenate(parts)

        bias = self.graph.weight(f"{_joined(names)}.bias", (sum(rows),), dtype, make)
        return self.graph.op("Add", product(""), bias, into=into)

    def matrix(self, names: Sequence[str], dtype: str) -> str:
        """(inputs, outputs), as MatMul takes it."""
        rows, columns = self._shape(names)
        return self.graph.weight(
            f"{_joined(names)}.weight", (columns, rows), dtype,
            lambda: np.ascontiguousarray(self._stacked(names, dtype).T),
        )  # fmt: skip

    def _blocks(self, x: str, names: Sequence[str], bits: int, into: str) -> str:
        shape, precision = self._shape(names), self.precision
        algorithm = precision.algorithm if bits == 4 else "rtn"
        tensors = [
            Tensor(f"{_joined(names)}.{part}", size, np.dtype(self.io if scale else "uint8"))
            for part, size, scale in block_shapes(shape, bits, algorithm)
        ]

        def make() -> list[np.ndarray]:
            found = to_blocks(self._stacked(names, "float32"), bits, algorithm)
            return [
                _narrowed(part, str(tensor.dtype), tensor.name) for part, tensor in zip(found, tensors, strict=True)
            ]

        level = {"accuracy_level": 4} if precision.int8_activations else {}
        return self.graph.op(
            "MatMulNBits", x, *self.graph.weights(tensors, make), into=into, domain=MICROSOFT,
            K=shape[1], N=shape[0], bits=bits, block_size=BLOCK, **level,
        )  # fmt: skip

    def _shape(self, names: Sequence[str]) -> tuple[int, int]:
        shapes = [self.source.shape(f"{name}.weight") for name in names]
        return sum(shape[0] for shape in shapes), shapes[0][1]

    def _stacked(self, names: Sequence[str], dtype: str) -> np.ndarray:
        parts = [self.read(f"{name}.weight", dtype) for name in names]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def read(self, name: str, dtype: str) -> np.ndarray:
        return _narrowed(self.source.array(name), dtype, name)


def _narrowed(values: np.ndarray, dtype: str, name: str) -> np.ndarray:
    """In another type. Raises ExportError where 16 bits cannot hold a value."""
    if dtype == "float16" and (peak := float(np.abs(values).max(initial=0))) > _HALF_MAX:
        raise ExportError(
            f"{name} reaches {peak:.3g}, more than 16-bit floats hold.", hint="Export this model in fp32."
        )
    return values.astype(dtype, copy=False)


def _joined(names: Sequence[str]) -> str:
    """One name for several modules of one parent: ``...self_attn.q_proj+k_proj+v_proj``."""
    return names[0] + "".join("+" + name.rpartition(".")[2] for name in names[1:])
