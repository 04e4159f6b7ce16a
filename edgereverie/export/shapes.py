"""A model's weights by group, from the headers of its files: what sizes and memory follow from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from edgereverie.backbones.base import ModelFolder
from edgereverie.export.weights import PROJECTOR, TEXT, VISION


@dataclass(frozen=True, slots=True)
class Shapes:
    """Weights by group. linears: (layer, what it is in the block, weights) of the language model's layers. vectors: norms
    and biases of the language model, gates of experts. vision: the tower as far as it is used, with the projector; projected:
    all of the tower. largest: weights of the largest tensor.
    """

    linears: tuple[tuple[int, str, int], ...]
    layers: int
    vectors: int
    embedding: int
    head: int
    vision: int
    projected: int
    largest: int

    @property
    def total(self) -> int:
        return sum(count for *_, count in self.linears) + self.vectors + self.embedding + self.head + self.projected


def shapes_of(folder: ModelFolder) -> Shapes:
    """The groups of a folder's tensors; headers are read, values are not."""
    linears, vectors, vision, projected, largest = [], 0, 0, 0, 0
    counts = {name: prod(stored.shape) for name, stored in folder.tensors().items()}
    used = used_layers(folder.config)
    for name, stored in folder.tensors().items():
        count = counts[name]
        largest = max(largest, count)
        if name.startswith((VISION, PROJECTOR)):
            projected += count
            vision += count if _is_used(name, used) else 0
        elif name.startswith(f"{TEXT}layers."):
            kind = _kind(name)
            if len(stored.shape) < 2 or not kind:
                vectors += count
            else:
                linears.append((int(name.removeprefix(f"{TEXT}layers.").partition(".")[0]), kind, count))
        elif not name.startswith((f"{TEXT}embed_tokens.", "lm_head.")):
            vectors += count
    embedding = counts[f"{TEXT}embed_tokens.weight"]
    layers = folder.config["text_config"]["num_hidden_layers"]
    head = counts.get("lm_head.weight", 0)
    return Shapes(tuple(linears), layers, vectors, embedding, head, vision, projected, largest)


def used_layers(config: Mapping[str, Any]) -> int:
    """How many of the tower's layers the features come through: from the end of a list of states, or counted from 0."""
    layers = config["vision_config"]["num_hidden_layers"]
    chosen = config.get("vision_feature_layer", -2)
    chosen = [chosen] if isinstance(chosen, int) else chosen
    return max(layer if layer >= 0 else layers + 1 + layer for layer in chosen)


def _is_used(name: str, used: int) -> bool:
    parts = name.removeprefix(VISION).split(".")
    numbers = [int(part) for part in parts if part.isdecimal()] if name.startswith(VISION) else []
    outer = any(part in ("post_layernorm", "head") for part in parts)
    return not outer and (not numbers or "layers" not in parts or numbers[0] < used)


def _kind(name: str) -> str:
    """What a language model's weight is in its block; nothing for gates of experts and what is no matrix of a product."""
    for kind, words in {
        "v": ("qkv_proj", "v_proj"), "q": ("q_proj",), "k": ("k_proj",), "o": ("o_proj", "self_attn.dense"),
        "down": ("down_proj", "fc2"), "up": ("gate_up_proj", "up_proj", "gate_proj", "fc1"),
    }.items():  # fmt: skip
        if any(f".{word}" in f".{name}" for word in words):
            return kind
    return ""
