"""Write a GGUF file tensor by tensor, some rows at a time: memory stays near the largest tensor of the model folder.

A tensor of the file may be made of several of the folder, one after the other: the experts of a layer, say. Each is read
when its turn comes, and packed a few million numbers at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from edgereverie.errors import ExportError
from edgereverie.export.base import Progress
from edgereverie.export.weights import Weights

if TYPE_CHECKING:
    import torch
    from gguf import GGMLQuantizationType, GGUFWriter

_AT_ONCE = 1 << 21  # numbers; packing 4-bit blocks takes some ten times their bytes


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of a tensor of the file. source: their name in the model folder, None for zeros. shape: what the source must
    have, or how many zeros. change: makes the rows from the source; by default they are it. by_row: the change looks at
    one row at a time, so it may be given some of them."""

    source: str | None
    shape: tuple[int, ...]
    change: Callable[[torch.Tensor], torch.Tensor] | None = None
    by_row: bool = False


@dataclass(frozen=True, slots=True)
class Placed:
    """A tensor of the file: its GGUF name, what it is made of, its shape, its type.

    source: the one tensor of the folder that it equals, or the pieces that follow each other in it.
    """

    name: str
    source: str | tuple[Piece, ...]
    shape: tuple[int, ...]
    type: GGMLQuantizationType

    @property
    def pieces(self) -> tuple[Piece, ...]:
        return (Piece(self.source, self.shape),) if isinstance(self.source, str) else self.source

    @property
    def sources(self) -> tuple[str, ...]:
        return tuple(piece.source for piece in self.pieces if piece.source is not None)


def weight_type(
    shape: tuple[int, ...], wanted: GGMLQuantizationType, fallback: GGMLQuantizationType
) -> GGMLQuantizationType:
    """``wanted`` for matrices whose rows fill its blocks, ``fallback`` for other matrices, F32 for vectors."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    if len(shape) < 2:
        return GGMLQuantizationType.F32
    return wanted if shape[-1] % GGML_QUANT_SIZES[wanted][0] == 0 else fallback


def write_gguf(
    path: Path,
    arch: str,
    describe: Callable[[GGUFWriter], None],
    placed: list[Placed],
    weights: Weights,
    progress: Progress,
) -> None:
    """Write ``path``. describe adds the metadata. Raises ExportError when a weight is missing, misshapen or overflows."""
    from gguf import GGUF_DEFAULT_ALIGNMENT

    for piece in (piece for tensor in placed for piece in tensor.pieces if piece.source is not None):
        if (found := weights.shape(piece.source)) != piece.shape:
            raise ExportError(
                f"{weights.path}: {piece.source} has shape {found}, config.json says {piece.shape}.",
                hint="Take config.json and the weights from the same model.",
            )
    _write_header(path, arch, describe, placed)
    with path.open("ab") as stream:
        for done, tensor in enumerate(placed):
            progress(f"writing {path.name}", done / len(placed))
            stream.write(bytes(-stream.tell() % GGUF_DEFAULT_ALIGNMENT))
            _write_tensor(stream, tensor, weights)
        stream.write(bytes(-stream.tell() % GGUF_DEFAULT_ALIGNMENT))


def _write_header(path: Path, arch: str, describe: Callable[[GGUFWriter], None], placed: list[Placed]) -> None:
    from gguf import GGUFWriter
    from gguf.quants import quant_shape_to_byte_shape

    writer = GGUFWriter(path, arch)
    try:
        describe(writer)
        for tensor in placed:
            stored = quant_shape_to_byte_shape(tensor.shape, tensor.type)
            writer.add_tensor_info(tensor.name, stored, np.dtype(np.uint8), prod(stored), tensor.type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
    finally:
        writer.close()


def _write_tensor(stream: IO[bytes], tensor: Placed, weights: Weights) -> None:
    written = 0
    for piece in tensor.pieces:
        for values in _rows(piece, weights):
            stream.write(_encoded(values, piece, tensor.type).data)
            written += values.size
    assert written == prod(tensor.shape), f"{tensor.name}: {written} values for the shape {tensor.shape}"


def _rows(piece: Piece, weights: Weights) -> Iterator[np.ndarray]:
    """The piece's rows as float32, (some, row length) at a time."""
    import torch

    values = torch.zeros(piece.shape) if piece.source is None else weights.tensor(piece.source)
    if piece.change is not None and not piece.by_row:
        values = piece.change(values)
    values = values.reshape(-1, values.shape[-1])
    at_once = max(1, _AT_ONCE // values.shape[-1])
    for start in range(0, len(values), at_once):
        some = values[start : start + at_once]
        rows: np.ndarray = (piece.change(some) if piece.change is not None and piece.by_row else some).float().numpy()
        if piece.source is not None:
            weights.require_finite(piece.source, rows)
        yield rows


def _encoded(values: np.ndarray, piece: Piece, kind: GGMLQuantizationType) -> np.ndarray:
    from gguf import GGMLQuantizationType, quants

    if kind == GGMLQuantizationType.F16 and (peak := float(np.abs(values).max())) > float(np.finfo(np.float16).max):
        raise ExportError(f"{piece.source} reaches {peak:.3g}, more than F16 holds.", hint="Export it as BF16 or F32.")
    return np.ascontiguousarray(quants.quantize(values, kind)).view(np.uint8)


def check_complete(
    weights: Weights, placed: list[Placed], prefixes: tuple[str, ...], unused: tuple[str, ...] = ()
) -> None:
    """Raise ExportError when the folder holds weights that no tensor of the file takes: nothing is dropped in silence."""
    taken = {source for tensor in placed for source in tensor.sources} | set(unused)
    left = [name for prefix in prefixes for name in weights.names(prefix) if name not in taken]
    if left:
        raise ExportError(
            f"{weights.path}: the GGUF layout has no place for {', '.join(left[:4])} ({len(left)} in all).",
            hint="An adapter that is not merged? Run edgereverie merge first.",
        )
