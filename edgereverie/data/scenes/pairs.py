"""Preference pairs about scenes: a true caption, and the same one spoilt in one of POVID's three ways."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random

from edgereverie.data.scenes import wording
from edgereverie.data.scenes.world import COLOURS, Scene, Thing, imagine_companions, neighbours
from edgereverie.records import PreferencePair, Turn


def _wrong_colour(things: tuple[Thing, ...], rng: Random) -> tuple[Thing, ...]:
    spoilt = rng.randrange(len(things))
    other = rng.choice([colour for colour in COLOURS if colour != things[spoilt].colour])
    return tuple(replace(thing, colour=other) if i == spoilt else thing for i, thing in enumerate(things))


def _wrong_place(things: tuple[Thing, ...], rng: Random) -> tuple[Thing, ...]:
    """One thing is said to stand in an empty place beside its own, so that its relations to the others are wrong."""
    taken = {thing.place for thing in things}
    moves = [(i, place) for i, thing in enumerate(things) for place in neighbours(thing.place) if place not in taken]
    spoilt, place = rng.choice(moves)
    moved = [replace(thing, place=place) if i == spoilt else thing for i, thing in enumerate(things)]
    return tuple(sorted(moved, key=lambda thing: thing.place))


def preference_pairs(scene: Scene, image: str, rng: Random) -> Iterator[PreferencePair]:
    """One pair for each way that is possible here: co-occurring absent object, wrong attribute, wrong relation.

    Both captions come from one wording, so that they differ where they should and nowhere else.
    """
    spoilt: list[tuple[str, tuple[Thing, ...]]] = [
        ("attribute", _wrong_colour(scene.things, rng)),
        ("relation", _wrong_place(scene.things, rng)),
    ]
    if imagined := imagine_companions(scene, rng, 1.0):
        added = sorted((*scene.things, imagined[0]), key=lambda thing: thing.place)
        spoilt.insert(0, ("co-occurrence", tuple(added)))
    for reason, things in spoilt:
        prompt, wording_seed = rng.choice(wording.DESCRIBE_FULL), rng.random()
        chosen, rejected = (wording.caption_full(said, Random(wording_seed)) for said in (scene.things, things))
        yield PreferencePair(f"{scene.id}/{reason}", image, (Turn("user", prompt),), chosen, rejected, reason,
                             source="scenes")  # fmt: skip
