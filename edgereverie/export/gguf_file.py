"""Write a GGUF file tensor by tensor: the header first, then each tensor as it is read, so memory stays near the largest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgereverie.errors import ExportError
from edgereverie.export.base import Progress
from edgereverie.export.weights import Weights

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType, GGUFWriter


@dataclass(frozen=True, slots=True)
class Placed:
    """A tensor of the file: its GGUF name, its stable name in the model folder, the shape it must have, its type."""

    name: str
    source: str
    shape: tuple[int, ...]
    type: GGMLQuantizationType


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
    from gguf import GGUFWriter
    from gguf.quants import quant_shape_to_byte_shape

    for tensor in placed:
        if (found := weights.shape(tensor.source)) != tensor.shape:
            raise ExportError(
                f"{weights.path}: {tensor.source} has shape {found}, config.json says {tensor.shape}.",
                hint="Take config.json and the weights from the same model.",
            )
    writer = GGUFWriter(path, arch)
    try:
        describe(writer)
        for tensor in placed:
            stored = quant_shape_to_byte_shape(tensor.shape, tensor.type)
            writer.add_tensor_info(tensor.name, stored, np.dtype(np.uint8), int(np.prod(stored)), tensor.type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for done, tensor in enumerate(placed):
            progress(f"writing {path.name}", done / len(placed))
            writer.write_tensor_data(_encoded(weights.array(tensor.source), tensor))
    finally:
        writer.close()


def _encoded(values: np.ndarray, tensor: Placed) -> np.ndarray:
    from gguf import GGMLQuantizationType, quants

    if tensor.type == GGMLQuantizationType.F16 and (peak := float(np.abs(values).max())) > float(
        np.finfo(np.float16).max
    ):
        raise ExportError(f"{tensor.source} reaches {peak:.3g}, more than F16 holds.", hint="Export it as BF16 or F32.")
    return quants.quantize(values, tensor.type).view(np.uint8)


def check_complete(
    weights: Weights, placed: list[Placed], prefixes: tuple[str, ...], unused: tuple[str, ...] = ()
) -> None:
    """Raise ExportError when the folder holds weights that no tensor of the file takes: nothing is dropped in silence."""
    taken = {tensor.source for tensor in placed} | set(unused)
    left = [name for prefix in prefixes for name in weights.names(prefix) if name not in taken]
    if left:
        raise ExportError(
            f"{weights.path}: the GGUF layout has no place for {', '.join(left[:4])} ({len(left)} in all).",
            hint="An adapter that is not merged? Run edgereverie merge first.",
        )
