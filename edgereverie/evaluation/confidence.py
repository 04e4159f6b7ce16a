"""How much a run's confidence is worth: does it tell right answers from wrong ones, and how often is it right?

Only answers with a confidence take part. A graded answer counts as right from a half. The figures themselves are those of
``edgereverie.measures``, which calibration is measured by too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgereverie.evaluation.statistics import RESAMPLES, drawn_units, interval_of
from edgereverie.measures import adaptive_ece, aurc, auroc, brier, coverage_at_risk, ece, risk_coverage
from edgereverie.records import Score

if TYPE_CHECKING:
    from edgereverie.evaluation.benchmarks.base import BenchmarkResult
    from edgereverie.evaluation.run import Run

__all__ = [
    "MEASURES", "YES_AUROC", "Measure", "Sure", "adaptive_ece", "aurc", "auroc", "brier", "coverage_at_risk", "ece",
    "figures", "pairs", "risk_coverage", "sure", "yes_scores",
]  # fmt: skip


Formula = Callable[[np.ndarray, np.ndarray], float]


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure of (confidence, right) pairs, and how people read it. better: which way is good. share: printed in percent."""

    name: str
    title: str
    formula: Formula
    better: str
    share: bool


MEASURES: Mapping[str, Measure] = {
    measure.name: measure
    for measure in (
        Measure("confidence_auroc", "Confidence AUROC", auroc, "higher", False),
        Measure("aurc", "AURC", aurc, "lower", True),
        Measure("coverage_5", "Coverage at 5 % risk", lambda c, r: coverage_at_risk(c, r, 0.05), "higher", True),
        Measure("coverage_10", "Coverage at 10 % risk", lambda c, r: coverage_at_risk(c, r, 0.10), "higher", True),
        Measure("ece", "ECE, 15 equal bins", ece, "lower", True),
        Measure("ece_adaptive", "ECE, 15 bins of equal count", adaptive_ece, "lower", True),
        Measure("brier", "Brier score", brier, "lower", False),
    )
}
YES_AUROC = Measure("yes_auroc", "AUROC of yes", auroc, "higher", False)


@dataclass(frozen=True, slots=True, eq=False)
class Sure:
    """Answers with a confidence, in the order asked: (n,) each. yes: probability that the answer is yes, nan where it was
    read as something else. truth: whether yes is right. unit: what they stand or fall with. split: the part they are of."""

    confidence: np.ndarray
    right: np.ndarray
    yes: np.ndarray
    truth: np.ndarray
    unit: np.ndarray
    split: np.ndarray


def sure(run: Run, result: BenchmarkResult) -> Sure:
    """What one way of scoring made of each answer that has a confidence."""
    marks = {mark.id: mark for mark in result.marks}
    told = {item.id: item for item in run.items}
    rows = []
    for prediction in run.predictions:
        found, mark = prediction.answer.confidence, marks.get(prediction.id)
        if found is None or mark is None:
            continue
        right, item = mark.right >= 0.5, told[prediction.id]
        said = {"yes": True, "no": False}.get(mark.read)
        yes = np.nan if said is None else found if said else 1.0 - found
        rows.append((found, right, yes, said is not None and said == right, item.unit, item.split))
    columns = list(zip(*rows, strict=True)) or [()] * 6
    kinds = (np.float64, np.float64, np.float64, np.float64, str, str)
    return Sure(*(np.array(column, kind) for column, kind in zip(columns, kinds, strict=True)))


def pairs(run: Run, result: BenchmarkResult) -> tuple[np.ndarray, np.ndarray]:
    """(confidence, right) of each answer that has a confidence, (n,) each; right is 1 or 0."""
    found = sure(run, result)
    return found.confidence, found.right


def yes_scores(run: Run, result: BenchmarkResult) -> tuple[np.ndarray, np.ndarray]:
    """(probability of yes, whether yes is right) of the answers read as yes or no: what no threshold can change the AUROC of.

    The probability of a no is its confidence's complement.
    """
    found = sure(run, result)
    read = ~np.isnan(found.yes)
    return found.yes[read], found.truth[read]


def figures(run: Run, result: BenchmarkResult, *, resamples: int = RESAMPLES, seed: int = 0) -> tuple[Score, ...]:
    """Each measure of each split with its 95 % interval over units, named ``<scorer>/<split>/<measure>``.

    Empty where no answer has a confidence. Of yes-or-no questions, ``yes_auroc`` too.
    """
    found = sure(run, result)
    scores = []
    for split in dict.fromkeys(found.split.tolist()):
        here = found.split == split
        name = "/".join(filter(None, (result.scorer, split)))
        cases = [(measure, found.confidence[here], found.right[here]) for measure in MEASURES.values()]
        if not np.isnan(found.yes[here]).any():
            cases.append((YES_AUROC, found.yes[here], found.truth[here]))
        _, where = np.unique(found.unit[here], return_inverse=True)
        draws = np.concatenate(list(drawn_units(int(where.max()) + 1, resamples=resamples, seed=seed)))
        for measure, values, right in cases:
            scores.append(_score(f"{name}/{measure.name}", measure.formula, values, right, where, draws))
    return tuple(scores)


def _score(
    name: str, formula: Formula, values: np.ndarray, right: np.ndarray, where: np.ndarray, draws: np.ndarray
) -> Score:
    order = np.argsort(values, kind="stable")  # once: sorting what is sorted costs little
    values, right, where = values[order], right[order], where[order]
    drawn = np.array([formula(np.repeat(values, row[where]), np.repeat(right, row[where])) for row in draws])
    interval = interval_of(formula(values, right), drawn)
    return Score(name, interval.value, interval.low, interval.high, len(values))
