"""A model folder's safetensors, one tensor at a time, under names that do not change with transformers' versions.

Memory stays near the largest tensor. The same tensor is ``language_model.model.layers.0...`` in one version's files and
``model.language_model.layers.0...`` in another's; here it is always ``text.layers.0...``.
"""

from __future__ import annotations

import json
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgereverie.errors import ExportError

_RENAMES = (
    (re.compile(r"^(?:language_model\.)?lm_head\."), "lm_head."),
    (re.compile(r"^(?:model\.)?language_model\.(?:model\.)?"), "text."),
    (re.compile(r"^(?:model\.)?vision_tower\.(?:vision_model\.)?"), "vision."),
    (re.compile(r"^(?:model\.)?multi_modal_projector\."), "projector."),
)
_DERIVED = re.compile(r"(rotary_emb\.inv_freq|embeddings\.position_ids)$")  # buffers that old versions saved
_DTYPES = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2"), "F64": np.dtype("<f8")}


def stable_name(name: str) -> str:
    """The tensor's name here, whichever version of transformers wrote it.

    >>> stable_name("language_model.model.layers.0.mlp.down_proj.weight")
    'text.layers.0.mlp.down_proj.weight'
    >>> stable_name("model.vision_tower.vision_model.post_layernorm.bias")
    'vision.post_layernorm.bias'
    >>> stable_name("language_model.lm_head.weight")
    'lm_head.weight'
    """
    for pattern, replacement in _RENAMES:
        renamed, found = pattern.subn(replacement, name)
        if found:
            return renamed
    return name


@dataclass(frozen=True, slots=True)
class _Entry:
    file: Path
    dtype: np.dtype
    bfloat16: bool
    shape: tuple[int, ...]
    offset: int


class Weights:
    """All tensors of a folder by stable name. Raises ExportError for damaged, truncated or quantized files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._entries: dict[str, _Entry] = {}
        index = folder / "model.safetensors.index.json"
        if index.is_file():
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        else:
            names = sorted(path.name for path in folder.glob("*.safetensors"))
        for name in names:
            self._read_header(folder / name)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def names(self, prefix: str = "") -> list[str]:
        return sorted(name for name in self._entries if name.startswith(prefix))

    def shape(self, name: str) -> tuple[int, ...]:
        return self._entry(name).shape

    def array(self, name: str) -> np.ndarray:
        """The tensor as float32. Raises ExportError when it holds NaN or infinity."""
        entry = self._entry(name)
        raw = np.memmap(entry.file, dtype=entry.dtype, mode="r", offset=entry.offset, shape=entry.shape)
        # A bfloat16 is the upper half of a float32; numpy has no type for it.
        values = (raw.astype(np.uint32) << 16).view(np.float32) if entry.bfloat16 else np.array(raw, dtype=np.float32)
        if not np.isfinite(values).all():
            raise ExportError(
                f"{entry.file}: the weight {name} holds NaN or infinity.",
                hint="The training diverged; merge an earlier checkpoint.",
            )
        return values

    def _entry(self, name: str) -> _Entry:
        if name not in self._entries:
            raise ExportError(
                f"{self.folder}: the weights lack {name}.",
                hint="config.json and the weights must be of the same model.",
            )
        return self._entries[name]

    def _read_header(self, file: Path) -> None:
        try:
            size = file.stat().st_size
            with file.open("rb") as stream:
                (length,) = struct.unpack("<Q", stream.read(8))
                header: dict[str, Any] = json.loads(stream.read(length)) if length < size else {}
        except (OSError, struct.error, ValueError) as error:
            raise ExportError(
                f"{file}: the weights cannot be read ({error}).", hint="Copy or download the file again."
            ) from None
        header.pop("__metadata__", None)
        for raw_name, about in header.items():
            name = stable_name(raw_name)
            if _DERIVED.search(name) or name in self._entries:
                continue
            if about["dtype"] not in _DTYPES:
                raise ExportError(
                    f"{file}: {raw_name} is stored as {about['dtype']}, which is not exported.",
                    hint="Merge into 16-bit or 32-bit weights first: edgereverie merge",
                )
            self._entries[name] = _Entry(
                file,
                _DTYPES[about["dtype"]],
                about["dtype"] == "BF16",
                tuple(about["shape"]),
                8 + length + about["data_offsets"][0],
            )
        end = 8 + length + max((about["data_offsets"][1] for about in header.values()), default=0)
        if not header or end != size:
            raise ExportError(
                f"{file}: the weights are cut short or damaged: {size:,} bytes, the header describes {end:,}.",
                hint="Copy or download the file again.",
            )
