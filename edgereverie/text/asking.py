"""What a question asks: whether something is so, or what is missing in "the ring is ...", "there are ... stars"."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from edgereverie.text.assertions import Assertion, Thing, thing
from edgereverie.text.describing import is_visual
from edgereverie.text.english import DEFINITE, VERBS_BASE, singular
from edgereverie.text.mentions import Mention
from edgereverie.text.noun_phrases import SENTENCE, Phrase, Word, phrase_at, words_in
from edgereverie.text.nouns import ABSTRACT
from edgereverie.text.places import Place, place_at
from edgereverie.text.reading import read
from edgereverie.text.statements import base_form, third_person

_PICTURE = r"(?:image|picture|photo|photograph|scene|drawing|painting)"
_PARTICLE = re.compile(r"\W*(yes|no)\b(?=\s*(?:[^\w\s]|$)|\s+(?:there|it|i|the|this|they|you|we)\b)", re.IGNORECASE)
_EXISTENCE = re.compile(
    rf"(?:is|are|was|were) there\b|(?:is|are) (?=(?:an?|any|some)\b)"
    rf"|(?:do|can|could|did) (?:you|we|i) (?:\w+ )?(?:see|find|spot|notice|detect|identify)\b"
    rf"|(?:do|does|did) (?:(?:the|this) {_PICTURE}|it) (?:\w+ )?(?:show|contain|include|have|feature|depict|display)\b",
    re.IGNORECASE,
)
_NOTHING_MORE = re.compile(
    rf"\s*(?:anywhere|somewhere|(?:that is )?(?:visible|present|shown|depicted|here|there))?"
    rf"\s*(?:(?:in|on|within) (?:the|this|your) {_PICTURE})?\s*\??\s*$",
    re.IGNORECASE,
)
_IS = re.compile(r"(is|are|was|were)\s+", re.IGNORECASE)
_DOES = re.compile(r"(?:do|does|did)\s+", re.IGNORECASE)
_ATTRIBUTE = re.compile(
    r"(?:what|which) (?:colou?r|size|shape|material)s? (?:is|are|does|do)\s+"
    r"|what (?:is|are) the (?:colou?r|size|shape|material) of\s+"
    r"|what (?:is|are)\s+(?=.*\bmade of\b)",
    re.IGNORECASE,
)
_COUNT = re.compile(r"how many\s+", re.IGNORECASE)
_WHERE = re.compile(
    r"where (?:is|are|do you see|can you see|does|do)\s+|in (?:which|what) (?:place|part of the \w+) (?:is|are)\s+",
    re.IGNORECASE,
)
_BASES = VERBS_BASE | {"have"}
_WHAT = re.compile(r"what (?:is|are|do you see|can you see|can be seen|stands|lies)\s+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Asked:
    """kind: ``yes_no`` with what a yes would claim, ``attribute``, ``count`` or ``where`` of a thing, ``what`` at a place."""

    kind: Literal["yes_no", "attribute", "count", "where", "what"]
    thing: Thing | None = None
    claims: tuple[Assertion, ...] = ()
    place: tuple[list[Word], Place] | None = None


def asked(question: str) -> Asked | None:
    """What a question asks, where the answer's claims depend on it; None for any other, multiple choice among them.

    >>> [claim.statement for claim in asked("Look at it. Is the ring to the left of the star?").claims]
    ['The ring is to the left of the star.']
    >>> asked("How many dogs are there?").kind, asked("How many dogs are there?").thing.subject
    ('count', 'dog')
    """
    for match in SENTENCE.finditer(question):
        start = match.start() + len(match.group()) - len(match.group().lstrip())
        sentence = question[start : match.end()]
        found = _open(sentence) or _yes_no(sentence)
        if found is not None:
            return found
    return None


def asked_object(question: str) -> Mention | None:
    """The thing that a yes-or-no question asks the existence of, with what describes it; None for any other question.

    >>> asked_object("Is there a red ring in the image?").subject, asked_object("Do you see any dogs?").subject
    ('red ring', 'dog')
    >>> asked_object("Is the ring red?") is None, asked_object("Is there a ring to the left of the star?") is None
    (True, True)
    """
    for sentence in SENTENCE.finditer(question):
        offset = sentence.start() + len(sentence.group()) - len(sentence.group().lstrip())
        opening = _EXISTENCE.match(question[offset : sentence.end()])
        if opening is None:
            continue
        words = words_in(question, offset + opening.end(), sentence.end())
        phrase = phrase_at(words, 0) if words and words[0].text not in DEFINITE else None
        if phrase is None or words[phrase.last - 1].text in ABSTRACT:
            continue
        start, end = words[phrase.first].start, words[phrase.last - 1].end
        if not _NOTHING_MORE.match(question[end : sentence.end()].rstrip("?!. ") or ""):
            continue
        described = [word.text for word in words[phrase.content : phrase.last - 1]]
        return Mention(question[start:end], start, end, " ".join([*described, singular(words[phrase.last - 1].text)]))
    return None


def says_yes(answer: str) -> bool | None:
    """True for an answer that begins with yes, False with no, None for any other.

    >>> says_yes("Yes, a ring."), says_yes("no"), says_yes("No rings are here."), says_yes("A ring.")
    (True, False, None, None)
    """
    particle = _PARTICLE.match(answer)
    return None if particle is None else particle.group(1).lower() == "yes"


def particle(answer: str) -> tuple[int, int] | None:
    """Where an answer's opening yes or no stands."""
    found = _PARTICLE.match(answer)
    return None if found is None else found.span(1)


def _open(sentence: str) -> Asked | None:
    words = words_in(sentence, 0, len(sentence))
    if match := _COUNT.match(sentence):
        held = _thing_at(words, match.end())
        return Asked("count", held) if held else None
    if match := _ATTRIBUTE.match(sentence):
        held = _thing_at(words, match.end())
        return Asked("attribute", held) if held else None
    if match := _WHERE.match(sentence):
        held = _thing_at(words, match.end())
        return Asked("where", held) if held else None
    if match := _WHAT.match(sentence):
        at = _index(words, match.end())
        place = place_at(words, at) if at is not None else None
        return Asked("what", place=(words, place)) if place and not place.of else None
    if _IS.match(sentence) and re.search(r"\bor\b", sentence) and not _EXISTENCE.match(sentence):
        held = _thing_at(words, _IS.match(sentence).end())
        return Asked("attribute", held) if held and "yes or no" not in sentence.lower() else None
    return None


def _yes_no(sentence: str) -> Asked | None:
    told = _declared(sentence)
    if told is None:
        return None
    statement, begin = told
    words = words_in(statement, 0, len(statement))
    subject = phrase_at(words, 0 if begin else 2)
    found = [claim for claim in read(statement) if claim.start >= begin]
    # What a question asks beyond the thing itself, or else the thing.
    telling = [claim for claim in found if claim.kind in ("relation", "position", "count")]
    telling = telling or [claim for claim in found if claim.kind == "attribute"] if begin else telling
    if subject is None or not (telling or begin == 0):
        return None
    return Asked("yes_no", thing(words, subject)._replace(where=None), tuple(telling[:1]))


def _declared(sentence: str) -> tuple[str, int] | None:
    """A yes-or-no question as a statement, and where that begins to say what is asked; None for any other sentence.

    >>> _declared("Is the ring red?"), _declared("Does the ring stand above the star?")
    (('the ring is red.', 12), ('the ring stands above the star.', 9))
    """
    sentence = sentence.rstrip("?!. \n")
    if match := re.match(rf"does (?:the|this) {_PICTURE} show (the \w+) in (\w+)$", sentence, re.IGNORECASE):
        return f"{match[1]} is {match[2]}.", len(match[1]) + 4
    if match := _EXISTENCE.match(sentence):
        rest = re.sub(r"^\s*any\s+", " ", sentence[match.end() :])
        return f"there is {rest.strip()}.", 0
    words = words_in(sentence, 0, len(sentence))
    for opening in (_IS, _DOES):
        match = opening.match(sentence)
        at = _index(words, match.end()) if match else None
        phrase = _phrase(words, at)
        if phrase is None or at is None:
            continue
        doing = next((i for i in range(phrase.content + 1, phrase.last) if words[i].text in _BASES), None)
        stop = doing if opening is _DOES and doing else _subject_end(words, phrase)
        phrase, end = phrase_at(words[:stop], at) or phrase, words[stop - 1].end
        subject, rest = sentence[match.end() : end], sentence[end:].strip()
        if not rest:
            return None
        if opening is _IS:
            return f"{subject} {match[1].lower()} {rest}.", len(subject) + len(match[1]) + 2
        verb, _, more = rest.partition(" ")
        third = verb if thing(words, phrase).many else third_person(base_form(verb))
        return f"{subject} {third} {more}".rstrip() + ".", len(subject) + 1
    return None


def _subject_end(words: list[Word], phrase: Phrase) -> int:
    """One past the subject, where what is said of it would be taken for a noun: is the ring orange."""
    if phrase.last == len(words) and phrase.last - 1 > phrase.content and is_visual(words[phrase.last - 1].text):
        return phrase.last - 1
    return phrase.last


def _thing_at(words: list[Word], offset: int) -> Thing | None:
    at = _index(words, offset)
    phrase = _phrase(words, at)
    if phrase is None or phrase.subject in ABSTRACT:
        return None
    end = _subject_end(words, phrase)
    if end < phrase.last:
        phrase = phrase_at(words[:end], at) or phrase
    return thing(words, phrase)._replace(where=None)


def _phrase(words: list[Word], at: int | None) -> Phrase | None:
    """The noun phrase at ``at``; its last word may be a noun elsewhere: is the square small."""
    if at is None:
        return None
    return phrase_at(words, at) or phrase_at(words[: at + 2], at)


def _index(words: list[Word], offset: int) -> int | None:
    return next((i for i, word in enumerate(words) if word.start >= offset), None)
