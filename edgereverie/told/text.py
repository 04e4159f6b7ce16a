"""Text of models and of files as a terminal may show it, and the sentences that follow an answer."""

from __future__ import annotations

import unicodedata

from edgereverie.records import Answer

_KEPT = "\n\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"


def printable(text: str) -> str:
    """The text with the same number of characters, none of which steers a terminal: no escapes, no turned direction.

    >>> printable("a\\x1b[2Jb\\tc")
    'a\\u241b[2Jb c'
    """
    if text.isprintable():
        return text
    return "".join(_shown(character) for character in text)


def _shown(character: str) -> str:
    if character.isprintable() or character in _KEPT:
        return character
    if character == "\t" or unicodedata.category(character) == "Zs":
        return " "
    return chr(0x2400 + ord(character)) if ord(character) < 32 else "\N{REPLACEMENT CHARACTER}"


def remarks(answer: Answer) -> list[str]:
    """What there is to say beside an answer, each in a sentence."""
    return [
        *([answer.reason] if answer.reason else []),
        *([f"guaranteed: {answer.guarantee}"] if answer.guarantee else []),
        *([f"cut at {answer.tokens} tokens, the longest that was allowed"] if answer.ended == "length" else []),
    ]
