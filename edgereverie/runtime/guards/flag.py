"""Says what the picture adds to each claim; leaves the answer as it is."""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgereverie.records import Answer
from edgereverie.runtime.evidence import assess, confidence
from edgereverie.runtime.fusion import Fusion, fusion_of
from edgereverie.runtime.request import Request


@dataclass(frozen=True, slots=True)
class Flag:
    """Claims with support, verdict and evidence; ``confidence`` becomes the support of the weakest claim.

    No question is asked: the evidence is how the words came and what the picture added to them, at the cost of one pass over
    the answer without the picture. fusion: instead of the model's own.
    """

    name: str = "flag"
    fusion: Fusion | None = None

    def apply(self, request: Request, answer: Answer) -> Answer:
        found = assess(request, answer, self.fusion or fusion_of(request), ask=False)
        return replace(answer, claims=found, confidence=confidence(found, answer.confidence))


GUARD = Flag()
