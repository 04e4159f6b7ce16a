"""Asking a benchmark's questions: grouped by picture, journalled, resumable, then scored."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgereverie.errors import BackendError, DataError
from edgereverie.evaluation.at_once import each
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
"""Called with (pictures done, pictures in all), first before anything is asked."""
Judging = Callable[[Benchmark, str, Sequence[Item], Mapping[str, str]], BenchmarkResult]
"""(benchmark, way of scoring, items, answers by id) -> their scores from a judge's word on them, with its name."""


@dataclass(frozen=True, slots=True, eq=False)
class Questions:
    """What one benchmark asks, read and checked before any model is loaded, and the ways in which the answers are scored.

    data, pictures: hashes of the questions with their truths, and of the pictures.
    """

    benchmark: Benchmark
    items: tuple[Item, ...]
    ways: tuple[str, ...]
    data: str
    pictures: str

    def judged(self) -> tuple[str, ...]:
        """The ways that need a judge."""
        return tuple(way for way in self.ways if variant_of(self.benchmark, way).judge is not None)


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One benchmark, asked once and scored in one or more ways.

    data, pictures: as ``Questions`` has them. resumed: answers found in the journal. seconds: what the answers say they took,
    added up. judge: who judged, where a way of scoring needs one.
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


def questions(
    benchmark: Benchmark, source: Source, *, variants: Sequence[str] = (), limit: int | None = None
) -> Questions:
    """variants: ways of scoring, "" for the benchmark's own. limit: the first so many pictures. Raises DataError."""
    if limit is not None and limit < 1:
        raise DataError(f"The limit is {limit} pictures, expected at least 1.", hint="Leave it out to ask everything.")
    items = benchmark.items(source, limit)
    ways = tuple(dict.fromkeys(name or benchmark.default(items) for name in variants or ("",)))
    for way in ways:
        variant = variant_of(benchmark, way)
        if variant.judge is None:
            # Word lists or packages that scoring lacks are missed here, not when all is answered.
            variant.count(items, {item.id: "" for item in items})
    return Questions(benchmark, tuple(items), ways, questions_hash(items), pictures_hash(items))


def ask(
    asked: Questions,
    answer: Answerer | Sequence[Answerer],
    *,
    journal: Path | None = None,
    identity: str = "",
    progress: Progress | None = None,
) -> Run:
    """Every question's answer, nothing scored yet.

    answer: gets a picture, its questions (one that stands there several times once) and the room for one answer; returns an
    Answer for each, in order. Several of them share the work, a picture's questions always with one; who answered which, and
    in which order they came, leaves no trace. journal: file that survives a kill; the same call goes on from it and asks
    nothing twice. identity: what answers (artefact, guard, settings); a journal made under another one, or from other
    questions, is refused with DataError.
    """
    items, answers = asked.items, dict[str, Answer]()
    record = Journal(journal, _fingerprint(asked, identity)) if journal else None
    if record:
        answers |= record.answers
        check_ids([item for item in items if item.id in answers], {id: found.text for id, found in answers.items()})
    resumed = len(answers)
    groups = _by_picture(items, asked.benchmark.max_tokens)
    todo = [group for group in groups if any(item.id not in answers for item in group.items)]
    answerers = [answer] if callable(answer) else list(answer)
    done = len(groups) - len(todo)
    if progress:
        progress(done, len(groups))
    for predictions in each(todo, [_asking(one, answers) for one in answerers]):
        if record:
            record.add(predictions)
        answers.update((prediction.id, prediction.answer) for prediction in predictions)
        done += 1
        if progress:
            progress(done, len(groups))
    predictions = tuple(Prediction(item.id, answers[item.id]) for item in items)
    seconds = sum(prediction.answer.seconds for prediction in predictions)
    return Run(asked.benchmark.name, items, predictions, (), asked.data, asked.pictures, resumed, seconds)


def scored(run: Run, asked: Questions, judging: Judging | None = None) -> Run:
    """The run with its results. Raises DataError where a way of scoring needs a judge and there is none."""
    texts, results = texts_by_id(run.predictions), list[BenchmarkResult]()
    for way in asked.ways:
        if way not in asked.judged():
            results.append(score_answers(asked.benchmark, way, run.items, texts))
        elif judging is None:
            raise DataError(f"{run.benchmark}/{way} needs a judge.", hint="Name a judge, or what one said before.")
        else:
            results.append(judging(asked.benchmark, way, run.items, texts))
    judges = dict.fromkeys(result.judge for result in results if result.judge)
    return replace(run, results=tuple(results), judge=", ".join(judges))


def run_benchmark(
    benchmark: Benchmark,
    source: Source,
    answer: Answerer | Sequence[Answerer],
    *,
    variants: Sequence[str] = (),
    limit: int | None = None,
    journal: Path | None = None,
    identity: str = "",
    progress: Progress | None = None,
    judging: Judging | None = None,
) -> Run:
    """Ask every question once and score the answers in each of the ways: ``questions``, ``ask`` and ``scored`` in one."""
    asked = questions(benchmark, source, variants=variants, limit=limit)
    return scored(ask(asked, answer, journal=journal, identity=identity, progress=progress), asked, judging)


@dataclass(frozen=True, slots=True, eq=False)
class _Group:
    """All questions about one picture whose answers have the same room."""

    image: Path | None
    room: int
    items: list[Item]


def _asking(answer: Answerer, known: Mapping[str, Answer]) -> Callable[[_Group], list[Prediction]]:
    def ask(group: _Group) -> list[Prediction]:
        return list(_answered(answer, group, [item for item in group.items if item.id not in known]))

    return ask


def _answered(answer: Answerer, group: _Group, items: Sequence[Item]) -> Iterator[Prediction]:
    distinct = list(dict.fromkeys(item.question for item in items))
    answers = answer(group.image, distinct, group.room)
    if len(answers) != len(distinct):
        raise BackendError(f"{group.image}: {len(distinct)} questions were asked and {len(answers)} answers came back.")
    # The record of tokens is larger than all else, and no score reads it.
    found = {question: replace(one, record=()) for question, one in zip(distinct, answers, strict=True)}
    for item in items:
        yield Prediction(item.id, found[item.question])
        found[item.question] = replace(found[item.question], seconds=0.0)  # given again without being made again


def _by_picture(items: Sequence[Item], most: int) -> list[_Group]:
    """In first-seen order."""
    groups: dict[tuple[Path | None, int], list[Item]] = {}
    for item in items:
        groups.setdefault((item.image, item.room or most), []).append(item)
    return [_Group(image, room, found) for (image, room), found in groups.items()]


def _fingerprint(asked: Questions, identity: str) -> str:
    parts = [asked.benchmark.name, asked.benchmark.max_tokens, asked.data, asked.pictures, identity]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
