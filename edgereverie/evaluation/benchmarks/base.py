"""What a benchmark is: questions from a folder, a strict reader, and a tally of answers that becomes scores.

A benchmark only counts, image by image; scores, intervals and paired differences are made of those counts here, the
same way for all of them.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edgereverie.bundle import sha256_of
from edgereverie.errors import DataError
from edgereverie.evaluation.statistics import Metric, bootstrap, paired_bootstrap
from edgereverie.image import resolve_under
from edgereverie.records import Answer, Prediction, Score


@dataclass(frozen=True, slots=True)
class Item:
    """One question. id: unique in the benchmark. image: an existing file. truth: the right answer, for people."""

    id: str
    image: Path
    question: str
    truth: str


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """Counts of one split, one row for each image. counts: (images, columns). items: questions or captions counted."""

    split: str
    images: tuple[str, ...]
    columns: tuple[str, ...]
    counts: np.ndarray
    items: int

    def totals(self) -> dict[str, int]:
        return dict(zip(self.columns, map(int, self.counts.sum(axis=0)), strict=True))


@dataclass(frozen=True, slots=True, eq=False)
class BenchmarkResult:
    """Scores of one run on one benchmark. scorer: whose rules counted, such as ``pope/official``."""

    benchmark: str
    scorer: str
    scores: tuple[Score, ...]
    tallies: tuple[Tally, ...]

    def counts(self) -> dict[str, dict[str, int]]:
        """Raw counts of each split (``pope/random`` -> TP, FP ...)."""
        return {tally.split: tally.totals() for tally in self.tallies}


class Benchmark(Protocol):
    """What ``BENCHMARK`` in a module of this package is. max_tokens: room for one answer."""

    name: str
    scorer: str
    max_tokens: int
    metrics: tuple[Metric, ...]

    def items(self, folder: Path, limit: int | None = None) -> list[Item]:
        """The questions of a folder, checked; ``limit`` keeps the first so many images. Raises DataError."""
        ...

    def score(self, items: Sequence[Item], predictions: Mapping[str, str]) -> BenchmarkResult:
        """Scores of the answers, text by item id. Raises DataError that lists missing and unknown ids."""
        ...


def score_tallies(benchmark: Benchmark, tallies: Sequence[Tally], *, seed: int = 0) -> BenchmarkResult:
    """Every metric of every split with its interval, named ``<split>/<metric>``."""
    scores = []
    for tally in tallies:
        found = bootstrap(tally.counts, [metric.formula for metric in benchmark.metrics], seed=seed)
        for metric, interval in zip(benchmark.metrics, found, strict=True):
            name = f"{tally.split}/{metric.name}"
            scores.append(Score(name, interval.value, interval.low, interval.high, tally.items))
    return BenchmarkResult(benchmark.name, benchmark.scorer, tuple(scores), tuple(tallies))


def compare(
    benchmark: Benchmark, before: BenchmarkResult, after: BenchmarkResult, *, seed: int = 0
) -> tuple[Score, ...]:
    """After minus before for every metric, with paired intervals. Raises DataError if the questions differ."""
    scores = []
    pairs = {tally.split: tally for tally in before.tallies}
    if before.scorer != after.scorer or list(pairs) != [tally.split for tally in after.tallies]:
        raise DataError(f"{before.scorer} on {list(pairs)} cannot be compared with {after.scorer} on "
                        f"{[tally.split for tally in after.tallies]}.")  # fmt: skip
    for tally in after.tallies:
        other = pairs[tally.split]
        if other.images != tally.images or other.items != tally.items:
            raise DataError(f"{tally.split}: the two runs were not asked the same questions.",
                            hint="Run both on the same folder with the same limit.")  # fmt: skip
        formulas = [metric.formula for metric in benchmark.metrics]
        found = paired_bootstrap(other.counts, tally.counts, formulas, seed=seed)
        for metric, interval in zip(benchmark.metrics, found, strict=True):
            name = f"{tally.split}/{metric.name}"
            scores.append(Score(name, interval.value, interval.low, interval.high, tally.items))
    return tuple(scores)


def per_image(images: Iterable[str], rows: Iterable[Sequence[int]], columns: int) -> tuple[tuple[str, ...], np.ndarray]:
    """Sum rows of counts by image: the distinct images in first-seen order, and (images, columns) int64."""
    sums: dict[str, np.ndarray] = {}
    for image, row in zip(images, rows, strict=True):
        sums.setdefault(image, np.zeros(columns, dtype=np.int64))
        sums[image] += np.asarray(row, dtype=np.int64)
    return tuple(sums), np.stack(list(sums.values())) if sums else np.zeros((0, columns), dtype=np.int64)


def texts_by_id(predictions: Iterable[Prediction]) -> dict[str, str]:
    """Answer texts by item id. Raises DataError that lists ids answered more than once."""
    predictions = list(predictions)
    doubled = [id for id, times in Counter(prediction.id for prediction in predictions).items() if times > 1]
    if doubled:
        raise DataError(f"{len(doubled)} questions were answered more than once: {_some(doubled)}.",
                        hint="Each question is scored on one answer; remove the others.")  # fmt: skip
    return {prediction.id: prediction.answer.text for prediction in predictions}


def check_ids(items: Sequence[Item], predictions: Mapping[str, str]) -> None:
    """Raise DataError unless every item has its prediction and every prediction its item."""
    known = {item.id for item in items}
    faults = []
    if missing := [item.id for item in items if item.id not in predictions]:
        faults.append(f"{len(missing)} questions have no answer: {_some(missing)}.")
    if unknown := [id for id in predictions if id not in known]:
        faults.append(f"{len(unknown)} answers belong to no question: {_some(unknown)}.")
    if faults:
        raise DataError(" ".join(faults), hint="Score answers with the folder and the limit that they were made with.")


def _some(ids: Sequence[str], most: int = 10) -> str:
    shown = ", ".join(repr(id) for id in ids[:most])
    return shown + (f" and {len(ids) - most} more" if len(ids) > most else "")


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) for each line. Raises DataError with file and line for anything else than JSON objects."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file.", hint="Prepare the benchmark first.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text ({error}).") from None
    lines = text.split("\n")  # not splitlines: U+2028 may stand inside a JSON string
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            if number < len(lines):
                raise DataError(f"{path}:{number}: the line is empty.", hint="Remove it; every line is one question.")
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}:{number}: not JSON ({error.msg} at column {error.colno}).") from None
        if not isinstance(row, dict):
            raise DataError(f"{path}:{number}: expected a JSON object, found {type(row).__name__}.")
        yield number, row


def value_of(row: Mapping[str, Any], key: str, kind: type | tuple[type, ...], where: str) -> Any:
    """``row[key]`` of the right type. Raises DataError that starts with ``where`` (file:line)."""
    if key not in row:
        raise DataError(f"{where}: the key {key!r} is missing; found {', '.join(row) or 'none'}.")
    value = row[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        expected = " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
        raise DataError(f"{where}: {key!r} should be {expected}, found {value!r}.")
    return value


def image_file(folder: Path, name: str, where: str) -> Path:
    """The existing image ``name`` inside ``folder``. Raises DataError that starts with ``where``."""
    try:
        path = resolve_under(folder, name)
    except DataError as error:
        raise DataError(f"{where}: {error}", hint=error.hint) from None
    if not path.is_file():
        raise DataError(f"{where}: the image {name!r} is not in {folder}.", hint="Copy the images there.")
    return path


def data_hash(items: Sequence[Item]) -> str:
    """SHA-256 over ids, questions, truths and the bytes of the images: equal hashes mean the same test."""
    hashes: dict[Path, str] = {}
    digest = hashlib.sha256()
    for item in items:
        if item.image not in hashes:
            hashes[item.image] = sha256_of(item.image)
        line = json.dumps([item.id, item.question, item.truth, hashes[item.image]], ensure_ascii=False)
        digest.update(line.encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()


Answerer = Callable[[Path, Sequence[str], int], Sequence[Answer]]
"""(image, all its questions, most tokens of an answer) -> one Answer for each question, in their order."""
