"""From answers with known truth to a fusion, its rules, and figures on pictures that neither has seen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

import numpy as np

from edgereverie import measures
from edgereverie.errors import DataError
from edgereverie.records import Claim
from edgereverie.runtime.calibration.fusing import fitted
from edgereverie.runtime.calibration.rules import (
    AnswerKind,
    Judged,
    Rule,
    choose_rules,
    measure_rule,
    thresholds_to_walk,
)
from edgereverie.runtime.fusion import Fusion, figures

SPLITS = {"fit": 0.4, "choose": 0.4, "report": 0.2}
LEAST_EACH = 20  # true and false claims without which no weights are fitted
_TRUE_DROPPED = 0.025  # share of true claims that the verdict ``contradicted`` may hit
_HIGHEST = 0.75  # support from which on no claim is called contradicted
_TRUE_NEEDED = 100  # true claims that it takes to say so


@dataclass(frozen=True, slots=True)
class Known:
    """One answer about one picture, and for each of its claims whether it is true, None where nobody can tell."""

    image: str
    kind: AnswerKind
    claims: tuple[Claim, ...]
    true: tuple[bool | None, ...]


@dataclass(frozen=True, slots=True)
class Learned:
    """What ``learn`` found out. images, claims: by split."""

    fusion: Fusion
    rules: tuple[Rule, ...]
    lacking: tuple[str, ...]
    images: Mapping[str, int]
    claims: Mapping[str, int]
    report: Mapping[str, float]


def split_of(images: Sequence[str], seed: int) -> dict[str, str]:
    """Each picture's split, by the seed; no picture is in two."""
    names = list(dict.fromkeys(images))
    Random(seed).shuffle(names)
    first, second = (round(len(names) * share) for share in (SPLITS["fit"], SPLITS["fit"] + SPLITS["choose"]))
    return {name: "fit" if i < first else "choose" if i < second else "report" for i, name in enumerate(names)}


def learn(answers: Sequence[Known], *, alpha: float, delta: float, seed: int) -> Learned:
    """Fit on one split of the pictures, choose thresholds on another, report on a third.

    Raises DataError that says how much more is needed when there is too little to fit.
    """
    where = split_of([answer.image for answer in answers], seed)
    parts = {name: [answer for answer in answers if where[answer.image] == name] for name in SPLITS}
    evidence, kinds, true = _rows(parts["fit"])
    _require_both(true, len(where))
    fusion = fitted(evidence, kinds, true)
    fusion = replace(fusion, **_verdicts(fusion, parts["choose"]))
    judged = {
        name: {kind: _judged(fusion, part, kind, seed) for kind in ("closed", "open")} for name, part in parts.items()
    }
    rules: list[Rule] = []
    lacking: list[str] = []
    for kind in ("closed", "open"):
        chosen_on = judged["choose"][kind]
        if not chosen_on and not judged["fit"][kind]:
            continue  # nothing of the kind was asked
        grid = thresholds_to_walk(np.array([one.score for one in judged["fit"][kind]]))
        found, missed = choose_rules(chosen_on, kind, grid, alpha=alpha, delta=delta)
        rules += [replace(rule, measured=measure_rule(rule, judged["report"][kind])) for rule in found]
        lacking += missed
    return Learned(
        fusion,
        tuple(rules),
        tuple(lacking),
        {name: sum(place == name for place in where.values()) for name in SPLITS},
        {name: len(_rows(part)[2]) for name, part in parts.items()},
        _report(fusion, parts["report"], alpha),
    )


def _rows(answers: Sequence[Known]) -> tuple[list[Mapping[str, float]], list[str], np.ndarray]:
    """Evidence, kind and truth of every claim whose truth is known."""
    known = [
        (claim, true)
        for answer in answers
        for claim, true in zip(answer.claims, answer.true, strict=True)
        if true is not None
    ]
    return (
        [one.evidence for one, _ in known],
        [one.kind for one, _ in known],
        np.array([true for _, true in known], int),
    )


def _require_both(true: np.ndarray, images: int) -> None:
    right, wrong = int(true.sum()), int((1 - true).sum())
    if min(right, wrong) >= LEAST_EACH:
        return
    rare, name = min((right, "true"), (wrong, "false"))
    more = f"about {math.ceil(images * (LEAST_EACH / rare - 1)):,} more pictures" if rare else "many more pictures"
    raise DataError(
        f"Too little to learn from: of {len(true):,} claims to fit on, {rare:,} are {name}; at least {LEAST_EACH} true and "
        f"{LEAST_EACH} false ones are needed.",
        hint=f"Give {more} of this sort, or harder ones (--images, --data).",
    )


def _verdicts(fusion: Fusion, answers: Sequence[Known]) -> dict[str, float]:
    """Where verdicts begin: ``contradicted`` as high as it can be while it hits hardly a true claim.

    Where nearly all claims are true, that may be over 1/2: a claim much less likely than others is worth taking back.
    """
    evidence, kinds, true = _rows(answers)
    support = np.sort(
        [fusion.support(one, kind) for one, kind, fine in zip(evidence, kinds, true, strict=True) if fine]
    )
    if len(support) < _TRUE_NEEDED:
        return {}
    contradicted = min(_HIGHEST, float(support[math.floor(_TRUE_DROPPED * (len(support) + 1)) - 1]))
    return {"contradicted": contradicted, "supported": max(fusion.supported, (1 + contradicted) / 2)}


def _judged(fusion: Fusion, answers: Sequence[Known], kind: AnswerKind, seed: int) -> list[Judged]:
    """One answer of the kind to each picture, drawn where there are several: items are then independent."""
    rng = Random(seed)
    by_image: dict[str, list[Known]] = {}
    for answer in answers:
        if answer.kind == kind and any(true is not None for true in answer.true):
            by_image.setdefault(answer.image, []).append(answer)
    found = []
    for several in by_image.values():
        answer = rng.choice(several)
        support = [fusion.support(claim.evidence, claim.kind) for claim in answer.claims]
        known = [i for i, true in enumerate(answer.true) if true is not None]
        told = np.array([answer.true[i] for i in known], dtype=bool)
        found.append(Judged(min(support), bool(told.all()), np.array([support[i] for i in known]), told))
    return found


def _report(fusion: Fusion, answers: Sequence[Known], alpha: float) -> dict[str, float]:
    """Figures on the third split, by name; those that are undefined there are left out."""
    evidence, kinds, true = _rows(answers)
    if not len(true):
        return {}
    support = np.array([fusion.support(one, kind) for one, kind in zip(evidence, kinds, strict=True)])
    rows = [figures(one, negation=fusion.negation) for one in evidence]
    struck = support <= fusion.contradicted
    found = {
        "true_share": float(true.mean()),
        "auroc/fusion": measures.auroc(support, true),
        "ece15": measures.ece(support, true),
        "brier": measures.brier(support, true),
        "aurc": measures.aurc(support, true),
        f"coverage_at_{alpha:.2f}": measures.coverage_at_risk(support, true, alpha),
        "contradicted/false": float(struck[true == 0].mean()) if (true == 0).any() else math.nan,
        "contradicted/true": float(struck[true == 1].mean()) if (true == 1).any() else math.nan,
    }
    for name in sorted({name for row in rows for name in row}):
        there = np.array([name in row for row in rows])
        values = np.array([row.get(name, 0.0) for row in rows])
        found[f"auroc/{name}"] = measures.auroc(values[there], true[there])
    return {name: value for name, value in found.items() if math.isfinite(value)}
