"""What can be said about a scene: captions, questions, right and confusing answers, and the reasons for both.

Every sentence is drawn from several wordings, so that no single string answers anything. Nothing here decides what is
true: callers hand in the things that the speaker believes to be there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from edgereverie.data.scenes.world import COLOURS, COMPANION, PLACES, SHAPES, SIZES, Scene, Thing
from edgereverie.records import Manipulation, Polarity

_NUMBER = ("no", "one", "two", "three")

DESCRIBE_FULL = (
    "Describe the image in detail.",
    "What do you see in this picture, and where?",
    "Give a detailed description of the image.",
    "Please describe everything in the picture and its place.",
)
DESCRIBE_SHORT = (
    "Describe the image.",
    "What is in the picture?",
    "What does the image show?",
    "Describe this image briefly.",
)
DESCRIBE_NAMES = ("Name the things in the image.", "List the objects that you see.", "Which shapes are in the picture?")
EXISTS = (
    "Is there {a} in the image?",
    "Do you see {a} in the picture?",
    "Does the image show {a}?",
    "Can you find {a} here?",
    "Is {a} in this picture?",
    "Look at the image. Is there {a}?",
)
EXPLAIN_RIGHT = (
    "Explain why. Include any necessary facts or knowledge.",
    "Why is this answer right? Include any facts that are needed.",
    "Explain the reasons for this answer, with all necessary facts.",
)
EXPLAIN_WRONG = (
    "Explain why this answer is wrong: {answer} Include any necessary facts or knowledge.",
    "Why would this answer be wrong: {answer} Include any facts that are needed.",
    "Someone answered: {answer} Explain why that is wrong, with all necessary facts.",
)


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question with its right answer, a confusing one, and the reasons for and against them (REVERIE's record).

    polarity and manipulation are LRV-Instruction's: a negative question supposes something that is not so.
    """

    task: str
    question: str
    answer: str
    confusing: str
    why: str
    why_not: str
    polarity: Polarity = "positive"
    manipulation: Manipulation | None = None


def article(noun: str) -> str:
    """The noun with its indefinite article.

    >>> article("orange arrow"), article("ring")
    ('an orange arrow', 'a ring')
    """
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def plural(shape: str) -> str:
    """The plural.

    >>> plural("cross"), plural("star")
    ('crosses', 'stars')
    """
    return shape + ("es" if shape.endswith("s") else "s")


def join(parts: Sequence[str]) -> str:
    """The parts as a list in a sentence.

    >>> join(["a ring", "a star", "two moons"])
    'a ring, a star and two moons'
    """
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def capital(text: str) -> str:
    return text[0].upper() + text[1:]


def groups(things: Sequence[Thing]) -> list[list[Thing]]:
    """Twins together, everything else alone, in reading order of the first of each."""
    found: dict[tuple[str, str, str], list[Thing]] = {}
    for thing in sorted(things, key=lambda thing: thing.place):
        found.setdefault((thing.shape, thing.colour, thing.size), []).append(thing)
    return list(found.values())


def phrase(group: Sequence[Thing], *, size: bool = True, colour: bool = True) -> str:
    """A noun phrase for one thing or for twins.

    >>> phrase([Thing("star", "blue", "small", 0)]), phrase([Thing("star", "blue", "small", i) for i in (0, 4)], size=False)
    ('a small blue star', 'two blue stars')
    """
    thing = group[0]
    words = [thing.size] * size + [thing.colour] * colour
    if len(group) == 1:
        return article(" ".join([*words, thing.shape]))
    return " ".join([_NUMBER[len(group)], *words, plural(thing.shape)])


def where(group: Sequence[Thing]) -> str:
    return join([PLACES[thing.place] for thing in group])


def _inventory(things: Sequence[Thing], *, size: bool, place: bool) -> str:
    return join([phrase(g, size=size) + (f" {where(g)}" if place else "") for g in groups(things)])


def caption_full(things: Sequence[Thing], rng: Random) -> str:
    """Every thing with its size, colour and place."""
    if rng.random() < 0.5:
        lead = rng.choice(("The image shows {}.", "There is {}.", "In the picture I see {}."))
        return lead.format(_inventory(things, size=True, place=True))
    return " ".join(
        f"{capital(phrase(g))} is {where(g)}." if len(g) == 1 else f"{capital(phrase(g))} are {where(g)}."
        for g in groups(things)
    )


def caption_short(things: Sequence[Thing], rng: Random) -> str:
    lead = rng.choice(("The image shows {}.", "There is {}.", "I see {}."))
    return lead.format(_inventory(things, size=False, place=False))


def caption_names(things: Sequence[Thing], rng: Random) -> str:
    names = join([phrase(g, size=False, colour=False) for g in groups(things)])
    return (
        rng.choice(("{}.", "I see {}.", "There is {}.")).format(names) if rng.random() < 0.5 else capital(names) + "."
    )


def describe(things: Sequence[Thing], rng: Random) -> tuple[str, str, str]:
    """(task, prompt, caption) in one of three degrees of detail."""
    kind = rng.choice(("full", "full", "short", "names"))
    if kind == "full":
        return "caption-full", rng.choice(DESCRIBE_FULL), caption_full(things, rng)
    if kind == "short":
        return "caption-short", rng.choice(DESCRIBE_SHORT), caption_short(things, rng)
    return "caption-names", rng.choice(DESCRIBE_NAMES), caption_names(things, rng)


def yes(shape: str, rng: Random) -> str:
    return rng.choice(("Yes.", "Yes.", f"Yes, there is {article(shape)}."))


def no(shape: str, rng: Random) -> str:
    return rng.choice(("No.", "No.", f"No, there is no {shape}."))


def exists(scene: Scene, shape: str, rng: Random) -> Exchange:
    """Is there such a thing? Asked of an absent shape, it is LRV's nonexistent object manipulation."""
    question = rng.choice(EXISTS).format(a=article(shape))
    here = scene.of(shape)
    if here:
        seen = rng.choice(("{} is {}.", "I looked and found {} {}.", "There is {} {}."))
        why = capital(seen.format(phrase(here), where(here)))
        if len(here) > 1:
            why = capital(f"{phrase(here)} are {where(here)}.")
        why_not = (
            rng.choice((f"There is {article(shape)}: ", "That overlooks a thing in the picture: "))
            + f"{phrase(here)} {where(here)}."
        )
        return Exchange("exists", question, yes(shape, rng), no(shape, rng), why, why_not)
    others = _inventory(scene.things, size=False, place=False)
    why = rng.choice(
        (f"The picture shows {others}. None of them is {article(shape)}.", f"I see only {others}, and no {shape}.")
    )
    why_not = _why_no_companion(scene, shape, others, rng)
    return Exchange("exists", question, no(shape, rng), yes(shape, rng), why, why_not, "negative", "nonexistent")


def _why_no_companion(scene: Scene, shape: str, others: str, rng: Random) -> str:
    """Why a yes to an absent shape is wrong; where its companion is there, the habit is named as the cause."""
    companion = scene.of(COMPANION[shape])
    if companion and rng.random() < 0.7:
        return (
            f"{capital(article(shape))} often stands beside {article(COMPANION[shape])}, and {phrase(companion)} is "
            f"{where(companion)}, but no {shape} is in the picture."
        )
    return rng.choice(
        (f"There is no {shape} anywhere. The things here are {others}.", f"No {shape} is to be seen among {others}.")
    )


def at_place(scene: Scene, place: int, rng: Random) -> Exchange:
    question = rng.choice(("What is {}?", "What do you see {}?", "What stands {} of the image?")).format(PLACES[place])
    thing = next((thing for thing in scene.things if thing.place == place), None)
    wrong = _other_thing(scene, thing, rng)
    if thing is None:
        why = f"The things are {_inventory(scene.things, size=False, place=True)}, so that place is empty."
        return Exchange(
            "place",
            question,
            "Nothing.",
            capital(phrase([wrong])) + ".",
            why,
            f"Nothing is {PLACES[place]}, and no {wrong.colour} {wrong.shape} stands there.",
            "negative",
            "nonexistent",
        )
    why = f"The shape {PLACES[place]} is {article(thing.shape)}, it is {thing.size} and {thing.colour}."
    why_not = f"The thing {PLACES[place]} is not {article(wrong.shape)} but {phrase([thing])}."
    return Exchange("place", question, capital(phrase([thing])) + ".", capital(phrase([wrong])) + ".", why, why_not)


def _other_thing(scene: Scene, thing: Thing | None, rng: Random) -> Thing:
    """A thing that is not at that place: mostly the companion of what is there, which a prior would name."""
    if thing is not None and rng.random() < 0.6:
        return Thing(COMPANION[thing.shape], rng.choice(COLOURS), rng.choice(SIZES), thing.place)
    shape = rng.choice([shape for shape in SHAPES if thing is None or shape != thing.shape])
    return Thing(shape, rng.choice(COLOURS), rng.choice(SIZES), 0)


def where_is(scene: Scene, shape: str, rng: Random) -> Exchange:
    here = scene.of(shape)
    question = rng.choice(("Where is the {}?", "In which place is the {}?", "Where do you see the {}?")).format(shape)
    if not here:
        others = _inventory(scene.things, size=False, place=True)
        return Exchange(
            "where",
            question,
            rng.choice((f"There is no {shape} in the image.", f"I see no {shape} here.")),
            capital(PLACES[rng.randrange(9)]) + ".",
            f"The picture holds {others}, and no {shape}.",
            _why_no_companion(scene, shape, _inventory(scene.things, size=False, place=False), rng),
            "negative",
            "nonexistent",
        )
    wrong = rng.choice([p for p in range(9) if all(thing.place != p for thing in here)])
    why = capital(f"{phrase(here)} {'is' if len(here) == 1 else 'are'} {where(here)}.")
    return Exchange(
        "where",
        question,
        capital(where(here)) + ".",
        capital(PLACES[wrong]) + ".",
        why,
        f"The {shape} is {where(here)}, not {PLACES[wrong]}.",
    )


def colour_of(scene: Scene, shape: str, rng: Random) -> Exchange:
    thing = scene.of(shape)[0]
    question = rng.choice(("What colour is the {}?", "Which colour does the {} have?")).format(shape)
    wrong = rng.choice([colour for colour in COLOURS if colour != thing.colour])
    return Exchange(
        "colour",
        question,
        capital(thing.colour) + ".",
        capital(wrong) + ".",
        f"The {shape} {PLACES[thing.place]} is filled with {thing.colour}.",
        f"The {shape} {PLACES[thing.place]} is {thing.colour}, not {wrong}.",
    )


def size_of(scene: Scene, shape: str, rng: Random) -> Exchange:
    thing = scene.of(shape)[0]
    wrong = SIZES[1 - SIZES.index(thing.size)]
    question = rng.choice(("Is the {} small or large?", "What size is the {}?")).format(shape)
    fills = "little of" if thing.size == "small" else "most of"
    return Exchange(
        "size",
        question,
        capital(thing.size) + ".",
        capital(wrong) + ".",
        f"The {shape} {PLACES[thing.place]} fills {fills} its place.",
        f"The {shape} fills {fills} its place, so it is {thing.size}.",
    )


def count_of(scene: Scene, shape: str, rng: Random) -> Exchange:
    here = scene.of(shape)
    question = rng.choice(("How many {} are there?", "How many {} do you see?")).format(plural(shape))
    number = len(here)
    wrong = rng.choice([n for n in range(3) if n != number])
    if not here:
        others = _inventory(scene.things, size=False, place=False)
        return Exchange(
            "count",
            question,
            "None.",
            "One.",
            f"The picture shows {others}, and no {shape}.",
            _why_no_companion(scene, shape, others, rng),
            "negative",
            "nonexistent",
        )
    why = capital(f"{phrase(here)} {'is' if number == 1 else 'are'} {where(here)}, and no other.")
    return Exchange(
        "count",
        question,
        capital(_NUMBER[number]) + ".",
        capital(_NUMBER[wrong] if wrong else "none") + ".",
        why,
        f"I count {_NUMBER[number]}: {phrase(here)} {where(here)}.",
    )


def is_colour(scene: Scene, shape: str, rng: Random, *, truly: bool) -> Exchange:
    """Is the thing of that colour? Asked with a wrong colour, it is LRV's existent object manipulation."""
    thing = scene.of(shape)[0]
    named = thing.colour if truly else rng.choice([colour for colour in COLOURS if colour != thing.colour])
    question = rng.choice(("Is the {} {}?", "Does the image show the {} in {}?")).format(shape, named)
    why = f"The {shape} {PLACES[thing.place]} is {thing.colour}."
    if truly:
        return Exchange("is-colour", question, "Yes.", f"No, the {shape} is not {named}.", why, why)
    return Exchange(
        "is-colour",
        question,
        f"No, the {shape} is {thing.colour}.",
        f"Yes, the {shape} is {named}.",
        why,
        f"The {shape} is {thing.colour} and not {named}.",
        "negative",
        "existent",
    )


def _relations(a: Thing, b: Thing) -> list[str]:
    """How a stands to b; left, right, above and below by row and column."""
    (row_a, column_a), (row_b, column_b) = divmod(a.place, 3), divmod(b.place, 3)
    found = []
    if column_a != column_b:
        found.append("to the left of" if column_a < column_b else "to the right of")
    if row_a != row_b:
        found.append("above" if row_a < row_b else "below")
    return found


_OPPOSITE = {
    "to the left of": "to the right of",
    "to the right of": "to the left of",
    "above": "below",
    "below": "above",
}


def relation(scene: Scene, rng: Random, *, truly: bool) -> Exchange | None:
    """Is one thing left, right, above or below another? None where no two shapes stand alone of their kind."""
    single = [thing for thing in scene.things if len(scene.of(thing.shape)) == 1]
    if len(single) < 2:
        return None
    a, b = rng.sample(single, 2)
    true = rng.choice(_relations(a, b))
    named = true if truly else _OPPOSITE[true]
    question = rng.choice(("Is the {} {} the {}?", "Does the {} stand {} the {}?")).format(a.shape, named, b.shape)
    why = f"The {a.shape} is {PLACES[a.place]} and the {b.shape} is {PLACES[b.place]}."
    wrong = rng.choice(("Yes.", f"Yes, the {a.shape} is {named} the {b.shape}."))
    right = f"No, the {a.shape} is {true} the {b.shape}."
    if truly:
        return Exchange("relation", question, "Yes.", "No.", why, why)
    return Exchange("relation", question, right, wrong, why, why, "negative", "existent")
