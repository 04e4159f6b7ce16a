"""Relations: "a man riding a horse", "a star to the left of the ring", "a cat under the table"."""

from __future__ import annotations

from typing import NamedTuple

from edgereverie.text.assertions import Assertion, Thing, assertion, is_many, noun
from edgereverie.text.english import (
    AUXILIARIES,
    DEFINITE,
    PREPOSITIONS,
    VERBS_BASE,
    VERBS_S,
    is_adverb,
    is_plural,
    is_verbal,
    with_article,
    words_of,
)
from edgereverie.text.noun_phrases import Phrase, Word
from edgereverie.text.statements import Clause, base_form

# Prepositions that tell nothing of two things in a picture, or need a third.
_NO_RELATION = words_of(
    "about during for since per past until till between among amongst like into throughout through near-by of from to up "
    "down out within to round next"
)
_HELPERS = words_of("close closer next far front top the left right bottom middle center centre side edge end back corner to of "
                    "up down out away upright together hand")  # fmt: skip
_PLAIN = PREPOSITIONS - _NO_RELATION
_CLOSING = PREPOSITIONS - words_of("about during for since per until till between among amongst like")
_VERBS = VERBS_S | VERBS_BASE
_SAYS_NOTHING = words_of(
    "shows depicts features contains includes displays captures presents portrays illustrates appears seems looks "
    "suggests indicates adds creates gives makes provides show depict feature contain include display appear seem look "
    "featuring showing depicting including adding creating making providing giving suggesting indicating enjoying "
    "being having doing seen found visible captured gets get allows helps allowing helping according based "
    "consists belongs works remains gathered engaged remaining consisting ranging waiting trying preparing"
)


class Link(NamedTuple):
    """words[start:end] tie a thing to the one that begins at ``end``. verb: its base form, ``be`` where there is none."""

    start: int
    end: int
    verb: str
    words: str


def link(words: list[Word], at: int, stop: int, *, before_determiner: bool) -> Link | None:
    """How words[at:stop], all that stands between two things, relate the first to the second; None where they do not.

    >>> from edgereverie.text.noun_phrases import words_in
    >>> def read(text): return link(words_in(text, 0, len(text)), 0, len(text.split()), before_determiner=True)
    >>> read("riding").words, read("to the left of").words, read("with").verb, read("and")
    ('riding', 'to the left of', 'have', None)
    """
    if at >= stop:
        return None
    held = [word.text for word in words[at:stop]]
    first = held[0]
    if first in _SAYS_NOTHING:
        return None
    if held in (["has"], ["have"], ["with"]):
        return Link(at, stop, "have", "")
    if held in (["left", "of"], ["right", "of"]):
        return Link(at, stop, "be", " ".join(held))
    verb, body = "", held
    if is_verbal(first):
        verb, body = first, held[1:]
    elif first in _VERBS:
        verb, body = base_form(first), held[1:]
    elif len(held) == 1 and before_determiner and _may_be_verb(first):
        verb, body = base_form(first), []
    body = [word for word in body if not is_adverb(word)]
    if not _is_spatial(body, bare=not verb) or (not verb and not body):
        return None
    if verb and not is_verbal(first):
        return Link(at, stop, verb, " ".join(body))
    return Link(at, stop, "be", " ".join([verb, *body]).strip())


def related(text: str, words: list[Word], one: Thing, tie: Link, other: Phrase, *, present: bool = True) -> Assertion:
    """That ``one`` stands in that relation to ``other``."""
    name = noun(words, other)
    plain = tie.verb == "be" and not is_verbal(tie.words.split(" ")[0])
    many = is_many(words, other)
    if plain or words[other.first].text in DEFINITE - {"his", "her", "its", "their", "my", "your", "our"}:
        name = f"the {name}"
    elif not many:
        name = with_article(name)
    clause = Clause(f"the {one.noun}", f"{tie.words} {name}".strip(), one.many, tie.verb)
    value = tie.words if tie.verb == "be" else f"{tie.verb} {tie.words}".strip()
    content = [
        i for i in range(tie.start, tie.end) if words[i].text not in ("the", "of", "to", "is", "are")
    ] + [other.last - 1]  # fmt: skip
    return assertion(
        text, words, "relation", (tie.start, other.last), clause, one.subject, content,
        value=value, other=other.subject, present=present, about=one.where,
    )  # fmt: skip


def _is_spatial(body: list[str], *, bare: bool) -> bool:
    """Whether the words are prepositions that place one thing by another; bare: without a verb before them."""
    if not body:
        return True
    if body[-1] not in _CLOSING and body[-1] != "of":
        return False
    if body == ["of"] or body[0] in ("like", "as", "than"):
        return False
    if bare and body[-1] == "to" and body[0] not in ("next", "close", "closer"):
        return False
    if bare and len(body) == 1:
        return body[0] in _PLAIN and body[0] != "with"
    if bare and body[0] in ("of", "for", "from"):
        return False
    return all(word in PREPOSITIONS or word in _HELPERS for word in body)


def _may_be_verb(word: str) -> bool:
    return word[0].isalpha() and word not in PREPOSITIONS | AUXILIARIES and (is_plural(word) or word.islower()) and word not in (
        "and", "or", "but", "nor", "which", "that", "who", "as", "than", "while", "where", "when", "so", "because", "then",
        "also", "plus", "including", "instead", "both", "s",
    )  # fmt: skip
