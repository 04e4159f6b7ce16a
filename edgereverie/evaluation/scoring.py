"""Answers that exist already, scored in one or more ways, and where the ways read them differently."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgereverie.errors import DataError
from edgereverie.evaluation.answers import read_answers
from edgereverie.evaluation.benchmarks.base import (
    Benchmark,
    Item,
    pictures_hash,
    questions_hash,
    score_answers,
    texts_by_id,
    variant_of,
)
from edgereverie.evaluation.run import Judging, Run
from edgereverie.evaluation.source import Source


@contextmanager
def _collector_off() -> Iterator[None]:
    """No search for garbage within: over many thousands of rows that all stay, it takes longer than reading and scoring them."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def score_file(
    benchmark: Benchmark,
    source: Source,
    answers: Path,
    *,
    variants: Sequence[str] | None = (),
    limit: int | None = None,
    judging: Judging | None = None,
) -> Run:
    """The run that a file of answers stands for. variants: ways of scoring, by default the benchmark's own; None
    for all that fit the questions, those that need a judge only where there is one.

    limit: the first so many pictures. The pictures' hash is empty where they are not there. Raises DataError that lists all that
    does not fit, and where a way needs a judge and there is none.
    """
    with _collector_off():
        items = benchmark.asked(source, limit, answers)
    ways = list(dict.fromkeys(_all_ways(benchmark, items, judging) if variants is None else variants))
    ways = ways or [benchmark.default(items)]
    judged = [way for way in ways if variant_of(benchmark, way).judge is not None]
    if judged and judging is None:
        raise DataError(
            f"{benchmark.name}/{judged[0]} needs a judge.",
            hint="--judgements names a file with what one said before, --judge one to ask.",
        )
    if judging is not None and not judged:
        raise DataError(
            f"A judge was named, and {', '.join(ways)} of {benchmark.name} needs none.", hint="Leave it out."
        )
    with _collector_off():
        predictions = read_answers(benchmark, items, answers)
        texts = texts_by_id(predictions)
        counted = {way: score_answers(benchmark, way, items, texts) for way in ways if way not in judged}
    results = tuple(
        judging(benchmark, way, items, texts) if judging and way in judged else counted[way] for way in ways
    )
    there = all(item.image is None or item.image.is_file() for item in items)
    return Run(
        benchmark.name,
        tuple(items),
        predictions,
        results,
        questions_hash(items),
        pictures_hash(items) if there else "",
        resumed=0,
        seconds=sum(one.answer.seconds for one in predictions),
        judge=", ".join(dict.fromkeys(result.judge for result in results if result.judge)),
    )


def _all_ways(benchmark: Benchmark, items: Sequence[Item], judging: Judging | None) -> list[str]:
    return [name for name in benchmark.ways(items) if benchmark.variants[name].judge is None or judging]


Reading = tuple[str, float]
"""(how an answer was read, whether that is right)"""


@dataclass(frozen=True, slots=True)
class Disagreement:
    """One text that the ways of scoring do not all read alike. ids: of the questions that it answers. truth: where it is one.

    readings: by scorer, (how it was read, whether that is right), in the scorers' order; None where it is none of a scorer's.
    """

    text: str
    truth: str
    ids: tuple[str, ...]
    readings: Mapping[str, Reading | None]


def disagreements(run: Run) -> list[Disagreement]:
    """Answers that the run's ways of scoring read differently, equal texts that are read alike together, the most frequent first.

    Ways differ where they read something else, whatever its order, or take the same for right and for wrong. Questions
    that are none of a way's own (text where it asks about pictures alone) are no difference.
    """
    marks = {result.scorer: {mark.id: (mark.read, mark.right) for mark in result.marks} for result in run.results}
    found: dict[tuple[object, ...], list[str]] = {}
    for item, prediction in zip(run.items, run.predictions, strict=True):
        readings = tuple(by_id.get(item.id) for by_id in marks.values())
        if differ(readings):
            found.setdefault((prediction.answer.text, item.truth, readings), []).append(item.id)
    told = [
        Disagreement(text, truth, tuple(ids), dict(zip(marks, readings, strict=True)))
        for (text, truth, readings), ids in found.items()
    ]
    return sorted(told, key=lambda one: -len(one.ids))


def differ(readings: Iterable[Reading | None]) -> bool:
    """Whether scorers that read an answer read different things.

    >>> differ([("dog, cat", 1.0), ("cat, dog", 1.0), None]), differ([("yes", 1.0), ("yes", 0.0)])
    (False, True)
    """
    return len({(frozenset(read.split(", ")), right) for read, right in filter(None, readings)}) > 1
