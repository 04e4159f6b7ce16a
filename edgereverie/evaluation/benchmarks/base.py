"""What a benchmark is: questions from files, published ways of scoring their answers, and counts that become scores.

A way of scoring only counts, unit by unit; scores, intervals and paired differences are made of those counts here, the
same way for all. A unit is what stands or falls together, mostly a picture, and is what gets resampled.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from json.encoder import encode_basestring
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edgereverie.bundle import sha256_of
from edgereverie.errors import DataError
from edgereverie.evaluation.answer_files import some
from edgereverie.evaluation.source import Source
from edgereverie.evaluation.statistics import Metric, bootstrap, paired_bootstrap
from edgereverie.records import Answer, Prediction, Score, Turn
from edgereverie.registry import did_you_mean


@dataclass(frozen=True, slots=True)
class Item:
    """One question. id: unique in the benchmark. image: None where it is asked without one. truth: the right answer, for
    people. unit: the picture's name, or of whatever else stands or falls together. split: a part of the benchmark that has
    scores of its own. kind: of question, for reports. room: most tokens of its answer, None for the benchmark's."""

    id: str
    image: Path | None
    question: str
    truth: str
    unit: str
    split: str = field(default="", kw_only=True)
    kind: str = field(default="", kw_only=True)
    room: int | None = field(default=None, kw_only=True)


@dataclass(frozen=True, slots=True)
class Mark:
    """What one way of scoring made of one answer.

    read: how the answer was understood ("yes", "B", "dog, cat"; "unread" where no rule could). right: 1 right, 0 wrong, between
    where answers are graded. faults: how many mistakes it holds, for finding the worst. note: which they are, in words.
    """

    id: str
    read: str
    right: float
    faults: float = 0.0
    note: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """Counts of one split, a row for each unit. counts: (units, columns). items: questions or captions counted."""

    split: str
    units: tuple[str, ...]
    columns: tuple[str, ...]
    counts: np.ndarray
    items: int

    def totals(self) -> dict[str, float]:
        """Sums over all units; whole numbers where whole things were counted."""
        sums = self.counts.sum(axis=0)
        return dict(zip(self.columns, (value.item() for value in sums), strict=True))


@dataclass(frozen=True, slots=True, eq=False)
class Counted:
    """What a way of scoring found: tallies (their split empty where there is one alone) and a mark for each item."""

    tallies: tuple[Tally, ...]
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class JudgeRequest:
    """One question to a judge. id: the item's, with more behind a ``#`` where an item takes several."""

    id: str
    turns: tuple[Turn, ...]
    image: Path | None = None


@dataclass(frozen=True, slots=True)
class Judge:
    """How a judge is asked about an item's answer, and how its replies are read.

    requests: (item, answer) -> what to ask. valid: whether a reply can be read; it is asked for again where not. file: replies by
    request id from a prepared file in the published form. form: what a reply must hold, for the judge that is asked again.
    across: (items, answers by id) -> what else to ask, about the answers to several items together.
    """

    requests: Callable[[Any, str], Sequence[JudgeRequest]]
    valid: Callable[[str], bool]
    file: Callable[[Path, Sequence[Any]], dict[str, str]]
    max_tokens: int = 512
    form: str = "exactly what was asked for, in the form that was asked for"
    across: Callable[[Sequence[Any], Mapping[str, str]], Sequence[JudgeRequest]] | None = None

    def asked(self, items: Sequence[Any], texts: Mapping[str, str]) -> list[JudgeRequest]:
        """Every request about a run's answers."""
        each = [request for item in items for request in self.requests(item, texts[item.id])]
        return [*each, *(self.across(items, texts) if self.across else ())]


@dataclass(frozen=True, slots=True)
class Variant:
    """One published way of scoring.

    source: repository and file whose rule it is. count: (items, texts by id) -> Counted; the texts are the answers, or the
    judge's replies by request id where there is a ``judge``. metrics: of every split, but of those in ``splits``, which have
    their own; all names stand in ``metrics``, for reports.
    """

    source: str
    metrics: tuple[Metric, ...]
    count: Callable[[Sequence[Any], Mapping[str, str]], Counted]
    judge: Judge | None = None
    splits: Mapping[str, tuple[Metric, ...]] = field(default_factory=dict)

    def metrics_of(self, split: str) -> tuple[Metric, ...]:
        """The metrics of one split, by the name that its tally bears."""
        return self.splits.get(split, self.metrics)


@dataclass(frozen=True, slots=True, eq=False)
class BenchmarkResult:
    """Scores of one run under one way of scoring, which ``scorer`` names: ``pope/official``.

    Scores are named ``<scorer>/<split>/<metric>``, without the split where there is one alone, and tallies ``<scorer>/<split>``.
    judge: who judged, where that way of scoring needs one.
    """

    benchmark: str
    variant: str
    scores: tuple[Score, ...]
    tallies: tuple[Tally, ...]
    marks: tuple[Mark, ...]
    judge: str = ""

    @property
    def scorer(self) -> str:
        return f"{self.benchmark}/{self.variant}"

    def counts(self) -> dict[str, dict[str, float]]:
        """Raw counts of each split (``pope/official/random`` -> TP, FP ...)."""
        return {tally.split: tally.totals() for tally in self.tallies}


class Benchmark(Protocol):
    """What ``BENCHMARK`` in a module of this package is; subclasses are registered by their module's name.

    max_tokens: room for one answer. variants: ways of scoring; the first is the official one.
    """

    name: str
    max_tokens: int
    variants: Mapping[str, Variant]

    def items(self, source: Source, limit: int | None = None) -> list[Any]:
        """The questions, checked; ``limit`` keeps the first so many pictures. Raises DataError."""
        ...

    def answers(self, path: Path, items: Sequence[Any]) -> dict[str, str]:
        """Texts by item id from a file in one of the published forms. Raises DataError that lists all that does not fit."""
        ...

    def default(self, items: Sequence[Any]) -> str:
        """The way of scoring where none is named."""
        return next(iter(self.variants))

    def ways(self, items: Sequence[Any]) -> list[str]:
        """The ways of scoring that fit these items; all, unless a benchmark says otherwise."""
        return list(self.variants)

    def asked(self, source: Source, limit: int | None, answers: Path) -> list[Any]:
        """The questions that a file of answers is about; ``items``, unless a benchmark knows more pictures than it asks."""
        return self.items(source, limit)


def variant_of(benchmark: Benchmark, name: str) -> Variant:
    """Raises DataError with the nearest names."""
    if name not in benchmark.variants:
        raise DataError(f"{benchmark.name} knows no scoring {name!r}.", hint=did_you_mean(name, benchmark.variants))
    return benchmark.variants[name]


def score_answers(
    benchmark: Benchmark, variant: str, items: Sequence[Item], texts: Mapping[str, str], *, seed: int = 0
) -> BenchmarkResult:
    """Every metric of every split with its interval. texts: answers by item id, or the judge's replies by request id.

    Raises DataError that lists missing and unknown ids.
    """
    way = variant_of(benchmark, variant)
    if way.judge is None:
        check_ids(items, texts)
    counted = way.count(items, texts)
    scorer = f"{benchmark.name}/{variant}"
    tallies = tuple(
        Tally("/".join(filter(None, (scorer, tally.split))), tally.units, tally.columns, tally.counts, tally.items)
        for tally in counted.tallies
    )
    return BenchmarkResult(
        benchmark.name, variant, scores_of(benchmark, variant, tallies, seed=seed), tallies, counted.marks
    )


def scores_of(benchmark: Benchmark, variant: str, tallies: Sequence[Tally], *, seed: int = 0) -> tuple[Score, ...]:
    """Every metric of every tally with its interval. tallies: as a result has them, named by scorer and split."""
    way, scorer, scores = variant_of(benchmark, variant), f"{benchmark.name}/{variant}", []
    for tally in tallies:
        metrics = way.metrics_of(tally.split.removeprefix(f"{scorer}/"))
        found = bootstrap(tally.counts, [metric.formula for metric in metrics], seed=seed)
        for metric, interval in zip(metrics, found, strict=True):
            scores.append(
                Score(f"{tally.split}/{metric.name}", interval.value, interval.low, interval.high, tally.items)
            )
    return tuple(scores)


def compare(
    benchmark: Benchmark, before: BenchmarkResult, after: BenchmarkResult, *, seed: int = 0
) -> tuple[Score, ...]:
    """After minus before for every metric, with paired intervals. Raises DataError if the questions differ."""
    scores = []
    pairs = {tally.split: tally for tally in before.tallies}
    if list(pairs) != [tally.split for tally in after.tallies]:
        raise DataError(f"{before.scorer} on {list(pairs)} cannot be compared with {after.scorer} on "
                        f"{[tally.split for tally in after.tallies]}.")  # fmt: skip
    way = variant_of(benchmark, after.variant)
    for tally in after.tallies:
        other = pairs[tally.split]
        metrics = way.metrics_of(tally.split.removeprefix(f"{after.scorer}/"))
        if other.units != tally.units or other.items != tally.items:
            raise DataError(f"{tally.split}: the two runs were not asked the same questions.",
                            hint="Run both on the same folder with the same limit.")  # fmt: skip
        found = paired_bootstrap(other.counts, tally.counts, [metric.formula for metric in metrics], seed=seed)
        for metric, interval in zip(metrics, found, strict=True):
            name = f"{tally.split}/{metric.name}"
            scores.append(Score(name, interval.value, interval.low, interval.high, tally.items))
    return tuple(scores)


def per_unit(units: Iterable[str], rows: Iterable[Sequence[float]], columns: int) -> tuple[tuple[str, ...], np.ndarray]:
    """Sum rows of counts by unit: the distinct units in first-seen order, and (units, columns), int64 where all are whole."""
    units = list(units)
    table = np.asarray(rows if isinstance(rows, np.ndarray) else list(rows)).reshape(-1, columns)
    place: dict[str, int] = {}
    where = np.array([place.setdefault(unit, len(place)) for unit in units], dtype=np.intp)
    sums = np.zeros((len(place), columns), dtype=np.float64 if table.dtype.kind == "f" else np.int64)
    np.add.at(sums, where, table)
    return tuple(place), sums


def texts_by_id(predictions: Iterable[Prediction]) -> dict[str, str]:
    """Answer texts by item id. Raises DataError that lists ids answered more than once."""
    predictions = list(predictions)
    doubled = [id for id, times in Counter(prediction.id for prediction in predictions).items() if times > 1]
    if doubled:
        raise DataError(f"{len(doubled)} questions were answered more than once: {some(doubled)}.",
                        hint="Each question is scored on one answer; remove the others.")  # fmt: skip
    return {prediction.id: prediction.answer.text for prediction in predictions}


def check_ids(items: Sequence[Item], texts: Mapping[str, str]) -> None:
    """Raise DataError unless every item has its answer and every answer its item."""
    known = {item.id for item in items}
    faults = []
    if missing := [item.id for item in items if item.id not in texts]:
        faults.append(f"{len(missing)} questions have no answer: {some(missing)}.")
    if unknown := [id for id in texts if id not in known]:
        faults.append(f"{len(unknown)} answers belong to no question: {some(unknown)}.")
    if faults:
        raise DataError(" ".join(faults), hint="Score answers with the folder and the limit that they were made with.")


def questions_hash(items: Sequence[Item]) -> str:
    """SHA-256 over ids, questions and truths: equal hashes mean the same test, whoever answered it."""
    written = encode_basestring  # json.dumps of a text, without what it does around it for each of a hundred thousand
    lines = [f"[{written(item.id)}, {written(item.question)}, {written(item.truth)}]\n" for item in items]
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogatepass")).hexdigest()


def pictures_hash(items: Sequence[Item]) -> str:
    """SHA-256 over the bytes of the pictures, in the order in which they are asked about."""
    digest = hashlib.sha256()
    for image in dict.fromkeys(item.image for item in items if item.image is not None):
        digest.update(sha256_of(image).encode())
    return digest.hexdigest()


Answerer = Callable[[Path | None, Sequence[str], int], Sequence[Answer]]
"""(picture, all its questions, most tokens of an answer) -> one Answer for each question, in their order."""
