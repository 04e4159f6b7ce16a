"""Reading a text for everything that it claims: things, and what it says of each of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from edgereverie.text.assertions import Assertion, Thing, assertion, one_of, thing
from edgereverie.text.attributes import attribute, before_noun, predicate
from edgereverie.text.counts import counted, counted_one
from edgereverie.text.denial import DOUBTS, is_doubted
from edgereverie.text.describing import is_visual
from edgereverie.text.english import PREPOSITIONS, VERBS_BASE, VERBS_S, is_adverb, is_verbal, with_article, words_of
from edgereverie.text.noun_phrases import Phrase, Sentence, Word, is_determiner, sentences
from edgereverie.text.places import Place, content, place_at
from edgereverie.text.relations import link, related
from edgereverie.text.statements import Clause, there_is

_BE = words_of("is are was were")
_BEEN = words_of("be been being")
_SMALL_WORDS = words_of("also just only all both currently still each each-other")
_SEEN = words_of("seen found spotted noticed observed")
_VERBS = VERBS_S | VERBS_BASE
# What people and animals do, not the things about them: the jacket of a man is not riding a horse.
_DEEDS = words_of(
    "riding holding wearing eating drinking playing using carrying reading watching walking pushing pulling throwing "
    "catching swinging looking talking smiling posing running jumping skiing surfing"
)
_PLACING = words_of("in on at down along across over through")
_CLOTHING = words_of("in with wearing")
_MANNERS = words_of("upright further alone together")
_AFTER_STATE = words_of("and while in on at near")
_PRONOUNS = words_of("it he she they")
# Whom "he" and "she" may stand for, beside words in -er and -man; nothing else is decided by these words.
_PEOPLE = words_of(
    "man woman boy girl person child lady gentleman guy player skier surfer rider skateboarder snowboarder kid toddler "
    "baby batter pitcher catcher chef worker driver officer bride groom skater boarder individual adult teenager surfer"
)
_INTRODUCES = words_of("is are was were stands sits lies hangs")


class _Said(NamedTuple):
    """What one step of reading found, and where the next begins."""

    found: list[Assertion]
    at: int


def read(text: str, topic: Thing | None = None) -> list[Assertion]:
    """Everything that a text claims, in reading order, what contains something before what it contains.

    topic: what "it" at its beginning stands for.

    >>> [a.statement for a in read("A man is riding a brown horse.")]
    ['There is a man.', 'The man is riding a horse.', 'There is a horse.', 'The horse is brown.']
    """
    found: dict[tuple, Assertion] = {}
    read_so_far: list[Sentence] = []
    for sentence in sentences(text):
        for said in _sentence(text, sentence, read_so_far, topic):
            found.setdefault((said.start, said.end, *said.key), said)
        read_so_far.append(sentence)
    return sorted(found.values(), key=lambda said: (said.start, -said.end, said.kind != "object"))


def said_of(text: str, spoken_of: Thing) -> list[Assertion]:
    """What the beginning of a text says of a thing that it does not name: at the top; on the table.

    >>> from edgereverie.text.noun_phrases import words_in
    >>> [claim.statement for claim in said_of("At the top left.", Thing("ring", "ring", False, "ring"))]
    ['The ring is at the top left.']
    """
    first = next(iter(sentences(text)), None)
    return [] if first is None else list(_said(text, first, spoken_of, 0, spoken_of))


def placed(text: str, words: list[Word], phrase: Phrase, told: list[Word], place: Place) -> Assertion:
    """That a phrase's thing stands at a place that other words told: the question's."""
    said = _position("", told, thing(words, phrase), place._replace(stop=place.end))
    start, end = words[phrase.first].start, words[phrase.last - 1].end
    head = words[phrase.last - 1]
    return replace(said, text=text[start:end], start=start, end=end, content=((head.start, head.end),))


def _sentence(text: str, sentence: Sentence, earlier: list[Sentence], topic: Thing | None) -> Iterator[Assertion]:
    words, phrases = sentence.words, sentence.phrases
    for phrase in phrases:
        yield from _named(text, words, phrase)
    yield from _leading_place(text, sentence)
    owners = _owners(words, phrases)
    for index, phrase in enumerate(phrases):
        if phrase.claimed:
            yield from _about(text, sentence, index, owners)
    for at, word in enumerate(words):
        if word.text in _PRONOUNS and (at == 0 or words[at - 1].text in (",", "and")):
            here = _topics(sentence, before=at) if at else []
            spoken_of = _meant(word.text, here, _last_topics(earlier, topic))
            if spoken_of is not None:
                yield from _said(text, sentence, spoken_of, at + 1, spoken_of)


def _named(text: str, words: list[Word], phrase: Phrase) -> Iterator[Assertion]:
    """The thing itself, how many, and what stands before it."""
    if not phrase.thing or phrase.doubted:
        return
    begin = phrase.first + (words[phrase.first].text == "'s")
    if phrase.denied and not phrase.absent:
        return
    clause = there_is(one_of(words, phrase))
    inside = list(range(phrase.last - 1 - phrase.subject.count(" "), phrase.last))
    yield assertion(
        text, words, "object", (begin, phrase.last), clause, phrase.subject, inside, present=not phrase.denied
    )
    if phrase.denied:
        return
    there = begin > 1 and words[begin - 1].text in _BE and words[begin - 2].text == "there"
    if (count := counted(text, words, phrase)) or (
        (there or (begin and words[begin - 1].text == "only")) and (count := counted_one(text, words, phrase))
    ):
        yield count
    yield from before_noun(text, words, phrase)


def _leading_place(text: str, sentence: Sentence) -> Iterator[Assertion]:
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
            yield _position(text, words, thing(words, phrases[index]), place)
            index += 1
            if index == len(phrases) or not _listed(words, phrases[index - 1], phrases[index]):
                break


def _brought_in(words: list[Word], at: int) -> int:
    """Where what is brought in begins, after a comma, "there is", "we can see" or a verb."""
    if _word(words, at) == ",":
        at += 1
    if _word(words, at) == "there":
        at += 1
    elif _word(words, at) in ("we", "you", "i", "one"):
        at += 1
        while _word(words, at) in ("can", "could", "also", "see"):
            at += 1
    while _word(words, at) in _INTRODUCES or _word(words, at) in ("also", "can", "be", "seen"):
        at += 1
    return at


def _owners(words: list[Word], phrases: list[Phrase]) -> list[int | None]:
    """For each phrase the one that it hangs on by a preposition or a verb, None for one that stands by itself."""
    out: list[int | None] = []
    for index, phrase in enumerate(phrases):
        before = words[phrase.first - 1].text if phrase.first else ""
        hangs = before in PREPOSITIONS or (
            index > 0 and words[phrases[index - 1].last].text not in (",", "and", ";") and _is_doing(before)
        )
        out.append(index - 1 if hangs and index > 0 else None)
    return out


def _about(text: str, sentence: Sentence, index: int, owners: list[int | None]) -> Iterator[Assertion]:
    """What follows a phrase and says something of it, or of what it hangs on."""
    words, phrase = sentence.words, sentence.phrases[index]
    at, owner = phrase.last, owners[index]
    root = index
    while (above := owners[root]) is not None:
        root = above
    main = sentence.phrases[root]
    following = _word(words, at)
    if following in ("which", "who", "that") or (following == "," and _word(words, at + 1) in ("which", "who")):
        at += 2 if following == "," else 1
        following = ""
    chosen = phrase
    if owner is not None and (
        following in _BE or following in VERBS_S or following in ("has", "have", "can", "appear", "seem")
    ):
        chosen = main  # what hangs on a preposition is no subject
    elif owner is not None and is_verbal(following):
        chosen = _doer(words, sentence.phrases, index, owner, root)
    elif owner is not None and following == "with":
        return
    if chosen is None or not chosen.claimed:
        if chosen is None or chosen.subject not in ("color", "colour") or not phrase.claimed:
            return
        chosen = phrase
    spoken_of = thing(words, chosen)
    yield from _said(text, sentence, spoken_of, at, thing(words, main) if main.claimed else spoken_of)


def _doer(words: list[Word], phrases: list[Phrase], index: int, owner: int, root: int) -> Phrase | None:
    """Whose doing a participle behind a hanging phrase is; None where two could be meant."""
    phrase = phrases[index]
    tie = words[phrase.first - 1].text
    if words[phrase.last].text in _DEEDS:
        return phrases[root] if tie in _PLACING | _CLOTHING and owner == root else None
    return None if tie in _CLOTHING else phrase


def _said(text: str, sentence: Sentence, spoken_of: Thing, at: int, main: Thing) -> Iterator[Assertion]:
    """What words from ``at`` on say of a thing; after a comma, of the sentence's main one."""
    words = sentence.words
    at, finite, negated = _auxiliaries(words, at)
    if spoken_of.many and (places := _several_places(words, at)):
        yield from (_one_there(text, words, spoken_of, place) for place in places)
        return
    for _ in range(5):
        step = None if is_doubted(words, at) else _one(text, sentence, spoken_of, at, finite, negated)
        if step is None:
            return
        yield from step.found
        following = _joined(words, step.at, finite, negated)
        if following is None:
            return
        if is_verbal(_word(words, following[0])):
            spoken_of = main
        at, negated = following


def _auxiliaries(words: list[Word], at: int) -> tuple[int, bool, bool]:
    """Past "is", "can be seen", "appears to be": where the rest begins, whether there was one, whether it is denied."""
    finite = negated = False
    while at < len(words):
        word = words[at].text
        if word in _BE:
            finite = True
        elif word in ("isn't", "aren't", "wasn't", "weren't"):
            finite = negated = True
        elif word == "not":
            negated = True
        elif word == "can" and _word(words, at + 1) == "be" and _word(words, at + 2) in _SEEN:
            finite, at = True, at + 2
        elif word in ("appears", "appear", "seems", "seem") and _word(words, at + 1) == "to":
            finite, at = True, at + 1
        elif word in ("has", "have") and _word(words, at + 1) == "been":
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
        return _Said([_position(text, words, spoken_of, place, present=not negated)], place.stop)
    said = _relation(text, sentence, spoken_of, at, negated)
    if said is None and finite:
        said = _attribute(text, sentence, spoken_of, at, negated)
    return said or _state(text, words, spoken_of, at, negated)


def _attribute(text: str, sentence: Sentence, spoken_of: Thing, at: int, negated: bool) -> _Said | None:
    words = sentence.words
    found = predicate(words, at)
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
    if (place := place_at(words, at)) is not None or not _is_doing(words[at].text):
        return place
    at += 1
    while at < len(words) and (is_adverb(words[at].text) or words[at].text in _MANNERS):
        at += 1
    return place_at(words, at)


def _relation(text: str, sentence: Sentence, spoken_of: Thing, at: int, negated: bool) -> _Said | None:
    words = sentence.words
    other = next((phrase for phrase in sentence.phrases if phrase.first >= at and phrase.thing), None)
    if other is None or other.doubted or (other.denied and not negated) or other.first - at > 7:
        return None
    tie = link(words, at, other.first, before_determiner=is_determiner(words, other.first))
    if tie is None or other.subject == spoken_of.subject:
        return None
    return _Said([related(text, words, spoken_of, tie, other, present=not negated)], other.last)


def _state(text: str, words: list[Word], spoken_of: Thing, at: int, negated: bool) -> _Said | None:
    """What a thing is doing, where nothing else is said with it: a dog sleeping."""
    word, following = words[at].text, _word(words, at + 1)
    if not (is_verbal(word) and is_visual(word)):
        return None
    if following[:1].isalpha() and following not in _AFTER_STATE:
        return None
    return _Said([attribute(text, words, spoken_of, (at, at + 1), present=not negated)], at + 1)


def _joined(words: list[Word], at: int, finite: bool, negated: bool) -> tuple[int, bool] | None:
    """Where more is said of the same thing after "and", a comma or "but", and whether that is denied."""
    begin = at
    but = False
    while _word(words, at) in (",", "and", "but"):
        but, at = but or words[at].text == "but", at + 1
    if at == begin:
        return None
    if _word(words, at) == "not":
        at, negated = at + 1, True
    elif but:
        negated = False
    if finite and _word(words, at) in _BE:
        at += 1
    if at >= len(words):
        return None
    goes_on = place_at(words, at) is not None or is_verbal(words[at].text) or (finite and predicate(words, at))
    return (at, negated) if goes_on else None


def _position(text: str, words: list[Word], spoken_of: Thing, place: Place, *, present: bool = True) -> Assertion:
    rest = " ".join(word.text for word in words[place.start : place.end])
    clause = Clause(f"the {spoken_of.noun}", rest, spoken_of.many, tail=" of the image")
    return assertion(
        text, words, "position", (place.start, place.stop), clause, spoken_of.subject, content(words, place),
        value=place.value, present=present, about=spoken_of.where,
    )  # fmt: skip


def _several_places(words: list[Word], at: int) -> list[Place]:
    """The places of several things, one for each: two stars at the left and at the right."""
    found = []
    while at < len(words) and (place := place_at(words, at)) and not place.of:
        found.append(place)
        at = place.stop
        while _word(words, at) in (",", "and"):
            at += 1
    return found if len(found) > 1 else []


def _one_there(text: str, words: list[Word], spoken_of: Thing, place: Place) -> Assertion:
    rest = " ".join(word.text for word in words[place.start : place.end])
    clause = Clause("there", f"{with_article(spoken_of.one)} {rest}", tail=" of the image")
    return assertion(
        text, words, "position", (place.start, place.stop), clause, spoken_of.subject, content(words, place),
        value=place.value, about=spoken_of.where,
    )  # fmt: skip


def _topics(sentence: Sentence, before: int | None = None) -> list[Thing]:
    """What pronouns in what follows can stand for: the things that a sentence brings in by themselves."""
    words, phrases = sentence.words, sentence.phrases
    stop = len(words) if before is None else before
    return [
        thing(words, phrase)
        for phrase, owner in zip(phrases, _owners(words, phrases), strict=True)
        if phrase.claimed and phrase.last <= stop and (owner is None or not phrases[owner].thing)
    ]


def _last_topics(earlier: list[Sentence], topic: Thing | None) -> list[Thing]:
    """Of the last sentence that brought something in, or else what the question was about."""
    for sentence in reversed(earlier):
        if found := _topics(sentence):
            return found
    return [topic] if topic else []


def _meant(pronoun: str, here: list[Thing], earlier: list[Thing]) -> Thing | None:
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


def _listed(words: list[Word], before: Phrase, phrase: Phrase) -> bool:
    return {word.text for word in words[before.last : phrase.first]} <= {",", "and"}


def _is_doing(word: str) -> bool:
    return is_verbal(word) or word in _VERBS


def _word(words: list[Word], at: int) -> str:
    return words[at].text if at < len(words) else ""
