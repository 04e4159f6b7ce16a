"""What becomes of an answer under the calibrated rules: what is promised of it, what is left out, when it is not given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edgereverie.records import Answer, Claim
from edgereverie.runtime.calibration.record import SILENT, Calibration
from edgereverie.runtime.calibration.rules import AnswerKind, Rule
from edgereverie.runtime.guards._rewrite import without
from edgereverie.runtime.guards.verify import ABSTENTION
from edgereverie.runtime.request import Request
from edgereverie.text.asking import says_yes
from edgereverie.text.claims import claims


def kind_of(answer: Answer) -> AnswerKind:
    """``closed`` for an answer that says yes or no and claims something by it."""
    return "closed" if answer.claims and says_yes(answer.text) is not None else "open"


def outside(request: Request, answer: Answer, calibration: Calibration) -> str:
    """Why no rule speaks of this answer, empty where one may: it must have come about as those that were calibrated on."""
    if request.image is None or not answer.claims:
        return "the answer makes no claim about a picture"
    if request.options.temperature > 0 or request.options.grammar or request.options.repetition_penalty != 1.0:
        return "the rules hold for greedy answers"
    if sum(turn.role != "system" for turn in request.turns) > 1:
        return "the rules hold for the first question about a picture"
    if (at_work := working(answer.guards)) != calibration.guards:
        return f"the rules hold with {_named(calibration.guards)}, at work: {_named(at_work)}"
    lacking = {name for claim in answer.claims for name in calibration.fusion.lacks(claim.evidence, claim.kind)}
    return f"not measured: {', '.join(sorted(lacking))}" if lacking else ""


def working(guards: Sequence[str]) -> tuple[str, ...]:
    """The guards that decide what an answer says.

    >>> working(("flag", "verify", "abstain"))
    ('verify',)
    """
    return tuple(name for name in guards if name not in SILENT)


def apply_rules(request: Request, answer: Answer, *, act: bool) -> Answer:
    """The answer with the promise that holds for it in ``guarantee``; unchanged where none does.

    act: do what the rule says. A yes or no under its threshold is not given, claims that are not kept leave the text, and
    an answer of which nothing stays is not given either: ``abstained`` with the reason. Without, the text stays, and the
    promise names the support from which on it holds. answer: with its claims, and the guards so far in ``guards``.
    """
    calibration = request.model.calibration
    if calibration is None:
        return answer
    if outside(request, answer, calibration):
        return replace(answer, guarantee="") if answer.guarantee else answer
    if answer.guarantee or answer.abstained:
        return answer
    if kind_of(answer) == "closed":
        return _closed(answer, calibration, act=act)
    rule = calibration.rule("filter", "open") or calibration.rule("share", "open")
    if rule is None:
        return answer
    if not act:
        return replace(answer, guarantee=f"of claims with support over {rule.threshold:.3f}: {calibration.words(rule)}")
    return _kept(request, answer, calibration, rule)


def _closed(answer: Answer, calibration: Calibration, *, act: bool) -> Answer:
    support = min(claim.support for claim in answer.claims)
    if (rule := calibration.rule("selective", "closed")) is not None:
        holds, why = support >= rule.threshold, f"support {support:.3f} is under {rule.threshold:.3f}"
    elif (rule := calibration.rule("set", "closed")) is not None:
        named = [1 - support <= rule.threshold, support <= rule.threshold]
        holds, why = named == [True, False], f"at support {support:.3f} yes and no both stay possible"
        if named == [False, False]:
            why = f"at support {support:.3f} neither yes nor no is sure enough"
        if named == [False, True]:
            why = f"at support {support:.3f} only the contrary stays possible"
    else:
        return answer
    if holds:
        return replace(answer, guarantee=calibration.words(rule))
    if not act:
        return replace(answer, reason=answer.reason or f"no promise: {why}")
    return _silent(answer, f"{why}; answering would break the rule: {rule.words}")


def _kept(request: Request, answer: Answer, calibration: Calibration, rule: Rule) -> Answer:
    """The answer without the claims that the rule does not keep."""
    wrong = [claim for claim in answer.claims if claim.support <= rule.threshold]
    promised = calibration.words(rule)
    if not wrong:
        return replace(answer, guarantee=promised)
    text = without(answer.text, answer.claims, wrong)
    kept = _standing(request, text, [claim for claim in answer.claims if claim not in wrong])
    if not text or kept is None:
        return _silent(answer, f"too few of its claims have a support over {rule.threshold:.3f}: {rule.words}")
    dropped = ", ".join(dict.fromkeys(claim.text for claim in wrong))
    return replace(
        answer,
        text=text,
        claims=kept,
        confidence=min(claim.support for claim in kept),
        draft=answer.draft if answer.draft is not None else answer.text,
        reason=f"left out, with a support of at most {rule.threshold:.3f}: {dropped}",
        guarantee=promised,
    )


def _standing(request: Request, text: str, kept: Sequence[Claim]) -> tuple[Claim, ...] | None:
    """The kept claims at their places in the new text; None where it claims anything else, so that nothing is promised."""
    known = {claim.subject: claim for claim in kept}
    found = claims(request.question, text)
    if not found or any(one.subject not in known for one in found):
        return None
    return tuple(replace(known[one.subject], text=one.text, start=one.start, end=one.end) for one in found)


def _silent(answer: Answer, why: str) -> Answer:
    return replace(
        answer,
        text=ABSTENTION,
        claims=(),
        abstained=True,
        draft=answer.draft if answer.draft is not None else answer.text,
        reason=why,
        guarantee="",
    )


def _named(guards: Sequence[str]) -> str:
    return f"the guard {', '.join(guards)}" if guards else "no guard that changes answers"
