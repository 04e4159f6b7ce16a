"""Says only what a calibrated rule vouches for: keeps silent where a yes or no is not sure enough, drops claims that are not."""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgereverie.records import Answer
from edgereverie.runtime.calibration.applying import apply_rules
from edgereverie.runtime.calibration.record import required
from edgereverie.runtime.evidence import assess, confidence
from edgereverie.runtime.request import Request


@dataclass(frozen=True, slots=True)
class Abstain:
    """The rules of the bundle's calibration, done. The promise that holds stands in ``guarantee``.

    Raises BackendError for a model without a calibration of its own: there is no rule to follow then. An answer that no
    rule speaks of (sampled, or in a longer conversation, or about nothing in a picture) stays as it is, without a promise.
    """

    name: str = "abstain"

    def apply(self, request: Request, answer: Answer) -> Answer:
        calibration = required(request.model)
        if not answer.claims and request.image is not None:
            found = assess(request, answer, calibration.fusion)
            answer = replace(answer, claims=found, confidence=confidence(found, answer.confidence))
        return apply_rules(request, answer, act=True)


GUARD = Abstain()
