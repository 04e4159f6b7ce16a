"""What "it", "they", "he" and "she" stand for: the only thing before them that fits, or nothing."""

from __future__ import annotations

from edgereverie.text.assertions import Thing, thing
from edgereverie.text.attachment import owners_of
from edgereverie.text.english import words_of
from edgereverie.text.noun_phrases import Sentence

PRONOUNS = words_of("it he she they")
# Whom "he" and "she" may stand for, beside words in -er and -man; nothing else is decided by these words.
_PEOPLE = words_of(
    "man woman boy girl person child lady gentleman guy player skier surfer rider skateboarder snowboarder kid toddler "
    "baby batter pitcher catcher chef worker driver officer bride groom skater boarder individual adult teenager surfer"
)


def topics_of(sentence: Sentence, before: int | None = None) -> list[Thing]:
    """What pronouns in what follows can stand for: the things that a sentence brings in by themselves."""
    words, phrases = sentence.words, sentence.phrases
    stop = len(words) if before is None else before
    return [
        thing(words, phrase)
        for phrase, owner in zip(phrases, owners_of(words, phrases), strict=True)
        if phrase.claimed and phrase.last <= stop and (owner is None or not phrases[owner].thing)
    ]


def last_topics(earlier: list[Sentence], topic: Thing | None) -> list[Thing]:
    """Of the last sentence that brought something in, or else what the question was about."""
    for sentence in reversed(earlier):
        if found := topics_of(sentence):
            return found
    return [topic] if topic else []


def meant(pronoun: str, here: list[Thing], earlier: list[Thing]) -> Thing | None:
    """The only thing that a pronoun can stand for, in its own sentence or else in the one before; None where it is unclear."""
    for things in (here, earlier):
        fitting = [held for held in things if _fits(pronoun, held)]
        if fitting:
            return fitting[0] if len({held.subject for held in fitting}) == 1 else None
    return None


def _fits(pronoun: str, held: Thing) -> bool:
    if pronoun == "they" or held.many:
        return held.many and pronoun == "they"
    return (held.subject in _PEOPLE or held.subject.endswith("man")) == (pronoun in ("he", "she"))
