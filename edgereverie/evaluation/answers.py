"""Answers from a file, whatever wrote it: in a benchmark's published forms, an evaluation's journal, ``edgereverie batch``."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgereverie.errors import DataError
from edgereverie.evaluation.answer_files import Faults, Row
from edgereverie.evaluation.benchmarks.base import Benchmark, Item
from edgereverie.evaluation.kept_rows import answer_of
from edgereverie.evaluation.rows import rows_of
from edgereverie.records import Answer, Prediction

_FIRST = 1 << 20  # bytes; a journal's header and a batch's row are shorter


def read_answers(benchmark: Benchmark, items: Sequence[Item], path: Path) -> tuple[Prediction, ...]:
    """An answer for each item, in the items' order. A journal's and a batch's keep their confidence and claims.

    Raises DataError that lists all that does not fit: rows that cannot be read, questions without an answer or with several,
    answers to no question.
    """
    first = _first_row(path)
    if first.get("edgereverie") == "answers":
        return _ours(_journal(list(rows_of(path))[1:]), items)
    if isinstance(first.get("answer"), dict):
        return _ours(list(rows_of(path)), items)
    texts = benchmark.answers(path, items)
    same = {text: Answer(text) for text in set(texts.values())}  # mostly the same few
    return tuple(Prediction(item.id, same[texts[item.id]]) for item in items)


def _journal(rows: Sequence[Row]) -> list[Row]:
    """Answers that were made together stand on one line of a journal."""
    faults, found = Faults(), list[Row]()
    for where, row in rows:
        together = row.get("answers")
        if not isinstance(together, list) or not all(isinstance(one, dict) for one in together):
            faults.add("lines that hold no answers", where)
        else:
            found += [(f"{where}, answer {number}", one) for number, one in enumerate(together, start=1)]
    faults.check()
    return found


def _ours(rows: Sequence[Row], items: Sequence[Item]) -> tuple[Prediction, ...]:
    ids = _names(items)
    faults, found = Faults(), dict[str, Answer]()
    for where, row in rows:
        given = row.get("id")
        id = ids.get(given, "") if isinstance(given, str) else ""
        if not isinstance(given, str):
            faults.add("rows without an id", where)
        elif not id:
            faults.add("answers that belong to no question", f"{given} ({where})")
        elif id in found:
            faults.add("questions answered more than once", f"{given} ({where})")
        else:
            try:
                found[id] = answer_of(row.get("answer"), where)
            except DataError as error:
                found[id] = Answer("")
                faults.add("rows that hold no answer", str(error).rstrip("."))
    for item in items:
        if item.id not in found:
            faults.add("questions without an answer", item.id)
    faults.check()
    return tuple(Prediction(item.id, found[item.id]) for item in items)


def _names(items: Sequence[Item]) -> dict[str, str]:
    """What an item may be called: its id, and the id without the split where only one ends so."""
    ends: dict[str, list[str]] = {}
    for item in items:
        ends.setdefault(item.id.rpartition("/")[2], []).append(item.id)
    return {**{end: ids[0] for end, ids in ends.items() if len(ids) == 1}, **{item.id: item.id for item in items}}


def _first_row(path: Path) -> dict[str, Any]:
    """The first line of a file where it is a JSON object, else nothing; whoever reads it whole says what is wrong."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            row = json.loads(stream.readline(_FIRST).decode("utf-8-sig"))
    except (OSError, EOFError, ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}
