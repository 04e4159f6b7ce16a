"""Claims of places in the picture, wherever the text names the place: behind the thing, at its head, or in the question."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from edgereverie.text.assertions import Assertion, Thing, assertion, thing
from edgereverie.text.english import with_article, words_of
from edgereverie.text.noun_phrases import Phrase, Sentence, Word, word_at
from edgereverie.text.places import Place, content, place_at
from edgereverie.text.statements import Clause

_INTRODUCES = words_of("is are was were stands sits lies hangs")


def position(text: str, words: list[Word], spoken_of: Thing, place: Place, *, present: bool = True) -> Assertion:
    rest = " ".join(word.text for word in words[place.start : place.end])
    clause = Clause(f"the {spoken_of.noun}", rest, spoken_of.many, tail=" of the image")
    return assertion(
        text, words, "position", (place.start, place.stop), clause, spoken_of.subject, content(words, place),
        value=place.value, present=present, about=spoken_of.where,
    )  # fmt: skip


def one_there(text: str, words: list[Word], spoken_of: Thing, place: Place) -> Assertion:
    rest = " ".join(word.text for word in words[place.start : place.end])
    clause = Clause("there", f"{with_article(spoken_of.one)} {rest}", tail=" of the image")
    return assertion(
        text, words, "position", (place.start, place.stop), clause, spoken_of.subject, content(words, place),
        value=place.value, about=spoken_of.where,
    )  # fmt: skip


def placed(text: str, words: list[Word], phrase: Phrase, told: list[Word], place: Place) -> Assertion:
    """That a phrase's thing stands at a place that other words told: the question's."""
    said = position("", told, thing(words, phrase), place._replace(stop=place.end))
    start, end = words[phrase.first].start, words[phrase.last - 1].end
    head = words[phrase.last - 1]
    return replace(said, text=text[start:end], start=start, end=end, content=((head.start, head.end),))


def leading_place(text: str, sentence: Sentence) -> Iterator[Assertion]:
    """A place that opens a clause belongs to what the clause brings in: In the background, there are a dog and a cat."""
    words, phrases = sentence.words, sentence.phrases
    for at in range(len(words)):
        if at and words[at - 1].text not in (",", "and", ";", "while"):
            continue
        place = place_at(words, at)
        if place is None or place.of:
            continue
        first = _brought_in(words, place.stop)
        if at and words[at - 1].text != ";" and words[first - 1].text in (",", "and"):
            continue  # two arrows at the left and at the bottom, a star ...
        index = next((i for i, phrase in enumerate(phrases) if phrase.first == first), None)
        if index is None or first == place.stop:
            continue
        while index < len(phrases) and phrases[index].claimed:
            yield position(text, words, thing(words, phrases[index]), place)
            index += 1
            if index == len(phrases) or not _listed(words, phrases[index - 1], phrases[index]):
                break


def _brought_in(words: list[Word], at: int) -> int:
    """Where what is brought in begins, after a comma, "there is", "we can see" or a verb."""
    if word_at(words, at) == ",":
        at += 1
    if word_at(words, at) == "there":
        at += 1
    elif word_at(words, at) in ("we", "you", "i", "one"):
        at += 1
        while word_at(words, at) in ("can", "could", "also", "see"):
            at += 1
    while word_at(words, at) in _INTRODUCES or word_at(words, at) in ("also", "can", "be", "seen"):
        at += 1
    return at


def _listed(words: list[Word], before: Phrase, phrase: Phrase) -> bool:
    return {word.text for word in words[before.last : phrase.first]} <= {",", "and"}
