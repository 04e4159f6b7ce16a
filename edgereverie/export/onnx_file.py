"""Write an ONNX file node by node: the graph first, then each weight as it is read, so memory stays near the largest.

Names follow from the order of calls and nothing is dated, so the same calls give the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from edgereverie.export.base import silent

if TYPE_CHECKING:
    import onnx

OPSET = 20  # old runtimes know it too
IR_VERSION = 9  # the one of that opset
INLINE_BYTES = 256 << 20  # larger graphs keep their weights in files beside; protobuf itself ends at 2 GiB
PART_BYTES = 2_000_000_000  # of one such file: browsers read each into one buffer
_SMALL = 1024  # bytes; smaller weights stay in the graph, where shape inference sees them
_ALIGNMENT = 64 << 10  # of larger ones, so that every system can map them


@dataclass(frozen=True, slots=True)
class Tensor:
    """A weight that is not made yet."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Placed:
    """Weights that are made together, such as a matrix's codes and scales."""

    tensors: tuple[Tensor, ...]
    make: Callable[[], Sequence[np.ndarray]]

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors)


class Graph:
    """An ONNX graph under construction. Values are known by name; an operator gives the names of its outputs."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.metadata: dict[str, str] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], onnx.TensorProto] = {}
        self._placed: list[Placed] = []
        self._domains: set[str] = set()

    def input(self, name: str, dtype: str, shape: Sequence[int | str]) -> str:
        self._inputs.append(_value(name, dtype, shape))
        return name

    def output(self, name: str, dtype: str, shape: Sequence[int | str]) -> None:
        self._outputs.append(_value(name, dtype, shape))

    def op(self, kind: str, *inputs: str, into: str = "", domain: str = "", **attributes: Any) -> str:
        """An operator with one output. into: its name, where it matters. An empty input is one that is left out."""
        return self.ops(kind, *inputs, into=(into,), domain=domain, **attributes)[0]

    def ops(
        self, kind: str, *inputs: str, into: Sequence[str] = ("",), domain: str = "", **attributes: Any
    ) -> list[str]:
        """An operator with as many outputs as ``into`` has names; the empty ones are named here."""
        from onnx import helper

        name = f"{kind}_{len(self._nodes)}"
        outputs = [given or (name if len(into) == 1 else f"{name}.{index}") for index, given in enumerate(into)]
        self._nodes.append(helper.make_node(kind, inputs, outputs, name=name, domain=domain, **attributes))
        self._domains.add(domain)
        return outputs

    def constant(self, values: Any, dtype: str = "int64") -> str:
        """A small array of the graph itself; equal ones are kept once."""
        from onnx import numpy_helper

        array = np.asarray(values, dtype)
        key = (dtype, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = numpy_helper.from_array(array, f"constant_{len(self._constants)}")
        return self._constants[key].name

    def weights(self, tensors: Sequence[Tensor], make: Callable[[], Sequence[np.ndarray]]) -> list[str]:
        """Weights that ``make`` gives when the file is written, in the types and shapes of ``tensors``."""
        self._placed.append(Placed(tuple(tensors), make))
        return [tensor.name for tensor in tensors]

    def weight(self, name: str, shape: tuple[int, ...], dtype: str, make: Callable[[], np.ndarray]) -> str:
        return self.weights([Tensor(name, shape, np.dtype(dtype))], lambda: [make()])[0]

    @property
    def nbytes(self) -> int:
        """Of all weights."""
        return sum(placed.nbytes for placed in self._placed)

    def save(self, path: Path, progress: Callable[[str, float], None] = silent) -> list[str]:
        """Write the file. Returns the names of the data files beside it: ``<name>_data``, ``<name>_data_1`` and so on."""
        from onnx import helper

        total, done = max(1, self.nbytes), 0
        initializers = list(self._constants.values())
        with _DataFiles(path, external=self.nbytes > INLINE_BYTES) as data:
            for placed in self._placed:
                progress(f"writing {path.name}", done / total)
                initializers += data.stored(placed)
                done += placed.nbytes
        graph = helper.make_graph(self._nodes, self.name, self._inputs, self._outputs, initializers)
        versions = {"": OPSET} | {domain: 1 for domain in sorted(self._domains) if domain}
        model = helper.make_model(
            graph,
            ir_version=IR_VERSION,
            producer_name="edgereverie",
            opset_imports=[helper.make_opsetid(domain, version) for domain, version in versions.items()],
        )
        helper.set_model_props(model, self.metadata)
        path.write_bytes(model.SerializeToString(deterministic=True))
        return data.names


class _DataFiles:
    """Weights as initializers: inside the graph, or in files beside it that are filled one after the other."""

    def __init__(self, path: Path, *, external: bool) -> None:
        self.names: list[str] = []
        self._path, self._external = path, external
        self._open = ExitStack()
        self._stream: BinaryIO | None = None

    def __enter__(self) -> _DataFiles:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def stored(self, placed: Placed) -> list[onnx.TensorProto]:
        """Make the weights and write them; nothing of them is kept but what lies inside the graph."""
        return [self._stored(*one) for one in zip(placed.tensors, placed.make(), strict=True)]

    def _stored(self, tensor: Tensor, values: np.ndarray) -> onnx.TensorProto:
        from onnx import TensorProto, helper

        assert (values.shape, values.dtype) == (tensor.shape, tensor.dtype), (tensor, values.shape, values.dtype)
        proto = TensorProto(
            name=tensor.name, data_type=helper.np_dtype_to_tensor_dtype(tensor.dtype), dims=tensor.shape
        )
        if not self._external or tensor.nbytes < _SMALL:
            proto.raw_data = values.tobytes()
            return proto
        stream = self._room(tensor.nbytes)
        proto.data_location = TensorProto.EXTERNAL
        for key, value in (("location", self.names[-1]), ("offset", stream.tell()), ("length", tensor.nbytes)):
            proto.external_data.add(key=key, value=str(value))
        stream.write(np.ascontiguousarray(values).data)
        return proto

    def _room(self, size: int) -> BinaryIO:
        """The file that is being filled, at an aligned place; another one where this would grow too long."""
        if self._stream is not None:
            place = -(-self._stream.tell() // _ALIGNMENT) * _ALIGNMENT
            if place + size <= PART_BYTES:
                self._stream.write(bytes(place - self._stream.tell()))
                return self._stream
        suffix = f"_{len(self.names)}" if self.names else ""
        self.names.append(f"{self._path.name}_data{suffix}")
        self._open.close()
        self._stream = self._open.enter_context(self._path.with_name(self.names[-1]).open("wb"))
        return self._stream


def _value(name: str, dtype: str, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    from onnx import helper

    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)
