"""What the words behind a thing say of it: is red, at the left, riding a horse, under the table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from edgereverie.text.assertions import Assertion, Thing
from edgereverie.text.attachment import is_doing
from edgereverie.text.attributes import attribute, predicate
from edgereverie.text.denial import DOUBTS, is_doubted
from edgereverie.text.describing import is_visual
from edgereverie.text.english import is_adverb, is_verbal, words_of
from edgereverie.text.noun_phrases import Phrase, Sentence, Word, is_determiner, word_at
from edgereverie.text.places import Place, place_at
from edgereverie.text.positions import one_there, position
from edgereverie.text.relations import link, related

_BE = words_of("is are was were")
_BEEN = words_of("be been being")
_SMALL_WORDS = words_of("also just only all both currently still each visible present alone together")
_SEEN = words_of("seen found spotted noticed observed")
_MANNERS = words_of("upright further alone together")
_AFTER_STATE = words_of("and while")
# What is done without anything that it is done to.
_RESTING = words_of(
    "standing sitting sleeping lying walking running flying swimming smiling jumping grazing resting kneeling crouching "
    "floating dancing laughing seated"
)


class _Said(NamedTuple):
    """What one step of reading found, and where the next begins."""

    found: list[Assertion]
    at: int


def predicates(text: str, sentence: Sentence, spoken_of: Thing, at: int, main: Thing | None) -> Iterator[Assertion]:
    """What words from ``at`` on say of a thing; after a comma, of the sentence's main one."""
    words = sentence.words
    at, finite, negated = _auxiliaries(words, at)
    if spoken_of.many and (places := _several_places(words, at)):
        yield from (one_there(text, words, spoken_of, place) for place in places)
        return
    for _ in range(5):
        step = None if is_doubted(words, at) else _one(text, sentence, spoken_of, at, finite, negated)
        if step is None:
            return
        yield from step.found
        following = _joined(words, step.at, finite, negated)
        if following is None:
            return
        if is_verbal(word_at(words, following[0])):
            if main is None:
                return
            spoken_of = main
        at, negated = following


def _several_places(words: list[Word], at: int) -> list[Place]:
    """The places of several things, one for each: two stars at the left and at the right."""
    found = []
    while at < len(words) and (place := place_at(words, at)) and not place.of:
        found.append(place)
        at = place.stop
        while word_at(words, at) in (",", "and"):
            at += 1
    return found if len(found) > 1 else []


def _auxiliaries(words: list[Word], at: int) -> tuple[int, bool, bool]:
    """Past "is", "can be seen", "appears to be": where the rest begins, whether there was one, whether it is denied."""
    finite = negated = False
    while at < len(words):
        word = words[at].text
        if word in _BE:
            finite = True
        elif word in ("isn't", "aren't", "wasn't", "weren't"):
            finite = negated = True
        elif word == "not" or word in ("doesn't", "don't", "didn't"):
            negated = True
        elif word in ("does", "do", "did") and word_at(words, at + 1) == "not":
            pass
        elif word == "can" and word_at(words, at + 1) == "be" and word_at(words, at + 2) in _SEEN:
            finite, at = True, at + 2
        elif word in ("appears", "appear", "seems", "seem") and word_at(words, at + 1) == "to":
            finite, at = True, at + 1
        elif word in ("has", "have") and word_at(words, at + 1) == "been":
            finite = True
        elif word not in _BEEN and not (word in _SMALL_WORDS or (finite and is_adverb(word))):
            break
        at += 1
    return at, finite, negated


def _one(text: str, sentence: Sentence, spoken_of: Thing, at: int, finite: bool, negated: bool) -> _Said | None:
    """One place, attribute, relation or state from ``at`` on."""
    words = sentence.words
    if at >= len(words) or words[at].text in DOUBTS:
        return None
    place = _placed(words, at)
    if place is not None and not place.of:
        return _Said([position(text, words, spoken_of, place, present=not negated)], place.stop)
    said = _relation(text, sentence, spoken_of, at, negated, finite)
    if said is None and finite:
        said = _attribute(text, sentence, spoken_of, at, negated)
    return said or _state(text, words, spoken_of, at, negated)


def _attribute(text: str, sentence: Sentence, spoken_of: Thing, at: int, negated: bool) -> _Said | None:
    words = sentence.words
    found = None if is_verbal(words[at].text) and words[at].text != "made" else predicate(words, at)
    if found is None:
        return None
    end, substance = found
    if any(phrase.first <= at < phrase.last and phrase.last > end for phrase in sentence.phrases):
        return None  # it describes a noun that follows
    where = (_first_visual(words, at, end), end)
    return _Said([attribute(text, words, spoken_of, where, present=not negated, of=substance)], end)


def _first_visual(words: list[Word], at: int, end: int) -> int:
    while at < end - 1 and (
        is_adverb(words[at].text) or words[at].text in ("very", "quite", "rather", "mostly", "all")
    ):
        at += 1
    return at


def _placed(words: list[Word], at: int) -> Place | None:
    """The place at ``at`` or behind a verb there: standing prominently in the background."""
    if (place := place_at(words, at)) is not None or not is_doing(words[at].text):
        return place
    at += 1
    while at < len(words) and (is_adverb(words[at].text) or words[at].text in _MANNERS):
        at += 1
    return place_at(words, at)


def _relation(text: str, sentence: Sentence, spoken_of: Thing, at: int, negated: bool, finite: bool) -> _Said | None:
    words = sentence.words
    other = next((phrase for phrase in sentence.phrases if phrase.first >= at and phrase.thing), None)
    if other is not None and word_at(words, other.last) == "'s":
        other = next((phrase for phrase in sentence.phrases if phrase.first == other.last and phrase.thing), None)
    if other is None or other.doubted or (other.denied and not negated) or other.first - at > 7:
        return None
    tie = link(words, at, other.first, before_determiner=is_determiner(words, other.first))
    if tie is None or other.subject == spoken_of.subject:
        return None
    if words[at].text == "with" and (is_verbal(word_at(words, other.last)) or _in_depth(place_at(words, other.last))):
        return None  # with a car driving by, with mountains in the background: nothing that somebody has
    said = [related(text, words, spoken_of, tie, other, present=not negated)]
    if negated:
        return _Said(said, other.last)
    for another in _more(sentence, other, finite) if tie.verb == "have" or is_verbal(tie.words.split(" ")[0]) else ():
        said.append(related(text, words, spoken_of, tie, another))
        other = another
    return _Said(said, other.last)


def _in_depth(place: Place | None) -> bool:
    return place is not None and place.value in ("background", "foreground", "distance")


def _more(sentence: Sentence, first: Phrase, finite: bool) -> list[Phrase]:
    """What is listed with the second thing of a relation: furnished with a couch, a chair and a table.

    Behind a comma only where the relation is the sentence's own, and never what does something itself.
    """
    words, phrases = sentence.words, sentence.phrases
    at, found = phrases.index(first), [first]
    for phrase in phrases[at + 1 :]:
        between = [word.text for word in words[found[-1].last : phrase.first]]
        following = word_at(words, phrase.last)
        ends = following in ("", ".", ",", "and", ";")
        if not (between == ["and"] or (finite and between in ([","], [",", "and"]))) or not ends or not phrase.claimed:
            break
        found.append(phrase)
    if finite and len(found) > 1 and word_at(words, found[-1].first - 1) != "and":
        return []  # not the end of a list
    return found[1:]


def _state(text: str, words: list[Word], spoken_of: Thing, at: int, negated: bool) -> _Said | None:
    """What a thing is doing, where nothing else is said with it: a dog sleeping."""
    word, following = words[at].text, word_at(words, at + 1)
    if not (is_verbal(word) and is_visual(word)):
        return None
    if following[:1].isalpha() and following not in _AFTER_STATE and word not in _RESTING:
        return None
    return _Said([attribute(text, words, spoken_of, (at, at + 1), present=not negated)], at + 1)


def _joined(words: list[Word], at: int, finite: bool, negated: bool) -> tuple[int, bool] | None:
    """Where more is said of the same thing after "and", a comma or "but", and whether that is denied."""
    begin = at
    but = False
    while word_at(words, at) in (",", "and", "but"):
        but, at = but or words[at].text == "but", at + 1
    if at == begin:
        return None
    if word_at(words, at) == "not":
        at, negated = at + 1, True
    elif but:
        negated = False
    if finite and word_at(words, at) in _BE:
        at += 1
    while is_adverb(word_at(words, at)) or word_at(words, at) == "also":
        at += 1
    if at >= len(words):
        return None
    goes_on = place_at(words, at) is not None or is_verbal(words[at].text) or (finite and predicate(words, at))
    return (at, negated) if goes_on else None
