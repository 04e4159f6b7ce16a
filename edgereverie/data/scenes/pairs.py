"""Preference pairs about scenes: true answers, and the same ones spoilt as POVID spoils them.

Captions are spoilt in POVID's three ways. Beside them stand questions with their confusing answers, as POVID's instructions
are captions and questions. One kind is ours: a caption that leaves something out. The other rejected captions are longer
than the chosen ones or as long, so that a model would be rewarded for saying less; this one makes it no better.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random

from edgereverie.data.scenes import wording
from edgereverie.data.scenes.talk import exchanges
from edgereverie.data.scenes.world import COLOURS, Scene, Thing, imagine_companions, neighbours
from edgereverie.records import PreferencePair, Turn

_QUESTIONS = 6  # so many that as much is learned of looking as of telling


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


def _spoilt(scene: Scene, rng: Random) -> Iterator[tuple[str, tuple[Thing, ...]]]:
    """What somebody would believe to see, by the way in which he is wrong."""
    if imagined := imagine_companions(scene, rng, 1.0):
        yield "co-occurrence", tuple(sorted((*scene.things, imagined[0]), key=lambda thing: thing.place))
    yield "attribute", _wrong_colour(scene.things, rng)
    yield "relation", _wrong_place(scene.things, rng)
    if len(scene.things) > 1:
        overlooked = rng.randrange(len(scene.things))
        yield "omission", tuple(thing for i, thing in enumerate(scene.things) if i != overlooked)


def preference_pairs(scene: Scene, image: str, rng: Random) -> Iterator[PreferencePair]:
    """Pairs of captions, one for each way of being wrong that is possible here, and of answers to some six questions.

    Both captions of a pair come from one wording, so that they differ where they should and nowhere else.
    """
    for reason, things in _spoilt(scene, rng):
        prompt, seed = rng.choice(wording.DESCRIBE_FULL), rng.random()
        chosen, rejected = (wording.caption_full(said, Random(seed)) for said in (scene.things, things))
        yield _pair(scene, image, reason, prompt, chosen, rejected)
    asked = {ask.question: ask for _ in range(_QUESTIONS // 3) for ask in exchanges(scene, rng)}
    for index, ask in enumerate(asked.values()):
        yield _pair(scene, image, f"question/{index}", ask.question, ask.answer, ask.confusing)


def _pair(scene: Scene, image: str, name: str, prompt: str, chosen: str, rejected: str) -> PreferencePair:
    return PreferencePair(f"{scene.id}/{name}", image, (Turn("user", prompt),), chosen, rejected,
                          name.partition("/")[0], source="scenes")  # fmt: skip
