"""What an answer claims about a picture, given what was asked: things, attributes, counts, places and relations.

Found by the grammar of the text, never by a list of objects, so the same rules read drawn shapes and photographs. The rules
prefer missing a claim over inventing one; what is only supposed, and opinions, are no claims.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache

from edgereverie.text.asking import Asked, asked, asked_object, particle
from edgereverie.text.assertions import Assertion, assertion
from edgereverie.text.attributes import attribute, described
from edgereverie.text.counts import number_of, numeral
from edgereverie.text.describing import SUBSTANCES
from edgereverie.text.english import with_article
from edgereverie.text.noun_phrases import Word, sentences, words_in
from edgereverie.text.places import Place, place_at
from edgereverie.text.positions import placed
from edgereverie.text.reading import read, said_of
from edgereverie.text.statements import Clause, there_are, there_is


def claims(question: str, answer: str) -> list[Assertion]:
    """Everything that ``answer`` claims, in reading order; short answers claim what the question leaves open.

    >>> [claim.statement for claim in claims("Is the ring red?", "No, it is blue.")]
    ['The ring is not red.', 'The ring is blue.']
    >>> [claim.statement for claim in claims("How many stars are there?", "Two.")]
    ['There are two stars.']
    >>> [claim.statement for claim in claims("Describe it.", "A cat sleeps under the old table.")]
    ['There is a cat.', 'The cat sleeps under the table.', 'There is a table.', 'The table is old.']
    """
    what = asked(question)
    found = [claim for claim in read(answer, what.thing if what else None) if _is_sound(claim)]
    if (where := particle(answer)) is not None:
        return _yes_or_no(question, answer, where, what, found)
    if what is None:
        return found
    short = _short(answer, what)
    if any(claim.kind == "attribute" for claim in short):  # glass: what it is made of, and no second thing
        return short
    return sorted([*short, *found], key=lambda claim: claim.start)


_NONE = re.compile(r"There (is|are) (no|not) (.+)\.")


@lru_cache(maxsize=1 << 15)
def stated(statement: str) -> Assertion:
    """The claim that a statement makes: the inverse of ``Assertion.statement``.

    Raises ValueError for a text that claims nothing.

    >>> stated("The dogs are brown.").question, stated("There is no ring.").present
    ('Are the dogs brown?', False)
    """
    if denial := _NONE.fullmatch(statement):
        be, none, rest = denial.groups()
        return replace(
            stated(f"There {be} {with_article(rest) if none == 'no' and be == 'is' else rest}."), present=False
        )
    found = read(statement)
    if not found:
        raise ValueError(f"{statement!r} is no statement of a claim")
    if same := next((claim for claim in found if claim.statement == statement), None):
        return same
    if statement.startswith("There is a") and (claim := _there(statement, found)):
        return claim
    return found[-1]


def _there(statement: str, found: list[Assertion]) -> Assertion | None:
    """There is a ring at the left: one of perhaps several. There is a small red ring: a thing that is as described."""
    rest = statement.removeprefix("There is ").removesuffix(".")
    if found[-1].kind == "position":
        return replace(found[-1], clause=Clause("there", rest, tail=" of the image"))
    if found[0].kind == "object" and found[0].text == rest:
        return replace(found[0], subject=rest.split(" ", 1)[1], clause=there_is(rest.split(" ", 1)[1]))
    return None


def _is_sound(claim: Assertion) -> bool:
    """Whether the claim's statement reads as the claim again; one that does not was misread."""
    try:
        return stated(claim.statement).key == claim.key
    except ValueError:
        return False


def _yes_or_no(
    question: str, answer: str, where: tuple[int, int], what: Asked | None, found: list[Assertion]
) -> list[Assertion]:
    """A bare yes or no claims what was asked, unless the answer says it again in words after a yes."""
    said = answer[slice(*where)]
    about = what.claims[0] if what and what.claims else _existence(question)
    if about is None:
        return found
    present = said.lower() == "yes"
    head = about.subject.split()[-1]
    bare = replace(about, text=said, start=where[0], end=where[1], content=(where,), present=present)
    same_thing = [claim for claim in found if about.kind == claim.kind == "object" and claim.subject == head]
    restated = same_thing or [claim for claim in found if claim.key == bare.key]
    if present and restated:
        return found
    return [bare, *(claim for claim in found if claim not in restated or claim.present)]


def _existence(question: str) -> Assertion | None:
    """That the thing is there whose existence is asked, with what describes it."""
    there = asked_object(question)
    if there is None:
        return None
    return Assertion("object", "", 0, 0, there.subject, there_is(there.subject))


def _short(answer: str, what: Asked) -> list[Assertion]:
    """What an answer of a few words claims, that is a sentence only with its question."""
    words = [word for word in words_in(answer, 0, len(answer)) if word.text != "."]
    if what.kind == "what" and what.place is not None:
        return _standing(answer, *what.place)
    if not words or what.thing is None or len(words) > 12:
        return []
    if what.kind == "count":
        return _number(answer, words, what)
    if what.kind == "attribute":
        if len(words) == 1 and words[0].text in SUBSTANCES:
            return [attribute(answer, words, what.thing, (0, 1), of=words[0].text)]
        end = described(words, 0, len(words))
        return [attribute(answer, words, what.thing, (0, end))] if end and end == len(words) else []
    if what.kind == "where":
        return said_of(answer, what.thing)
    return []


def _number(answer: str, words: list[Word], what: Asked) -> list[Assertion]:
    """So many, or none; "there are two" with nothing behind it is as short an answer as "two"."""
    assert what.thing is not None
    at = 2 if len(words) > 2 and words[0].text == "there" else 0
    if at + 1 < len(words) and words[at + 1].text not in ("of", ","):
        return []
    if words[at].text in ("none", "zero", "0"):
        clause = there_is(what.thing.one)
        return [assertion(answer, words, "object", (at, at + 1), clause, what.thing.subject, [at], present=False)]
    number = number_of(words[at].text)
    if number is None:
        return []
    value = numeral(number)
    clause = there_are(value, what.thing.one)
    return [assertion(answer, words, "count", (at, at + 1), clause, what.thing.subject, [at], value=value)]


def _standing(answer: str, told: list[Word], place: Place) -> list[Assertion]:
    """What stands at the place that was asked about: the first thing that the answer names, unless it names its place."""
    for sentence in sentences(answer):
        for phrase in sentence.phrases:
            if not phrase.claimed:
                return []
            after = place_at(sentence.words, phrase.last)
            if after is not None or any(word.text in ("is", "are") for word in sentence.words):
                return []
            return [placed(answer, sentence.words, phrase, told, place)]
    return []
