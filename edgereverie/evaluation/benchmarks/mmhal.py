"""MMHal-Bench: 96 open questions of eight types, each answer rated from 0 to 6 by a judge (Sun et al., 2023).

    mmhal/response_template.json     [{"question_type", "image_content", "question", "gt_answer", "image_id", "image_src"}]
    mmhal/images/                    as ``image_src`` ends (7206072054_c53d53b97d_o.jpg), or by ``image_id``

Answers are the same list with ``model_answer``. The judge sees no picture but the objects in it and the right answer. Its reply
counts when the lower-cased text holds exactly one of ``rating: 0`` to ``rating: 6``, else as 0; below 3, the answer
hallucinates. A ``rating: 10`` counts as 1 by that rule; it is asked for again, and in the end counted as ``unread``, too. Types
are told by the rows, where the official script takes the number of the row modulo eight.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgereverie.errors import DataError
from edgereverie.evaluation.answer_files import by_id
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

TYPES = ("attribute", "adversarial", "comparison", "counting", "relation", "environment", "holistic", "other")
COLUMNS = ("items", "score", "hallucinated", "unread")
METRICS = (
    Metric("score", "Score (0 to 6)", share_of(1), share=False),
    Metric("hallucination_rate", "Hallucination rate", share_of(2), better="lower"),
    unread(share_of(3)),
)
_ID = id_under("image_id", "id")
_NUMBER = re.compile(r"rating: (\d[\d.,]*\d|\d)")


@dataclass(frozen=True, slots=True)
class MmhalItem(Item):
    """objects: in the picture, as people listed them."""

    objects: tuple[str, ...]


class Mmhal(Benchmark):
    """All 96 questions; ``Source.splits`` chooses types."""

    name = "mmhal"
    max_tokens = 512

    def __init__(self) -> None:
        form = "your reasons and then, once and only once, 'Rating: N' with N from 0 to 6"
        judge = Judge(_requests, fits, _file, form=form)
        self.variants = {
            "official": Variant(f"Shengcao1006/MMHal-Bench eval_gpt4.py{OWN_WORDS}", METRICS, _count, judge)
        }

    def items(self, source: Source, limit: int | None = None) -> list[MmhalItem]:
        """Ids are the pictures' (each has one question). limit: the first so many pictures."""
        path = source.file("mmhal", "response_template.json")
        chosen, seen, items = source.chosen(TYPES), set(), []
        for where, row in rows_of(path):
            id, kind = value_of(row, "image_id", str, where), value_of(row, "question_type", str, where)
            if kind not in TYPES:
                raise DataError(f"{where}: the question type is {kind!r}, expected one of {', '.join(TYPES)}.")
            if id in seen:
                raise DataError(f"{where}: the image_id {id} stands there twice.")
            seen.add(id)
            objects = value_of(row, "image_content", list, where)
            if not all(isinstance(name, str) for name in objects):
                raise DataError(f"{where}: 'image_content' should be a list of names, found {objects!r}.")
            if kind in chosen:
                name = value_of(row, "image_src", str, where).rpartition("/")[2]
                image = picture_of(source, "mmhal", (name, f"{id}.jpg"), where)
                question, truth = (value_of(row, key, str, where) for key in ("question", "gt_answer"))
                items.append(MmhalItem(id, image, question, truth, id, tuple(objects), split=kind, kind=kind))
        if not items:
            raise DataError(f"{path}: the file holds no questions.")
        return first_units(items, limit)

    def answers(self, path: Path, items: Sequence[MmhalItem]) -> dict[str, str]:
        """Rows with ``image_id`` (or ``id``) and ``model_answer`` (or ``text``)."""
        found = by_id(rows_of(path), items, _ID, ("model_answer", "text", "answer"))
        if not any(text.strip() for text in found.values()):
            raise DataError(f"{path}: every answer is empty.", hint="This is the template; name the file filled in.")
        return found


def rating(reply: str) -> int | None:
    """The one rating that a reply holds, None where it holds none or several; ``rating: 10`` holds a 1.

    >>> rating("Sound.\\n\\nRating: 5, very informative"), rating("Rating: 3, not rating: 4"), rating("Rating:3")
    (5, None, None)
    """
    found = [score for score in range(7) if f"rating: {score}" in reply.lower()]
    return found[0] if len(found) == 1 else None


def fits(reply: str) -> bool:
    """Whether the one rating is a whole number from 0 to 6, and not the beginning of another.

    >>> fits("Rating: 3."), fits("Rating: 10"), fits("Rating: 3.5"), fits("Rating: 4/6"), fits("3")
    (True, False, False, True, False)
    """
    return rating(reply) is not None and {*_NUMBER.findall(reply.lower())} <= {*"0123456"}


def _requests(item: MmhalItem, answer: str) -> list[JudgeRequest]:
    told = prompt("mmhal").filled(
        objects=", ".join(item.objects), question=item.question, truth=item.truth, answer=answer
    )
    return [JudgeRequest(item.id, (Turn("user", told),))]


def _file(path: Path, items: Sequence[MmhalItem]) -> dict[str, str]:
    return replies(path, items, _ID)


def _count(items: Sequence[MmhalItem], said: Mapping[str, str]) -> Counted:
    check_ids(items, said)
    tallies = [_tally("all", items, said)]
    for kind in dict.fromkeys(item.split for item in items):
        tallies.append(_tally(kind, [item for item in items if item.split == kind], said))
    return Counted(tuple(tallies), tuple(_mark(item, said[item.id]) for item in items))


def _tally(split: str, items: Sequence[MmhalItem], said: Mapping[str, str]) -> Tally:
    replies = [said[item.id] for item in items]
    rows = [(1, score := rating(reply) or 0, int(score < 3), int(not fits(reply))) for reply in replies]
    units, counts = per_unit([item.unit for item in items], rows, len(COLUMNS))
    return Tally(split, units, COLUMNS, counts, len(items))


def _mark(item: MmhalItem, reply: str) -> Mark:
    if (score := rating(reply)) is None:
        return Mark(item.id, "unread", 0.0, 1.0, f"no single rating in the judge's reply: {quoted(reply)}")
    return Mark(item.id, str(score), score / 6, float(score < 3), quoted(reply) if score < 3 else "")


BENCHMARK = Mmhal()
