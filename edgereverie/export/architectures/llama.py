"""``llama``: LLaVA-1.5's Vicuna, and Phi-3 with its linears apart, as XTuner writes it.

This architecture rotates neighbouring numbers of a head, so rows of queries and keys change places.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgereverie.errors import ExportError
from edgereverie.export.architectures._plan import Plan, place_attention, place_ends, place_feed_forward
from edgereverie.export.architectures.base import AS_ONNX, Change, Language
from edgereverie.export.weights import Weights

if TYPE_CHECKING:
    from gguf import GGUFWriter


class Llama:
    name = "llama"
    dense, sparse = ("llama",), ()
    ropes = ("default", "linear")
    windowed = False

    def check(self, model: Language) -> None:
        if model.rotary != model.head:
            raise ExportError(
                f"{model.rotary} of a head's {model.head} numbers turn with the position; in llama.cpp's 'llama' all do.",
                hint=AS_ONNX,
            )

    def describe(self, writer: GGUFWriter, model: Language) -> None:
        writer.add_rope_dimension_count(model.rotary)
        writer.add_key_length(model.head)
        writer.add_value_length(model.head)

    def place(self, plan: Plan, model: Language, weights: Weights) -> None:
        place_ends(plan, model, weights)
        for layer in range(model.layers):
            place_attention(plan, model, weights, layer, turned=True)
            place_feed_forward(plan, model, weights, layer)

    def changes(self, model: Language) -> Mapping[str, Change]:
        return {}


ARCHITECTURE = Llama()
