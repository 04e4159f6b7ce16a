"""A LoRA of LLaVA's code: an adapter for the language model, the projector in ``non_lora_trainables.bin``, and no base.

``MBZUAI/LLaVA-Phi-3-mini-4k-instruct-lora``, ``liuhaotian/llava-v1.5-7b-lora``. The base is a plain language model that
``adapter_config.json`` names; the adapter is added to its weights as they are read, so what is loaded is the whole model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgereverie.backbones._checkpoint import Stored, open_files, open_weights
from edgereverie.backbones._hub import locate
from edgereverie.backbones._layouts.base import Described, read_json
from edgereverie.backbones._layouts.llava import describe, has_tower, is_llava
from edgereverie.errors import BackboneError

if TYPE_CHECKING:
    import torch

_WHOLE = "non_lora_trainables.bin"
_PEFT = "base_model.model."


class LlavaLora:
    name = "llava_lora"

    def recognises(self, path: Path, config: Mapping[str, Any]) -> bool:
        return is_llava(config) and (path / "adapter_config.json").is_file()

    def read(self, path: Path, config: Mapping[str, Any]) -> Described:
        adapter = read_json(path, "adapter_config.json")
        scale = _scale(path, adapter)
        if not (path / _WHOLE).is_file():
            raise BackboneError(
                f"{path}: the adapter has no {_WHOLE}, which holds its projector.",
                hint="Copy the whole published folder: adapter_model, non_lora_trainables.bin and config.json.",
            )
        whole = _trained_whole(path)
        base = locate(str(adapter.get("base_model_name_or_path")), path, "base model")
        inside = has_tower(frozenset(whole))
        return describe(path, config, inside=inside, tensors=partial(_merged, path, base, scale))


def _scale(path: Path, adapter: Mapping[str, Any]) -> float:
    """The factor of B A. Raises BackboneError for kinds of adapters that LLaVA's code never wrote."""
    for key in ("use_dora", "fan_in_fan_out", "modules_to_save", "rank_pattern", "alpha_pattern"):
        if adapter.get(key):
            raise BackboneError(
                f"{path / 'adapter_config.json'}: {key} is set, which is not added here.",
                hint="Merge this adapter with peft into its base first.",
            )
    rank = int(adapter["r"])
    return float(adapter["lora_alpha"]) / (rank**0.5 if adapter.get("use_rslora") else rank)


def _trained_whole(path: Path) -> dict[str, Stored]:
    """The projector under its names in a whole checkpoint: LLaVA's code wrote it with peft's prefix, or two."""
    found = {}
    for name, tensor in open_files((path / _WHOLE,)).items():
        name = name.removeprefix("base_model.")
        found[name.removeprefix("model.") if name.startswith("model.model.") else name] = tensor
    return found


def _merged(path: Path, base: Path, scale: float) -> dict[str, Stored]:
    """The base's tensors with the adapter added, and those that were trained whole."""
    tensors = open_weights(base) | _trained_whole(path)
    pairs: dict[str, dict[str, Stored]] = {}
    for name, tensor in open_files((_adapter_file(path),)).items():
        target, _, half = name.removeprefix(_PEFT).rpartition(".lora_")
        half = half.removesuffix(".weight").removesuffix(".default")
        if half not in ("A", "B"):
            raise BackboneError(f"{tensor.file}: {name} is neither half of a LoRA.", hint="Merge it with peft first.")
        pairs.setdefault(f"{target}.weight", {})[half] = tensor
    for name, halves in pairs.items():
        if name not in tensors or set(halves) != {"A", "B"}:
            raise BackboneError(
                f"{_adapter_file(path)}: the adapter's {name} has no place in the base at {base}.",
                hint="Take the base that adapter_config.json names (base_model_name_or_path).",
            )
        whole, down, up = tensors[name], halves["A"], halves["B"]
        if whole.shape != (up.shape[0], down.shape[1]) or up.shape[1] != down.shape[0]:
            raise BackboneError(
                f"{_adapter_file(path)}: the adapter's {name} is for a weight of {up.shape[0]}x{down.shape[1]}, the base at "
                f"{base} has {'x'.join(map(str, whole.shape))}.",
                hint="Take the base that adapter_config.json names (base_model_name_or_path).",
            )
        tensors[name] = replace(whole, read=_Sum(whole, down, up, scale))
    return tensors


def _adapter_file(path: Path) -> Path:
    for name in ("adapter_model.safetensors", "adapter_model.bin"):
        if (path / name).is_file():
            return path / name
    raise BackboneError(f"{path}: no adapter_model.safetensors or .bin.", hint="Copy the whole published folder.")


@dataclass(frozen=True, slots=True)
class _Sum:
    """Reads W + scale B A, added in 32 bit and rounded once to W's type."""

    whole: Stored
    down: Stored
    up: Stored
    scale: float

    def __call__(self) -> torch.Tensor:
        whole = self.whole[...]
        return (whole.float() + self.scale * (self.up[...].float() @ self.down[...].float())).to(whole.dtype)


LAYOUT = LlavaLora()
