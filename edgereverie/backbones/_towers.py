"""Vision towers that a checkpoint only names: their geometry, their colours, their weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgereverie.backbones._checkpoint import Stored, open_weights
from edgereverie.backbones._hub import locate
from edgereverie.backbones._layouts.base import read_json
from edgereverie.errors import BackboneError

Colour = tuple[float, float, float]
_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_CLIP_LARGE = {
    "model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
    "num_attention_heads": 16, "patch_size": 14, "projection_dim": 768, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
}  # fmt: skip
_SIGLIP_SO400M = {
    "model_type": "siglip_vision_model", "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27,
    "num_attention_heads": 16, "patch_size": 14, "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6,
}  # fmt: skip
_TYPES = {"clip": "clip_vision_model", "siglip": "siglip_vision_model"}
_PREFIX = "vision_model."
_FIELDS = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_channels", "image_size",
           "patch_size", "projection_dim", "hidden_act", "layer_norm_eps", "attention_dropout", "vision_use_head")  # fmt: skip
# A config.json holds only what differs from its class's defaults, which are those of the first published model.
_DEFAULTS = {
    "clip_vision_model": {"hidden_size": 768, "image_size": 224, "patch_size": 32},
    "siglip_vision_model": {"hidden_size": 768, "image_size": 224, "patch_size": 16},
}


@dataclass(frozen=True, slots=True)
class Tower:
    """config: for transformers. folder: where its weights are, None for a known tower that nobody needed to look for."""

    name: str
    config: Mapping[str, Any]
    mean: Colour
    std: Colour
    folder: Path | None = None

    @property
    def dropped(self) -> int:
        """Patches that LLaVA loses when it drops a tower's first token: one where there is no class token to drop."""
        return 1 if self.config["model_type"] == "siglip_vision_model" else 0

    def tensors(self, prefix: str) -> dict[str, Stored]:
        """Its weights, each name ``prefix`` and what follows ``vision_model.`` in the tower's own files."""
        assert self.folder is not None
        found = {
            prefix + name.removeprefix(_PREFIX): tensor
            for name, tensor in open_weights(self.folder).items()
            if name.startswith(_PREFIX)
        }
        if not found:
            raise BackboneError(
                f"{self.folder}: no vision tower in its weights (no tensor is called {_PREFIX}*).",
                hint=f"Place the folder of {self.name} there.",
            )
        return found


# Towers whose weights may lie inside a checkpoint that says no more than their name.
KNOWN = {
    "openai/clip-vit-large-patch14-336": Tower(
        "openai/clip-vit-large-patch14-336", _CLIP_LARGE | {"image_size": 336}, _CLIP_MEAN, _CLIP_STD
    ),
    "openai/clip-vit-large-patch14": Tower(
        "openai/clip-vit-large-patch14", _CLIP_LARGE | {"image_size": 224}, _CLIP_MEAN, _CLIP_STD
    ),
    "google/siglip-so400m-patch14-384": Tower(
        "google/siglip-so400m-patch14-384", _SIGLIP_SO400M | {"image_size": 384}, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    ),
}


def find_tower(name: str, beside: Path, *, inside: bool, hidden: int) -> Tower:
    """The tower that the checkpoint at ``beside`` names. inside: its weights are in the checkpoint. hidden: its width there.

    Raises BackboneError when it is nowhere, or when it is not as wide as the projector expects.
    """
    near = beside.parent / name.rpartition("/")[2]
    if inside and name in KNOWN and not (near / "config.json").is_file():
        tower = KNOWN[name]
    else:
        tower = read_tower(name, locate(name, beside, "vision tower"))
    if (width := tower.config["hidden_size"]) != hidden:
        raise BackboneError(
            f"{tower.folder or name}: this vision tower is {width} wide, the checkpoint at {beside} was trained with one of "
            f"{hidden} (mm_hidden_size in its config.json).",
            hint=f"Place the tower that it names, {name!r}, at {near}.",
        )
    return tower


def read_tower(name: str, folder: Path) -> Tower:
    """A CLIP or SigLIP folder's vision half."""
    config = read_json(folder, "config.json")
    vision = config.get("vision_config") or config
    kind = str(vision.get("model_type") or config.get("model_type"))
    kind = _TYPES.get(kind, kind)
    if kind not in _DEFAULTS:
        raise BackboneError(
            f"{folder / 'config.json'}: {kind!r} is no vision tower that is known here.",
            hint="Known: CLIP and SigLIP.",
        )
    described = {"model_type": kind} | _DEFAULTS[kind] | {key: vision[key] for key in _FIELDS if key in vision}
    colours = read_json(folder, "preprocessor_config.json")
    try:
        mean, std = (tuple(map(float, colours[key])) for key in ("image_mean", "image_std"))
    except (KeyError, TypeError, ValueError) as error:
        raise BackboneError(
            f"{folder / 'preprocessor_config.json'}: image_mean or image_std is missing ({error}).",
            hint=f"Place the whole folder of {name} there.",
        ) from None
    return Tower(name, described, mean, std, folder)
