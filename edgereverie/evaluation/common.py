"""The part of several runs that all of them were asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from edgereverie.errors import DataError
from edgereverie.evaluation.benchmarks.base import BenchmarkResult, Item, Tally, questions_hash, scores_of
from edgereverie.evaluation.kept import KeptRun
from edgereverie.evaluation.run import Run
from edgereverie.registry import BENCHMARKS

Key = tuple[str, str]
"""(split, unit)"""


@dataclass(frozen=True, slots=True)
class Part:
    """How much of a benchmark is left: questions, and how many each run was asked, by label."""

    benchmark: str
    questions: int
    asked: Mapping[str, int]

    def told(self) -> str:
        """In words."""
        asked = ", ".join(f"{label} {count:,}" for label, count in self.asked.items())
        return f"{self.benchmark}: the {self.questions:,} questions that all were asked ({asked})."


def common_part(kept: Sequence[KeptRun]) -> tuple[list[KeptRun], list[Part]]:
    """The runs cut down to the units about which all were asked the same, scored anew, and what that leaves.

    Benchmarks that are not in all runs are left out. Raises DataError where nothing is left.
    """
    names = [run.benchmark for run in kept[0].runs if all(_run(one, run.benchmark) for one in kept)]
    parts, cut = [], {one.label: [] for one in kept}
    for name in names:
        runs = {one.label: _run(one, name) for one in kept}
        asked_for = [asked_about(run) for run in runs.values()]
        keys = _common(asked_for)
        if keys:
            apart = {key for asked in asked_for for key in asked} - keys
            for label, run in runs.items():
                cut[label].append(_cut(run, keys, apart))
            asked = {label: len(run.items) for label, run in runs.items()}
            parts.append(Part(name, len(cut[kept[0].label][-1].items), asked))
    if not parts:
        raise DataError(
            f"{', '.join(one.label for one in kept)} were asked no picture's questions alike.",
            hint="Run them on the same folder.",
        )
    return [replace(one, runs=tuple(cut[one.label])) for one in kept], parts


def asked_about(run: Run) -> dict[Key, frozenset[tuple[str, str, str]]]:
    """Questions by split and unit, each as (id, question, truth)."""
    found: dict[Key, set[tuple[str, str, str]]] = {}
    for item in run.items:
        found.setdefault((item.split, item.unit), set()).add((item.id, item.question, item.truth))
    return {key: frozenset(asked) for key, asked in found.items()}


def _common(asked: Sequence[Mapping[Key, frozenset[tuple[str, str, str]]]]) -> set[Key]:
    return {key for key, questions in asked[0].items() if all(other.get(key) == questions for other in asked[1:])}


def _run(kept: KeptRun, benchmark: str) -> Run | None:
    return next((run for run in kept.runs if run.benchmark == benchmark), None)


def _cut(run: Run, keys: set[Key], apart: set[Key]) -> Run:
    """keys: what all were asked alike. apart: what only some were asked, or in another way."""
    items = tuple(sorted((item for item in run.items if (item.split, item.unit) in keys), key=lambda item: item.id))
    answers = {one.id: one for one in run.predictions}
    predictions = tuple(answers[item.id] for item in items)
    return replace(
        run,
        items=items,
        predictions=predictions,
        results=tuple(_cut_result(result, items, apart) for result in run.results),
        data=questions_hash(items),
        pictures="",  # of a part that was never hashed alone
        seconds=sum(one.answer.seconds for one in predictions),
    )


def _cut_result(result: BenchmarkResult, items: Sequence[Item], apart: set[Key]) -> BenchmarkResult:
    ids = {item.id for item in items}
    tallies = [_cut_tally(tally, result.scorer, items, apart) for tally in result.tallies]
    tallies = [tally for tally in tallies if tally.units]
    marks = tuple(mark for mark in result.marks if mark.id in ids)
    scores = scores_of(BENCHMARKS.get(result.benchmark), result.variant, tallies)
    return replace(result, scores=scores, tallies=tuple(tallies), marks=marks)


def _cut_tally(tally: Tally, scorer: str, items: Sequence[Item], apart: set[Key]) -> Tally:
    """A tally of a split keeps the units that are alike there; one over several splits those that are so in all of them."""
    split = tally.split.removeprefix(scorer).removeprefix("/")
    inside = {item.split for item in items} | {key[0] for key in apart}
    among = {split} if split in inside else inside
    lost = {unit for part, unit in apart if part in among}
    place = {unit: number for number, unit in enumerate(tally.units) if unit not in lost}
    order = sorted(place)
    counts = tally.counts[[place[unit] for unit in order]] if order else tally.counts[:0]
    asked = sum(item.unit in place for item in items if item.split in among)
    return Tally(tally.split, tuple(order), tally.columns, counts, asked)
