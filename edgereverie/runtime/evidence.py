"""What the picture says about an answer's claims: how the words came, what the picture adds to them, what the model answers
when it is asked.

Everything is measured after the answer is finished and changes nothing in it. The words cost one pass over the answer
without the picture, for with it the answer's own record tells; the questions run together behind the picture's prefix.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgereverie.records import Answer, Claim, Turn
from edgereverie.runtime.fusion import Fusion
from edgereverie.runtime.request import Request
from edgereverie.runtime.scoring import Scored, continuation, log_probs, score_ids
from edgereverie.text.assertions import Assertion
from edgereverie.text.claims import claims, stated
from edgereverie.text.statements import there_is

_NEXT_TO_NOTHING = 0.05  # nats


def assess(request: Request, answer: Answer, fusion: Fusion, *, ask: bool = True) -> tuple[Claim, ...]:
    """The answer's claims with their evidence, in nats; ask: put a short question for each.

    log_prob_mean, log_prob_min, margin_min: of the claim's content tokens, with the picture. length: how many they are.
    grounding, grounding_min, grounding_sum: log-probability with the picture minus without it: mean, least and sum over
        them. What the language model would have said blind scores about 0.
    yes_with_image, yes_without: log-odds of yes over no to the claim's question. no_with_image, no_without: to its denial,
        asked only where ``fusion.negation`` says that the model understands it. verification: what the picture adds to the
        odds, which cancels a leaning to yes or no: the difference of the first two, and with the denial half of that minus
        the difference of the others.
    thing_verification, thing_yes_with_image ...: the same of whether the thing is there that the claim is about; of two, the
        worse.
    times, nth: how many claims of its kind the answer makes about its thing, and how many of them stand before it: a model
        that repeats itself says little of what it sees.
    polarity: -1 where the answer says that it is not so. verification and grounding are signed so that positive speaks for
        the claim.
    """
    found = claims(request.question, answer.text)
    if request.image is None or not found:
        return tuple(_claim(one, {"polarity": one.polarity}, None) for one in found)
    seen, blind = _passes(request, answer, max((end for one in found for _, end in one.content), default=0))
    odds = questioned(request, found, negation=fusion.negation) if ask else {}
    return tuple(_claim(one, evidence_of(found, i, seen, blind, odds), fusion) for i, one in enumerate(found))


def evidence_of(
    found: Sequence[Assertion], index: int, seen: Scored, blind: np.ndarray, odds: Mapping[str, Mapping[str, float]]
) -> dict[str, float]:
    """All figures of the claim found[index]. seen: the answer's tokens with the picture. blind: their log-probabilities
    without it. odds: by question."""
    claim, about = found[index], [(one.kind, one.subject) for one in found]
    times, nth = about.count(about[index]), about[:index].count(about[index])
    said = {"polarity": claim.polarity, "times": float(times), "nth": float(nth)}
    return {**said, **worded(claim, seen, blind), **_answered(claim, odds)}


def _answered(claim: Assertion, odds: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """What the model answered about the claim. Nothing can be so of a thing that is not there, so what is claimed of it is
    never better verified than the thing itself."""
    if claim.question not in odds:
        return {}
    told = dict(odds[claim.question])
    if claim.present:
        _, *things = _questions(claim)
        if things:
            worse = min((odds[thing] for thing in things), key=lambda one: one["verification"])
            told |= {f"thing_{name}": value for name, value in worse.items()}
            told["verification"] = min(told["verification"], worse["verification"])
    else:
        told["verification"] *= -1.0
    return told


def _questions(claim: Assertion) -> list[str]:
    """The claim's own question, and whether the things are there that it speaks of."""
    things = [] if claim.kind in ("object", "count") or not claim.present else [claim.subject, claim.other]
    return [claim.question, *(there_is(name).question() for name in things if name)]


def worded(claim: Assertion, seen: Scored, blind: np.ndarray) -> dict[str, float]:
    """How the claim's content words came, and what the picture added to them; empty where no token touches them."""
    inside = [
        i for i, span in enumerate(seen.spans) if any(span[0] < end and span[1] > start for start, end in claim.content)
    ]
    if not inside:
        return {}
    own, gain = seen.log_probs[inside], (seen.log_probs - blind)[inside]
    return {
        "log_prob_mean": float(own.mean()),
        "log_prob_min": float(own.min()),
        "margin_min": float(seen.margins[inside].min()),
        "grounding": float(gain.mean()),
        "grounding_min": float(gain.min()),
        "grounding_sum": float(gain.sum()),
        "length": float(len(inside)),
    }


def questioned(request: Request, found: Sequence[Assertion], *, negation: bool) -> dict[str, dict[str, float]]:
    """By question, the odds of yes over no with the picture and without; each question is asked once."""
    questions = list(dict.fromkeys(question for one in found for question in _questions(one)))
    denials = {question: denial for one in found for question, denial in _denials(one)} if negation else {}
    asked = [*questions, *(denials[question] for question in questions if negation)]
    turns = [[Turn("user", question)] for question in asked]
    with_image = request.model.yes_over_no_many(request.image, turns)
    without = request.model.yes_over_no_many(None, turns)
    out = {}
    for i, question in enumerate(questions):
        told = {"yes_with_image": with_image[i], "yes_without": without[i], "verification": with_image[i] - without[i]}
        if negation:
            j = len(questions) + i
            told |= {"no_with_image": with_image[j], "no_without": without[j]}
            told["verification"] = (told["verification"] - (with_image[j] - without[j])) / 2
        out[question] = told
    return out


def _denials(claim: Assertion) -> list[tuple[str, str]]:
    things = [there_is(name) for name in (claim.subject, claim.other) if name]
    return [(claim.question, claim.denial), *((thing.question(), thing.denial()) for thing in things)]


def wording() -> tuple[str, ...]:
    """How claims of every kind are asked about: what a calibration belongs to.

    >>> wording()[0]
    'Is there an arrow in the image?'
    """
    told = ("There is an arrow.", "There are jeans.", "The ring is red.", "There are two stars.", "The ring is at the left.",
            "The man has a hat.", "The star is to the left of the ring.", "The man is riding a horse.")  # fmt: skip
    return tuple(question for one in map(stated, told) for question in (one.question, one.denial))


def confidence(claimed: Sequence[Claim], otherwise: float | None) -> float | None:
    """An answer is as sure as its weakest claim."""
    return min((claim.support for claim in claimed), default=otherwise)


def why(claim: Claim) -> str:
    """The evidence behind a claim in words, for a reader.

    >>> told = {"grounding_sum": 3.1, "yes_with_image": 1.4, "yes_without": -1.0}
    >>> for part in why(Claim("a ring", 0, 6, "ring", 0.9, "supported", told, statement="There is a ring.")).split("; "):
    ...     print(part)
    the picture adds 3.1 nats to these words
    asked 'Is there a ring in the image?' the model says yes (+2.4 nats over its guess without the picture)
    """
    told = [*_of_words(claim.evidence), *_of_questions(claim)]
    if (doubt := claim.evidence.get("thing_verification", 0.0)) < 0:
        told.append(f"the model doubts that what this speaks of is there ({doubt:+.1f} nats)")
    if "reflection" in claim.evidence:
        leaning = claim.evidence["reflection"]
        told.append(
            f"asked whether the answer is right, the model leans to {'yes' if leaning > 0 else 'no'} ({leaning:+.1f} nats)"
        )
    if "agreement" in claim.evidence:
        told.append(f"{claim.evidence['agreement']:.0%} of its sampled answers agree")
    return "; ".join(told) or "nothing was measured"


def _of_words(evidence: Mapping[str, float]) -> list[str]:
    if "grounding_sum" in evidence:
        gain = evidence["grounding_sum"]
        if abs(gain) < _NEXT_TO_NOTHING:
            return ["the picture changes nothing about these words"]
        return [
            f"the picture {'adds' if gain > 0 else 'takes'} {abs(gain):.1f} nats {'to' if gain > 0 else 'from'} these words"
        ]
    if "log_prob_mean" in evidence:
        return [f"its words came with a probability of {np.exp(evidence['log_prob_mean']):.0%} each"]
    return []


def _of_questions(claim: Claim) -> list[str]:
    evidence = claim.evidence
    if "yes_with_image" not in evidence or not claim.statement:
        return []
    said = stated(claim.statement)
    pairs = [(said.question, "yes")] + [(said.denial, "no")] * ("no_with_image" in evidence)
    told = []
    for question, name in pairs:
        odds = evidence[f"{name}_with_image"]
        gain = odds - evidence[f"{name}_without"]
        told.append(
            f"asked '{question}' the model says {'yes' if odds > 0 else 'no'} "
            f"({gain:+.1f} nats over its guess without the picture)"
        )
    return told


def _passes(request: Request, answer: Answer, end: int) -> tuple[Scored, np.ndarray]:
    """The answer's tokens as far as the character ``end`` with the picture, and their log-probabilities without it.

    The record tells the first, where the text is still its own. What follows the last claim is nobody's evidence.
    """
    model, turns, record = request.model, request.turns, answer.record
    if answer.draft is None and record and record[-1].end <= len(answer.text):
        record = [token for token in record if token.start < end]
        seen = Scored(
            np.array([token.log_prob for token in record]),
            tuple((token.start, token.end) for token in record),
            np.array([token.margin for token in record]),
        )
        return seen, log_probs(model, None, turns, [token.id for token in record])
    ids, spans = continuation(model, turns, answer.text, image=True)
    read = sum(start < end for start, _ in spans)
    ids, spans = ids[:read], spans[:read]
    return score_ids(model, request.image, turns, ids, spans), log_probs(model, None, turns, ids)


def _claim(one: Assertion, evidence: Mapping[str, float], fusion: Fusion | None) -> Claim:
    support = 0.5 if fusion is None else fusion.support(evidence, one.kind)
    verdict = "unverified" if fusion is None else fusion.verdict(support)
    return Claim(one.text, one.start, one.end, one.subject, support, verdict, evidence, one.kind, one.statement)
