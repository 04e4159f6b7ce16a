"""One benchmark's run as JSON values and back, read strictly."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_args

import numpy as np

from edgereverie.errors import DataError
from edgereverie.evaluation.benchmarks.base import BenchmarkResult, Item, Mark, Tally
from edgereverie.evaluation.rows import value_of
from edgereverie.evaluation.run import Run
from edgereverie.records import Answer, Claim, ClaimKind, Prediction, Score, Verdict, as_json
from edgereverie.registry import BENCHMARKS
from edgereverie.told.values import finite

_WORDS = {bool: (True, False), "verdict": get_args(Verdict), "kind": get_args(ClaimKind), "ended": ("stop", "length")}
_ANSWER = {
    "text": str, "abstained": bool, "confidence": (float, int, type(None)), "backend": str, "tokens": int,
    "seconds": (float, int), "draft": (str, type(None)), "prompt_tokens": int, "reason": str, "guarantee": str,
    "ended": "ended", "claims": list, "guards": list,
}  # fmt: skip
_CLAIM = {
    "text": str, "start": int, "end": int, "subject": str, "support": (float, int, type(None)), "verdict": "verdict",
    "evidence": dict, "kind": "kind", "statement": str,
}  # fmt: skip
_ITEM = {
    "id": str, "image": (str, type(None)), "question": str, "truth": str, "unit": str, "split": str, "kind": str,
    "room": (int, type(None)),
}  # fmt: skip
_NUMBER = (float, int, type(None))
_SCORE = {"metric": str, "value": _NUMBER, "low": _NUMBER, "high": _NUMBER, "n": int}
_TALLY = {"split": str, "units": list, "columns": list, "counts": list, "items": int}
_RESULT = {"variant": str, "source": str, "judge": str, "scores": list, "tallies": list, "marks": list}
_RUN = {
    "benchmark": str, "data": str, "pictures": str, "resumed": int, "seconds": (float, int), "judge": str, "items": list,
    "answers": list, "results": list,
}  # fmt: skip


def run_json(run: Run, folder: Path) -> dict[str, Any]:
    """folder: pictures in it are named relative to it. Figures that are not finite become null."""
    return {
        "benchmark": run.benchmark,
        "data": run.data,
        "pictures": run.pictures,
        "resumed": run.resumed,
        "seconds": run.seconds,
        "judge": run.judge,
        "items": [_item_json(item, folder) for item in run.items],
        "answers": [{"id": one.id, **_lean(one.answer)} for one in run.predictions],
        "results": [_result_json(result) for result in run.results],
    }


def run_from_json(row: Any, folder: Path, where: str) -> Run:
    """Raises DataError that starts with ``where``."""
    told = _checked(row, _RUN, where)
    items = [_item(item, folder, f"{where}, item {n}") for n, item in enumerate(told.pop("items"), start=1)]
    answers = [_prediction(one, f"{where}, answer {n}") for n, one in enumerate(told.pop("answers"), start=1)]
    if [item.id for item in items] != [one.id for one in answers]:
        raise DataError(f"{where}: its answers are not those of its questions, one by one.")
    results = [
        _result(result, told["benchmark"], {item.id for item in items}, f"{where}, result {n}")
        for n, result in enumerate(told.pop("results"), start=1)
    ]
    return Run(items=tuple(items), predictions=tuple(answers), results=tuple(results), **told)


def _item_json(item: Item, folder: Path) -> dict[str, Any]:
    values = {name: getattr(item, name) for name in _ITEM}
    if item.image is not None:
        image = item.image.resolve()
        values["image"] = (image.relative_to(folder) if image.is_relative_to(folder) else image).as_posix()
    return values


def _item(row: Any, folder: Path, where: str) -> Item:
    told = _checked(row, _ITEM, where)
    told["image"] = None if told["image"] is None else folder / told["image"]
    return Item(**told)


def _lean(answer: Answer) -> dict[str, Any]:
    """Fields that differ from what an answer has by itself, and the text; the tokens' record is left out."""
    usual = {one.name: one.default for one in fields(Answer) if one.default is not MISSING}
    values = finite(as_json(answer))
    return {name: values[name] for name in _ANSWER if name not in usual or getattr(answer, name) != usual[name]}


def _prediction(row: Any, where: str) -> Prediction:
    id = value_of(_object(row, where), "id", str, where)
    return Prediction(id, answer_of({key: value for key, value in row.items() if key != "id"}, where))


def answer_of(row: Any, where: str) -> Answer:
    """An answer as a kept run, a journal or ``edgereverie batch`` writes it; the tokens' record is left out.

    Only the text must be there. Raises DataError that starts with ``where`` (file:line) for anything that is no answer.
    """
    given = _checked(row, {**_ANSWER, "record": list}, where, optional={*_ANSWER, "record"} - {"text"})
    given["claims"] = tuple(_claim(claim, f"{where}, claim") for claim in given.get("claims", ()))
    given["guards"] = tuple(given.get("guards", ()))
    return Answer(**{**given, "record": ()})


def _claim(row: Any, where: str) -> Claim:
    told = _checked(row, {**_CLAIM, "why": str}, where, optional={"why"})
    told["support"] = _float(told["support"])
    told["evidence"] = {name: _float(value) for name, value in told["evidence"].items()}
    return Claim(**{name: told[name] for name in _CLAIM})


def _result_json(result: BenchmarkResult) -> dict[str, Any]:
    source = BENCHMARKS.get(result.benchmark).variants[result.variant].source
    return {
        "variant": result.variant,
        "source": source,
        "judge": result.judge,
        "scores": [finite(as_json(score)) for score in result.scores],
        "tallies": [{**{name: getattr(tally, name) for name in _TALLY}, "counts": tally.counts.tolist()}
                    for tally in result.tallies],
        "marks": [[mark.id, mark.read, mark.right, mark.faults, mark.note] for mark in result.marks],
    }  # fmt: skip


def _result(row: Any, benchmark: str, known: set[str], where: str) -> BenchmarkResult:
    told = _checked(row, _RESULT, where)
    scores = tuple(_score(score, f"{where}, score") for score in told["scores"])
    tallies = tuple(_tally(tally, f"{where}, tally") for tally in told["tallies"])
    marks = tuple(_mark(mark, known, f"{where}, mark {n}") for n, mark in enumerate(told["marks"], start=1))
    return BenchmarkResult(benchmark, told["variant"], scores, tallies, marks, told["judge"])


def _score(row: Any, where: str) -> Score:
    told = _checked(row, _SCORE, where)
    return Score(**{**told, **{name: _float(told[name]) for name in ("value", "low", "high")}})


def _tally(row: Any, where: str) -> Tally:
    told = _checked(row, _TALLY, where)
    units, columns = tuple(told["units"]), tuple(told["columns"])
    try:
        counts = np.array(told["counts"] or np.zeros((0, len(columns)), np.int64))
    except ValueError:
        counts = np.array(None)
    if counts.dtype.kind not in "if" or counts.shape != (len(units), len(columns)):
        raise DataError(f"{where} {told['split']!r}: the counts are not a row of {len(columns)} numbers for each unit.")
    return Tally(told["split"], units, columns, counts, told["items"])


def _mark(row: Any, known: set[str], where: str) -> Mark:
    kinds: Sequence[Any] = (str, str, (float, int), (float, int), str)
    if not isinstance(row, list) or len(row) != 5 or not all(map(isinstance, row, kinds)):
        raise DataError(f"{where}: expected [id, read, right, faults, note], found {row!r}.")
    if row[0] not in known:
        raise DataError(f"{where}: {row[0]!r} is none of the questions.")
    return Mark(*row)


def _float(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _checked(row: Any, kinds: Mapping[str, Any], where: str, *, optional: Collection[str] = ()) -> dict[str, Any]:
    """The row's values, each of its kind: a type, several, or what is in _WORDS."""
    for key in _object(row, where):
        if key not in kinds:
            raise DataError(f"{where}: the key {key!r} is not known here.", hint="A newer version may have written it.")
    told = {}
    for key, kind in kinds.items():
        if key not in row and key in optional:
            continue
        told[key] = _one_of(row, key, _WORDS[kind], where) if kind in _WORDS else value_of(row, key, kind, where)
    return told


def _object(row: Any, where: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected a JSON object, found {type(row).__name__}.")
    return row


def _one_of(row: Mapping[str, Any], key: str, words: tuple[Any, ...], where: str) -> Any:
    value = row.get(key)
    if not any(type(value) is type(word) and value == word for word in words):
        raise DataError(f"{where}: {key!r} is {value!r}, expected {' or '.join(map(repr, words))}.")
    return value
