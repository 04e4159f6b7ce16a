"""Places in the picture: at the left, in the top right corner, in the background."""

from __future__ import annotations

from typing import NamedTuple

from edgereverie.text.english import words_of
from edgereverie.text.noun_phrases import Word

_AT = words_of("in on at near to towards toward")
_NEARER = words_of("close closer nearer")
_VERTICAL = {"top": "top", "upper": "top", "bottom": "bottom", "lower": "bottom"}
_SIDES = {"left": "left", "right": "right"}
_DEPTHS = {"background": "background", "foreground": "foreground", "distance": "distance"}
_CENTRES = words_of("centre center middle central")
_REST = words_of("side corner part half edge portion area section hand most")
_CORE = _VERTICAL | _SIDES | _DEPTHS | dict.fromkeys(_CENTRES, "centre") | {"corner": "corner"}
_PARTS = frozenset(_CORE) | _REST
PICTURE = words_of("image picture photo photograph scene frame view shot drawing painting")


class Place(NamedTuple):
    """words[start:end] name it, up to ``stop`` with "of the image". value: ``top left``, ``centre``, ``background`` ...

    of: it is a place in something else, which is named from ``stop`` on: the left side of the couch.
    """

    start: int
    end: int
    stop: int
    value: str
    of: bool = False


def place_at(words: list[Word], at: int) -> Place | None:
    """The place whose preposition, or "closer", stands at ``at``.

    >>> from edgereverie.text.noun_phrases import words_in
    >>> text = "in the upper left corner of the image"
    >>> place_at(words_in(text, 0, len(text)), 0).value
    'top left'
    """
    count = len(words)
    i = at
    if i < count and words[i].text in _NEARER:
        i += 1
    if i >= count or words[i].text not in _AT:
        return None
    i += 1
    if i < count and words[i].text in ("the", "this"):
        i += 1
    while i < count and words[i].text in ("very", "far", "extreme"):
        i += 1
    found: list[str] = []
    while i < count and (parts := words[i].text.split("-")) and all(part in _PARTS for part in parts):
        found += parts
        i += 1
    value = _value(found)
    if not value or found[-1] == "hand":
        return None
    if i + 1 < count and words[i].text in ("of", "in", "within"):
        if words[i + 1].text in PICTURE:
            return Place(at, i, i + 2, value)
        if i + 2 < count and words[i + 1].text in ("the", "this") and words[i + 2].text in PICTURE:
            return Place(at, i, i + 3, value)
        if words[i].text == "of":
            return Place(at, i, i + 1, value, of=True)
    return Place(at, i, i, value)


def content(words: list[Word], place: Place) -> list[int]:
    """The words that carry the meaning."""
    return [i for i in range(place.start, place.end) if any(part in _CORE for part in words[i].text.split("-"))]


def _value(found: list[str]) -> str:
    vertical = next((_VERTICAL[word] for word in found if word in _VERTICAL), "")
    side = next((_SIDES[word] for word in found if word in _SIDES), "")
    if vertical or side:
        return f"{vertical} {side}".strip()
    return next((_CORE[word] for word in found if word in _DEPTHS or word in _CENTRES or word == "corner"), "")
