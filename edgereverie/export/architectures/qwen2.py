"""``qwen2``: Qwen1.5 and Qwen2, as LLaVA-Interleave has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgereverie.export.architectures._plan import Plan, place_attention, place_ends, place_feed_forward
from edgereverie.export.architectures.base import Change, Language, require_everything, require_square
from edgereverie.export.weights import Weights

if TYPE_CHECKING:
    from gguf import GGUFWriter


class Qwen2:
    name = "qwen2"
    dense, sparse = ("qwen2",), ()
    ropes = ("default", "linear")
    windowed = False

    def check(self, model: Language) -> None:
        require_square(self, model)
        require_everything(self, model)

    def describe(self, writer: GGUFWriter, model: Language) -> None:
        writer.add_rope_dimension_count(model.rotary)

    def place(self, plan: Plan, model: Language, weights: Weights) -> None:
        place_ends(plan, model, weights)
        for layer in range(model.layers):
            place_attention(plan, model, weights, layer)
            place_feed_forward(plan, model, weights, layer)

    def changes(self, model: Language) -> Mapping[str, Change]:
        return {}


ARCHITECTURE = Qwen2()
