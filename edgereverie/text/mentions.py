"""Which things an answer claims to be in the picture."""

from __future__ import annotations

from dataclasses import dataclass

from edgereverie.text.noun_phrases import Phrase, Word, sentences


@dataclass(frozen=True, slots=True)
class Mention:
    """A thing that ``text``, standing at ``[start:end]`` of the answer, claims to be there.

    subject: the thing in its dictionary form, one word or a fixed compound.
    """

    text: str
    start: int
    end: int
    subject: str


def mentions(text: str) -> list[Mention]:
    """The things that a text claims to be there, in reading order.

    Left out: places and other abstractions, pronouns, and what a sentence denies or only supposes.

    >>> [m.subject for m in mentions("There is a small red circle at the left and two dogs, but no star.")]
    ['circle', 'dog']
    >>> [m.text for m in mentions("A man with a black hat is riding a horse in the background.")]
    ['A man', 'a black hat', 'a horse']
    """
    found = []
    for sentence in sentences(text):
        for phrase in sentence.phrases:
            if phrase.claimed:
                start, end = span(sentence.words, phrase)
                found.append(Mention(text[start:end], start, end, phrase.subject))
    return found


def span(words: list[Word], phrase: Phrase) -> tuple[int, int]:
    """Where a phrase stands in the text; a possessive 's belongs to the owner."""
    first = phrase.first + (words[phrase.first].text == "'s")
    return words[first].start, words[phrase.last - 1].end
