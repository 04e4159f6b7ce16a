"""``phi3``: Phi-3 as Microsoft fuses it, queries, keys and values in one linear, gate and up in another.

llama.cpp ignores Phi-3's sliding window (ggml-org/llama.cpp#13676): beyond it a token sees more than in PyTorch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgereverie.export.architectures._plan import Plan, layer_name, place_attention, place_ends
from edgereverie.export.architectures.base import Change, Language, require_square
from edgereverie.export.weights import Weights

if TYPE_CHECKING:
    from gguf import GGUFWriter


class Phi3:
    name = "phi3"
    dense, sparse = ("phi3",), ()
    ropes = ("default",)
    windowed = False

    def check(self, model: Language) -> None:
        require_square(self, model)

    def describe(self, writer: GGUFWriter, model: Language) -> None:
        writer.add_rope_dimension_count(model.rotary)
        writer.add_rope_scaling_orig_ctx_len(model.context)
        writer.add_sliding_window(0)  # other values are ignored too, with a warning at each start

    def place(self, plan: Plan, model: Language, weights: Weights) -> None:
        place_ends(plan, model, weights)
        for layer in range(model.layers):
            place_attention(plan, model, weights, layer)
            fused, down = (2 * model.inner, model.width), (model.width, model.inner)
            plan.add(f"blk.{layer}.ffn_up.weight", layer_name(layer, "mlp.gate_up_proj.weight"), fused)
            plan.add(f"blk.{layer}.ffn_down.weight", layer_name(layer, "mlp.down_proj.weight"), down)

    def changes(self, model: Language) -> Mapping[str, Change]:
        return {}


ARCHITECTURE = Phi3()
