"""Runs against the first of them, over the same questions: differences, their intervals, tests, and a verdict.

Questions are the same when their hashes are; runs that were asked others are refused, or cut down to the units (pictures) about
which all were asked the same. Tests take units whole; McNemar's stands beside them, question by question.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from edgereverie.errors import DataError
from edgereverie.evaluation.answer_files import some
from edgereverie.evaluation.benchmarks.base import BenchmarkResult, compare, variant_of
from edgereverie.evaluation.kept import KeptRun
from edgereverie.evaluation.run import Run
from edgereverie.evaluation.significance import Chance, McNemar, holm, mcnemar, permutation_tests
from edgereverie.evaluation.statistics import Metric
from edgereverie.records import Score
from edgereverie.registry import BENCHMARKS

LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class Change:
    """One metric of two runs. difference: after minus before, with its paired 95 % interval. adjusted: p by Holm over all
    changes of its scorer, in all runs, that have a good direction. verdict: ``better`` or ``worse`` where adjusted is at most
    5 %, ``unclear`` where it is not, empty where neither direction is good or the metric is undefined."""

    before: Score
    after: Score
    difference: Score
    chance: Chance
    adjusted: float = math.nan
    verdict: str = ""

    @property
    def metric(self) -> str:
        return self.difference.metric


@dataclass(frozen=True, slots=True)
class Comparison:
    """``after`` against ``before``, two labels. right: by scorer and split, questions that one of them alone has right."""

    before: str
    after: str
    changes: tuple[Change, ...]
    right: Mapping[str, McNemar] = field(default_factory=dict)


def comparisons(kept: Sequence[KeptRun], *, seed: int = 0) -> list[Comparison]:
    """Each run against the first, under every scorer of both.

    Raises DataError where questions, pictures or judges differ, naming what does, and where there is nothing to compare.
    """
    for other in kept[1:]:
        _check(kept[0], other)
    found = [_comparison(kept[0], other, seed) for other in kept[1:]]
    families: dict[str, list[tuple[int, int]]] = {}
    for i, one in enumerate(found):
        for j, change in enumerate(one.changes):
            if _metric(change.metric).better is not None:
                families.setdefault("/".join(change.metric.split("/")[:2]), []).append((i, j))
    adjusted: dict[tuple[int, int], float] = {}
    # A family is what one scorer counted of all runs: with all scorers in one, the smallest p that the permutations can tell
    # times the tests would soon pass 5 %.
    for places in families.values():
        adjusted |= dict(zip(places, holm([found[i].changes[j].chance.p for i, j in places]), strict=True))
    return [
        replace(one, changes=tuple(_judged(change, adjusted.get((i, j))) for j, change in enumerate(one.changes)))
        for i, one in enumerate(found)
    ]


def _comparison(before: KeptRun, after: KeptRun, seed: int) -> Comparison:
    changes: list[Change] = []
    right: dict[str, McNemar] = {}
    for run, result, other_run, other in _pairs(before, after):
        changes += _changes(result, other, seed)
        right |= _right(run, result, other_run, other)
    if not changes:
        raise DataError(
            f"{before.label} and {after.label} have no benchmark scored in the same way: {_told(before)}; {_told(after)}.",
            hint="Score the answers of both in one way; `edgereverie score` does it without a model.",
        )
    return Comparison(before.label, after.label, tuple(changes), right)


def _pairs(before: KeptRun, after: KeptRun) -> Iterable[tuple[Run, BenchmarkResult, Run, BenchmarkResult]]:
    earlier = {result.scorer: (run, result) for run in before.runs for result in run.results}
    for run in after.runs:
        for result in run.results:
            if result.scorer in earlier:
                yield *earlier[result.scorer], run, result


def _changes(before: BenchmarkResult, after: BenchmarkResult, seed: int) -> list[Change]:
    benchmark = BENCHMARKS.get(after.benchmark)
    way = variant_of(benchmark, after.variant)
    differences = iter(compare(benchmark, before, after, seed=seed))
    values = {score.metric: score for score in before.scores}, {score.metric: score for score in after.scores}
    earlier = {tally.split: tally.counts for tally in before.tallies}
    changes = []
    for tally in after.tallies:
        metrics = way.metrics_of(tally.split.removeprefix(f"{after.scorer}/"))
        formulas = [metric.formula for metric in metrics]
        for chance in permutation_tests(earlier[tally.split], tally.counts, formulas, seed=seed):
            difference = next(differences)
            one, other = (scores[difference.metric] for scores in values)
            changes.append(Change(one, other, difference, chance))
    return changes


def _right(run: Run, result: BenchmarkResult, other_run: Run, other: BenchmarkResult) -> dict[str, McNemar]:
    splits = {item.id: item.split for item in run.items}
    earlier, later = ({mark.id: mark.right >= 0.5 for mark in one.marks} for one in (result, other))
    found = {}
    for split in dict.fromkeys(splits.values()):
        ids = [id for id in later if id in earlier and splits.get(id) == split]
        name = "/".join(filter(None, (result.scorer, split)))
        found[name] = mcnemar(np.array([earlier[id] for id in ids]), np.array([later[id] for id in ids]))
    return found


def _judged(change: Change, adjusted: float | None) -> Change:
    if adjusted is None or math.isnan(adjusted):
        return change
    better = (change.difference.value > 0) == (_metric(change.metric).better == "higher")
    verdict = "unclear" if adjusted > LEVEL else "better" if better else "worse"
    return replace(change, adjusted=adjusted, verdict=verdict)


def _metric(name: str) -> Metric:
    benchmark, variant, *split, last = name.split("/")
    metrics = variant_of(BENCHMARKS.get(benchmark), variant).metrics_of("/".join(split))
    return next(metric for metric in metrics if metric.name == last)


def _check(before: KeptRun, after: KeptRun) -> None:
    earlier = {run.benchmark: run for run in before.runs}
    faults = []
    for run in after.runs:
        other = earlier.get(run.benchmark)
        if other is None:
            continue
        if run.data != other.data:
            faults.append(
                f"{run.benchmark}: {before.label} and {after.label} were asked other questions: {_apart(other, run)}."
            )
        elif run.pictures and other.pictures and run.pictures != other.pictures:
            faults.append(f"{run.benchmark}: the questions of {before.label} and {after.label} are the same, the pictures are "
                          f"not ({other.pictures[:12]}, {run.pictures[:12]}).")  # fmt: skip
    for run, result, other_run, other in _pairs(before, after):
        judges = result.judge or run.judge, other.judge or other_run.judge
        if judges[0] != judges[1]:
            faults.append(f"{result.scorer}: {before.label} was judged by {judges[0] or 'an unnamed judge'} and "
                          f"{after.label} by {judges[1] or 'an unnamed judge'}.")  # fmt: skip
    if faults:
        raise DataError(
            "The runs cannot be compared.\n" + "\n".join(faults),
            hint="Compare runs over the same questions, pictures and judge; --common takes what both were asked.",
        )


def _apart(one: Run, other: Run) -> str:
    """How the questions of two runs differ, in words."""
    ours, theirs = ({item.id: (item.question, item.truth) for item in run.items} for run in (one, other))
    kinds = {
        "only the first": [id for id in ours if id not in theirs],
        "only the second": [id for id in theirs if id not in ours],
        "in both, with other words or another truth": [id for id in ours if id in theirs and ours[id] != theirs[id]],
    }
    told = [f"{len(ids):,} {kind} ({some(ids, 3)})" for kind, ids in kinds.items() if ids]
    return "; ".join(told) or "the same ones in another order"


def _told(kept: KeptRun) -> str:
    return ", ".join(result.scorer for run in kept.runs for result in run.results) or "nothing"
