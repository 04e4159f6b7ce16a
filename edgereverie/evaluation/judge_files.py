"""Files of what judges said, as benchmarks' own scripts write them: a list or lines, by id or in the questions' order."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgereverie.errors import DataError
from edgereverie.evaluation.answer_files import by_id, in_order
from edgereverie.evaluation.rows import parsed, text_of

if TYPE_CHECKING:
    from edgereverie.evaluation.benchmarks.base import Item

_TEXT = ("content", "reply", "text")
_OF_A_ROW = {*_TEXT, "id", "question_id", "image_id", "choices"}  # keys that no question has for its id


def replies(path: Path, items: Sequence[Item], id_of: Callable[[Mapping[str, Any]], str | None]) -> dict[str, str]:
    """The reply about each item: texts, a server's whole answers (``choices``), or objects with ``content``.

    By id where every row tells one, else in the items' order. Raises DataError that lists what is missing, doubled or unknown.
    """
    rows = [(where, _reply(value, where)) for where, value in entries(path)]
    if rows and all(id_of(row) is not None for _, row in rows):
        return by_id(rows, items, id_of, _TEXT)
    return in_order(rows, items, _TEXT)


def entries(path: Path) -> list[tuple[str, Any]]:
    """(where it stands, value) of each entry of a JSON list, of each line, or of each value of an object, with its key as ``id``.

    A text under a key becomes an object with that ``text``. Raises DataError for anything that is no JSON.
    """
    text = text_of(path)
    if text.lstrip().startswith("["):
        return [(f"{path}, entry {number}", value) for number, value in enumerate(parsed(text, str(path)), start=1)]
    lines = [line for line in text.split("\n") if line.strip()]
    if len(lines) > 1 and lines[0].rstrip().endswith("}"):
        return [(f"{path}:{number}", parsed(line, f"{path}, line {number}")) for number, line in enumerate(lines, 1)]
    value = parsed(text, str(path)) if lines else {}
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected a list, an object or lines of objects, found {type(value).__name__}.")
    if not value or set(value) & _OF_A_ROW:
        return [(f"{path}:1", value)] if value else []
    named = [(key, one if isinstance(one, dict) else {"text": one}) for key, one in value.items()]
    return [(f"{path}, {key!r}", {"id": key, **one}) for key, one in named]


def _reply(value: Any, where: str) -> dict[str, Any]:
    """A row with its text under one of the known keys, where there is one."""
    if isinstance(value, str):
        if (whole := _answer_in(value)) is None:
            return {"content": value}
        value = whole
    if not isinstance(value, dict):
        raise DataError(f"{where}: expected a text or an object, found {type(value).__name__}.")
    if "choices" not in value:
        return value
    try:
        return {**value, "content": value["choices"][0]["message"]["content"], "id": None}
    except (LookupError, TypeError):
        raise DataError(f"{where}: 'choices' holds no message.", hint="Expected is a server's whole answer.") from None


def _answer_in(text: str) -> dict[str, Any] | None:
    """The server's whole answer that a newer client wrote as a string."""
    try:
        value = json.loads(text) if text.lstrip().startswith("{") else None
    except json.JSONDecodeError:
        return None
    return value if isinstance(value, dict) and "choices" in value else None


def id_under(*keys: str) -> Callable[[Mapping[str, Any]], str | None]:
    """Reads a row's id: the first of the keys that holds a number or a text.

    >>> id_under("question_id", "id")({"id": 7})
    '7'
    """

    def id_of(row: Mapping[str, Any]) -> str | None:
        found = (row.get(key) for key in keys)
        return next((str(id) for id in found if isinstance(id, (int, str)) and not isinstance(id, bool)), None)

    return id_of
