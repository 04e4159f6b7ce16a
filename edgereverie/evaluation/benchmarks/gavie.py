"""GAVIE: 1,000 instructions about 120 pictures, each answer scored twice from 0 to 10 by a judge (Liu et al., ICLR 2024).

    gavie/evaluation_set.json          [{"image_id": "2356371", "question" (or "instruction")}]
    gavie/vg_annotation.json           (or Visual Genome's region_descriptions.json) what a judge goes by
    gavie/images/                      VG_100K/2356371.jpg, VG_100K_2/2356371.jpg or 2356371.jpg

The judge gets phrases with boxes of the picture's regions, the instruction and one answer, and scores accuracy (does it agree
with the picture?) and relevancy (does it follow the instruction?). Both are reported as means over the replies that can be read;
the authors' script has no rule for others, as it only writes prompts, so they are counted as ``unread`` and stand in no mean.

Two things are mended against that script: it prints a box's width in the place of its height, and it asks the questions under the
key "instruction", which the published file does not have. And one differs: it shows a judge several models' answers at once,
which makes a score hang on the company; here each is judged alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from edgereverie.errors import DataError
from edgereverie.evaluation.answer_files import by_id, in_order
from edgereverie.evaluation.benchmarks._gavie_regions import EXTRACT, WHOLE, Regions
from edgereverie.evaluation.benchmarks._judged import OWN_WORDS, first_units, picture_of, quoted, share_of, unread
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
from edgereverie.evaluation.judge_files import id_under, replies
from edgereverie.evaluation.prompts import prompt
from edgereverie.evaluation.rows import rows_of, value_of
from edgereverie.evaluation.source import Source
from edgereverie.evaluation.statistics import Metric
from edgereverie.records import Turn

COLUMNS = ("items", "read", "accuracy", "relevancy", "unread")
METRICS = (
    Metric("accuracy", "Accuracy (0 to 10)", share_of(2, 1), share=False),
    Metric("relevancy", "Relevancy (0 to 10)", share_of(3, 1), share=False),
    unread(share_of(4)),
)
_TEXTS = ("text", "answer", "response")
_ID = id_under("id", "question_id")
# "Relevancy: 8 - it does", "**Accuracy**: 7/10", or as the authors' form has it "Relevancy:\nscore of the answer1: 8".
_SCORE = r"^[ \t*_#>-]*{name}[\s*_]*:[\s*_]*(?:score[^:\n]*:[\s*_]*)?(\d+(?:\.\d+)?)(?![\d.]*\d)"
_ACCURACY = re.compile(_SCORE.format(name="accuracy"), re.IGNORECASE | re.MULTILINE)
_RELEVANCY = re.compile(_SCORE.format(name="relevanc[ye]"), re.IGNORECASE | re.MULTILINE)


class Scores(NamedTuple):
    """A judge's, from 0 to 10."""

    accuracy: float
    relevancy: float


@dataclass(frozen=True, slots=True)
class GavieItem(Item):
    """regions: what is known of the pictures. The unit is the picture's number."""

    regions: Regions


class Gavie(Benchmark):
    """All instructions; a picture has eight of them or so."""

    name = "gavie"
    max_tokens = 512

    def __init__(self) -> None:
        form = "two lines and nothing else, 'Relevancy: N - reason' and 'Accuracy: N - reason', with N from 0 to 10"
        judge = Judge(_requests, lambda reply: scores(reply) is not None, _file, form=form)
        self.variants = {
            "official": Variant(f"FuxiaoLiu/LRV-Instruction Evaluation/evaluate.py{OWN_WORDS}", METRICS, _count, judge)
        }

    def items(self, source: Source, limit: int | None = None) -> list[GavieItem]:
        """Ids are places in the file, from 0. limit: the first so many pictures."""
        path = source.file("gavie", "evaluation_set.json")
        rows = [(where, *_question(row, where)) for where, row in rows_of(path)]
        if not rows:
            raise DataError(f"{path}: the file holds no questions.")
        regions = Regions(source.find("gavie", EXTRACT, WHOLE), frozenset(int(picture) for _, picture, _ in rows))
        items = []
        for place, (where, picture, question) in enumerate(rows):
            names = [f"{folder}{picture}.jpg" for folder in ("VG_100K/", "VG_100K_2/", "")]
            image = picture_of(source, "gavie", names, where)
            items.append(GavieItem(str(place), image, question, "", picture, regions))
        return first_units(items, limit)

    def answers(self, path: Path, items: Sequence[GavieItem]) -> dict[str, str]:
        """Rows with a text, told by ``id``, by ``image_id`` with ``question`` (or ``instruction``), or by their order."""
        rows = list(rows_of(path))
        if rows and all(_ID(row) is not None for _, row in rows):
            return by_id(rows, items, _ID, _TEXTS)
        places = {(item.unit, item.question): item.id for item in items}

        def id_of(row: Mapping[str, Any]) -> str | None:
            picture, question = id_under("image_id")(row), row.get("question", row.get("instruction"))
            if picture is None or not isinstance(question, str):
                return None
            return places.get((picture, question), f"{picture}: {question}")

        if rows and all(id_of(row) is not None for _, row in rows):
            return by_id(rows, items, id_of, _TEXTS)
        return in_order(rows, items, _TEXTS)


def scores(reply: str) -> Scores | None:
    """The two scores of a reply; None unless each stands there once and lies between 0 and 10.

    >>> scores("Relevancy: 9 - follows\\nAccuracy: 6.5 - the dog is white")
    Scores(accuracy=6.5, relevancy=9.0)
    >>> scores("Accuracy: 12\\nRelevancy: 3") is scores("Accuracy: 5") is None
    True
    """
    found = [pattern.findall(reply) for pattern in (_ACCURACY, _RELEVANCY)]
    if any(len(values) != 1 or float(values[0]) > 10 for values in found):
        return None
    return Scores(*(float(values[0]) for values in found))


def _file(path: Path, items: Sequence[GavieItem]) -> dict[str, str]:
    """A prepared file: replies by ``id``, or in the questions' order."""
    return replies(path, items, _ID)


def _question(row: Mapping[str, Any], where: str) -> tuple[str, str]:
    picture = str(value_of(row, "image_id", (str, int), where))
    if not picture.isdecimal():
        raise DataError(f"{where}: 'image_id' should be a picture's number, found {picture!r}.")
    return picture, value_of(row, "instruction" if "instruction" in row else "question", str, where)


def _requests(item: GavieItem, answer: str) -> list[JudgeRequest]:
    told = prompt("gavie").filled(regions=item.regions.of(item.unit), question=item.question, answer=answer)
    return [JudgeRequest(item.id, (Turn("user", told),))]


def _count(items: Sequence[GavieItem], said: Mapping[str, str]) -> Counted:
    check_ids(items, said)
    found = {item.id: scores(said[item.id]) for item in items}
    rows = [(1.0, 1.0, *got, 0.0) if (got := found[item.id]) else (1.0, 0.0, 0.0, 0.0, 1.0) for item in items]
    units, counts = per_unit([item.unit for item in items], rows, len(COLUMNS))
    marks = tuple(_mark(item, found[item.id], said[item.id]) for item in items)
    return Counted((Tally("", units, COLUMNS, counts, len(items)),), marks)


def _mark(item: GavieItem, got: Scores | None, reply: str) -> Mark:
    if got is None:
        return Mark(item.id, "unread", 0.0, 1.0, f"no two scores in the judge's reply: {quoted(reply)}")
    read = f"accuracy {got.accuracy:g}, relevancy {got.relevancy:g}"
    return Mark(item.id, read, got.accuracy / 10, 1.0 - got.accuracy / 10, quoted(reply))


BENCHMARK = Gavie()
