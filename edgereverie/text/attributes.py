"""Attributes: "a small red ring", "the ring is red", "a vase made of glass"."""

from __future__ import annotations

from collections.abc import Iterator

from edgereverie.text.assertions import Assertion, Thing, assertion, thing
from edgereverie.text.describing import SHADES, SUBSTANCES, is_colour, is_visual
from edgereverie.text.english import (
    DETERMINERS,
    FUNCTION_WORDS,
    VERBS_BASE,
    VERBS_S,
    is_adjective,
    is_adverb,
    is_verbal,
)
from edgereverie.text.noun_phrases import Phrase, Word, noun_start
from edgereverie.text.statements import Clause

_NO_NAME = FUNCTION_WORDS | DETERMINERS | VERBS_S | VERBS_BASE


def before_noun(text: str, words: list[Word], phrase: Phrase) -> Iterator[Assertion]:
    """What the words before a noun say of it. A colour stays with its shade, and two colours of one thing together."""
    stop = noun_start(words, phrase)
    at = phrase.content
    while at < stop:
        end = described(words, at, stop)
        if end == at:
            at += 1
            continue
        yield attribute(text, words, thing(words, phrase), (at, end))
        at = end
    if stop + 1 < phrase.last and words[stop].text in SUBSTANCES:
        head = thing(words, phrase._replace(content=stop + 1))
        yield attribute(text, words, head, (stop, stop + 1), of=words[stop].text)


def described(words: list[Word], at: int, stop: int) -> int:
    """One past the attribute that begins at ``at``; ``at`` itself where none does.

    >>> from edgereverie.text.noun_phrases import words_in
    >>> words = words_in("dark brown and white small", 0, 26)
    >>> described(words, 0, 5), described(words, 4, 5)
    (4, 5)
    """
    end = _colour(words, at, stop)
    if end > at:
        if end + 1 < stop and words[end].text == "and" and (second := _colour(words, end + 1, stop)) > end + 1:
            return second
        return end
    return at + 1 if at < stop and is_visual(words[at].text) else at


def attribute(
    text: str,
    words: list[Word],
    of_what: Thing,
    where: tuple[int, int],
    *,
    present: bool = True,
    of: str = "",
) -> Assertion:
    """That a thing is as words[where[0]:where[1]] say. of: the substance that it is made of."""
    value = f"made of {of}" if of else " ".join(word.text for word in words[where[0] : where[1]])
    clause = Clause(f"the {of_what.noun}", value, of_what.many)
    content = [i for i in range(*where) if words[i].text not in ("and", "made", "of")]
    return assertion(
        text, words, "attribute", where, clause, of_what.subject, content,
        value=value, present=present, about=of_what.where,
    )  # fmt: skip


def predicate(words: list[Word], at: int) -> tuple[int, str] | None:
    """One past the attribute that follows "is" at ``at``, and the substance where it is "made of" one; None for no attribute.

    An adjective before a noun is no attribute of the subject: the rings are red shapes.
    """
    count = len(words)
    if at + 2 < count and words[at].text == "made" and words[at + 1].text == "of" and words[at + 2].text in SUBSTANCES:
        return at + 3, words[at + 2].text
    while at < count and (is_adverb(words[at].text) or words[at].text in ("very", "quite", "rather", "mostly", "all")):
        at += 1
    end = described(words, at, count)
    if end == at:
        return None
    following = words[end].text if end < count else "."
    if following[0].isalpha() and (is_adjective(following) or _is_name(following)):
        return None
    return end, ""


def _is_name(word: str) -> bool:
    return not (word in _NO_NAME or is_verbal(word) or is_adverb(word))


def _colour(words: list[Word], at: int, stop: int) -> int:
    if at < stop and is_colour(words[at].text):
        return at + 1
    return at + 2 if at + 1 < stop and words[at].text in SHADES and is_colour(words[at + 1].text) else at
