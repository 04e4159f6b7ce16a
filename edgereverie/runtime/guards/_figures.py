"""One figure about a whole answer, told beside the evidence of each of its claims."""

from __future__ import annotations

from dataclasses import replace

from edgereverie.records import Answer, Claim
from edgereverie.runtime.fusion import fusion_of
from edgereverie.runtime.request import Request
from edgereverie.text.claims import claims

CARRIED = ("agreement", "reflection")  # what is known of an answer as a whole, whoever looks at its claims afterwards


def noted(request: Request, answer: Answer, name: str, value: float) -> Answer:
    """The answer with that figure in the evidence of its claims; they are read from the text where there are none yet."""
    found = answer.claims or tuple(
        Claim(one.text, one.start, one.end, one.subject, 0.5, "unverified", {"polarity": one.polarity}, one.kind,
              one.statement)
        for one in claims(request.question, answer.text)
    )  # fmt: skip
    return with_figures(request, replace(answer, claims=found), {name: value})


def with_figures(request: Request, answer: Answer, figures: dict[str, float]) -> Answer:
    """The claims with the figures that they lack, and what that makes of their support."""
    fusion, out = fusion_of(request), []
    for claim in answer.claims:
        if figures.keys() <= claim.evidence.keys():
            out.append(claim)
            continue
        evidence = {**figures, **claim.evidence}
        support = fusion.support(evidence, claim.kind)
        out.append(replace(claim, evidence=evidence, support=support, verdict=fusion.verdict(support)))
    return replace(answer, claims=tuple(out))


def carried(answer: Answer) -> dict[str, float]:
    """The figures of ``CARRIED`` that the answer's claims have."""
    return {name: claim.evidence[name] for claim in answer.claims for name in CARRIED if name in claim.evidence}
