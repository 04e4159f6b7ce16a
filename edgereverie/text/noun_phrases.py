"""Sentences as words and noun phrases, found by the grammar around them: determiners, numbers, plurals, lists.

No list of objects takes part, so the same rules read drawn shapes and photographs. They prefer missing a phrase over
inventing one.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from edgereverie.text.denial import denied, is_absent, is_doubted
from edgereverie.text.english import (
    DETERMINERS,
    FUNCTION_WORDS,
    PLURAL_ONLY,
    POSTPOSITIVE,
    PREPOSITIONS,
    SINGULAR_DETERMINERS,
    VERBS_BASE,
    VERBS_S,
    is_adjective,
    is_adverb,
    is_noun_too,
    is_plural,
    is_verbal,
    singular,
    words_of,
)
from edgereverie.text.nouns import ABSTRACT, COMPOUNDS, MEASURES


class Word(NamedTuple):
    """A word or punctuation mark in lower case, standing at ``text[start:end]``."""

    text: str
    start: int
    end: int


class Phrase(NamedTuple):
    """A noun phrase: words[first:last], its determiners before ``content``, its head at ``last - 1``.

    subject: the head in its dictionary form, or a fixed compound. thing: something that one could see or fail to see.
    denied: the sentence does not say that it is there. absent: it says that there is none. doubted: it only supposes it.
    """

    first: int
    content: int
    last: int
    subject: str = ""
    thing: bool = True
    denied: bool = False
    absent: bool = False
    doubted: bool = False

    @property
    def claimed(self) -> bool:
        return self.thing and not self.denied and not self.doubted


class Sentence(NamedTuple):
    """``text[start:end]``, read."""

    start: int
    end: int
    words: list[Word]
    phrases: list[Phrase]


_TAKES_BARE = words_of("eating drinking holding wearing serving eats drinks holds wears")
_KEEPS_PLURAL_FIRST = words_of("sports clothes news glasses")
_VERBS = (VERBS_S | VERBS_BASE) - PLURAL_ONLY
_BE = words_of("is are was were")
_CLOSERS = frozenset({",", ".", ";"}) | FUNCTION_WORDS | _VERBS
_NO_NAME = FUNCTION_WORDS | DETERMINERS | VERBS_S | ABSTRACT
_TOKEN = re.compile(r"[A-Za-zÀ-ÖØ-öø-ÿ]+n['’]t\b|['’]s\b|[A-Za-zÀ-ÖØ-öø-ÿ]+(?:-[A-Za-zÀ-ÖØ-öø-ÿ]+)*|\d+|[^\w\s]")
_DETERMINERS_MOST = 6  # one after another; any longer row of them is no phrase
SENTENCE = re.compile(r"[^.!?\n]+[.!?\n]*")


def sentences(text: str) -> list[Sentence]:
    """The sentences of a text, with the noun phrases of each in reading order."""
    found = []
    for match in SENTENCE.finditer(text):
        words = words_in(text, match.start(), match.end())
        found.append(Sentence(match.start(), match.end(), words, _phrases(text, words)))
    return found


def words_in(text: str, start: int, end: int) -> list[Word]:
    """Words and marks of ``text[start:end]``."""
    return [
        Word(match.group().lower().replace("’", "'"), match.start(), match.end())
        for match in _TOKEN.finditer(text, start, end)
    ]


def phrase_at(words: list[Word], at: int) -> Phrase | None:
    """The noun phrase that begins at ``at``, or None. A measure and its "of" belong to the phrase: a group of people."""
    first = at
    while at < min(len(words), first + _DETERMINERS_MOST) and is_determiner(words, at):
        at += 1
    content, last = at, _noun_end(words, at)
    if last is None:
        return None
    if words[last - 1].text in MEASURES and last < len(words) and words[last].text == "of":
        inner = phrase_at(words, last + 1)
        return (
            None if inner is None else inner._replace(first=first, content=inner.content if content > first else first)
        )
    return Phrase(first, content, last, _subject(words, content, last, content > first))


def noun_start(words: list[Word], phrase: Phrase) -> int:
    """Where the noun with the nouns before it begins: the clock tower, of a tall old clock tower.

    >>> words = words_in("a tall old clock tower", 0, 22)
    >>> noun_start(words, phrase_at(words, 0))
    3
    """
    at = phrase.last - 1
    pair = phrase.subject.count(" ")
    while at > phrase.content and (pair > 0 or _is_noun(words[at - 1].text)):
        at, pair = at - 1, pair - 1
    return at


def is_determiner(words: list[Word], at: int) -> bool:
    word = words[at].text
    if word == "'s":
        return at > 0 and words[at - 1].text not in FUNCTION_WORDS
    return word in DETERMINERS or word.isdigit()


def _is_noun(word: str) -> bool:
    return word[0].isalpha() and not (
        is_adjective(word) or is_adverb(word) or is_verbal(word) or word in FUNCTION_WORDS or word in DETERMINERS
    )


def _phrases(text: str, words: list[Word]) -> list[Phrase]:
    found: list[Phrase] = []
    bare_list = _is_bare_list(words)
    before: Phrase | None = None
    at = 0
    while at < len(words):
        phrase = phrase_at(words, at)
        if phrase is None:
            at += 1
            continue
        at = phrase.last
        head, bare = words[phrase.last - 1].text, phrase.content == phrase.first
        if bare and before is not None and before.last == phrase.first:
            # A noun phrase cannot follow another without a word between: this begins with a verb (wearing hats, chases).
            before, at = None, phrase.first + 1
            continue
        if bare and (found or words[phrase.first - 1].text in _BE) and _is_done(words, phrase.first):
            before, at = None, phrase.first + 1
            continue
        if bare and not (is_plural(head) or bare_list or _may_be_bare(words, phrase, before)):
            continue
        before = _judged(text, words, phrase, before)
        found.append(before)
    return found


def _is_done(words: list[Word], at: int) -> bool:
    """Whether the word at ``at`` is what somebody is doing: people are riding bicycles."""
    if at < 2 or not words[at].text.endswith("ing") or not is_verbal(words[at].text):
        return False
    before = words[at - 1].text
    return before in (",", "and", "while") or (before in _BE and words[at - 2].text != "there")


def _judged(text: str, words: list[Word], phrase: Phrase, before: Phrase | None) -> Phrase:
    """The phrase with what its sentence says about its being there."""
    last = None if before is None else (before.last, before.denied)
    is_denied = denied(text, words, phrase, last)
    absent = is_denied and is_absent(text, words, phrase, before)
    return phrase._replace(
        thing=phrase.subject not in ABSTRACT and len(phrase.subject) > 1,
        denied=is_denied,
        absent=absent,
        doubted=is_doubted(words, phrase.first),
    )


def _noun_end(words: list[Word], at: int) -> int | None:
    """One past the head of the noun phrase whose descriptive words begin at ``at``; None when there is no head."""
    begin, head = at, None
    one, determined = at > 0 and words[at - 1].text in SINGULAR_DETERMINERS, at > 0 and is_determiner(words, at - 1)
    while at < len(words):
        word = words[at].text
        if word == "and" and head is None and at > begin and at + 1 < len(words) and is_adjective(words[at + 1].text):
            at += 1  # a black and white cat
            continue
        if word == "," and head is None and at > begin and determined and _describes(words, at - 1, at + 1):
            at += 1  # a large, colourful umbrella
            continue
        if not word[0].isalpha() or word in FUNCTION_WORDS or is_determiner(words, at) or word == "no":
            break
        following = words[at + 1].text if at + 1 < len(words) else ""
        if head is not None and _ends_phrase(words[head].text, word, following, one=one, bare=not determined):
            break
        if at == begin > 0 and not determined and word in _VERBS and words[at - 1].text not in PREPOSITIONS:
            return None
        if head is None and at > begin and _shines(words, at, begin) and following not in _BE:
            break
        if not (is_adjective(word) or is_adverb(word) or (is_verbal(word) and head is None)):
            head = at
        at += 1
    if head is None and at > begin and is_noun_too(words[at - 1].text):
        head = at - 1
    if head is not None and head + 1 < at and is_noun_too(words[at - 1].text):
        head = at - 1
    return None if head is None else head + 1


def _describes(words: list[Word], *places: int) -> bool:
    """Whether all these are adjectives, and a noun can still follow."""
    return places[-1] + 1 < len(words) and all(is_adjective(words[at].text) for at in places)


def _shines(words: list[Word], at: int, begin: int) -> bool:
    """Whether the word at ``at`` is a verb behind an adjective that is a noun there: the light shines."""
    return words[at].text in VERBS_S and is_noun_too(words[at - 1].text) and words[begin - 1].text in ("the", "a", "an")


def _ends_phrase(noun: str, word: str, following: str, *, one: bool, bare: bool) -> bool:
    """Whether ``word``, standing after ``noun``, is a verb or describes it from behind, not the next part of a compound.

    one: the determiner allows one thing only. bare: there is no determiner.
    """
    if is_verbal(word) or is_adverb(word) or word in POSTPOSITIVE or word in VERBS_S:
        return True
    if is_plural(noun) and noun not in _KEEPS_PLURAL_FIRST:
        return True
    if bare and word in VERBS_BASE:
        return True
    return is_plural(word) and word.endswith("s") and (one or following in DETERMINERS)


def _subject(words: list[Word], content: int, last: int, determined: bool) -> str:
    head = words[last - 1].text
    one = determined and words[content - 1].text in SINGULAR_DETERMINERS
    noun = head if one and not is_plural(head) else singular(head)
    if last - 1 > content and (pair := f"{words[last - 2].text} {noun}") in COMPOUNDS:
        return pair
    return noun


def _may_be_bare(words: list[Word], phrase: Phrase, before: Phrase | None) -> bool:
    """Whether a singular noun without determiner is a thing: in a list (a fork and knife), after "of", after eating."""
    if phrase.first == 0:
        return False
    if words[phrase.first - 1].text in _TAKES_BARE:
        return True
    if before is None:
        return False
    between = [word.text for word in words[before.last : phrase.first]]
    if between == ["of"]:
        return True
    closes = phrase.last == len(words) or words[phrase.last].text in _CLOSERS
    return closes and between in (["and"], ["or"], [","], [",", "and"], [",", "or"])


def _is_bare_list(words: list[Word]) -> bool:
    """Whether a sentence is nothing but names: "Star, ring and moon." or "Dog."."""
    names = longest = 0
    for index, word in enumerate(words):
        text = word.text
        if text in {"and", ",", "."}:
            longest = 0
            continue
        if not text[0].isalpha() or text in _NO_NAME:
            return False
        if (is_verbal(text) or is_adverb(text)) and index + 1 == len(words):
            return False
        names, longest = names + 1, longest + 1
        if longest > 3:
            return False
    return names > 0


def word_at(words: list[Word], at: int) -> str:
    """The word at ``at``, or nothing after the end."""
    return words[at].text if at < len(words) else ""
