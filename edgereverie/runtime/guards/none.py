"""No guard: the answer as the model gave it, at the cost of the answer alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgereverie.records import Answer, Turn

if TYPE_CHECKING:
    from edgereverie.runtime.model import Model, Picture


@dataclass(frozen=True, slots=True)
class NoGuard:
    name: str = "none"

    def apply(self, model: Model, image: Picture, turns: Sequence[Turn], answer: Answer) -> Answer:
        return answer


GUARD = NoGuard()
