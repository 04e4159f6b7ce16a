"""The truth of edgereverie's drawn scenes: every thing with its shape, colour, size and place.

scenes.jsonl    {"id", "image", "things": [{"shape", "colour", "size", "place"}, ...]}, one picture a line
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgereverie.data.annotations.base import Annotated, Box, Relation, Thing
from edgereverie.data.card import OWN_WORK
from edgereverie.data.faults import Faults, shown
from edgereverie.data.rows import Row
from edgereverie.data.scenes.draw import SIDE
from edgereverie.data.scenes.world import COLOURS, SHAPES, SIZES, Scene
from edgereverie.data.scenes.world import Thing as Drawn
from edgereverie.data.stream import lines, opened
from edgereverie.registry import did_you_mean

_CELL = SIDE / 3
_CHOICES = {"shape": SHAPES, "colour": COLOURS, "size": SIZES}


def read(path: Path) -> Iterator[Annotated]:
    """One Annotated for each line. Everything drawn is listed, so a shape that is not among the things is not there.

    A box is the cell of the three by three that the thing stands in, an attribute its colour or size, and each two
    things have relations by their rows and columns. Raises DataError with all faults of the file at its end; after the
    first fault no more pictures are given out.
    """
    faults, taken = Faults(path), {}
    with opened(path) as stream:
        for place, value in lines(stream, faults):
            row = Row(value, place, faults)
            if not row.keys(("image", "things"), ("id",)):
                continue
            image, things = row.image(), _things(row)
            if image is None and row.sound:
                row.fault("'image' is null.", "Name the picture's file.")
            elif image in taken and row.sound:
                row.fault(f"{shown(image)} is on line {taken[image]}, too.", "Give each picture one line.")
            taken[image] = place.line
            if not faults and image is not None:
                drawn = tuple(_thing(thing) for thing in things)
                yield Annotated(image, SIDE, SIDE, drawn, relations=_relations([thing["place"] for thing in things]),
                                exhaustive=frozenset(SHAPES), source="scenes", licence=OWN_WORK)  # fmt: skip
    faults.check()


def scene_of(annotated: Annotated) -> Scene:
    """The scene that an annotation of this file tells of; background and jitter, which it does not tell, are plain."""
    things = tuple(
        Drawn(one.name, *one.attributes, 3 * round(one.box.y / _CELL) + round(one.box.x / _CELL))
        for one in annotated.things
    )
    return Scene(annotated.image, things, (255, 255, 255), ((0.0, 0.0),) * len(things))


def _things(row: Row) -> list[dict[str, Any]]:
    things = row.value["things"]
    if not isinstance(things, list):
        row.fault(f"'things' is {shown(things)}.", "Write a list of {'shape', 'colour', 'size', 'place'}.")
        return []
    places: dict[int, int] = {}
    for number, thing in enumerate(things, 1):
        if not isinstance(thing, dict) or set(thing) != {*_CHOICES, "place"}:
            row.fault(f"thing {number} is {shown(thing)}.", "Write {'shape', 'colour', 'size', 'place'}.")
            continue
        for key, choices in _CHOICES.items():
            if not isinstance(thing[key], str) or thing[key] not in choices:
                row.fault(f"the {key} of thing {number} is {shown(thing[key])}.",
                          did_you_mean(str(thing[key]), choices))  # fmt: skip
        place = thing["place"]
        if type(place) is not int or not 0 <= place < 9:
            row.fault(f"the place of thing {number} is {shown(place)}.", "Write 0 to 8, row by row.")
        elif places.setdefault(place, number) != number:
            row.fault(f"things {places[place]} and {number} share place {place}.", "One thing stands in each place.")
    return things if row.sound else []


def _thing(thing: dict[str, Any]) -> Thing:
    row, column = divmod(thing["place"], 3)
    box = Box(column * _CELL, row * _CELL, _CELL, _CELL)
    return Thing(thing["shape"], box, (thing["colour"], thing["size"]))


def _relations(places: list[int]) -> tuple[Relation, ...]:
    """How each thing stands to each other one, by row and by column."""
    found = []
    for first, one in enumerate(places):
        for second, other in enumerate(places):
            (row, column), (other_row, other_column) = divmod(one, 3), divmod(other, 3)
            if column != other_column:
                side = "to the left of" if column < other_column else "to the right of"
                found.append(Relation(first, side, second))
            if row != other_row:
                found.append(Relation(first, "above" if row < other_row else "below", second))
    return tuple(found)
