"""LLaVA-Bench (in the wild): 60 open questions on 24 pictures, each answer rated beside GPT-4's (Liu et al., NeurIPS 2023).

    llavabench/questions.jsonl       {"question_id", "image", "text", "category": "conv", "detail" or "complex"}
    llavabench/context.jsonl         {"image", "caption"}: what people wrote about each picture, a text or a list of lines
    llavabench/answers_gpt4.jsonl    {"question_id", "text"}: the reference
    llavabench/images/

A judge reads the context and both answers, the reference first, and writes two ratings on its first line. A category's relative
score is the mean rating of the answers over that of the references, each rounded to three places first. A first line that
is not two numbers with one blank or comma between them counts as -1 for both, as in the official scripts; such replies
are counted as ``unread``. So are ratings outside 0 to 10, which those scripts take as they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgereverie.errors import DataError
from edgereverie.evaluation.answer_files import by_id
from edgereverie.evaluation.benchmarks._judged import OWN_WORDS, first_units, quoted, share_of, unread
from edgereverie.evaluation.benchmarks.base import (
    Benchmark,
    Counted,
    Item,
    Judge,
    JudgeRequest,
    Mark,
    Tally,
    Variant,
    check_ids,
    per_unit,
)
from edgereverie.evaluation.judge_files import entries, id_under, replies
from edgereverie.evaluation.prompts import prompt
from edgereverie.evaluation.rows import json_lines, rows_of, value_of
from edgereverie.evaluation.source import Source
from edgereverie.evaluation.statistics import Metric, ratio
from edgereverie.records import Turn

CATEGORIES = ("complex", "conv", "detail")
COLUMNS = ("items", "reference", "answer", "unread")
_ID = id_under("question_id", "id")


def relative(counts: np.ndarray) -> np.ndarray:
    """Mean rating of the answers over that of the references.

    >>> float(relative(np.array([3, 26, 20, 0]))).__round__(4)
    0.7692
    """
    return ratio(_mean(counts, 2), _mean(counts, 1))


def _mean(counts: np.ndarray, column: int) -> np.ndarray:
    """To three places, as the official summary rounds it before all else."""
    return np.round(ratio(counts[..., column], counts[..., 0]), 3)


METRICS = (
    Metric("relative", "Relative score", relative),
    Metric("answer", "Answers' rating (of 100)", lambda counts: 10 * _mean(counts, 2), share=False),
    Metric("reference", "References' rating (of 100)", lambda counts: 10 * _mean(counts, 1), better=None, share=False),
    unread(share_of(3)),
)


@dataclass(frozen=True, slots=True)
class LlavaBenchItem(Item):
    """context: what people wrote about the picture; empty, as the truth, where its file is not there."""

    context: str


class LlavaBench(Benchmark):
    """All categories; ``Source.splits`` chooses among them."""

    name = "llavabench"
    max_tokens = 1024

    def __init__(self) -> None:
        form = "two ratings from 1 to 10 with one space between them on the first line, and nothing else there"
        judge = Judge(_requests, lambda reply: _fits(ratings(reply)), _file, max_tokens=1024, form=form)
        source = f"haotian-liu/LLaVA llava/eval/eval_gpt_review_bench.py, summarize_gpt_review.py{OWN_WORDS}"
        self.variants = {"official": Variant(source, METRICS, _count, judge)}

    def items(self, source: Source, limit: int | None = None) -> list[LlavaBenchItem]:
        """Ids are the questions' numbers. limit: the first so many pictures."""
        path = source.file("llavabench", "questions.jsonl")
        chosen = source.chosen(CATEGORIES)
        contexts, references = _contexts(source), _references(source)
        seen, items = set(), []
        for number, row in json_lines(path):
            where = f"{path}:{number}"
            id, category = str(value_of(row, "question_id", int, where)), value_of(row, "category", str, where)
            if category not in CATEGORIES:
                raise DataError(f"{where}: the category is {category!r}, expected one of {', '.join(CATEGORIES)}.")
            if id in seen:
                raise DataError(f"{where}: question_id {id} stands there twice.")
            seen.add(id)
            if category in chosen:
                name, question = value_of(row, "image", str, where), value_of(row, "text", str, where)
                image, truth = source.picture("llavabench", name, where), references.get(id, "")
                context = contexts.get(name, "")
                items.append(LlavaBenchItem(id, image, question, truth, name, context, split=category, kind=category))
        if not items:
            raise DataError(f"{path}: the file holds no questions.")
        return first_units(items, limit)

    def answers(self, path: Path, items: Sequence[LlavaBenchItem]) -> dict[str, str]:
        """Rows with ``question_id`` and ``text``."""
        return by_id(rows_of(path), items, _ID, ("text", "answer", "response"))


def ratings(reply: str) -> tuple[float, float] | None:
    """The two numbers of the first line; None where the official script finds none.

    >>> ratings("8 7.5\\nBoth are"), ratings("8,7"), ratings("8, 7"), ratings("8/10 7/10"), ratings("")
    ((8.0, 7.5), (8.0, 7.0), None, None, None)
    """
    parts = reply.split("\n")[0].replace(",", " ").split(" ")
    try:
        first, second = map(float, parts)
    except ValueError:
        return None
    return (first, second) if math.isfinite(first) and math.isfinite(second) else None


def _fits(pair: tuple[float, float] | None) -> bool:
    return pair is not None and all(0 <= rating <= 10 for rating in pair)


def _contexts(source: Source) -> dict[str, str]:
    found = {}
    path = source.find("llavabench", "context.jsonl")
    for number, row in json_lines(path) if path else ():
        where = f"{path}:{number}"
        told = value_of(row, "caption", (str, list), where)
        found[value_of(row, "image", str, where)] = told if isinstance(told, str) else "\n".join(map(str, told))
    return found


def _references(source: Source) -> dict[str, str]:
    path = source.find("llavabench", "answers_gpt4.jsonl")
    rows = [(f"{path}:{number}", row) for number, row in json_lines(path)] if path else ()
    return {str(value_of(row, "question_id", int, where)): value_of(row, "text", str, where) for where, row in rows}


def _requests(item: LlavaBenchItem, answer: str) -> list[JudgeRequest]:
    lacking = [name for name, text in (("context.jsonl", item.context), ("answers_gpt4.jsonl", item.truth)) if not text]
    if lacking:
        raise DataError(
            f"Question {item.id}: a judge needs what {' and '.join(lacking)} should say about {item.unit}.",
            hint="`edgereverie data get llavabench` fetches these files or says where they come from.",
        )
    told = prompt("llavabench").filled(
        context=item.context, question=item.question, reference=item.truth, answer=answer
    )
    return [JudgeRequest(item.id, (Turn("user", told),))]


def _file(path: Path, items: Sequence[LlavaBenchItem]) -> dict[str, str]:
    """Reviews as the official script writes them: ``content``, and in ``tuple`` what its summary reads of it."""
    said = replies(path, items, _ID)
    for where, row in entries(path):
        pair = row.get("tuple") if isinstance(row, dict) else None
        id = _ID(row) if pair is not None else None
        if id is None or [*(ratings(said[id]) or (-1.0, -1.0))] == pair:
            continue
        if not isinstance(pair, list) or len(pair) != 2 or not all(_is_number(one) for one in pair):
            raise DataError(f"{where}: 'tuple' should be two numbers, found {pair!r}.")
        said[id] = f"{pair[0]} {pair[1]}\n{said[id]}"
    return said


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _count(items: Sequence[LlavaBenchItem], said: Mapping[str, str]) -> Counted:
    check_ids(items, said)
    tallies = [_tally("all", items, said)]
    for category in sorted({item.split for item in items}):
        tallies.append(_tally(category, [item for item in items if item.split == category], said))
    return Counted(tuple(tallies), tuple(_mark(item, said[item.id]) for item in items))


def _tally(split: str, items: Sequence[LlavaBenchItem], said: Mapping[str, str]) -> Tally:
    pairs = [ratings(said[item.id]) for item in items]
    rows = [(1.0, *(pair or (-1.0, -1.0)), float(not _fits(pair))) for pair in pairs]
    units, counts = per_unit([item.unit for item in items], rows, len(COLUMNS))
    return Tally(split, units, COLUMNS, counts, len(items))


def _mark(item: LlavaBenchItem, reply: str) -> Mark:
    pair = ratings(reply)
    if pair is None or not _fits(pair):
        return Mark(item.id, "unread", 0.0, 1.0, f"no two ratings in the judge's reply: {quoted(reply)}")
    right = min(1.0, max(0.0, pair[1] / 10))
    return Mark(item.id, f"{pair[1]:g} ({pair[0]:g})", right, max(0.0, pair[0] - pair[1]) / 10, quoted(reply))


BENCHMARK = LlavaBench()
