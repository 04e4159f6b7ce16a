"""Asking a benchmark's questions: grouped by image, journalled, resumable, then scored."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgereverie.errors import BackendError, DataError
from edgereverie.evaluation.benchmarks.base import (
    Answerer,
    Benchmark,
    BenchmarkResult,
    Item,
    check_ids,
    pictures_hash,
    questions_hash,
    score_answers,
    texts_by_id,
    variant_of,
)
from edgereverie.evaluation.journal import Journal
from edgereverie.evaluation.source import Source
from edgereverie.records import Answer, Prediction

Progress = Callable[[int, int], None]
"""Called with (images done, images in all), first before anything is asked."""


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One benchmark, asked once and scored in one or more ways.

    data, pictures: hashes of the questions with their truths, and of the pictures. resumed: answers found in the journal.
    seconds: what the answers say they took, added up. judge: who judged, where a way of scoring needs one.
    """

    benchmark: str
    items: tuple[Item, ...]
    predictions: tuple[Prediction, ...]
    results: tuple[BenchmarkResult, ...]
    data: str
    pictures: str
    resumed: int
    seconds: float
    judge: str = ""


def run_benchmark(
    benchmark: Benchmark,
    source: Source,
    answer: Answerer,
    *,
    variants: Sequence[str] = (),
    limit: int | None = None,
    journal: Path | None = None,
    identity: str = "",
    progress: Progress | None = None,
) -> Run:
    """Ask every question once and score the answers in each of the ways named; by default in the benchmark's own.

    answer: gets an image, all its open questions and the room for one answer; returns an Answer for each, in order, so
    the image is encoded once. limit: the first so many images. journal: file that survives a kill; the same call goes
    on from it and asks nothing twice. identity: what answers (artefact fingerprint, guard, settings); a journal made
    under another identity, or from other questions, is refused with DataError.
    """
    if limit is not None and limit < 1:
        raise DataError(f"The limit is {limit} images, expected at least 1.", hint="Leave it out to ask everything.")
    items = benchmark.items(source, limit)
    ways = list(variants) or [benchmark.default(items)]
    for way in ways:
        variant_of(benchmark, way)
    data, pictures = questions_hash(items), pictures_hash(items)
    record = Journal(journal, _fingerprint(benchmark, data, pictures, identity)) if journal else None
    answers: dict[str, Answer] = dict(record.answers) if record else {}
    check_ids([item for item in items if item.id in answers], {id: found.text for id, found in answers.items()})
    resumed = len(answers)
    images = _by_image(items, benchmark.max_tokens)
    for done, ((image, room), asked) in enumerate(images.items()):
        if progress:
            progress(done, len(images))
        if unanswered := [item for item in asked if item.id not in answers]:
            predictions = _ask(answer, image, unanswered, room)
            if record:
                record.add(predictions)
            answers.update((prediction.id, prediction.answer) for prediction in predictions)
    if progress:
        progress(len(images), len(images))
    predictions = tuple(Prediction(item.id, answers[item.id]) for item in items)
    texts = texts_by_id(predictions)
    results = tuple(score_answers(benchmark, way, items, texts) for way in ways)
    seconds = sum(prediction.answer.seconds for prediction in predictions)
    return Run(benchmark.name, tuple(items), predictions, results, data, pictures, resumed, seconds)


def _ask(answer: Answerer, image: Path | None, items: Sequence[Item], max_tokens: int) -> list[Prediction]:
    answers = answer(image, [item.question for item in items], max_tokens)
    if len(answers) != len(items):
        raise BackendError(f"{image}: {len(items)} questions were asked and {len(answers)} answers came back.")
    # The record of tokens is larger than all else, and no score reads it.
    return [Prediction(item.id, replace(found, record=())) for item, found in zip(items, answers, strict=True)]


def _by_image(items: Sequence[Item], most: int) -> dict[tuple[Path | None, int], list[Item]]:
    """Questions by picture and room for their answers, in first-seen order."""
    groups: dict[tuple[Path | None, int], list[Item]] = {}
    for item in items:
        groups.setdefault((item.image, item.room or most), []).append(item)
    return groups


def _fingerprint(benchmark: Benchmark, *told: str) -> str:
    parts = [benchmark.name, benchmark.max_tokens, *told]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
