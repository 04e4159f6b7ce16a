"""The tensors of a published folder, by their published names, read one at a time and only when asked for.

safetensors headers are parsed here, so that looking at a folder loads no torch; values come through the safetensors
package. ``.bin`` files are unpickled with ``weights_only`` and memory-mapped. Every fault names its file.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgereverie.errors import BackboneError, MissingPackage

if TYPE_CHECKING:
    import torch

_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
           "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool"}  # fmt: skip
_AGAIN = "Copy or download this file again."
# Buffers that old versions of transformers saved. The config determines them, so they are neither read nor written.
_DERIVED = ("rotary_emb.inv_freq", "embeddings.position_ids")
_SINGLE = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor that is not read yet. dtype: torch's name of it. file: where it lies. ``stored[...]`` reads it."""

    shape: tuple[int, ...]
    dtype: str
    file: Path
    read: Callable[[], torch.Tensor]

    def __getitem__(self, _: Any) -> torch.Tensor:
        return self.read()

    def reshaped(self, shape: tuple[int, ...], change: Callable[[torch.Tensor], torch.Tensor]) -> Stored:
        """The same tensor, changed when it is read."""
        return replace(self, shape=shape, read=lambda: change(self.read()))


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The files that hold a folder's weights, safetensors before ``.bin``. Empty when it has none.

    Raises BackboneError when an index names a file that is not there.
    """
    for single in _SINGLE:
        index = folder / f"{single}.index.json"
        if index.is_file():
            names = sorted(set(_weight_map(index).values()))
            absent = [name for name in names if not (folder / name).is_file()]
            if absent:
                raise BackboneError(
                    f"{folder}: {index.name} names {len(names)} files, {len(absent)} of them missing "
                    f"({', '.join(absent[:3])}).",
                    hint="Download the folder again, all shards of it.",
                )
            return tuple(folder / name for name in names)
        if (folder / single).is_file():
            return (folder / single,)
    return ()


def weight_names(folder: Path) -> frozenset[str]:
    """The published names of all tensors, from an index or from the files' headers; no value is read."""
    for single in _SINGLE:
        if (index := folder / f"{single}.index.json").is_file():
            return frozenset(name for name in _weight_map(index) if not name.endswith(_DERIVED))
    return frozenset(open_files(weight_files(folder)))


def open_weights(folder: Path) -> dict[str, Stored]:
    """All tensors of a folder. Raises BackboneError for none, a damaged file, or one that lacks what the index promises."""
    files = weight_files(folder)
    if not files:
        raise BackboneError(
            f"{folder}: the folder has no weights.",
            hint="Wanted: model.safetensors or pytorch_model.bin, or their shards with the index beside them.",
        )
    tensors = open_files(files)
    for name, file in _promised(folder).items():
        if name not in tensors or tensors[name].file.name != file:
            raise BackboneError(
                f"{folder / file}: the index promises {name} in this file, it is not there.", hint=_AGAIN
            )
    return tensors


def open_files(files: tuple[Path, ...]) -> dict[str, Stored]:
    """The tensors of these files together."""
    tensors: dict[str, Stored] = {}
    for file in files:
        tensors |= _safetensors(file) if file.suffix == ".safetensors" else _pickled(file)
    return {name: tensor for name, tensor in tensors.items() if not name.endswith(_DERIVED)}


def _promised(folder: Path) -> dict[str, str]:
    for single in _SINGLE:
        if (index := folder / f"{single}.index.json").is_file():
            return {name: file for name, file in _weight_map(index).items() if not name.endswith(_DERIVED)}
        if (folder / single).is_file():
            break
    return {}


def _weight_map(index: Path) -> dict[str, str]:
    try:
        found = dict(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
        outside = [file for file in found.values() if Path(file).name != file]
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise BackboneError(f"{index}: the index cannot be read ({error}).", hint=_AGAIN) from None
    if outside:
        raise BackboneError(
            f"{index}: it names {outside[0]!r}, which does not lie beside it.",
            hint="A published index names files of its own folder only; take it from the checkpoint itself.",
        )
    return found


def _safetensors(file: Path) -> dict[str, Stored]:
    """Format: 8 bytes little-endian length, a JSON header, then the values at its offsets."""
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(min(length, 1 << 28)))
        header.pop("__metadata__", None)
        end = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
    except (OSError, struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackboneError(f"{file}: not a safetensors file, or cut short ({error}).", hint=_AGAIN) from None
    if (size := file.stat().st_size) < end:
        raise BackboneError(
            f"{file}: the weights are damaged or cut short: {size:,} bytes, its header tells of {end:,}.", hint=_AGAIN
        )

    return {
        name: Stored(
            tuple(entry["shape"]),
            _DTYPES.get(entry["dtype"], entry["dtype"]),
            file,
            partial(_from_safetensors, file, name),
        )
        for name, entry in header.items()
    }


def _from_safetensors(file: Path, name: str) -> torch.Tensor:
    """Maps the file anew, for this tensor alone: pages that were read are let go with the last who holds the tensor, where a
    mapping of its own would keep them all, and the whole file would count as memory in the end.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as handle:
            return handle.get_tensor(name)
    except (OSError, SafetensorError) as error:
        raise BackboneError(f"{file}: {name} cannot be read ({error}).", hint=_AGAIN) from None


def _pickled(file: Path) -> dict[str, Stored]:
    return {
        name: Stored(
            tuple(value.shape), str(value.dtype).removeprefix("torch."), file, partial(_from_pickle, file, name)
        )
        for name, value in _unpickled(file).items()
    }


def _from_pickle(file: Path, name: str) -> torch.Tensor:
    """Mapped anew, as above."""
    return _unpickled(file)[name]


def _unpickled(file: Path) -> Mapping[str, torch.Tensor]:
    try:
        import torch
    except ImportError:
        raise MissingPackage("torch", f"Reading {file.name}", "train") from None
    try:
        found = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # pickle, zipfile and torch raise a dozen kinds of it
        raise BackboneError(
            f"{file}: cannot be read as tensors alone ({str(error).splitlines()[0][:200]}).",
            hint=f"{_AGAIN} Files that need code to be unpickled are refused: they could run anything.",
        ) from None
    if not isinstance(found, Mapping) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise BackboneError(f"{file}: holds something else than tensors by name.", hint="Wanted: a state dict.")
    return found
