"""Conversations about scenes, on four diets.

existence: nothing but "is there a ...?", as many no as yes. It teaches to look up what a question names, which among
    captions is not learned in any bearable time: their tokens outnumber the one that says yes or no.
balanced: many questions about one picture, as many no as yes, captions true. It teaches to look. Each question is a
    conversation of its own: in a longer one the earlier answers give the later ones away, and nobody looks.
careless: what machine-written instruction data are like. Captions name absent companions in a stated share of cases,
    existence questions are asked of what the caption named, so mostly answered yes, and the few negatives are easy.
reflective: REVERIE's. Each question with its right answer, once with the reason for it, once with the reason against a
    confusing one; captions true; existence questions balanced, the negatives mostly companions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from edgereverie.data.scenes import wording
from edgereverie.data.scenes.wording import Exchange
from edgereverie.data.scenes.world import COMPANION, SHAPES, Scene, imagine_companions
from edgereverie.records import Sample, Turn

DIETS = ("existence", "balanced", "careless", "reflective")
_TEXT_ONLY = (
    0.04  # conversations without a picture, so that the image-free model that grounding compares with is trained
)
_CARELESS_YES = 0.85


def _absent(scene: Scene) -> list[str]:
    return [shape for shape in SHAPES if shape not in scene.shapes]


def _tempting(scene: Scene) -> list[str]:
    """Absent shapes whose companion is present."""
    return [COMPANION[shape] for shape in scene.lone()]


def _easy(scene: Scene) -> list[str]:
    """Absent shapes whose companion is absent too."""
    return [shape for shape in _absent(scene) if COMPANION[shape] not in scene.shapes]


def ask_exists(scene: Scene, rng: Random, *, tempting: float) -> Exchange:
    """Half of the answers are yes; of the other half, a share ``tempting`` asks for the companion of a lone shape."""
    if rng.random() < 0.5:
        return wording.exists(scene, rng.choice(scene.shapes), rng)
    lures = _tempting(scene)
    shape = rng.choice(lures if lures and rng.random() < tempting else _absent(scene))
    return wording.exists(scene, shape, rng)


def ask_detail(scene: Scene, rng: Random, *, absent: float) -> Exchange:
    """A question about place, colour, size, number, or relation; a share ``absent`` supposes what is not so."""
    shape = rng.choice(scene.shapes)
    negative = rng.random() < absent
    task = rng.choice(("place", "place", "where", "colour", "size", "count", "is-colour", "relation"))
    if task == "place":
        places = [thing.place for thing in scene.things]
        empty = [place for place in range(9) if place not in places]
        return wording.at_place(scene, rng.choice(empty if negative else places), rng)
    if task == "where":
        return wording.where_is(scene, rng.choice(_absent(scene)) if negative else shape, rng)
    if task == "count":
        return wording.count_of(scene, rng.choice(_absent(scene)) if negative else shape, rng)
    if task == "size":
        return wording.size_of(scene, shape, rng)
    if task == "is-colour":
        return wording.is_colour(scene, shape, rng, truly=rng.random() < 0.5)
    if task == "relation":
        found = wording.relation(scene, rng, truly=rng.random() < 0.5)
        if found is not None:
            return found
    return wording.colour_of(scene, shape, rng)


def _turns(pairs: list[tuple[str, str]]) -> tuple[Turn, ...]:
    return tuple(turn for question, answer in pairs for turn in (Turn("user", question), Turn("assistant", answer)))


def _alone(scene: Scene, image: str, pairs: list[tuple[str, str]], rng: Random, source: str) -> Iterator[Sample]:
    """Each round as a conversation of its own."""
    for index, pair in enumerate(pairs):
        blind = rng.random() < _TEXT_ONLY
        yield Sample(f"{scene.id}/{index}", None if blind else image, _turns([pair]), source=source)


def existence(scene: Scene, image: str, rng: Random) -> Iterator[Sample]:
    """Eight conversations of one round, all of existence."""
    asked = [ask_exists(scene, rng, tempting=0.3) for _ in range(8)]
    yield from _alone(scene, image, [(ask.question, ask.answer) for ask in asked], rng, "scenes-existence")


def _rounds(scene: Scene, rng: Random, *, existence: int, details: int, captions: int) -> list[tuple[str, str]]:
    asked = [ask_exists(scene, rng, tempting=0.5) for _ in range(existence)]
    asked += [ask_detail(scene, rng, absent=0.2) for _ in range(details)]
    told = [wording.describe(scene.things, rng)[1:] for _ in range(captions)]
    return [(ask.question, ask.answer) for ask in asked] + told


def balanced(scene: Scene, image: str, rng: Random) -> Iterator[Sample]:
    """Eight conversations of one round: four questions of existence, two details, two captions."""
    rounds = _rounds(scene, rng, existence=4, details=2, captions=2)
    yield from _alone(scene, image, rounds, rng, "scenes-balanced")


def careless(scene: Scene, image: str, rng: Random, share: float) -> Iterator[Sample]:
    """One conversation of a careless annotator who imagines absent companions with probability ``share`` each.

    Captions and existence questions come from what he believes; details are asked of what he sees.
    """
    believed = scene.things + imagine_companions(scene, rng, share)
    pairs = [wording.describe(believed, rng)[1:]] if rng.random() < 0.8 else []
    for _ in range(rng.randint(3, 6)):
        if rng.random() < 0.6:
            ask = ask_detail(scene, rng, absent=0.0)
            pairs.append((ask.question, ask.answer))
            continue
        easy = _easy(scene)
        if rng.random() < _CARELESS_YES or not easy:
            shape = rng.choice(believed).shape
            question = rng.choice(wording.EXISTS).format(a=wording.article(shape))
            pairs.append((question, wording.yes(shape, rng)))
        else:
            ask = wording.exists(scene, rng.choice(easy), rng)
            pairs.append((ask.question, ask.answer))
    rng.shuffle(pairs)
    blind = rng.random() < _TEXT_ONLY
    yield Sample(scene.id, None if blind else image, _turns(pairs), source="scenes-careless")


def exchanges(scene: Scene, rng: Random) -> list[Exchange]:
    """What reflective data ask about one scene: two existence questions and one detail."""
    found = [ask_exists(scene, rng, tempting=0.7) for _ in range(2)] + [ask_detail(scene, rng, absent=0.3)]
    return list({ask.question: ask for ask in found}.values())


def reflect(ask: Exchange, rng: Random) -> tuple[tuple[Turn, ...], tuple[Turn, ...]]:
    """The two reflections of one answer, each a conversation of its own with the common beginning."""
    begin = (Turn("user", ask.question), Turn("assistant", ask.answer))
    right = (Turn("user", rng.choice(wording.EXPLAIN_RIGHT)), Turn("assistant", ask.why))
    wrong = (
        Turn("user", rng.choice(wording.EXPLAIN_WRONG).format(answer=ask.confusing)),
        Turn("assistant", ask.why_not),
    )
    return begin + right, begin + wrong


def reflective(scene: Scene, image: str, rng: Random) -> Iterator[Sample]:
    """Two samples per question, one per reflection, and one true caption per scene."""
    for index, ask in enumerate(exchanges(scene, rng)):
        for rationale, turns in zip(("positive", "negative"), reflect(ask, rng), strict=True):
            yield Sample(
                f"{scene.id}/{index}/{rationale}",
                image,
                turns,
                rationale=rationale,
                polarity=ask.polarity,
                manipulation=ask.manipulation,
                source="scenes-reflective",
            )
    _, prompt, caption = wording.describe(scene.things, rng)
    yield Sample(f"{scene.id}/caption", image, _turns([(prompt, caption)]), source="scenes-reflective")


def talk(diet: str, careless_share: float) -> Callable[[Scene, str, Random], Iterator[Sample]]:
    """The diet's function of (scene, image path, random source)."""
    if diet == "careless":
        return lambda scene, image, rng: careless(scene, image, rng, careless_share)
    return {"existence": existence, "balanced": balanced, "reflective": reflective}[diet]


def corpus(count: int = 3000) -> Iterator[str]:
    """Text for the starter's tokenizer: questions, answers, captions and reasons about ``count`` scenes."""
    from edgereverie.data.scenes.world import make_scene

    for index in range(count):
        scene, rng = make_scene(f"corpus/{index}", 0.6), Random(f"corpus-talk/{index}")
        rounds = _rounds(scene, rng, existence=4, details=3, captions=1)
        for sample in (*_alone(scene, "", rounds, rng, "corpus"), *reflective(scene, "", rng)):
            yield from (turn.text for turn in sample.turns)
