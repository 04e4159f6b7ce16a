"""Whether a claim about a drawn scene is true: exact, for all five kinds."""

from __future__ import annotations

from edgereverie.data.scenes.world import COLOURS, SHAPES, SIZES, Scene, Thing, neighbours
from edgereverie.records import Claim
from edgereverie.text.assertions import Assertion
from edgereverie.text.claims import stated
from edgereverie.text.counts import number_of
from edgereverie.text.describing import is_colour
from edgereverie.text.english import PLURAL_ONLY, is_plural

_PLACES = ("top left", "top", "top right", "left", "centre", "right", "bottom left", "bottom", "bottom right")
# Names for what is drawn that fit every shape: nothing can be said of them.
_ANY_SHAPE = frozenset(("symbol", "drawing", "icon", "colour", "color", "outline", "graphic"))
_SIZES = {"small": "small", "little": "small", "tiny": "small", "large": "large", "big": "large", "huge": "large"}
_BESIDE = ("next to", "beside", "near", "close to", "by")


def true_of(scene: Scene, claim: Claim | Assertion) -> bool | None:
    """Whether the scene makes the claim true; None where a drawn scene decides nothing (the ring is shiny).

    A thing of another vocabulary is not there. What is claimed of a thing that is not there is false, and its denial is
    None. Each place word names one of the nine places, as the scenes' own descriptions do: a ring at the top left is not at
    the top. Beside is beside, above or below. In a plural every one must be so, in a singular one.
    """
    said = claim if isinstance(claim, Assertion) else stated(claim.statement)
    held = _affirmed(scene, said)
    if held is None or said.present:
        return held
    return None if said.kind in ("attribute", "position", "relation") and not _of(scene, said) else not held


def _affirmed(scene: Scene, said: Assertion) -> bool | None:
    here = _of(scene, said)
    if said.subject.split()[-1] in _ANY_SHAPE:
        return None
    if said.kind == "object":
        return bool(here) and all(_is(here[0], word) is not False for word in said.subject.split()[:-1])
    if said.kind == "count":
        number = number_of(said.value.removeprefix("at least "))
        if number is None:
            return None
        return len(here) >= number if said.value.startswith("at least ") else len(here) == number
    if not here:
        return False
    if said.kind == "attribute":
        return _is(here[0], said.value)
    if said.kind == "position":
        if said.value not in _PLACES:
            return None
        there = [_PLACES[one.place] == said.value for one in here]
        return all(there) if _speaks_of_all(said) else any(there)
    return _stands(scene, here, said)


def _of(scene: Scene, said: Assertion) -> tuple[Thing, ...]:
    name = said.subject.split()[-1]
    return scene.of(name) if name in SHAPES else ()


def _is(one: Thing, value: str) -> bool | None:
    """Colours and sizes of a drawn thing; twins are alike."""
    words = value.split()
    if words[-1] in _SIZES:
        return one.size == SIZES[SIZES.index(_SIZES[words[-1]])]
    if is_colour(words[-1]):
        return value in COLOURS and one.colour == value
    return None


def _speaks_of_all(said: Assertion) -> bool:
    subject = said.statement.split()
    return subject[0] == "The" and any(
        word.lower() not in PLURAL_ONLY and is_plural(word.lower()) for word in subject[1:2]
    )


def _stands(scene: Scene, here: tuple[Thing, ...], said: Assertion) -> bool | None:
    """Left, right, above, below by column and row; beside by neighbouring places."""
    others = scene.of(said.other) if said.other in SHAPES else ()
    way = _way(said.value)
    if way is None:
        return None
    if not others:
        return False
    return any(_holds(way, one.place, other.place) for one in here for other in others if one is not other)


def _way(value: str) -> str | None:
    words = value.split()
    if "left" in words:
        return "left"
    if "right" in words:
        return "right"
    if words[-1] in ("above", "over"):
        return "above"
    if words[-1] in ("below", "under", "beneath", "underneath"):
        return "below"
    return "beside" if any(value.endswith(name) for name in _BESIDE) else None


def _holds(way: str, one: int, other: int) -> bool:
    (row, column), (other_row, other_column) = divmod(one, 3), divmod(other, 3)
    return {
        "left": column < other_column,
        "right": column > other_column,
        "above": row < other_row,
        "below": row > other_row,
        "beside": other in neighbours(one),
    }[way]
