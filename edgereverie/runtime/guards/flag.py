"""Says which claims the picture supports; leaves the answer as it is."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from edgereverie.records import Answer
from edgereverie.runtime.guards._evidence import Fusion, assess, confidence
from edgereverie.runtime.request import Request


@dataclass(frozen=True, slots=True)
class Flag:
    """Claims with support, verdict and evidence; ``confidence`` becomes the support of the weakest claim."""

    name: str = "flag"
    fusion: Fusion = field(default_factory=Fusion)

    def apply(self, request: Request, answer: Answer) -> Answer:
        found = assess(request, answer, self.fusion)
        return replace(answer, claims=found, confidence=confidence(found, answer.confidence))


GUARD = Flag()
