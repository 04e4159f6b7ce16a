"""MM-Vet: 218 open questions that need several abilities at once, graded from 0 to 1 by a judge (Yu et al., ICML 2024).

    mmvet/mm-vet.json          {"v1_0": {"imagename", "question", "answer", "capability": ["ocr", "math"]}}
                               (or mmvet/mm-vet/mm-vet.json with its images/, as the archive unpacks)
    mmvet/llava-mm-vet.jsonl   (or questions.jsonl) LLaVA's form, without right answers and capabilities
    mmvet/images/

Answers are one object of texts by id, or LLaVA's rows with ``question_id``. A grade is the first word of the reply, as a number
from 0 to 1, else 0; the total is 100 times the mean. Judges drift, so the paper grades five times (``mmvet/paper``) and gives
the mean with the deviation of the runs' totals (of the population, as numpy has it); one run is the script's own default.
A judge that always says the same has no spread. Figures by capability, and by sets of them, need the official file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgereverie.errors import DataError
from edgereverie.evaluation.answer_files import Faults, by_id
from edgereverie.evaluation.benchmarks._judged import OWN_WORDS, first_units, quoted, unread
from edgereverie.evaluation.benchmarks.base import (
    Benchmark,
    Counted,
    Item,
    Judge,
    JudgeRequest,
    Mark,
    Tally,
    Variant,
    per_unit,
)
from edgereverie.evaluation.judge_files import entries, id_under
from edgereverie.evaluation.prompts import prompt
from edgereverie.evaluation.rows import json_lines, parsed, text_of, value_of
from edgereverie.evaluation.source import Source
from edgereverie.evaluation.statistics import Metric, ratio
from edgereverie.records import Turn

_MOST_RUNS = 20  # that are told one by one
_RUNS = 2  # the first of a tally's columns that hold grades, one for each run of the judge


def total(counts: np.ndarray) -> np.ndarray:
    """Mean grade over items and runs.

    >>> float(total(np.array([4, 0, 2.0, 3.0])))
    0.625
    """
    return ratio(counts[..., _RUNS:].mean(axis=-1), counts[..., 0])


def deviation(counts: np.ndarray) -> np.ndarray:
    """Standard deviation of the runs' means; nan for a single run.

    >>> float(deviation(np.array([4, 0, 2.0, 3.0])))
    0.125
    """
    runs = counts[..., _RUNS:]
    spread = runs.std(axis=-1) if runs.shape[-1] > 1 else np.full(counts.shape[:-1], np.nan)
    return ratio(spread, counts[..., 0])


def _unread(counts: np.ndarray) -> np.ndarray:
    return ratio(counts[..., 1], counts[..., 0] * (counts.shape[-1] - _RUNS))


SCORE, UNREAD = Metric("score", "Score", total), unread(_unread)
DEVIATION = Metric("deviation", "Judge's deviation", deviation, better=None)
ONE_RUN = (Metric("score", "Score", total, better=None),)  # told, and no verdict of its own


@dataclass(frozen=True, slots=True)
class MmvetItem(Item):
    """capabilities: sorted; empty where the questions' file tells none."""

    capabilities: tuple[str, ...]


class Mmvet(Benchmark):
    """``official`` asks the judge once about each answer, ``paper`` five times; a prepared file holds as many runs as it does."""

    name = "mmvet"
    max_tokens = 1024

    def __init__(self) -> None:
        self.variants = {name: _variant(runs) for name, runs in (("official", 1), ("paper", 5))}

    def items(self, source: Source, limit: int | None = None) -> list[MmvetItem]:
        """Ids as ``v1_17``. limit: the first so many pictures."""
        path = source.find("mmvet", "mm-vet.json", "mm-vet/mm-vet.json")
        if path is not None and source.images is None and (path.parent / "images").is_dir():
            source = replace(source, images=path.parent / "images")
        if path is not None:
            items = _official(path, source)
        else:
            items = _llava(source.file("mmvet", "llava-mm-vet.jsonl", "questions.jsonl"), source)
        if not items:
            raise DataError(f"{path}: the file holds no questions.")
        return first_units(items, limit)

    def answers(self, path: Path, items: Sequence[MmvetItem]) -> dict[str, str]:
        """One object of texts by id, or rows with ``question_id`` (``17`` or ``v1_17``) and ``text``."""
        rows = [(where, row if isinstance(row, dict) else {}) for where, row in entries(path)]
        return by_id(rows, items, _id_of, ("text", "answer", "response"))


def _variant(runs: int) -> Variant:
    form = "nothing but one number from 0.0 to 1.0"
    judge = Judge(_asking(runs), lambda reply: grade(reply) is not None, _file, form=form)
    splits = {f"run-{run}": ONE_RUN for run in range(1, _MOST_RUNS + 1)}
    source = f"yuweihao/MM-Vet mm-vet_evaluator.py{OWN_WORDS}"
    return Variant(source, (SCORE, DEVIATION, UNREAD), _count, judge, splits)


def grade(reply: str) -> float | None:
    """What the official script reads: the text up to the first blank as a number from 0 to 1; None for anything else.

    >>> grade("0.4 since"), grade("1"), grade("1.1"), grade("Score: 0.4"), grade("nan")
    (0.4, 1.0, None, None, None)
    """
    try:
        value = float(reply.split(" ")[0].strip())
    except ValueError:
        return None
    return value if 0.0 <= value <= 1.0 else None


def _official(path: Path, source: Source) -> list[MmvetItem]:
    rows = parsed(text_of(path), str(path))
    if not isinstance(rows, dict):
        raise DataError(f"{path}: expected an object of questions by id, found {type(rows).__name__}.")
    items = []
    for id, row in rows.items():
        where = f"{path}, {id!r}"
        if not isinstance(row, dict):
            raise DataError(f"{where}: expected a JSON object, found {type(row).__name__}.")
        name, question, truth = (value_of(row, key, str, where) for key in ("imagename", "question", "answer"))
        named = value_of(row, "capability", list, where)
        if not named or not all(isinstance(one, str) for one in named):
            raise DataError(f"{where}: 'capability' should be a list of names, found {named!r}.")
        image = source.picture("mmvet", name, where)
        needed = tuple(sorted(set(named)))
        items.append(MmvetItem(id, image, question, truth, name, needed, kind="+".join(needed)))
    return items


def _llava(path: Path, source: Source) -> list[MmvetItem]:
    items: dict[str, MmvetItem] = {}
    for number, row in json_lines(path):
        where = f"{path}:{number}"
        id = f"v1_{value_of(row, 'question_id', int, where)}"
        if id in items:
            raise DataError(f"{where}: question_id {row['question_id']} stands there twice.")
        name, question = value_of(row, "image", str, where), value_of(row, "text", str, where)
        items[id] = MmvetItem(id, source.picture("mmvet", name, where), question, "", name, ())
    return list(items.values())


def _id_of(row: Mapping[str, Any]) -> str | None:
    id = id_under("question_id", "id")(row)
    return f"v1_{id}" if id is not None and id.isdecimal() else id


def _asking(runs: int) -> Callable[[MmvetItem, str], list[JudgeRequest]]:
    def requests(item: MmvetItem, answer: str) -> list[JudgeRequest]:
        if not item.truth:
            raise DataError(
                f"{item.id}: a judge needs the right answer, which LLaVA's file of questions does not have.",
                hint="Put mm-vet.json of mm-vet.zip beside it; `edgereverie data get` says where it comes from.",
            )
        truth = item.truth.replace("<AND>", " <AND> ").replace("<OR>", " <OR> ")
        told = prompt("mmvet").filled(question=item.question, truth=truth, answer=answer)
        return [JudgeRequest(f"{item.id}#{run}", (Turn("user", told),)) for run in range(1, runs + 1)]

    return requests


def _file(path: Path, items: Sequence[MmvetItem]) -> dict[str, str]:
    """The official grade file: {"v1_0": {"model": [...], "content": ["0.5", ...], "score": [0.5, ...]}}, one of each per run."""
    faults, found, known = Faults(), {}, {item.id: item for item in items}
    for where, row in entries(path):
        if not isinstance(row, dict):
            faults.add("entries that are no objects", where)
            continue
        id = row.get("id")
        if not isinstance(id, str) or id not in known:
            faults.add("grades that belong to no question", f"{id} ({where})")
            continue
        scores, contents = row.get("score"), row.get("content")
        if contents is None and isinstance(scores, list):
            contents = [str(score) for score in scores]
        if not isinstance(contents, list) or not contents or not all(isinstance(one, str) for one in contents):
            faults.add("questions without grades in 'content' or 'score'", where)
            continue
        if scores is not None and scores != [grade(one) or 0.0 for one in contents]:
            faults.add("questions whose 'score' is not what 'content' says", where)
        found[id] = contents
    for id in known:
        if id not in found:
            faults.add("questions without grades", id)
    faults.check("Score grades with the very questions that they were made for.")
    return {f"{id}#{run}": one for id in known for run, one in enumerate(found[id], start=1)}


def _count(items: Sequence[MmvetItem], said: Mapping[str, str]) -> Counted:
    runs = _runs(items, said)
    grades = {item.id: [grade(said[f"{item.id}#{run}"]) for run in range(1, runs + 1)] for item in items}
    tallies = [_tally("all", items, grades)]
    for capability, chosen in _by_capability(items).items():
        tallies.append(_tally(capability, chosen, grades))
    for run in range(min(runs, _MOST_RUNS) if runs > 1 else 0):
        one = {id: [values[run]] for id, values in grades.items()}
        tallies.append(_tally(f"run-{run + 1}", items, one))
    return Counted(tuple(tallies), tuple(_mark(item, grades[item.id], said[f"{item.id}#1"]) for item in items))


def _runs(items: Sequence[MmvetItem], said: Mapping[str, str]) -> int:
    """How often the judge graded each answer. Raises DataError that lists missing and unknown ids."""
    times = Counter(id.rpartition("#")[0] for id in said)
    runs = max(times.values(), default=0)
    wanted = {f"{item.id}#{run}" for item in items for run in range(1, runs + 1)}
    faults = Faults()
    for id in said:
        if id not in wanted:
            faults.add("grades that belong to no question", id)
    for item in items:
        if any(f"{item.id}#{run}" not in said for run in range(1, max(runs, 1) + 1)):
            faults.add(f"questions without {runs or 'any'} grades", item.id)
    faults.check("Each answer is graded by the judge equally often.")
    return runs


def _by_capability(items: Sequence[MmvetItem]) -> dict[str, list[MmvetItem]]:
    """Items by capability, the commonest first, then by set of them (``sets/math+ocr``), as the official tables have them."""
    single = Counter(name for item in items for name in item.capabilities)
    sets = Counter(item.kind for item in items if item.capabilities)
    found = {name: [item for item in items if name in item.capabilities] for name, _ in single.most_common()}
    return found | {f"sets/{kind}": [item for item in items if item.kind == kind] for kind, _ in sets.most_common()}


def _tally(split: str, items: Sequence[MmvetItem], grades: Mapping[str, Sequence[float | None]]) -> Tally:
    rows = [(1.0, float(grades[i.id].count(None)), *(value or 0.0 for value in grades[i.id])) for i in items]
    columns = ("items", "unread", *(f"grades of run {run + 1}" for run in range(len(rows[0]) - _RUNS)))
    units, counts = per_unit([item.unit for item in items], rows, len(columns))
    return Tally(split, units, columns, counts, len(items))


def _mark(item: MmvetItem, grades: Sequence[float | None], reply: str) -> Mark:
    right = sum(value or 0.0 for value in grades) / len(grades)
    read = "unread" if None in grades else ", ".join(f"{value:g}" for value in grades)
    note = f"no grade in the judge's reply: {quoted(reply)}" if grades[0] is None else ""
    return Mark(item.id, read, right, 1.0 - right, note)


BENCHMARK = Mmvet()
