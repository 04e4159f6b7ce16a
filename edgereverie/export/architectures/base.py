"""What an architecture of llama.cpp is to us, and which one carries a model.

An architecture is chosen by the language model's type and by whether it has experts. Exact means: every number of the
model has its place, and what llama.cpp computes from the file is, but for rounding, what PyTorch computes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from edgereverie.backbones import _loading
from edgereverie.backbones.base import ModelFolder
from edgereverie.errors import ExportError
from edgereverie.export.weights import Weights
from edgereverie.registry import Registry

if TYPE_CHECKING:
    import torch
    from gguf import GGUFWriter

    from edgereverie.export.architectures._plan import Plan

ARCHITECTURES = Registry("architecture", "edgereverie.export.architectures", "ARCHITECTURE")
AS_ONNX = "Export this model as ONNX."
Change = Callable[["torch.Tensor"], "torch.Tensor"]


@dataclass(frozen=True, slots=True)
class Experts:
    """Which layers have experts, and how tokens find them. layers: number of experts by layer."""

    layers: Mapping[int, int]
    top_k: int
    normalised: bool
    noisy: bool

    @property
    def count(self) -> int:
        """Of each layer: ``check`` refuses those that differ."""
        return max(self.layers.values())


@dataclass(frozen=True, slots=True)
class Language:
    """A language model's config with its class's defaults, in one spelling for all of them.

    rows: of the embedding. inner: width of the feed-forward layers. grouped: heads of keys and values. head: numbers in a
    head, of which rotary turn with the position. rope: its type, with factor where it has one. window: how far back a
    token sees, where that is less than everything. tied: the head may be the embedding. parallel, qk_norm: StableLM's
    variants. experts: None for a dense model.
    """

    kind: str
    rows: int
    width: int
    inner: int
    layers: int
    heads: int
    grouped: int
    head: int
    rotary: int
    theta: float
    rope: str
    factor: float
    context: int
    eps: float
    activation: str
    window: int | None
    tied: bool
    parallel: bool
    qk_norm: bool
    experts: Experts | None


class Architecture(Protocol):
    """One of llama.cpp's, with what we know about it. dense, sparse: the language models that it carries without and with
    experts. ropes: rope types. windowed: it looks back as far as the model does, not at everything."""

    name: str
    dense: tuple[str, ...]
    sparse: tuple[str, ...]
    ropes: tuple[str, ...]
    windowed: bool

    def check(self, model: Language) -> None:
        """Raise ExportError for what it cannot carry exactly."""
        ...

    def describe(self, writer: GGUFWriter, model: Language) -> None:
        """Add the architecture's metadata; what is common to all is there already."""
        ...

    def place(self, plan: Plan, model: Language, weights: Weights) -> None:
        """Place every tensor of the language model in ``plan``. weights: to ask which there are; none is read."""
        ...

    def changes(self, model: Language) -> Mapping[str, Change]:
        """Changes to the other weights (tower, projector) that its way of carrying the language model asks for."""
        ...


def find_architecture(folder: ModelFolder) -> tuple[Architecture, Language]:
    """The architecture that carries the folder's language model, and that model's config.

    Raises ExportError with the reason when none does.
    """
    kind, sparse = folder.config["text_config"]["model_type"], bool(folder.config.get("moe"))
    if kind == "phi":
        raise ExportError(
            "The language model is a Phi-2: its attention and feed-forward layers read one norm side by side, with GELU "
            f"and biases{', and it has experts' if sparse else ''}. No architecture of llama.cpp carries that.",
            hint=AS_ONNX,
        )
    for name in ARCHITECTURES.names():
        architecture: Architecture = ARCHITECTURES.get(name)
        if kind in (architecture.sparse if sparse else architecture.dense):
            model = read_language(folder)
            _check(architecture, model)
            architecture.check(model)
            return architecture, model
    raise ExportError(
        f"The language model is {kind!r}{' with experts' if sparse else ''}; no architecture of llama.cpp is known to "
        "carry it exactly.",
        hint=AS_ONNX,
    )


def read_language(folder: ModelFolder) -> Language:
    """The config of the folder's language model, as transformers understands it."""
    from huggingface_hub.errors import StrictDataclassError

    try:
        text = _loading.model_class(folder).config_class.from_dict(dict(folder.config)).text_config
        rope: Mapping[str, Any] = text.rope_parameters
        head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        return Language(
            kind=text.model_type,
            rows=text.vocab_size,
            width=text.hidden_size,
            inner=text.intermediate_size,
            layers=text.num_hidden_layers,
            heads=text.num_attention_heads,
            grouped=text.num_key_value_heads,
            head=head,
            rotary=int(head * rope.get("partial_rotary_factor", 1.0)),
            theta=float(rope["rope_theta"]),
            rope=rope.get("rope_type", "default"),
            factor=float(rope.get("factor") or 1.0),
            context=text.max_position_embeddings,
            eps=float(text.layer_norm_eps if hasattr(text, "layer_norm_eps") else text.rms_norm_eps),
            activation=text.hidden_act,
            window=getattr(text, "sliding_window", None),
            tied=bool(text.tie_word_embeddings or folder.config.get("tie_word_embeddings")),
            parallel=bool(getattr(text, "use_parallel_residual", False)),
            qk_norm=bool(getattr(text, "qk_layernorm", False)),
            experts=_experts(folder.config.get("moe")),
        )
    except (ValueError, TypeError, LookupError, AttributeError, StrictDataclassError) as error:
        raise ExportError(
            f"{folder.path / 'config.json'}: no language model can be read from it ({type(error).__name__}: {error}).",
            hint="Take config.json from the checkpoint itself.",
        ) from None


def _experts(moe: Mapping[str, Any] | None) -> Experts | None:
    if not moe:
        return None
    top_k = moe.get("top_k_experts", 2)
    return Experts(
        layers=dict(zip(moe["moe_layers_idx"], moe["num_experts"], strict=True)),
        top_k=top_k,
        normalised=top_k == 2 or bool(moe.get("normalise_top1")),
        noisy=moe.get("second_expert", "argmax") != "argmax",
    )


def _check(architecture: Architecture, model: Language) -> None:
    """What no architecture carries, or this one by its table."""
    if model.activation not in ("silu", "swish"):
        raise ExportError(f"The language model's activation is {model.activation!r}; llama.cpp's {architecture.name!r} "
                          "has 'silu'.", hint=AS_ONNX)  # fmt: skip
    if model.rope not in architecture.ropes:
        known = " or ".join(map(repr, architecture.ropes))
        raise ExportError(
            f"The language model's rope type is {model.rope!r}; llama.cpp's {architecture.name!r} carries {known} exactly.",
            hint="Use the variant of the language model with the shorter context (Phi-3's 4k), or export this one as ONNX.",
        )
    if model.experts is None:
        return
    if len(set(model.experts.layers.values())) > 1:
        raise ExportError(
            f"The layers have different numbers of experts ({sorted(set(model.experts.layers.values()))}); llama.cpp has "
            "one number for all.",
            hint=AS_ONNX,
        )
    if model.experts.noisy:
        raise ExportError(
            "config.json: moe.second_expert draws the second expert with noise, which llama.cpp cannot do.",
            hint="Set moe.second_expert to 'argmax'; answers then do not depend on a seed.",
        )


def require_square(architecture: Architecture, model: Language) -> None:
    """Raise ExportError unless the heads together are as wide as the model, which most architectures take for granted."""
    if model.heads * model.head != model.width:
        raise ExportError(
            f"{model.heads} heads of {model.head} are not the model's width of {model.width}, as llama.cpp's "
            f"{architecture.name!r} asks.",
            hint=AS_ONNX,
        )


def require_everything(architecture: Architecture, model: Language) -> None:
    """Raise ExportError where some layers look back only so far, and others at everything."""
    if model.window is not None:
        raise ExportError(
            f"Some layers of the language model look back {model.window:,} tokens only (use_sliding_window); in "
            f"llama.cpp's {architecture.name!r} all look at everything.",
            hint=AS_ONNX,
        )
