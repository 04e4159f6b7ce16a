"""Says which claims the picture supports; leaves the answer as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from edgereverie.records import Answer, Turn
from edgereverie.runtime.guards._evidence import Fusion, assess, confidence

if TYPE_CHECKING:
    from edgereverie.runtime.model import Model, Picture


@dataclass(frozen=True, slots=True)
class Flag:
    """Claims with support, verdict and evidence; ``confidence`` becomes the support of the weakest claim."""

    name: str = "flag"
    fusion: Fusion = field(default_factory=Fusion)

    def apply(self, model: Model, image: Picture, turns: Sequence[Turn], answer: Answer) -> Answer:
        found = assess(model, image, turns, answer, self.fusion)
        return replace(answer, claims=found, confidence=confidence(found, answer.confidence))


GUARD = Flag()
