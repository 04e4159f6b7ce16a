"""Sentences that are none: what a search by penalties digs up beside language, and why it is thrown away."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection

NO_WORD = "no word in it"
_LATIN_ENDS = 0x24F  # the last letter of Latin Extended-B; behind it a letter's Unicode name tells its script
_PATTERNS = (
    ("a word or phrase six times in a row", re.compile(r"(?i)\b(\w+(?:[^\w]+\w+){0,3})(?:[^\w]+\1\b){5}")),
    ("ten equal characters in a row", re.compile(r"(\S)\1{9}")),
    ("&nbsp; more than once", re.compile(r"(?:&nbsp;\s*){2}")),
    ("more than five line breaks", re.compile(r"(?:\n[^\n]*){6}")),
)


def fault_of(sentence: str, question: str) -> str | None:
    """Why the sentence is thrown away, or None.

    As published (repetitions, foreign scripts, emoji, runs of characters, &nbsp;, line breaks), but for two of its rules:
    every script is foreign that the question does not use, not three of them by name; and what is short is no fault, for
    "No." is an answer.

    >>> fault_of("A ring is left of a cone.", "What is seen?")
    >>> fault_of("ring ring ring ring ring ring", "What is seen?"), fault_of("A кольцо.", "What is seen?")
    ('a word or phrase six times in a row', 'strange characters')
    >>> fault_of("Слева кольцо.", "Что на картинке?"), fault_of("3.", "How many?")
    (None, 'no word in it')
    """
    if _strange(sentence, question):
        return "strange characters"
    if not any(letter.isalpha() for letter in sentence):
        return NO_WORD
    return next((reason for reason, pattern in _PATTERNS if pattern.search(sentence)), None)


def _strange(sentence: str, question: str) -> bool:
    """Emoji, broken and private characters, and letters of a script that neither the question nor Latin nor Greek is."""
    usual = {_script(letter) for letter in question if letter.isalpha()} | {"LATIN", "GREEK"}
    return any(_odd(one, usual) for one in sentence)


def _odd(one: str, usual: Collection[str]) -> bool:
    category = unicodedata.category(one)
    if category == "So":  # symbols: degree and copyright signs are no emoji
        return ord(one) > _LATIN_ENDS
    if category == "Cc":
        return one not in "\n\t\r"
    return category in ("Co", "Cn", "Cs") or (one.isalpha() and _script(one) not in usual)


def _script(letter: str) -> str:
    return "LATIN" if ord(letter) <= _LATIN_ENDS else unicodedata.name(letter, "").partition(" ")[0]
