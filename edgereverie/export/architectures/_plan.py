"""The tensors of a text GGUF, as the architectures place them: names, sources and types in one list.

What several architectures have in common is written here once: attention, gated feed-forward layers, stacks of experts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from edgereverie.export.architectures.base import Change, Language
from edgereverie.export.gguf_file import Piece, Placed, weight_type
from edgereverie.export.weights import TEXT, Weights

if TYPE_CHECKING:
    import torch
    from gguf import GGMLQuantizationType

_COARSE = ("Q4_0", "Q4_1", "Q5_0", "Q5_1")


@dataclass(frozen=True, slots=True)
class Plan:
    """Tensors of the file in their order. wanted: the type of matrices; outer: of the embedding and the head, which at 4
    and 5 bits would cost most of the quality and get 8, as llama.cpp's own mixes give them more."""

    wanted: GGMLQuantizationType
    outer: GGMLQuantizationType
    tensors: list[Placed] = field(default_factory=list)

    @classmethod
    def of(cls, quantization: str) -> Plan:
        from gguf import GGMLQuantizationType

        wanted = GGMLQuantizationType[quantization]
        return cls(wanted, GGMLQuantizationType.Q8_0 if quantization in _COARSE else wanted)

    def add(
        self,
        name: str,
        source: str | Piece | Sequence[Piece],
        shape: tuple[int, ...],
        wanted: GGMLQuantizationType | None = None,
    ) -> None:
        """Place a tensor in the wanted type; vectors, and rows that do not fill its blocks, in a finer one."""
        from gguf import GGMLQuantizationType

        kind = weight_type(shape, self.wanted if wanted is None else wanted, GGMLQuantizationType.F16)
        if isinstance(source, Piece):
            source = (source,)
        self.tensors.append(Placed(name, source if isinstance(source, str) else tuple(source), shape, kind))

    def exact(self, name: str, source: str | Piece, shape: tuple[int, ...]) -> None:
        """Place a tensor in 32 bits: what decides (a router) or is small."""
        from gguf import GGMLQuantizationType

        self.add(name, source, shape, GGMLQuantizationType.F32)


def layer_name(layer: int, part: str) -> str:
    """Our name of a layer's module or weight."""
    return f"{TEXT}layers.{layer}.{part}"


def place_ends(
    plan: Plan, model: Language, weights: Weights, *, head: bool = False, change: Change | None = None
) -> None:
    """The embedding, the last norm and the head. head: one is written even where it is the embedding. change: what
    happens to each row of the embedding, and not to the head's."""
    shape, embedding = (model.rows, model.width), f"{TEXT}embed_tokens.weight"
    plan.add("token_embd.weight", Piece(embedding, shape, change, by_row=True), shape, plan.outer)
    place_norm(plan, model, weights, "output_norm", f"{TEXT}norm")
    if "lm_head.weight" in weights:
        plan.add("output.weight", "lm_head.weight", shape, plan.outer)
    elif head:
        plan.add("output.weight", embedding, shape, plan.outer)


def place_norm(plan: Plan, model: Language, weights: Weights, name: str, source: str) -> None:
    for kind in ("weight", "bias"):
        if f"{source}.{kind}" in weights:
            plan.exact(f"{name}.{kind}", f"{source}.{kind}", (model.width,))


def place_attention(
    plan: Plan,
    model: Language,
    weights: Weights,
    layer: int,
    *,
    turned: bool = False,
    output: Change | None = None,
) -> None:
    """A layer's two norms and its attention, with the biases that it has, its linears fused or apart as they are.

    turned: rows of queries and keys are put in the order of architectures that rotate neighbours. output: what happens to
    the output projection.
    """
    full, few = model.heads * model.head, model.grouped * model.head
    place_norm(plan, model, weights, f"blk.{layer}.attn_norm", layer_name(layer, "input_layernorm"))
    linears = {"qkv_proj": ("attn_qkv", full + 2 * few, None)}
    if layer_name(layer, "self_attn.q_proj.weight") in weights:
        linears = {
            "q_proj": ("attn_q", full, partial(neighbours, heads=model.heads) if turned else None),
            "k_proj": ("attn_k", few, partial(neighbours, heads=model.grouped) if turned else None),
            "v_proj": ("attn_v", few, None),
        }
    for theirs, (ours, rows, change) in linears.items():
        source = layer_name(layer, f"self_attn.{theirs}")
        plan.add(
            f"blk.{layer}.{ours}.weight", Piece(f"{source}.weight", (rows, model.width), change), (rows, model.width)
        )
        if f"{source}.bias" in weights:
            plan.exact(f"blk.{layer}.{ours}.bias", Piece(f"{source}.bias", (rows,), change), (rows,))
    source = layer_name(layer, "self_attn.o_proj")
    plan.add(
        f"blk.{layer}.attn_output.weight", Piece(f"{source}.weight", (model.width, full), output), (model.width, full)
    )
    if f"{source}.bias" in weights:
        plan.exact(f"blk.{layer}.attn_output.bias", f"{source}.bias", (model.width,))
    place_norm(plan, model, weights, f"blk.{layer}.ffn_norm", layer_name(layer, "post_attention_layernorm"))


def feed_forward(
    model: Language, weights: Weights, module: str, down: Change | None = None
) -> tuple[Piece, Piece, Piece]:
    """Gate, up and down of the gated feed-forward layer ``module``, taken apart where they are fused (gate first)."""
    rows, inner = (model.inner, model.width), model.inner
    if f"{module}.gate_up_proj.weight" in weights:
        fused, whole = f"{module}.gate_up_proj.weight", (2 * inner, model.width)
        gate, up = Piece(fused, whole, partial(upper, rows=inner)), Piece(fused, whole, partial(lower, rows=inner))
    else:
        gate, up = Piece(f"{module}.gate_proj.weight", rows), Piece(f"{module}.up_proj.weight", rows)
    return gate, up, Piece(f"{module}.down_proj.weight", (model.width, inner), down)


def place_feed_forward(plan: Plan, model: Language, weights: Weights, layer: int) -> None:
    """A dense layer: gate, up and down apart; the biases of a Llama that has some."""
    module = layer_name(layer, "mlp")
    shapes = {"gate": (model.inner, model.width), "up": (model.inner, model.width), "down": (model.width, model.inner)}
    for (part, shape), piece in zip(shapes.items(), feed_forward(model, weights, module), strict=True):
        plan.add(f"blk.{layer}.ffn_{part}.weight", piece, shape)
        if f"{module}.{part}_proj.bias" in weights:
            plan.exact(f"blk.{layer}.ffn_{part}.bias", f"{module}.{part}_proj.bias", shape[:1])


def place_experts(
    plan: Plan, model: Language, weights: Weights, layer: int, modules: Sequence[str], down: Change | None = None
) -> None:
    """Feed-forward layers as one stack of experts."""
    parts = zip(*(feed_forward(model, weights, module, down) for module in modules), strict=True)
    shapes = {"gate": (model.inner, model.width), "up": (model.inner, model.width), "down": (model.width, model.inner)}
    for (part, shape), pieces in zip(shapes.items(), parts, strict=True):
        plan.add(f"blk.{layer}.ffn_{part}_exps.weight", pieces, (len(modules), *shape))


def expert_modules(model: Language, layer: int) -> list[str]:
    assert model.experts is not None
    return [layer_name(layer, f"mlp.experts.{index}") for index in range(model.experts.layers[layer])]


def upper(values: torch.Tensor, rows: int) -> torch.Tensor:
    return values[:rows]


def lower(values: torch.Tensor, rows: int) -> torch.Tensor:
    return values[rows:]


def neighbours(values: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of queries or keys for a rotation of neighbouring numbers, from rows for one of a head's two halves.

    transformers turns number i of a head together with number i + half; llama.cpp's 'llama' number 2 i with 2 i + 1.
    """
    halves = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
    return halves.transpose(1, 2).reshape(values.shape)


def without_row_mean(rows: torch.Tensor) -> torch.Tensor:
    """Each row minus its mean: what is added to the residual stream by looking up a row has mean zero then."""
    rows = rows.float()
    return rows - rows.mean(-1, keepdim=True)


def without_output_mean(values: torch.Tensor) -> torch.Tensor:
    """A linear's weight (out, in) or bias (out,) such that its output, whatever the input, is as before minus its mean."""
    values = values.float()
    return values - values.mean(0, keepdim=True)
