"""Files of POPE answers, in the forms in which they are published, matched with the questions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from edgereverie.errors import DataError
from edgereverie.evaluation.answer_files import Faults, Row, by_id, in_order
from edgereverie.evaluation.benchmarks.base import Item
from edgereverie.evaluation.rows import rows_of

_TEXTS = ("text", "answer", "response")
_REPEATED = frozenset(("image", "image_id", "question", "prompt"))  # what a row may repeat of its question
_ASKED = re.compile(r"is there an? (.+?) in the im", re.IGNORECASE)  # early versions ask about "the imange"

# LLaVA numbers the questions of all splits in one file: those of random from 10,000,001, those of popular from 20,000,001.
_LLAVA_STEP = 10_000_000
_LLAVA_SPLITS = ("adversarial", "random", "popular")


def read(path: Path, items: Sequence[Item]) -> dict[str, str]:
    """Texts by item id. Forms:

    ``{"question_id": 17, "text"}`` of one split (VCD, cd_rethink, MARINE), with the split in ``category`` of several;
    ``{"question_id": 10000017, "text"}`` of all splits as LLaVA numbers them; ``{"id": "random/17", "text"}``;
    ``{"question", "answer"}`` in the questions' order (POPE's own).

    Where the items are of one split, a file of several answers only for that. Rows that repeat the picture or the question
    must repeat their item's. Raises DataError that lists all that does not fit.
    """
    rows = list(rows_of(path))
    splits = list(dict.fromkeys(item.split for item in items))
    only = splits[0] if len(splits) == 1 else None
    ordered = bool(rows) and all("question" in row and "question_id" not in row and "id" not in row for _, row in rows)
    as_llava = any(type(id := row.get("question_id")) is int and id > _LLAVA_STEP for _, row in rows)

    def id_of(row: Mapping[str, Any]) -> str | None:
        return _id(row, only, as_llava)

    if rows and only is None and (len(rows) < len(items) if ordered else not any(id_of(row) for _, row in rows)):
        raise DataError(
            f"{path}: the {len(rows):,} answers tell no split, and those of {', '.join(splits)} were asked for.",
            hint=f"Name the one that they belong to: --split {splits[0]}, say.",
        )
    if ordered:
        texts = in_order(rows, items, _TEXTS)
        _check(rows, items)
        return texts
    if only and (as_llava or any("category" in row for _, row in rows)):
        others = tuple(f"{split}/" for split in _LLAVA_SPLITS if split != only)
        rows = [(where, row) for where, row in rows if not str(id_of(row)).startswith(others)]
    texts = by_id(rows, items, id_of, _TEXTS)
    telling = [(where, row) for where, row in rows if not _REPEATED.isdisjoint(row)]
    of = {item.id: item for item in items} if telling else {}
    _check(telling, [of[str(id_of(row))] for _, row in telling])
    return texts


def _id(row: Mapping[str, Any], only: str | None, as_llava: bool) -> str | None:
    id = row["question_id"] if "question_id" in row else row.get("id")
    if type(id) is str and "/" in id:
        return id
    if type(id) not in (int, str):
        return None
    if as_llava and type(id) is int and 0 < id < _LLAVA_STEP * len(_LLAVA_SPLITS):
        return f"{_LLAVA_SPLITS[id // _LLAVA_STEP]}/{id % _LLAVA_STEP}"
    split = row["category"] if only != "" and row.get("category") in _LLAVA_SPLITS else only
    return None if split is None else f"{split}/{id}" if split else str(id)


def _check(rows: Sequence[Row], items: Sequence[Item]) -> None:
    """Raises DataError where a row repeats another picture or question than its item's."""
    faults = Faults()
    for (where, row), item in zip(rows, items, strict=True):
        picture = row.get("image", row.get("image_id"))
        if isinstance(picture, str) and picture.rpartition("/")[2] != item.unit.rpartition("/")[2]:
            faults.add("answers about other pictures", f"{where} ({picture}, expected {item.unit})")
        question = row.get("question", row.get("prompt"))
        asked = _asked(question) if isinstance(question, str) else None
        if asked is not None and _asked(item.question) not in (asked, None):
            faults.add("answers to other questions", f"{where} ({question[:60]!r}, expected {item.question!r})")
    faults.check()


@lru_cache(maxsize=1 << 16)
def _asked(question: str) -> str | None:
    found = _ASKED.search(question)
    return found[1].lower() if found else None
