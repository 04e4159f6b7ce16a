"""``step35``: MoE-LLaVA on Phi-3, Qwen or a Llama, with experts in whichever layers have them.

Of llama.cpp's architectures this is the one where each layer may be dense or sparse, with a softmax over all experts and
the choice of normalising the chosen ones' weights. It has more, which is made to do nothing: an expert that all tokens
share, whose weights are zeros, and a sliding window, which is as wide as the context where the model has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgereverie.export.architectures._plan import (
    Plan,
    expert_modules,
    layer_name,
    place_attention,
    place_ends,
    place_experts,
    place_feed_forward,
)
from edgereverie.export.architectures.base import Change, Language, require_everything
from edgereverie.export.gguf_file import Piece
from edgereverie.export.weights import Weights

if TYPE_CHECKING:
    from gguf import GGUFWriter

_SHARED = 256  # width of the shared expert of zeros: one block of the K-quants
_EVERYTHING = 1 << 20  # a window at least as wide as any context


class Step35:
    name = "step35"
    dense, sparse = (), ("phi3", "qwen2", "llama")
    ropes = ("default",)
    windowed = True

    def check(self, model: Language) -> None:
        if model.kind == "qwen2":
            require_everything(self, model)

    def describe(self, writer: GGUFWriter, model: Language) -> None:
        from gguf import ExpertGatingFuncType

        assert model.experts is not None
        writer.add_key_length(model.head)
        writer.add_value_length(model.head)
        # All layers count as windowed ones (at least one has to be); in others half of the first number would turn.
        writer.add_rope_dimension_count(2 * model.rotary)
        writer.add_rope_dimension_count_swa(model.rotary)
        writer.add_rope_freq_base_swa(model.theta)
        writer.add_sliding_window(model.window or max(_EVERYTHING, model.context))
        writer.add_sliding_window_pattern([True] * model.layers)
        writer.add_expert_count(model.experts.count)
        writer.add_expert_used_count(model.experts.top_k)
        writer.add_expert_feed_forward_length(model.inner)
        writer.add_expert_shared_feed_forward_length(_SHARED)
        writer.add_expert_gating_func(ExpertGatingFuncType.SOFTMAX)
        writer.add_expert_weights_norm(model.experts.normalised)
        writer.add_expert_weights_scale(1.0)

    def place(self, plan: Plan, model: Language, weights: Weights) -> None:
        assert model.experts is not None
        place_ends(plan, model, weights, head=True)
        for layer in range(model.layers):
            place_attention(plan, model, weights, layer)
            if layer not in model.experts.layers:
                place_feed_forward(plan, model, weights, layer)
                continue
            router = (model.experts.count, model.width)
            plan.exact(f"blk.{layer}.ffn_gate_inp.weight", layer_name(layer, "mlp.wg.weight"), router)
            place_experts(plan, model, weights, layer, expert_modules(model, layer))
            for part in ("gate", "up", "down"):
                shape = (model.width, _SHARED) if part == "down" else (_SHARED, model.width)
                plan.add(f"blk.{layer}.ffn_{part}_shexp.weight", Piece(None, shape), shape)

    def changes(self, model: Language) -> Mapping[str, Change]:
        return {}


ARCHITECTURE = Step35()
