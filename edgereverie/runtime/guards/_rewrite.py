"""Taking claims out of a text so that what stays is a text: list items, then whole sentences."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from edgereverie.records import Claim
from edgereverie.text.english import is_plural

_SENTENCE = re.compile(r"\s*[^.!?\n]+[.!?]*")
_LINK = re.compile(r"\s*,\s*(?:and\s+)?|\s+and\s+")
_THERE = re.compile(r"\b(there)\s+(is|are)\s*$", re.IGNORECASE)
_TAIL = re.compile(r"(?:,?\s+)(?:with|next to|near|beside|behind|under|on|above|below|by|and)\s+$", re.IGNORECASE)
_PRONOUN = re.compile(r"\s*(?:it|its|they|their|these|those|both|this)\b", re.IGNORECASE)
_ARTICLE = re.compile(r"^(?:the|this|that|these|those|its|his|her|their)\s+", re.IGNORECASE)
_PLURAL_START = re.compile(
    r"^(?:two|three|four|five|six|seven|eight|nine|ten|several|some|many|few|\d{2,}|[2-9])\b", re.IGNORECASE
)


def without(text: str, claims: Sequence[Claim], wrong: Sequence[Claim]) -> str:
    """The text without the wrong claims, empty when nothing is left.

    A sentence without wrong claims stays as it is. From a list, the wrong items go. A wrong thing at a sentence's end that
    hangs on a preposition goes with it. Of any other sentence only its right claims stay, as "There is ...". A sentence
    that has no right claim goes, and with it those after it that speak of "it".
    """
    gone = {(claim.start, claim.end) for claim in wrong}
    kept: list[str] = []
    dropped = False
    for match in _SENTENCE.finditer(text):
        here = [claim for claim in claims if match.start() <= claim.start < match.end()]
        bad = [claim for claim in here if (claim.start, claim.end) in gone]
        if dropped and _PRONOUN.match(match.group()):
            continue
        good = [claim for claim in here if claim not in bad]
        dropped = bool(bad) and not good
        if dropped:
            continue
        kept.append(_mend(text, match.start(), match.end(), good, bad) if bad else match.group())
    return "".join(kept).strip()


def _mend(text: str, start: int, end: int, good: Sequence[Claim], bad: Sequence[Claim]) -> str:
    """One sentence that keeps its good claims. start, end: where it stands in ``text``."""
    begin = start + len(text[start:end]) - len(text[start:end].lstrip())
    stop = end - (len(text[begin:end]) - len(text[begin:end].rstrip(".!? ")))
    lead, close = text[start:begin], text[stop:end]
    items = _items(text, stop, sorted([*good, *bad], key=lambda claim: claim.start))
    inner = {id(claim) for item in items for claim in item[2][1:]}
    if len(items) > 1 and not any(id(claim) in inner for claim in bad):
        left = [text[a:b] for a, b, held in items if held[0] not in bad]
        return lead + _capital(_agree(text[begin : items[0][0]], left) + _join(left), begin == items[0][0]) + close
    if len(bad) == 1 and bad[0].end == stop and (tail := _TAIL.search(text[begin : bad[0].start])):
        return text[start : begin + tail.start()] + close
    names = [_ARTICLE.sub("", claim.text) if not _PLURAL_START.match(claim.text) else claim.text for claim in good]
    return lead + _there([_indefinite(name) for name in dict.fromkeys(names)]) + (close or ".")


def _items(text: str, stop: int, here: Sequence[Claim]) -> list[tuple[int, int, list[Claim]]]:
    """The sentence's list: each item from one claim to the next link, with all claims inside it, its own first."""
    begins = [here[0].start]
    for before, claim in pairwise(here):
        gap = text[before.end : claim.start]
        links = list(_LINK.finditer(gap))
        if links and links[-1].end() == len(gap):
            begins.append(claim.start)
    items = []
    for index, begin in enumerate(begins):
        if index + 1 == len(begins):
            end = stop
        else:
            block = text[begin : begins[index + 1]]
            end = begin + [link for link in _LINK.finditer(block) if link.end() == len(block)][-1].start()
        items.append((begin, end, [claim for claim in here if begin <= claim.start < end]))
    return items


def _join(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def _agree(lead: str, items: Sequence[str]) -> str:
    """Makes "There are" before what is now one thing "There is", and the other way round."""
    found = _THERE.search(lead)
    if found is None or (len(items) > 1 and found.group(2).lower() == "are"):
        return lead
    return f"{lead[: found.start()]}{found.group(1)} {_be(items[0])} "


def _there(names: Sequence[str]) -> str:
    return f"There {_be(names[0])} {_join(names)}"


def _be(name: str) -> str:
    words = name.split()
    return (
        "are"
        if _PLURAL_START.match(name) or (words[0].lower() not in ("a", "an", "one") and is_plural(words[-1]))
        else "is"
    )


def _indefinite(name: str) -> str:
    name = name[0].lower() + name[1:]
    first, last = name.split()[0], name.split()[-1]
    if first in ("a", "an", "one", "another", "some") or _PLURAL_START.match(name) or is_plural(last):
        return name
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _capital(text: str, at_start: bool) -> str:
    return text[0].upper() + text[1:] if at_start else text
