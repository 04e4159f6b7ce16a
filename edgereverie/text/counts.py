"""Counts: "three dogs", "a pair of shoes", "at least 13 people", "two of the men"."""

from __future__ import annotations

from edgereverie.text.assertions import Assertion, assertion, is_many, one_of
from edgereverie.text.english import NUMERALS, PLURAL_ONLY, plural, words_of
from edgereverie.text.noun_phrases import Phrase, Word
from edgereverie.text.nouns import MEASURES
from edgereverie.text.statements import there_are

_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
).split()
_TENS = {"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "dozen": 12, "hundred": 100}
_PAIRS = words_of("pair couple")
_VAGUE = words_of("about around approximately nearly almost roughly over under like some than of")
_MORE = words_of("other more additional different separate smaller larger main types kinds")


def number_of(word: str) -> int | None:
    """
    >>> number_of("three"), number_of("13"), number_of("dozen"), number_of("many")
    (3, 13, 12, None)
    """
    if word.isdigit():
        return int(word)
    return _WORDS.index(word) if word in _WORDS else _TENS.get(word)


def numeral(number: int) -> str:
    """The number as running text writes it.

    >>> numeral(3), numeral(13), numeral(140)
    ('three', 'thirteen', '140')
    """
    return _WORDS[number] if number < len(_WORDS) else str(number)


def counted(text: str, words: list[Word], phrase: Phrase) -> Assertion | None:
    """How many a phrase says there are, where it says so; about fifty, two other and one are no such claim."""
    head = words[phrase.last - 1].text
    if head in PLURAL_ONLY or not (is_many(words, phrase) or plural(head) == head):
        return None
    found = _number(words, phrase)
    if found is None:
        return None
    at, number, least = found
    value = f"at least {numeral(number)}" if least else numeral(number)
    begin = at - 2 if least and words[at - 1].text == "least" else at
    clause = there_are(value, one_of(words, phrase))
    return assertion(text, words, "count", (begin, at + 1), clause, phrase.subject, [at, phrase.last - 1], value=value)


def counted_one(text: str, words: list[Word], phrase: Phrase) -> Assertion | None:
    """That there is only one, or one where somebody asked how many."""
    at = phrase.first
    if words[at].text not in ("one", "1", "single"):
        return None
    clause = there_are("one", one_of(words, phrase))
    return assertion(text, words, "count", (at, at + 1), clause, phrase.subject, [at, phrase.last - 1], value="one")


def _number(words: list[Word], phrase: Phrase) -> tuple[int, int, bool] | None:
    """Where the number stands, which it is, and whether it is the least."""
    for at in range(phrase.first, phrase.last - 1):
        word = words[at].text
        if word in _PAIRS and at + 1 < phrase.last and words[at + 1].text == "of":
            return at, 2, False
        if not (word.isdigit() or word in NUMERALS) or word == "one":
            continue
        number = number_of(word)
        before = words[at - 1].text if at else ""
        if before == "of" and at > 1 and words[at - 2].text in MEASURES:
            before = ""  # a group of five people
        if number is None or number < 2 or before in _VAGUE or words[at + 1].text in _MORE | NUMERALS:
            return None
        return at, number, before == "least"
    if phrase.first > 1 and words[phrase.first - 1].text == "of" and words[phrase.first].text in ("the", "these"):
        number = number_of(words[phrase.first - 2].text)
        if number is not None and number > 1:
            return phrase.first - 2, number, True
    return None
