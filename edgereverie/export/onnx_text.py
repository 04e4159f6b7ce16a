"""The language models that leave as ONNX: where their weights are and how their layers are joined.

Read from transformers' own config classes and rotary embeddings, so that defaults and angles are theirs. What a graph here
does not compute is refused by name, before any weight is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from edgereverie.backbones.base import ModelFolder
from edgereverie.errors import ExportError
from edgereverie.export.onnx_layers import ACTIVATIONS

_FIXED_ROPE = ("default", "linear", "llama3", "yarn")  # their angles do not change with the length of what is read


@dataclass(frozen=True, slots=True)
class Kind:
    """Names and order of one ``model_type``'s layers.

    norm: of which kind. eps: its field in the config. qkv, up: the modules that are stacked to one product. gated: half of
    ``up`` is a gate. after: the norm before the feed-forward layer; without one, attention and feed-forward layer read the
    same norm. last: the norm before the head.
    """

    norm: Literal["rms", "layer"]
    eps: str
    qkv: tuple[str, ...]
    out: str
    up: tuple[str, ...]
    down: str
    gated: bool = True
    after: str | None = "post_attention_layernorm"
    last: str = "norm"


_APART = ("q_proj", "k_proj", "v_proj")
_LLAMA = Kind("rms", "rms_norm_eps", _APART, "o_proj", ("gate_proj", "up_proj"), "down_proj")
KINDS = {
    "llama": _LLAMA,
    "qwen2": _LLAMA,
    "phi3": Kind("rms", "rms_norm_eps", ("qkv_proj",), "o_proj", ("gate_up_proj",), "down_proj"),
    "stablelm": Kind("layer", "layer_norm_eps", _APART, "o_proj", ("gate_proj", "up_proj"), "down_proj"),
    "phi": Kind("layer", "layer_norm_eps", _APART, "dense", ("fc1",), "fc2", False, None, "final_layernorm"),
}


@dataclass(frozen=True, slots=True)
class Experts:
    """Feed-forward layers with experts. layers: their number of experts by layer."""

    layers: dict[int, int]
    top_k: int
    normalise_top1: bool


@dataclass(frozen=True, slots=True)
class TextModel:
    """A language model as a graph sees it.

    windows: for each layer, how many tokens back it sees, itself counted, or None for all. rotary: of each head's values,
    how many are turned. frequencies: (rotary / 2,) float32, angle per position. magnitude: what turned values are
    multiplied with. context: most tokens.
    """

    kind: Kind
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head: int
    vocabulary: int
    eps: float
    activation: str
    windows: tuple[int | None, ...]
    frequencies: np.ndarray
    magnitude: float
    context: int
    experts: Experts | None

    @property
    def rotary(self) -> int:
        return 2 * len(self.frequencies)


def read_text(folder: ModelFolder) -> TextModel:
    """From config.json alone. Raises ExportError for what no graph here computes."""
    from transformers import LlavaConfig

    config = LlavaConfig.from_dict(dict(folder.config)).text_config
    _refuse(folder, config)
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    frequencies, magnitude = _rotary(config)
    kind = KINDS[config.model_type]
    return TextModel(
        kind=kind,
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads or config.num_attention_heads,
        head=head,
        vocabulary=config.vocab_size,
        eps=float(getattr(config, kind.eps)),
        activation=config.hidden_act,
        windows=_windows(config),
        frequencies=frequencies,
        magnitude=magnitude,
        context=folder.context,
        experts=_experts(folder),
    )


def _rotary(config: Any) -> tuple[np.ndarray, float]:
    """As transformers' own module computes them for this config."""
    import torch
    from transformers import AutoModel

    with torch.device("meta"):
        built = type(AutoModel.from_config(config).rotary_emb)
    rotary = built(config)
    return rotary.inv_freq.numpy().astype(np.float32), float(rotary.attention_scaling)


def _windows(config: Any) -> tuple[int | None, ...]:
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * config.num_hidden_layers
    return tuple(window if kind == "sliding_attention" else None for kind in kinds)


def _experts(folder: ModelFolder) -> Experts | None:
    moe = folder.config.get("moe")
    if not moe:
        return None
    counts = dict(zip(moe["moe_layers_idx"], moe["num_experts"], strict=True))
    return Experts(counts, moe.get("top_k_experts") or 2, bool(moe.get("normalise_top1")))


def _refuse(folder: ModelFolder, config: Any) -> None:
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    moe = folder.config.get("moe") or {}
    wanted = {
        "model_type": (config.model_type, tuple(KINDS)),
        "hidden_act": (config.hidden_act, ACTIVATIONS),
        "rope_type": (rope, _FIXED_ROPE),
        "qk_layernorm": (getattr(config, "qk_layernorm", False), (False,)),
        "use_parallel_residual": (getattr(config, "use_parallel_residual", False), (False,)),
        # With noise in the choice of the second expert no two runs agree, and nothing can be compared.
        "moe.second_expert": (moe.get("second_expert") or "argmax", ("argmax",)),
    }
    for key, (found, known) in wanted.items():
        if found not in known:
            raise ExportError(
                f"{folder.path / 'config.json'}: the language model's {key} is {found!r}; "
                f"an ONNX graph is written for {', '.join(map(repr, known))}.",
                hint="PyTorch runs this model where it lies.",
            )
