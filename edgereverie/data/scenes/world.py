"""What stands where: things with a shape, colour, size and place, and the habit of some shapes to stand together.

The habit is the point. Twelve shapes form six couples of companions; in a world with ``companion_share`` 0.85 a ring
mostly has its heart beside it, so a language prior can guess the heart without looking. A held-out world with a small
share breaks the habit and finds out who looked.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from random import Random

COUPLES = (
    ("circle", "star"),
    ("square", "triangle"),
    ("ring", "heart"),
    ("cross", "diamond"),
    ("moon", "arrow"),
    ("hexagon", "drop"),
)
SHAPES = tuple(shape for couple in COUPLES for shape in couple)
COMPANION = {a: b for a, b in COUPLES} | {b: a for a, b in COUPLES}
# Some couples are seen more often than others, so that "popular" objects exist (POPE's popular split).
WEIGHT = {shape: 6.0 - index for index, couple in enumerate(COUPLES) for shape in couple}
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "black")
SIZES = ("small", "large")
# Row by row, as one reads.
PLACES = (
    "at the top left", "at the top", "at the top right",
    "at the left", "in the centre", "at the right",
    "at the bottom left", "at the bottom", "at the bottom right",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Thing:
    """One drawn thing. place: index into PLACES, 0 to 8, row by row."""

    shape: str
    colour: str
    size: str
    place: int


@dataclass(frozen=True, slots=True)
class Scene:
    """One picture's truth. things are in reading order. background: an RGB colour, light enough for every COLOUR."""

    id: str
    things: tuple[Thing, ...]
    background: tuple[int, int, int]
    jitter: tuple[tuple[float, float], ...]

    @property
    def shapes(self) -> tuple[str, ...]:
        """The distinct shapes, in reading order."""
        return tuple(dict.fromkeys(thing.shape for thing in self.things))

    def of(self, shape: str) -> tuple[Thing, ...]:
        return tuple(thing for thing in self.things if thing.shape == shape)

    def lone(self) -> tuple[str, ...]:
        """Shapes here whose companion is absent, in reading order: where a prior is tempted."""
        present = set(self.shapes)
        return tuple(shape for shape in self.shapes if COMPANION[shape] not in present)


def neighbours(place: int) -> tuple[int, ...]:
    """Places beside, above or below, in reading order.

    >>> [PLACES[i] for i in neighbours(0)]
    ['at the top', 'at the left']
    """
    row, column = divmod(place, 3)
    around = ((row - 1, column), (row, column - 1), (row, column + 1), (row + 1, column))
    return tuple(r * 3 + c for r, c in around if 0 <= r < 3 and 0 <= c < 3)


def _choose_shapes(rng: Random, companion_share: float, lone: int) -> list[str]:
    """Shapes of one scene: at least ``lone`` of them stand without their companion."""
    couples = list(COUPLES)
    chosen: list[str] = []
    target = rng.randint(3, 5)

    def draw() -> str:
        couple = rng.choices(couples, [WEIGHT[a] for a, _ in couples])[0]
        couples.remove(couple)
        return rng.choice(couple)

    for _ in range(lone):
        chosen.append(draw())
    while len(chosen) < target and couples:
        shape = draw()
        chosen.append(shape)
        if len(chosen) < 5 and rng.random() < companion_share:
            chosen.append(COMPANION[shape])
    return chosen


def _free_place(rng: Random, free: list[int], near: int | None) -> int:
    beside = [place for place in free if near is not None and place in neighbours(near)]
    place = rng.choice(beside or free)
    free.remove(place)
    return place


def _thing(rng: Random, shape: str, place: int) -> Thing:
    return Thing(shape, rng.choice(COLOURS), rng.choice(SIZES), place)


def make_scene(seed: str, companion_share: float, *, lone: int = 0, twins: float = 0.2) -> Scene:
    """One scene; equal seeds give equal scenes.

    companion_share: how often a shape brings its companion, which then stands beside it where there is room.
    lone: at least so many shapes stand without their companion (POPE's adversarial questions need three).
    twins: how often one of the things stands there twice, alike in colour and size (for questions of number).
    """
    rng = Random(seed)
    free = list(range(9))
    placed: dict[str, int] = {}
    things = []
    for shape in _choose_shapes(rng, companion_share, lone):
        place = _free_place(rng, free, placed.get(COMPANION[shape]))
        placed[shape] = place
        things.append(_thing(rng, shape, place))
    if rng.random() < twins:
        original = rng.choice(things)
        things.append(replace(original, place=_free_place(rng, free, None)))
    things.sort(key=lambda thing: thing.place)
    background = tuple(rng.randint(232, 250) for _ in range(3))
    jitter = tuple((rng.uniform(-1, 1), rng.uniform(-1, 1)) for _ in things)
    return Scene(seed, tuple(things), background, jitter)


def imagine_companions(scene: Scene, rng: Random, share: float) -> tuple[Thing, ...]:
    """Things that a careless annotator adds: the companions of lone shapes, each with probability ``share``.

    They look like their companion and stand beside it, in the first free place that follows in reading order where there is
    one: what is supposed and not seen comes to mind with what calls for it.
    """
    taken = {thing.place for thing in scene.things}
    imagined = []
    for shape in scene.lone():
        if rng.random() >= share:
            continue
        free = [place for place in range(9) if place not in taken]
        if not free:
            break
        seen = scene.of(shape)[0]
        beside = [place for place in free if place in neighbours(seen.place)]
        place = min(beside or free, key=lambda place: (place < seen.place, place))
        taken.add(place)
        imagined.append(replace(seen, shape=COMPANION[shape], place=place))
    return tuple(imagined)


def count_shapes(scenes: Iterable[Scene]) -> tuple[dict[str, int], dict[frozenset[str], int]]:
    """How many scenes hold each shape, and each two shapes together: what POPE's popular and adversarial rank by."""
    single = dict.fromkeys(SHAPES, 0)
    together: dict[frozenset[str], int] = {}
    for scene in scenes:
        shapes = scene.shapes
        for i, a in enumerate(shapes):
            single[a] += 1
            for b in shapes[i + 1 :]:
                key = frozenset((a, b))
                together[key] = together.get(key, 0) + 1
    return single, together
