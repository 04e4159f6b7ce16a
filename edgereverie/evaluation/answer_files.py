"""Answers that something else produced: matched with the questions, every fault listed, nothing scored in silence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgereverie.errors import DataError

if TYPE_CHECKING:
    from edgereverie.evaluation.benchmarks.base import Item

Row = tuple[str, Mapping[str, Any]]


def by_id(
    rows: Iterable[Row],
    items: Sequence[Item],
    id_of: Callable[[Mapping[str, Any]], str | None],
    text_keys: Sequence[str],
) -> dict[str, str]:
    """The text of each item's answer. id_of: a row's item id, None where the row tells none. text_keys: the first that is there.

    Raises DataError that lists what is missing, doubled or unknown, and values of a wrong type, with their lines.
    """
    faults = Faults()
    known = {item.id for item in items}
    found: dict[str, str] = {}
    for where, row in rows:
        id, text = id_of(row), next((row[key] for key in text_keys if key in row), None)
        if id is None:
            faults.add("rows that name no question", f"{where} ({', '.join(row) or 'empty'})")
        elif not isinstance(text, str):
            faults.add(f"rows without a text in {' or '.join(text_keys)}", where)
        elif id not in known:
            faults.add("answers that belong to no question", f"{id} ({where})")
        elif id in found:
            faults.add("questions answered more than once", f"{id} ({where})")
        else:
            found[id] = text
    for item in items:
        if item.id not in found:
            faults.add("questions without an answer", item.id)
    faults.check()
    return {item.id: found[item.id] for item in items}


def in_order(rows: Iterable[Row], items: Sequence[Item], text_keys: Sequence[str]) -> dict[str, str]:
    """The same for files whose rows follow the questions' order and name no ids. Raises DataError when the numbers differ."""
    rows = list(rows)
    if len(rows) != len(items):
        raise DataError(
            f"{len(rows)} answers stand in the file and {len(items)} questions were asked.",
            hint="The answers should follow the questions one by one.",
        )
    numbered = [(where, {**row, "": item.id}) for (where, row), item in zip(rows, items, strict=True)]
    return by_id(numbered, items, lambda row: row[""], text_keys)


class Faults:
    """What is wrong with a file, by kind, so that one error tells all of it."""

    def __init__(self) -> None:
        self._found: dict[str, list[str]] = {}

    def add(self, kind: str, what: str) -> None:
        self._found.setdefault(kind, []).append(what)

    def check(self, hint: str = "Score answers with the very questions that they were made for.") -> None:
        """Raises DataError when there are any."""
        if self._found:
            told = [f"{len(found)} {kind}: {some(found)}." for kind, found in self._found.items()]
            raise DataError("The answers do not fit the questions.\n" + "\n".join(told), hint=hint)


def some(names: Sequence[str], most: int = 10) -> str:
    """Names for a message, not all of a thousand.

    >>> some(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
