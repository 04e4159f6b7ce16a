"""Visual Genome: objects, attributes, relationships and region descriptions, each in a file of its own.

    objects.json              [{"image_id", "objects": [{"object_id", "names": ["trees"], "x", "y", "w", "h"}]}]
    attributes.json           [{"image_id", "attributes": [{"object_id", "names", "attributes": ["green"], "x", ...}]}]
    relationships.json        [{"image_id", "relationships": [{"predicate": "ON", "subject": {...}, "object": {...}}]}]
    region_descriptions.json  [{"id", "regions": [{"phrase", "x", "y", "width", "height"}]}]
    image_data.json           [{"image_id", "width", "height", "url"}], only for sizes and folders

The files list pictures in different orders and have up to 700 MB each, so what is needed of each row is laid into a
temporary database and taken out picture by picture. People wrote down what they noticed: nothing here is exhaustive,
and an object that was named twice is two things.
"""

from __future__ import annotations

import json
import re
import sqlite3
import tempfile
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from edgereverie.data.annotations.base import Annotated, Box, Region, Relation, Thing
from edgereverie.data.faults import Faults, shown
from edgereverie.data.rows import Row, Tally
from edgereverie.data.stream import objects
from edgereverie.text.english import is_plural, singular

LISTS = ("objects", "attributes", "relationships", "regions")
FILES = {"objects": "objects.json", "attributes": "attributes.json", "relationships": "relationships.json",
         "regions": "region_descriptions.json"}  # fmt: skip
SIZES = "image_data.json"
LICENCE = "CC BY 4.0"
_FOLDER = re.compile(r"/(VG_100K(?:_2)?/\d+\.jpg)$")
_AT_ONCE = 500  # rows between two writes to the database


def read(
    paths: Mapping[str, Path], sizes: Path | None, tally: Tally, only: Container[int] | None = None
) -> Iterator[Annotated]:
    """One Annotated for each picture that any file tells of, by its first appearance.

    paths: the files by what they list (LISTS). only: the numbers of the pictures that are wanted; rows of others are not looked
    into. Names, attributes and predicates become lower case, and a name its
    singular; a plural one is several things in one box. Boxes without extent are left out and counted. Raises
    DataError with all faults of a file before the first picture is given out.
    """
    with (
        tempfile.TemporaryDirectory(prefix="edgereverie-") as folder,
        closing(sqlite3.connect(Path(folder) / "rows.sqlite", isolation_level=None)) as shelf,
    ):
        shelf.execute("PRAGMA journal_mode=OFF")
        shelf.execute("PRAGMA synchronous=OFF")
        shelf.execute("CREATE TABLE pictures (id INTEGER PRIMARY KEY, number INTEGER UNIQUE)")
        shelf.execute("CREATE TABLE rows (number INTEGER, kind TEXT, value TEXT, PRIMARY KEY (number, kind))")
        known = {} if sizes is None else _sizes(sizes)
        for kind in LISTS:
            if kind in paths:
                _fill(shelf, kind, paths[kind], tally, only)
        query = "SELECT p.number, r.kind, r.value FROM pictures p JOIN rows r ON r.number = p.number ORDER BY p.id"
        yield from _pictures(shelf.execute(query), known)


def list_of(row: Mapping[str, Any]) -> str | None:
    """Which of LISTS a row of an unknown file holds; None when it is no row of Visual Genome's."""
    return next(
        (kind for kind in LISTS if isinstance(row.get(kind), list) and ("image_id" in row or "id" in row)), None
    )


def _sizes(path: Path) -> dict[int, tuple[str, int, int]]:
    faults, found = Faults(path), {}
    for place, value in objects(path, faults):
        row = Row(value, place, faults)
        number = _number(row)
        width, height = value.get("width"), value.get("height")
        if type(width) is not int or type(height) is not int or min(width, height) < 1:
            row.fault(f"the size is {shown(width)} x {shown(height)}.", "Write 'width' and 'height' in pixels.")
        if row.sound and number is not None:
            found[number] = (_file(number, value.get("url")), width, height)
    faults.check()
    return found


def _fill(shelf: sqlite3.Connection, kind: str, path: Path, tally: Tally, only: Container[int] | None) -> None:
    faults, waiting = Faults(path), []
    seen: set[int] = set()
    for place, value in objects(path, faults):
        row = Row(value, place, faults)
        number = _number(row)
        if number is not None and only is not None and number not in only:
            continue
        items = value.get(kind)
        if not isinstance(items, list):
            row.fault(f"{kind!r} is {shown(items)}.", f"Write a list of {kind}.")
        if not row.sound or number is None:
            continue
        if number in seen:
            row.fault(f"picture {number} has a record already.", "Give each picture one record.")
            continue
        seen.add(number)
        kept = [
            made for index, item in enumerate(items, 1) if (made := _KEPT[kind](row, index, item, tally)) is not None
        ]
        if not faults:
            url = value.get("image_url")
            waiting.append((number, kind, json.dumps([_file(number, url) if url else "", kept])))
        if len(waiting) >= _AT_ONCE:
            _store(shelf, waiting)
            waiting = []
    faults.check()
    _store(shelf, waiting)


def _store(shelf: sqlite3.Connection, rows: list[tuple[int, str, str]]) -> None:
    shelf.execute("BEGIN")
    shelf.executemany("INSERT OR IGNORE INTO pictures (number) VALUES (?)", [(number,) for number, _, _ in rows])
    shelf.executemany("INSERT INTO rows VALUES (?, ?, ?)", rows)
    shelf.execute("COMMIT")


def _pictures(found: Iterator[tuple[int, str, str]], known: Mapping[int, tuple[str, int, int]]) -> Iterator[Annotated]:
    current: int | None = None
    kept: dict[str, Any] = {}
    for number, kind, value in found:
        if current is not None and number != current:
            yield _annotated(current, kept, known)
            kept = {}
        current, kept[kind] = number, json.loads(value)
    if current is not None:
        yield _annotated(current, kept, known)


def _annotated(number: int, kept: dict[str, Any], known: Mapping[int, tuple[str, int, int]]) -> Annotated:
    named = next((file for file, _ in kept.values() if file), f"{number}.jpg")
    file, width, height = known.get(number, (named, 0, 0))
    things: dict[int, Thing] = {}  # by object id; those of a relationship are mostly objects already
    for kind in ("objects", "attributes"):
        for object_id, name, box, several, attributes in kept.get(kind, ("", []))[1]:
            before = things.get(object_id, Thing(name, None))
            both = tuple(dict.fromkeys((*before.attributes, *attributes)))
            things[object_id] = Thing(
                before.name, before.box or (Box(*box) if box else None), both, before.several or several
            )
    ends = []
    for predicate, *sides in kept.get("relationships", ("", []))[1]:
        for object_id, name, box, several, _ in sides:
            things.setdefault(object_id, Thing(name, Box(*box) if box else None, (), several))
        ends.append((sides[0][0], predicate, sides[1][0]))
    index = {object_id: position for position, object_id in enumerate(things)}
    relations = tuple(Relation(index[a], predicate, index[b]) for a, predicate, b in dict.fromkeys(ends))
    regions = tuple(Region(phrase, Box(*box) if box else None) for phrase, box in kept.get("regions", ("", []))[1])
    return Annotated(file, width, height, tuple(things.values()), (), regions, relations, source="visual_genome",
                     licence=LICENCE)  # fmt: skip


def _file(number: int, url: Any) -> str:
    """``VG_100K_2/1.jpg`` where an address tells the folder, else ``1.jpg``."""
    found = _FOLDER.search(url) if isinstance(url, str) else None
    return found[1] if found else f"{number}.jpg"


def _number(row: Row) -> int | None:
    value = row.value.get("image_id", row.value.get("id"))
    if type(value) is not int or not 0 <= value < 1 << 62:
        row.fault(f"'image_id' is {shown(value)}.", "Write the picture's number.")
        return None
    return value


def _thing(row: Row, what: str, item: Any, tally: Tally) -> list[Any] | None:
    """[object id, name, box or None, several, attributes] as it is stored."""
    if not isinstance(item, dict):
        row.fault(f"{what} is {shown(item)}.", "Write an object with 'object_id' and 'names'.")
        return None
    names = item.get("names", [item["name"]] if "name" in item else None)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        row.fault(f"{what}: 'names' is {shown(names)}.", "Write a list of names.")
        return None
    if type(item.get("object_id")) is not int:
        row.fault(f"{what}: 'object_id' is {shown(item.get('object_id'))}.", "Write the object's number.")
        return None
    box = _box(row, what, item, ("x", "y", "w", "h"), tally)
    attributes = item.get("attributes", [])
    if not isinstance(attributes, list) or not all(isinstance(text, str) for text in attributes):
        row.fault(f"{what}: 'attributes' is {shown(attributes)}.", "Write a list of words.")
        return None
    name, several = dictionary_form(next((name for name in names if name.strip()), ""))
    if not name:
        tally.noted["object without a name passed over"] += 1
        return None
    kept = dict.fromkeys(text for raw in attributes if (text := " ".join(raw.lower().split())))
    return [item["object_id"], name, box, several, list(kept)]


def dictionary_form(name: str) -> tuple[str, bool]:
    """The name in lower case with its last word in the singular, and whether it was a plural.

    >>> dictionary_form("Street lights"), dictionary_form(" man"), dictionary_form("people")
    (('street light', True), ('man', False), ('person', True))
    """
    *describing, head = name.lower().split() or [""]
    one = singular(head)
    return " ".join([*describing, one]), is_plural(head) and one != head


def _relationship(row: Row, index: int, item: Any, tally: Tally) -> list[Any] | None:
    what = f"relationship {index}"
    if not isinstance(item, dict) or not isinstance(item.get("predicate"), str):
        found = item.get("predicate") if isinstance(item, dict) else item
        row.fault(f"{what}: the predicate is {shown(found)}.", "Write 'predicate', 'subject' and 'object'.")
        return None
    sides = [_thing(row, f"the {side} of {what}", item.get(side), tally) for side in ("subject", "object")]
    predicate = " ".join(item["predicate"].lower().split())
    if not predicate:
        tally.noted["relationship without a predicate passed over"] += 1
    return None if None in sides or not predicate else [predicate, *sides]


def _region(row: Row, index: int, item: Any, tally: Tally) -> list[Any] | None:
    what = f"region {index}"
    if not isinstance(item, dict) or not isinstance(item.get("phrase"), str):
        found = item.get("phrase") if isinstance(item, dict) else item
        row.fault(f"{what}: the phrase is {shown(found)}.", "Write 'phrase' as text.")
        return None
    phrase = " ".join(item["phrase"].split())
    if not phrase:
        tally.noted["region without a phrase passed over"] += 1
        return None
    return [phrase, _box(row, what, item, ("x", "y", "width", "height"), tally)]


def _box(row: Row, what: str, item: Mapping[str, Any], keys: tuple[str, ...], tally: Tally) -> list[float] | None:
    values = [item.get(key) for key in keys]
    if not all(type(value) in (int, float) and abs(value) < 1e9 for value in values):
        row.fault(f"{what}: the box is {shown(values)}.", f"Write {', '.join(keys)} in pixels.")
        return None
    if values[2] <= 0 or values[3] <= 0:
        tally.noted["box without extent passed over"] += 1
        return None
    return values


_KEPT: dict[str, Callable[[Row, int, Any, Tally], list[Any] | None]] = {
    "objects": lambda row, index, item, tally: _thing(row, f"object {index}", item, tally),
    "attributes": lambda row, index, item, tally: _thing(row, f"object {index}", item, tally),
    "relationships": _relationship,
    "regions": _region,
}
