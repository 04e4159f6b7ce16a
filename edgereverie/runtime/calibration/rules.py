"""What is promised, in words: one rule each for answering, keeping claims and naming possible answers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from edgereverie.errors import BundleError
from edgereverie.runtime.calibration import conformal, selective

RuleName = Literal["selective", "filter", "share", "set"]
AnswerKind = Literal["closed", "open"]
WALKED = 60  # thresholds, fixed on another split, that selective answering walks through
_BORNE = 3  # errors among the answers at the first threshold that is tested: a stricter one often ends the walk at once


@dataclass(frozen=True, slots=True)
class Rule:
    """One promise.

    name: ``selective`` answers from ``threshold`` on; ``filter`` and ``share`` keep claims that score above it; ``set`` names
    every answer whose probability lacks at most ``threshold`` of 1. answers: ``closed`` for yes or no, ``open`` for others.
    n: pictures that it was chosen on, one answer to each. measured: on a third split, as figures by name.
    """

    name: RuleName
    answers: AnswerKind
    alpha: float
    threshold: float
    n: int
    delta: float | None = None
    measured: Mapping[str, float] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """The promise, as an answer states it.

        >>> Rule("selective", "closed", 0.1, 0.8, 1200, 0.1).words
        'selective risk <= 0.10 with probability >= 0.90, n = 1200'
        """
        sure = f"{1 - self.alpha:.2f}"
        if self.name == "selective":
            told = f"selective risk <= {self.alpha:.2f} with probability >= {1 - (self.delta or 0):.2f}"
        elif self.name == "filter":
            told = f"every kept claim true with probability >= {sure}"
        elif self.name == "share":
            told = f"false claims kept, as a share of all that were made, <= {self.alpha:.2f} on average"
        else:
            told = f"the truth among the named answers with probability >= {sure}"
        return f"{told}, n = {self.n}"

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Rule:
        """Raises BundleError for anything that ``records.as_json`` of a rule does not give."""
        try:
            rule = cls(**{**data, "measured": dict(data["measured"])})
            numbers = (rule.alpha, rule.threshold, rule.delta or 0.0, *rule.measured.values())
            known = rule.name in RuleName.__args__ and rule.answers in AnswerKind.__args__
            if not known or type(rule.n) is not int or not all(math.isfinite(float(number)) for number in numbers):
                raise ValueError("a name or a number of a rule")
            return rule
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(
                f"A rule of the calibration lacks or misspells {error}.", hint="Calibrate again: edgereverie calibrate"
            ) from None


@dataclass(frozen=True, slots=True)
class Judged:
    """One answer with known truth: ``score`` is its weakest claim's support. support, true: of each claim, in order."""

    score: float
    right: bool
    support: np.ndarray
    true: np.ndarray

    @property
    def truth_probability(self) -> float:
        """What a yes or no leaves to the right one of the two."""
        return self.score if self.right else 1.0 - self.score


def choose_rules(
    answers: Sequence[Judged], kind: AnswerKind, grid: np.ndarray, *, alpha: float, delta: float
) -> tuple[list[Rule], list[str]]:
    """The rules that these answers bear, and for each that they do not, why and what it would take.

    answers: one to each picture, none of which ``grid`` (thresholds to walk) or the fusion was made from.
    """
    if kind == "closed":
        found = [_selective(answers, grid, alpha, delta), _set(answers, alpha)]
    else:
        found = [_filter(answers, alpha), _share(answers, alpha)]
    return [one for one in found if isinstance(one, Rule)], [one for one in found if isinstance(one, str)]


def thresholds_to_walk(scores: np.ndarray) -> np.ndarray:
    """Thresholds at even steps of the scores of a split that the rules are not chosen on.

    >>> thresholds_to_walk(np.array([0.5, 0.5, 0.9])).tolist()
    [0.5, 0.9]
    """
    if not len(scores):
        return np.empty(0)
    return np.unique(np.quantile(scores, np.linspace(0.0, 1.0, WALKED), method="inverted_cdf"))


def measure_rule(rule: Rule, answers: Sequence[Judged]) -> dict[str, float]:
    """The rule on answers that it was not chosen on: its loss, and how much is answered or kept."""
    if not answers:
        return {}
    n = float(len(answers))
    if rule.name == "selective":
        told = [one for one in answers if one.score >= rule.threshold]
        risk = {"risk": float(np.mean([not one.right for one in told]))} if told else {}
        return risk | {"coverage": len(told) / n, "n": n}
    if rule.name == "set":
        lacking = np.array([1.0 - one.truth_probability for one in answers])
        single = np.mean([(1 - one.score <= rule.threshold) != (one.score <= rule.threshold) for one in answers])
        return {"risk": float(np.mean(lacking > rule.threshold)), "coverage": float(single), "n": n}
    kept = [one.support > rule.threshold for one in answers]
    true = np.concatenate([one.true.astype(bool) for one in answers])
    all_kept = np.concatenate(kept)
    if rule.name == "filter":
        losses = [float(np.any(keep & ~one.true.astype(bool))) for keep, one in zip(kept, answers, strict=True)]
    else:
        losses = conformal.false_share([(one.support, one.true) for one in answers], rule.threshold).tolist()
    share = float(all_kept[true].mean()) if true.any() else 0.0
    return {"risk": float(np.mean(losses)), "coverage": float(all_kept.mean()), "true_kept": share, "n": n}


def _selective(answers: Sequence[Judged], grid: np.ndarray, alpha: float, delta: float) -> Rule | str:
    scores, right = np.array([one.score for one in answers]), np.array([one.right for one in answers], dtype=int)
    needed = selective.items_needed(alpha, delta)
    if len(answers) < needed:
        return _too_few("selective answering", "closed", len(answers), needed)
    least = max(needed, min(selective.items_needed(alpha, delta, _BORNE), len(answers) // 3))
    found = selective.fixed_sequence(scores, right, alpha, delta, thresholds=grid, least=least)
    if found is not None:
        return Rule("selective", "closed", alpha, found.threshold, len(answers), delta)
    told = f"selective answering (closed): at no threshold is a risk of at most {alpha:.2f} beyond doubt"
    would_do = _pictures_that_would_do(scores, right, grid, alpha, delta)
    if would_do is None:
        return f"{told}, nor measured at any{_surest(scores, right)}"
    more = max(1, would_do - len(answers))
    return f"{told}; as answers went here, some {would_do} pictures to choose on would do: {more} more"


def _pictures_that_would_do(
    scores: np.ndarray, right: np.ndarray, grid: np.ndarray, alpha: float, delta: float
) -> int | None:
    """How many pictures the best threshold would take, were errors and answers as frequent as here; None over alpha."""
    found = []
    for n, wrong in zip(*selective.answered_from(scores, right, grid), strict=True):
        if not n or wrong / n > 0.9 * alpha:
            continue
        errors = 0
        while wrong / n * (needed := selective.items_needed(alpha, delta, errors)) > errors:
            errors = math.ceil(wrong / n * needed)
        found.append(math.ceil(needed * len(scores) / n))
    return min(found, default=None)


def _filter(answers: Sequence[Judged], alpha: float) -> Rule | str:
    cut = conformal.claim_filter([(one.support, one.true) for one in answers], alpha)
    return _conformal("filter", "open", "the claim filter", cut, len(answers), alpha)


def _share(answers: Sequence[Judged], alpha: float) -> Rule | str:
    cut = conformal.risk_control([(one.support, one.true) for one in answers], alpha)
    return _conformal("share", "open", "risk control", cut, len(answers), alpha)


def _set(answers: Sequence[Judged], alpha: float) -> Rule | str:
    cut = conformal.set_threshold(np.array([one.truth_probability for one in answers]), alpha)
    return _conformal("set", "closed", "prediction sets", cut, len(answers), alpha)


def _conformal(name: RuleName, kind: AnswerKind, title: str, cut: float, n: int, alpha: float) -> Rule | str:
    if cut == math.inf:
        return _too_few(title, kind, n, conformal.answers_needed(alpha))
    return Rule(name, kind, alpha, max(cut, 0.0), n)  # a support is never under 0, so this keeps all that -inf keeps


def _too_few(title: str, kind: str, n: int, needed: int) -> str:
    """
    >>> _too_few("risk control", "open", 7, 9)
    'risk control (open): 7 pictures to choose on, 9 are needed at least: 2 more'
    """
    return f"{title} ({kind}): {n} pictures to choose on, {needed} are needed at least: {needed - n} more"


def _surest(scores: np.ndarray, right: np.ndarray) -> str:
    """What the surest answers were like, for somebody who wonders how far off the promise is."""
    order = np.argsort(-scores, kind="stable")[: max(1, len(scores) // 5)]
    wrong = int(len(order) - np.sum(right[order]))
    return f" (of the surest {len(order)} of {len(scores)} answers, {wrong} are wrong)"
