"""Small cuts that take one claim out of a sentence and leave the rest of it as it is. What they leave is read again before
it is used, so a cut may fail; it never has to be right by itself."""

from __future__ import annotations

import re

from edgereverie.text.assertions import Assertion
from edgereverie.text.english import DETERMINERS, VERBS_BASE, VERBS_S, is_plural, with_article, words_of

_LINK = re.compile(r"\s*,\s*(?:and\s+)?|\s+and\s+")
_AND_BEFORE = re.compile(r"(?:\s*,\s*and\s+|\s*,\s*|\s+and\s+|\s+but\s+)$")
_AND_AFTER = re.compile(r"(?:\s*,\s*and\s+|\s*,\s*|\s+and\s+)")
_TAIL = re.compile(
    r"(?:,?\s+)(?:with|next to|near|beside|behind|under|on|above|below|by|and|in|at|of|from)\s+$", re.IGNORECASE
)
_DOING = re.compile(r"(?:,?\s+)(?:(?:is|are|was|were)\s+)?(?:(?:also|currently)\s+)?$", re.IGNORECASE)
_BEFORE_NUMBER = re.compile(r"(?:at least|exactly|only|a|the)\s+$", re.IGNORECASE)
_THERE = re.compile(r"\b(there)\s+(is|are)(\s+)", re.IGNORECASE)
_ARTICLE = re.compile(r"\b(an?)\s+(?=([a-z][\w-]*))", re.IGNORECASE)
_DANGLING = re.compile(
    r"\b(?:is|are|was|were|be|located|positioned|placed|situated|and|or|with|of|a|an|the|wearing|holding|to|can|seen in|"
    r"no|both|two|which|that|who|has|have)\s*[,.;!?]*\s*$|,\s*[.!?]|\b(?:and|with|or)\s+(?:and|is|are|with|,)\b|\(\s*\)",
    re.IGNORECASE,
)
_FINITE = words_of("is are was were has have can see") | VERBS_S | VERBS_BASE
_SENTENCE_END = re.compile(r"[.!?]+\s*$")


def without_one(sentence: str, claim: Assertion, things: list[Assertion]) -> list[str]:
    """What the sentence may be without the claim, the likelier first. claim.start counts from the sentence's beginning.

    things: the claims of existence that the sentence makes.
    """
    cuts = {"attribute": _attribute, "count": _count, "position": _phrase, "relation": _phrase, "object": _object}
    tidied = (tidy(left) for left in cuts[claim.kind](sentence, claim, things))
    whole = has_verb(sentence)
    return [left for left in tidied if left and not _DANGLING.search(left) and (has_verb(left) or not whole)]


def has_verb(sentence: str) -> bool:
    """Whether somebody or something is or does something in the sentence; "a ring and a star" is none of it.

    >>> has_verb("There is a ring."), has_verb("A man rides a horse."), has_verb("A man on a horse.")
    (True, True, False)
    """
    return not _FINITE.isdisjoint(re.findall(r"[a-z]+", sentence.lower()))


def softened(sentence: str, claim: Assertion) -> str:
    """The sentence with the claim as a possibility.

    >>> from edgereverie.text.claims import claims
    >>> softened("The dog is brown.", claims("", "The dog is brown.")[1])
    'The dog is possibly brown.'
    """
    return sentence[: claim.start] + "possibly " + sentence[claim.start :]


def tidy(text: str) -> str:
    """One blank between words, none before a comma, a capital first, articles that fit, and "there is" for one thing.

    >>> tidy("a  orange arrow , and a moon.")
    'An orange arrow, and a moon.'
    """
    text = re.sub(r"\s+([,.;!?])", r"\1", re.sub(r"[ \t]{2,}", " ", text)).strip(" \t,")
    text = re.sub(r",(?:\s*,)+", ",", text)
    text = _ARTICLE.sub(_fitting, text)
    if not text or not _SENTENCE_END.sub("", text).strip():
        return ""
    return _agreeing(text[0].upper() + text[1:])


def _fitting(found: re.Match[str]) -> str:
    article = with_article(found[2]).split(" ", 1)[0]
    return (article.capitalize() if found[1][0].isupper() else article) + " "


def _agreeing(text: str) -> str:
    """Makes "there are" before what is one thing "there is", and the other way round."""
    found = _THERE.search(text)
    if found is None:
        return text
    rest = text[found.end() :]
    first = re.split(r",|\band\b|[.!?]", rest, maxsplit=1)
    if not first[0].strip() or (found[2].lower() == "are" and re.search(r"^[^.!?]*(?:,|\band\b)", rest)):
        return text
    return f"{text[: found.start()]}{found[1]} {be(first[0].strip())}{found[3]}{rest}"


def be(name: str) -> str:
    """``is`` or ``are`` before a noun phrase."""
    words = name.lower().split()
    if words[0] in ("a", "an", "one", "another", "no", "the", "this", "it"):
        return "is"
    numbers = ("two three four five six seven eight nine ten several some many few multiple various both").split()
    counted = words[0] in numbers or (words[0].isdigit() and words[0] != "1")
    return "are" if counted or is_plural(words[-1]) or (len(words) > 1 and any(map(is_plural, words[:3]))) else "is"


def _attribute(sentence: str, claim: Assertion, things: list[Assertion]) -> list[str]:
    before, after = sentence[: claim.start], sentence[claim.end :]
    if any(thing.start <= claim.start and claim.end < thing.end for thing in things):
        left = [before + after.lstrip(" ,")]
        if after.startswith(" and "):
            left.insert(0, before + after[5:])
        elif before.endswith(" and "):
            left.insert(0, before[:-5] + after)
        return left
    return _phrase(sentence, claim, things)


def _count(sentence: str, claim: Assertion, _things: list[Assertion]) -> list[str]:
    before, after = sentence[: claim.start], sentence[claim.end :].lstrip()
    if claim.value == "one":
        return [f"{before}a {after}"]
    after = after.removeprefix("of ")
    trimmed = (
        before[: found.start()] if (found := _BEFORE_NUMBER.search(before)) and found[0].lower() != "the " else before
    )
    return [trimmed + after]


def _phrase(sentence: str, claim: Assertion, _things: list[Assertion]) -> list[str]:
    """Cut with the "and" or the comma that ties it to what stands beside it, or with the verb before it."""
    before, after = sentence[: claim.start], sentence[claim.end :]
    left = []
    if (found := _AND_AFTER.match(after)) and before.strip() and not _opens_thing(after[found.end() :]):
        left.append(before + after[found.end() :])
    if found := _AND_BEFORE.search(before):
        left.append(before[: found.start()] + after)
    left.append(before.rstrip() + (after if not after[:1].isalpha() else " " + after))
    if found := _DOING.search(before):
        left.append(before[: found.start()] + after)
    return left


def _opens_thing(text: str) -> bool:
    return text.split(" ", 1)[0].lower() in DETERMINERS


def _object(sentence: str, claim: Assertion, things: list[Assertion]) -> list[str]:
    """Cut out of a list, or with the preposition that it hangs on."""
    before, after = sentence[: claim.start], sentence[claim.end :]
    left = []
    following = [thing.start for thing in things if thing.start >= claim.end]
    end = len(_SENTENCE_END.sub("", sentence))
    for stop in [*following[:1], end]:
        block = sentence[claim.start : stop]
        links = [link for link in _LINK.finditer(block) if link.end() == len(block)] if stop != end else []
        if links:  # an item with more behind it
            rest = [before + sentence[stop:]]
            if found := _AND_BEFORE.search(before):
                rest.append(before[: found.start()] + block[links[-1].start() :] + sentence[stop:])
            left += rest if "and" not in links[-1].group() else rest[::-1]
        if stop == end and (found := _AND_BEFORE.search(before)):
            shortened = before[: found.start()]
            comma = shortened.rfind(", ")
            if comma > 0 and "and" in found[0]:
                left.append(shortened[:comma] + " and " + shortened[comma + 2 :] + sentence[end:])
            left.append(shortened + sentence[end:])
    for pattern in (_TAIL,):
        if found := pattern.search(before):
            left.append(before[: found.start()] + after)
            left.append(before[: found.start()] + sentence[end:])
    return left
