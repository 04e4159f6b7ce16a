"""No guard: the answer as the model gave it, at the cost of the answer alone."""

from __future__ import annotations

from dataclasses import dataclass

from edgereverie.records import Answer
from edgereverie.runtime.request import Request


@dataclass(frozen=True, slots=True)
class NoGuard:
    name: str = "none"

    def apply(self, request: Request, answer: Answer) -> Answer:
        return answer


GUARD = NoGuard()
