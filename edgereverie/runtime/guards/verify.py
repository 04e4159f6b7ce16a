"""Takes back what the picture contradicts: claims leave the text, a wrong yes or no is turned, an empty answer abstains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgereverie.records import Answer, Claim
from edgereverie.runtime.evidence import assess, confidence
from edgereverie.runtime.fusion import Fusion, fusion_of
from edgereverie.runtime.guards._rewrite import without
from edgereverie.runtime.guards.base import ABSTENTION
from edgereverie.runtime.request import Request
from edgereverie.text.asking import particle
from edgereverie.text.claims import claims, stated

_OF_WORDS = ("grounding", "log_prob", "margin", "length")  # evidence that belongs to the words that were said


@dataclass(frozen=True, slots=True)
class Verify:
    """``flag`` with a short question for each claim, and then the answer without its contradicted claims.

    A yes or no is turned only when the very claim that it makes is contradicted and its opposite likelier, for a calibrated
    cut may lie above one half; else it stays. What else such an answer claims, when that is contradicted, is dropped and the
    bare yes or no stays. Of other answers the words of contradicted claims go, or the sentence tells them as a possibility,
    or tells anew what is right in it. When nothing is left, the answer is ABSTENTION with ``abstained`` set. No text is
    generated and nothing new is claimed; the claims that stay keep the evidence that was measured in the answer as the model
    gave it. fusion: instead of the model's own.
    """

    name: str = "verify"
    fusion: Fusion | None = None

    def apply(self, request: Request, answer: Answer) -> Answer:
        fusion = self.fusion or fusion_of(request)
        where = particle(answer.text)
        found, said = _said(request, assess(request, answer, fusion), where)
        checked = replace(answer, claims=found, confidence=confidence(found, answer.confidence))
        wrong = contradicted(found)
        if not wrong:
            return checked
        draft = answer.draft if answer.draft is not None else answer.text
        checked = replace(checked, draft=draft, reason=told(wrong))
        if said is not None:
            return _yes_or_no(checked, said, fusion, where)
        text = without(answer.text, found, wrong)
        if not text:
            return replace(checked, text=ABSTENTION, claims=(), abstained=True)
        kept = placed(request, text, found)
        return replace(checked, text=text, claims=kept, confidence=confidence(kept, answer.confidence))


def contradicted(found: Sequence[Claim]) -> list[Claim]:
    """The claims that the picture contradicts wherever the answer makes them."""
    wrong = {claim.statement for claim in found if claim.verdict == "contradicted"}
    wrong -= {claim.statement for claim in found if claim.verdict != "contradicted"}
    return [claim for claim in found if claim.statement in wrong]


def told(wrong: Sequence[Claim]) -> str:
    """What was taken back and why, in words."""
    weakest: dict[str, float] = {}
    for claim in wrong:
        said = claim.statement.rstrip(".")
        weakest[said] = min(claim.support, weakest.get(said, 1.0))
    return "The picture does not support: " + "; ".join(
        f"{said[0].lower()}{said[1:]} ({p:.2f})" for said, p in weakest.items()
    )


def placed(request: Request, text: str, known: Sequence[Claim]) -> tuple[Claim, ...]:
    """What a rewritten text claims, with the evidence that each claim had before."""
    judged: dict[tuple, Claim] = {}
    for claim in known:
        judged.setdefault(stated(claim.statement).key, claim)
    return tuple(
        replace(judged[one.key], text=one.text, start=one.start, end=one.end, statement=one.statement)
        for one in claims(request.question, text)
        if one.key in judged
    )


def _said(
    request: Request, found: tuple[Claim, ...], where: tuple[int, int] | None
) -> tuple[tuple[Claim, ...], Claim | None]:
    """The claims, and the one among them that a yes or no at ``where`` makes. It is contradicted only if it is less likely
    than its opposite: one of the two has to be said."""
    if where is None:
        return found, None
    said = next((claim for claim in found if where == (claim.start, claim.end)), None) or _restated(request, found)
    if said is None or said.verdict != "contradicted" or said.support < 0.5:
        return found, said
    kept = replace(said, verdict="unverified")
    return tuple(kept if claim is said else claim for claim in found), kept


def _restated(request: Request, found: Sequence[Claim]) -> Claim | None:
    """The claim that a yes makes in its own words: Yes, there is a ring."""
    asked = claims(request.question, "Yes.")
    keys = {one.key for one in asked} | {
        ("object", one.subject.split()[-1], "", "", True) for one in asked if one.kind == "object"
    }
    return next((claim for claim in found if stated(claim.statement).key in keys), None)


def _yes_or_no(answer: Answer, claim: Claim, fusion: Fusion, where: tuple[int, int]) -> Answer:
    """The bare yes or no, turned when the claim that it makes is contradicted."""
    said_yes = answer.text[slice(*where)].lower() == "yes"
    if claim.verdict == "contradicted":
        said_yes = not said_yes
        claim = _turned(claim, fusion)
    text = "Yes." if said_yes else "No."
    bare = replace(claim, text=text[:-1], start=0, end=len(text) - 1)
    return replace(answer, text=text, claims=(bare,), confidence=bare.support)


def _turned(claim: Claim, fusion: Fusion) -> Claim:
    """The opposite claim. What was measured of the words is left out, for these words were not said."""
    evidence = {name: value for name, value in claim.evidence.items() if not name.startswith(_OF_WORDS)}
    evidence |= {name: -evidence[name] for name in ("polarity", "verification") if name in evidence}
    support = fusion.support(evidence, claim.kind)
    statement = stated(claim.statement).opposite
    return replace(claim, support=support, verdict=fusion.verdict(support), evidence=evidence, statement=statement)


GUARD = Verify()
