"""``phimoe``: MoE-LLaVA on StableLM-2, whose LayerNorms become RMSNorms on a residual stream without mean.

LayerNorm subtracts the mean of its input, and nothing else in StableLM sees that mean. So it may as well never arise: it
is taken out of everything that is added to the stream, which are the embedding's rows, the outputs of attention and
feed-forward layers, and the projector's features. On a stream with mean zero LayerNorm is RMSNorm with a bias, which this
architecture has. All of its layers have experts; a dense one becomes as many equal experts, whose weights sum to one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgereverie.errors import ExportError
from edgereverie.export.architectures._plan import (
    Plan,
    expert_modules,
    layer_name,
    place_attention,
    place_ends,
    place_experts,
    without_output_mean,
    without_row_mean,
)
from edgereverie.export.architectures.base import AS_ONNX, Change, Language, require_square
from edgereverie.export.gguf_file import Piece
from edgereverie.export.weights import PROJECTOR, Weights

if TYPE_CHECKING:
    from gguf import GGUFWriter


class PhiMoe:
    name = "phimoe"
    dense, sparse = (), ("stablelm",)
    ropes = ("default",)
    windowed = False

    def check(self, model: Language) -> None:
        assert model.experts is not None
        require_square(self, model)
        for found, told in (
            (model.parallel, "attention and feed-forward layers side by side (use_parallel_residual)"),
            (model.qk_norm, "norms of queries and keys (qk_layernorm)"),
            (not model.experts.normalised, "one expert, weighted with its probability (moe.normalise_top1 is false)"),
        ):
            if found:
                raise ExportError(f"The language model has {told}, which llama.cpp's 'phimoe' has not.", hint=AS_ONNX)

    def describe(self, writer: GGUFWriter, model: Language) -> None:
        assert model.experts is not None
        writer.add_rope_dimension_count(model.rotary)
        writer.add_expert_count(model.experts.count)
        writer.add_expert_used_count(model.experts.top_k)

    def place(self, plan: Plan, model: Language, weights: Weights) -> None:
        assert model.experts is not None
        count = model.experts.count
        place_ends(plan, model, weights, head=True, change=without_row_mean)
        plan.exact("output.bias", Piece(None, (model.rows,)), (model.rows,))
        for layer in range(model.layers):
            place_attention(plan, model, weights, layer, output=without_output_mean)
            plan.exact(f"blk.{layer}.attn_output.bias", Piece(None, (model.width,)), (model.width,))
            sparse = layer in model.experts.layers
            router = layer_name(layer, "mlp.wg.weight") if sparse else Piece(None, (count, model.width))
            plan.exact(f"blk.{layer}.ffn_gate_inp.weight", router, (count, model.width))
            modules = expert_modules(model, layer) if sparse else [layer_name(layer, "mlp")] * count
            place_experts(plan, model, weights, layer, modules, without_output_mean)

    def changes(self, model: Language) -> Mapping[str, Change]:
        last = f"{PROJECTOR}linear_2"
        return {f"{last}.weight": without_output_mean, f"{last}.bias": without_output_mean}


ARCHITECTURE = PhiMoe()
