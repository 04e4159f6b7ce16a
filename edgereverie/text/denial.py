"""What a sentence says about a thing that it names: that it is there, that there is none, or that it may be there."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from edgereverie.text.english import (
    DETERMINERS,
    FUNCTION_WORDS,
    PREPOSITIONS,
    VERBS_S,
    is_verbal,
    words_of,
)

if TYPE_CHECKING:
    from edgereverie.text.noun_phrases import Phrase, Word

_NEGATORS = re.compile(
    r"(?:no|not|\w+n't|without|never|none|nothing|nobody|neither|nor|cannot|lacks|lacking|lack|absence)"
)
_CLAUSE_ENDS = frozenset(
    "but however although though while whereas with only instead there it they he she".split()
) | set(";:")
_NO_SUBJECT = FUNCTION_WORDS - PREPOSITIONS
_PICTURE = r"(?:image|picture|photo|photograph|scene|drawing|painting)"
_GONE = re.compile(
    rf"\s*(?:(?:is|are|was|were)(?:\s+not|n['’]t)\s+(?:visible|present|there|here|shown|seen|depicted|to be seen|"
    rf"(?:in|part of) (?:the|this) {_PICTURE})|(?:can(?:not|['’]t|\s+not)) be seen|(?:is|are|was|were) (?:absent|missing))\b"
)
_SEEN_NOWHERE = re.compile(
    rf"\s*(?:[.!,;]|$|(?:or|nor|and|but)\b|(?:is |are |was |were |can be )?(?:visible|present|there|here|shown|seen|anywhere|"
    rf"to be seen|(?:in|on) (?:the|this) {_PICTURE})\b)"
)
_OF_BEING = re.compile(
    rf"there(?:['’]s| is| are| was| were)(?:n['’]t)?(?: also)?(?: not)?(?: any)?\s*$"
    rf"|\b(?:i|we|you|one) (?:(?:also|only|do not|don['’]t|did not|didn['’]t|cannot|can['’]t|can not|can) )*"
    rf"(?:see|find|spot|notice)\s*$"
    rf"|\b{_PICTURE} (?:does not|doesn['’]t|do not) (?:show|contain|include|have|feature|depict|display)\s*$"
    rf"|\b{_PICTURE} (?:shows|contains|has|features|includes)\s*$",
    re.IGNORECASE,
)
# What somebody supposes and does not say.
DOUBTS = words_of(
    "may might could would possibly perhaps maybe probably likely if unless suggesting suggests suggest implying implies "
    "indicating indicates often usually typically sometimes imagine imagining hoping hopes pretending whether"
)
_DOUBT_ENDS = frozenset(",;:") | {"but", "while", "there"}


def denied(text: str, words: list[Word], phrase: Phrase, before: tuple[int, bool] | None) -> bool:
    """Whether the sentence does not say that the thing is there.

    before: where the last phrase ended, and whether it was denied.
    """
    return _has_negator(words, phrase, before) or bool(_GONE.match(text, words[phrase.last - 1].end))


def is_absent(text: str, words: list[Word], phrase: Phrase, before: Phrase | None) -> bool:
    """Whether a denied thing is said to be nowhere in the picture, not only to be no part of something in it."""
    end = words[phrase.last - 1].end
    if _GONE.match(text, end):
        return True
    if not _SEEN_NOWHERE.match(text, end):
        return False
    if before is not None and before.absent and not _says_more(words, before, phrase):
        return True
    opening = text[words[0].start : words[phrase.first].start].rstrip()
    own = {word.text for word in words[phrase.first : phrase.content]}
    if not opening or opening.lower() in ("neither", "no,", "but"):
        return bool({"no", "neither"} & own) or opening.lower() == "neither"
    if _OF_BEING.search(opening):
        return True
    listed = words[phrase.first - 1].text in {"and", "but", ","}
    return "no" in own and listed and "without" not in opening.lower()


def _says_more(words: list[Word], before: Phrase, phrase: Phrase) -> bool:
    return not {word.text for word in words[before.last : phrase.first]} <= {",", "or", "nor", "and"}


def is_doubted(words: list[Word], at: int) -> bool:
    """Whether the clause before ``at`` only supposes what follows."""
    for index in range(at - 1, -1, -1):
        word = words[index].text
        if word in DOUBTS:
            return True
        if word in _DOUBT_ENDS:
            return False
    return False


def _has_negator(words: list[Word], phrase: Phrase, before: tuple[int, bool] | None) -> bool:
    own = [word.text for word in words[phrase.first : phrase.content]]
    if "no" in own or "neither" in own:
        return True
    if before is not None and before[1]:
        between = {word.text for word in words[before[0] : phrase.first]}
        if (between and between <= {",", "or", "nor"}) or (between <= {",", "and"} and not own):
            return True
    for index in range(phrase.first - 1, -1, -1):
        word = words[index].text
        following = words[index + 1].text
        if word in _CLAUSE_ENDS or (word == "," and own and own[0] != "any" and following in DETERMINERS):
            return False
        if word in {"and", ","} and (following in _NO_SUBJECT or is_verbal(following) or following in VERBS_S):
            return False
        if _NEGATORS.fullmatch(word):
            if word == "no":  # it denies its own noun, and what is listed with it
                return False
            return following not in {"only", "just", "but"}
    return False
