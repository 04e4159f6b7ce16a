"""Which things an answer claims to be in the picture: noun phrases read by rule, for any vocabulary.

Objects are recognised by the grammar around them (determiners, numbers, plurals, lists), never by a list of objects, so
the same rules read drawn shapes and photographs. Left out: places and other abstractions, pronouns, and what a sentence
denies. The rules prefer missing a claim over inventing one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from edgereverie.text.english import (
    DEFINITE,
    DETERMINERS,
    FUNCTION_WORDS,
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


@dataclass(frozen=True, slots=True)
class Mention:
    """A thing that ``text``, standing at ``[start:end]`` of the answer, claims to be there, or with present=False not to be.

    subject: the thing in its dictionary form, one word or a fixed compound.
    """

    text: str
    start: int
    end: int
    subject: str
    present: bool = True


# Words for places, parts, amounts and impressions, and for the picture itself: nothing that one could fail to see.
ABSTRACT = words_of(
    "image picture photo photograph scene view background foreground left right top bottom centre center middle side "
    "corner edge place position location area spot part section end front back rear distance direction way thing "
    "object item shape figure element kind type sort variety number amount lot total rest couple pair set group bunch "
    "row line series array collection stack pile range piece slice bit addition fact detail moment time day "
    "atmosphere sense feeling mood focus attention subject presence absence lack action activity event setting "
    "surroundings environment context reason answer question motion style color colour size height width length angle "
    "order process use purpose experience appearance impression touch contrast variation condition state case example "
    "instance composition perspective arrangement life nature hint form pattern combination mix space pop look role "
    "skill design procedure treatment jump air doubt act vicinity proximity conversation work fun joy beauty charm "
    "depth interest leisure relaxation occasion none everything scenery one ones other others conclusion result "
    "drawing half quarter hmm ok okay sure sorry hello thanks unknown unclear unsure"
)
# Heads that only count or hold what follows "of": the thing is after it.
_MEASURES = words_of(
    "group pair couple bunch number lot lots variety series row rows array collection set piece pieces slice slices "
    "bit kind type sort herd flock crowd stack pile dozen dozens hundreds assortment range plenty cluster team line "
    "kinds types groups pairs bunches stacks piles"
)
_COMPOUNDS = frozenset(
    [
        "hot dog",
        "fire hydrant",
        "traffic light",
        "stop sign",
        "parking meter",
        "teddy bear",
        "hair dryer",
        "hair drier",
        "wine glass",
        "cell phone",
        "mobile phone",
        "baseball bat",
        "baseball glove",
        "tennis racket",
        "tennis ball",
        "sports ball",
        "dining table",
        "potted plant",
        "coffee cup",
        "coffee table",
        "tennis court",
        "life jacket",
        "street sign",
        "street light",
        "remote control",
        "computer mouse",
        "living room",
        "parking lot",
        "swimming pool",
        "christmas tree",
        "polar bear",
        "ice cream",
        "french fry",
        "baby carriage",
        "toilet paper",
        "surf board",
        "skate board",
        "snow board",
    ]
)
_TAKES_BARE = words_of("eating drinking holding wearing serving eats drinks holds wears")
_KEEPS_PLURAL_FIRST = words_of("sports clothes news glasses")
_NEGATORS = re.compile(
    r"(?:no|not|\w+n't|without|never|none|nothing|nobody|neither|nor|cannot|lacks|lacking|lack|absence)"
)
_CLAUSE_ENDS = frozenset(
    "but however although though while whereas with only instead there it they he she".split()
) | set(";:")
_TOKEN = re.compile(r"[A-Za-zÀ-ÖØ-öø-ÿ]+n['’]t\b|['’]s\b|[A-Za-zÀ-ÖØ-öø-ÿ]+(?:-[A-Za-zÀ-ÖØ-öø-ÿ]+)*|\d+|[^\w\s]")
_SENTENCE = re.compile(r"[^.!?\n]+[.!?\n]*")
_PICTURE = r"(?:image|picture|photo|photograph|scene|drawing|painting)"
_GONE = re.compile(
    rf"\s*(?:(?:is|are|was|were)(?:\s+not|n['’]t)\s+(?:visible|present|there|here|shown|seen|depicted|to be seen|"
    rf"(?:in|part of) (?:the|this) {_PICTURE})|(?:can(?:not|['’]t|\s+not)) be seen|(?:is|are|was|were) (?:absent|missing))\b"
)
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


@dataclass(frozen=True, slots=True)
class _Word:
    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Chunk:
    """A noun phrase: words[first:last], its determiners before ``content``, its head at ``last - 1``."""

    first: int
    content: int
    last: int


def mentions(text: str) -> list[Mention]:
    """The things that a text claims to be there, in reading order.

    >>> [m.subject for m in mentions("There is a small red circle at the left and two dogs, but no star.")]
    ['circle', 'dog']
    >>> [m.text for m in mentions("A man with a black hat is riding a horse in the background.")]
    ['A man', 'a black hat', 'a horse']
    """
    found: list[Mention] = []
    for sentence in _SENTENCE.finditer(text):
        words = [
            _Word(m.group().lower().replace("’", "'"), m.start() + sentence.start(), m.end() + sentence.start())
            for m in _TOKEN.finditer(sentence.group())
        ]
        found += _read(text, words)
    return found


def asked_object(question: str) -> Mention | None:
    """The thing that a yes-or-no question asks the existence of, with what describes it; None for any other question.

    >>> asked_object("Is there a red ring in the image?").subject, asked_object("Do you see any dogs?").subject
    ('red ring', 'dog')
    >>> asked_object("Is the ring red?") is None, asked_object("Is there a ring to the left of the star?") is None
    (True, True)
    """
    for sentence in _SENTENCE.finditer(question):
        offset = sentence.start() + len(sentence.group()) - len(sentence.group().lstrip())
        opening = _EXISTENCE.match(question[offset : sentence.end()])
        if opening is None:
            continue
        begin = offset + opening.end()
        rest = question[begin : sentence.end()]
        words = [_Word(m.group().lower(), m.start() + begin, m.end() + begin) for m in _TOKEN.finditer(rest)]
        chunk = _chunk(words, 0) if words and words[0].text not in DEFINITE else None
        if chunk is None or words[chunk.last - 1].text in ABSTRACT:
            continue
        start, end = words[chunk.first].start, words[chunk.last - 1].end
        if not _NOTHING_MORE.match(question[end : sentence.end()].rstrip("?!. ") or ""):
            continue
        described = [word.text for word in words[chunk.content : chunk.last - 1]]
        return Mention(question[start:end], start, end, " ".join([*described, singular(words[chunk.last - 1].text)]))
    return None


def claims(question: str, answer: str) -> list[Mention]:
    """What ``answer`` claims, given what was asked: its mentions, and for a bare yes or no the thing asked about.

    >>> claims("Is there a ring in the image?", "Yes.")
    [Mention(text='Yes', start=0, end=3, subject='ring', present=True)]
    >>> claims("Is there a ring?", "No, there is only a star.")[0].present
    False
    """
    found = mentions(answer)
    particle, asked = _PARTICLE.match(answer), asked_object(question)
    if particle is None or asked is None:
        return found
    present = particle.group(1).lower() == "yes"
    if present and any(mention.subject == asked.subject.split()[-1] for mention in found):
        return found
    start, end = particle.span(1)
    return [Mention(answer[start:end], start, end, asked.subject, present), *found]


def says_yes(answer: str) -> bool | None:
    """True for an answer that begins with yes, False with no, None for any other.

    >>> says_yes("Yes, a ring."), says_yes("no"), says_yes("No rings are here."), says_yes("A ring.")
    (True, False, None, None)
    """
    particle = _PARTICLE.match(answer)
    return None if particle is None else particle.group(1).lower() == "yes"


def _read(text: str, words: list[_Word]) -> Iterator[Mention]:
    """The mentions of one sentence."""
    bare_list = _is_bare_list(words)
    before: tuple[int, bool] | None = None  # where the last phrase ended, and whether it was denied
    at = 0
    while at < len(words):
        chunk = _chunk(words, at)
        if chunk is None:
            at += 1
            continue
        at = chunk.last
        head = words[chunk.last - 1].text
        bare = chunk.content == chunk.first
        if bare and before is not None and before[0] == chunk.first:
            # A noun phrase cannot follow another without a word between: this begins with a verb (wearing hats, chases).
            before, at = None, chunk.first + 1
            continue
        if bare and not (is_plural(head) or bare_list or _may_be_bare(words, chunk, before)):
            continue
        denied = _denied(words, chunk, before) or bool(_GONE.match(text, words[chunk.last - 1].end))
        before = (chunk.last, denied)
        subject = _subject(words, chunk)
        if denied or subject in ABSTRACT:
            continue
        first = chunk.first + (words[chunk.first].text == "'s")
        start, end = words[first].start, words[chunk.last - 1].end
        yield Mention(text[start:end], start, end, subject)


def _chunk(words: list[_Word], at: int) -> _Chunk | None:
    """The noun phrase that begins at ``at``, or None. A measure and its "of" belong to the phrase: a group of people."""
    first = at
    while at < len(words) and _is_determiner(words, at):
        at += 1
    content, last = at, _noun_end(words, at)
    if last is None:
        return None
    if words[last - 1].text in _MEASURES and last < len(words) and words[last].text == "of":
        inner = _chunk(words, last + 1)
        return None if inner is None else _Chunk(first, inner.content if content > first else first, inner.last)
    return _Chunk(first, content, last)


def _is_determiner(words: list[_Word], at: int) -> bool:
    word = words[at].text
    if word == "'s":
        return at > 0 and words[at - 1].text not in FUNCTION_WORDS
    return word in DETERMINERS or word.isdigit()


def _noun_end(words: list[_Word], at: int) -> int | None:
    """One past the head of the noun phrase whose descriptive words begin at ``at``; None when there is no head."""
    begin, head = at, None
    one, determined = at > 0 and words[at - 1].text in SINGULAR_DETERMINERS, at > 0 and _is_determiner(words, at - 1)
    while at < len(words):
        word = words[at].text
        if word == "and" and head is None and at > begin and at + 1 < len(words) and is_adjective(words[at + 1].text):
            at += 1  # a black and white cat
            continue
        if not word[0].isalpha() or word in FUNCTION_WORDS or _is_determiner(words, at) or word == "no":
            break
        following = words[at + 1].text if at + 1 < len(words) else ""
        if head is not None and _ends_phrase(words[head].text, word, following, one=one, bare=not determined):
            break
        if (
            at == begin > 0
            and not determined
            and word in VERBS_S | VERBS_BASE
            and words[at - 1].text not in PREPOSITIONS
        ):
            return None
        if not (is_adjective(word) or is_adverb(word) or (is_verbal(word) and head is None)):
            head = at
        at += 1
    if head is None and at > begin and is_noun_too(words[at - 1].text):
        head = at - 1
    if head is not None and head + 1 < at and is_noun_too(words[at - 1].text):
        head = at - 1
    return None if head is None else head + 1


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


def _subject(words: list[_Word], chunk: _Chunk) -> str:
    head = words[chunk.last - 1].text
    one = chunk.content > chunk.first and words[chunk.content - 1].text in SINGULAR_DETERMINERS
    noun = head if one and not is_plural(head) else singular(head)
    if chunk.last - 1 > chunk.content and (pair := f"{words[chunk.last - 2].text} {noun}") in _COMPOUNDS:
        return pair
    return noun


def _may_be_bare(words: list[_Word], chunk: _Chunk, before: tuple[int, bool] | None) -> bool:
    """Whether a singular noun without determiner is a thing: in a list (a fork and knife), after "of", after eating."""
    if chunk.first == 0:
        return False
    previous = words[chunk.first - 1].text
    if previous in _TAKES_BARE:
        return True
    if before is None:
        return False
    between = [word.text for word in words[before[0] : chunk.first]]
    if between == ["of"]:
        return True
    closes = (
        chunk.last == len(words) or words[chunk.last].text in {",", ".", ";"} | FUNCTION_WORDS | VERBS_S | VERBS_BASE
    )
    return closes and between in (["and"], ["or"], [","], [",", "and"], [",", "or"])


def _is_bare_list(words: list[_Word]) -> bool:
    """Whether a sentence is nothing but names: "Star, ring and moon." or "Dog."."""
    names = longest = 0
    for index, word in enumerate(words):
        text = word.text
        if text in {"and", ",", "."}:
            longest = 0
            continue
        if not text[0].isalpha() or text in FUNCTION_WORDS | DETERMINERS | VERBS_S | ABSTRACT:
            return False
        if (is_verbal(text) or is_adverb(text)) and index + 1 == len(words):
            return False
        names, longest = names + 1, longest + 1
        if longest > 3:
            return False
    return names > 0


def _denied(words: list[_Word], chunk: _Chunk, before: tuple[int, bool] | None) -> bool:
    """Whether the sentence says that the thing is not there."""
    own = [word.text for word in words[chunk.first : chunk.content]]
    if "no" in own or "neither" in own:
        return True
    if before is not None and before[1]:
        between = {word.text for word in words[before[0] : chunk.first]}
        if (between and between <= {",", "or", "nor"}) or (between <= {",", "and"} and not own):
            return True
    for index in range(chunk.first - 1, -1, -1):
        word = words[index].text
        following = words[index + 1].text
        if word in _CLAUSE_ENDS or (word == "," and own and own[0] != "any" and following in DETERMINERS):
            return False
        if word in {"and", ","} and (
            following in FUNCTION_WORDS - PREPOSITIONS or is_verbal(following) or following in VERBS_S
        ):
            return False
        if _NEGATORS.fullmatch(word):
            if word == "no":  # it denies its own noun, and what is listed with it
                return False
            return following not in {"only", "just", "but"}
    return False
