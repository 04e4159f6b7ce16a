"""Reading a text for everything that it claims: things, and what it says of each of them."""

from __future__ import annotations

from collections.abc import Iterator

from edgereverie.text.assertions import Assertion, Thing, assertion, one_of, thing
from edgereverie.text.attachment import doer, grammatical_subject, owners_of
from edgereverie.text.attributes import before_noun
from edgereverie.text.counts import counted, counted_one
from edgereverie.text.english import VERBS_S, is_verbal, words_of
from edgereverie.text.noun_phrases import Phrase, Sentence, Word, sentences, word_at
from edgereverie.text.positions import leading_place
from edgereverie.text.predicates import predicates
from edgereverie.text.pronouns import PRONOUNS, last_topics, meant, topics_of
from edgereverie.text.statements import there_is

_BE = words_of("is are was were")


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
    return [] if first is None else list(predicates(text, first, spoken_of, 0, spoken_of))


def _sentence(text: str, sentence: Sentence, earlier: list[Sentence], topic: Thing | None) -> Iterator[Assertion]:
    words, phrases = sentence.words, sentence.phrases
    for phrase in phrases:
        yield from _named(text, words, phrase)
    yield from leading_place(text, sentence)
    owners = owners_of(words, phrases)
    for index, phrase in enumerate(phrases):
        if phrase.claimed:
            yield from _about(text, sentence, index, owners)
    for at, word in enumerate(words):
        if word.text in PRONOUNS and (at == 0 or words[at - 1].text in (",", "and")):
            here = topics_of(sentence, before=at) if at else []
            spoken_of = meant(word.text, here, last_topics(earlier, topic))
            if spoken_of is not None:
                yield from predicates(text, sentence, spoken_of, at + 1, spoken_of)


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


def _about(text: str, sentence: Sentence, index: int, owners: list[int | None]) -> Iterator[Assertion]:
    """What follows a phrase and says something of it, or of what it hangs on."""
    words, phrase = sentence.words, sentence.phrases[index]
    at, owner = phrase.last, owners[index]
    root = index
    while (above := owners[root]) is not None and sentence.phrases[above].thing:
        root = above
    main = sentence.phrases[root]
    following = word_at(words, at)
    if following in ("which", "who", "that") or (following == "," and word_at(words, at + 1) in ("which", "who")):
        at += 2 if following == "," else 1
        following = ""
    chosen = phrase
    held = owner is not None and sentence.phrases[owner].thing
    if owner is not None and (
        following in _BE or following in VERBS_S or following in ("has", "have", "can", "appear", "seem")
    ):
        chosen = grammatical_subject(sentence.phrases, index, owners)
    elif held and is_verbal(following):
        chosen = doer(words, sentence.phrases, index, owner, root)
    elif held and following == "with":
        return
    if chosen is None or not chosen.claimed:
        return
    spoken_of = thing(words, chosen)
    yield from predicates(text, sentence, spoken_of, at, thing(words, main) if main.claimed else None)
