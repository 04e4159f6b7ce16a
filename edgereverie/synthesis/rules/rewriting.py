"""Edits of somebody's own sentence that make it false, and leave the rest of it as it is.

Three ways, as POVID's: a thing that is not there, a wrong attribute, a wrong relation. An edit is made only where the
grammar around it is plain and the annotations rule the new claim out; a sentence that denies or doubts is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from random import Random
from typing import NamedTuple

from edgereverie.synthesis.rules.facts import CLOSE, FAMILIES, Picture
from edgereverie.synthesis.rules.items import NUMBERS, capital
from edgereverie.synthesis.rules.names import exact_forms, forms, kind, many, noun, one
from edgereverie.text.english import (
    DETERMINERS,
    FUNCTION_WORDS,
    is_adjective,
    is_plural,
    is_verbal,
    singular,
    with_article,
    words_of,
)
from edgereverie.text.mentions import mentions


class Edit(NamedTuple):
    """``text[start:end]`` becomes ``new``."""

    start: int
    end: int
    new: str

    def apply(self, text: str) -> str:
        return text[: self.start] + self.new + text[self.end :]


_WORD = re.compile(r"[A-Za-z]+(?:['’-][A-Za-z]+)*|\d+|[^\w\s]")
_DOUBT = re.compile(
    r"\b(?:no|not|never|without|none|nobody|nothing|neither|nor|cannot|\w+n['’]t|or|may|might|maybe|perhaps|possibly|probably|"
    r"seems?|appears?|looks? like|as if|pretend\w*|fake|toy|statue|sculpture|cartoon|drawing|painting|reflection|reflected)\b",
    re.IGNORECASE,
)
_TAILS = (", with {a} nearby", ", with {a} in the background", ", and {a} can be seen as well")
_TAILS_OF_THINGS = (" next to {a}", " near {a}", " beside {a}")
_COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "black", "white", "brown")
# Words behind a colour that make it a name and no colour: orange juice, the White House.
_NAMED_BY_COLOUR = words_of(
    "juice slice slices peel wedge wedges half halves tree trees tea wine bread rice bean beans onion onions pepper peppers "
    "house water board boards sox bear bears panda pandas cheese jay carpet light lights flag belt card cap caps collar"
)
_ANTONYMS = {
    "small": "large", "large": "small", "big": "small", "tall": "short", "empty": "full", "full": "empty", "open": "closed",
    "closed": "open", "wooden": "metal", "metal": "wooden", "wet": "dry", "dry": "wet", "dirty": "clean", "clean": "dirty",
    "young": "elderly", "old": "new", "new": "old", "round": "square", "plastic": "wooden", "brick": "wooden",
}  # fmt: skip
_AGED = words_of("man woman lady gentleman couple person people men women")
_LIVING = ("person", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe")
_POSTURES = {
    "sitting": "standing", "standing": "sitting", "laying": "standing", "lying": "standing", "sleeping": "running",
    "running": "sleeping", "walking": "sitting", "jumping": "sitting",
}  # fmt: skip
_BENEATH = words_of("under underneath beneath below")
_DET = r"(?= (?:an?|the|his|her|its|their|some|two|three|another)\b)"
_SUPPORT = (
    r"(?=(?: (?:an?|the|his|her|its|their))(?: \w+)? "
    r"(?:table|bed|couch|sofa|bench|chair|desk|shelf|counter|plate|bridge|boat|car|truck|horse)\b)"
)
_RELATIONS = tuple(
    (re.compile(rf"(?<![\w-]){pattern}(?![\w-])"), new)
    for pattern, new in (
        (r"(?<=\bon the )left(?=(?: side)?\b(?! hand))", "right"), (r"(?<=\bon the )right(?=(?: side)?\b(?! hand))", "left"),
        (r"(?<=\bto the )left", "right"), (r"(?<=\bto the )right", "left"),
        (r"on top of", "underneath"), (r"in front of", "behind"), (rf"behind{_DET}", "in front of"), (rf"above{_DET}", "below"),
        (rf"below{_DET}", "above"), (rf"(?:under|underneath|beneath){_DET}", "on top of"), (rf"inside{_DET}", "outside"),
        (rf"inside(?= of{_DET})", "outside"), (rf"outside{_DET}", "inside"), (rf"outside(?= of{_DET})", "inside"),
        (rf"next to{_DET}", "far away from"), (rf"beside{_DET}", "far away from"), (rf"near{_DET}", "far away from"),
        (rf"towards?{_DET}", "away from"), (rf"into{_DET}", "out of"), (rf"out of{_DET}", "into"), (rf"on{_SUPPORT}", "under"),
        (rf"riding{_DET}", "standing next to"), (rf"wearing{_DET}", "holding"), (rf"entering{_DET}", "leaving"),
        (rf"leaving{_DET}", "entering"), (r"(?<=\bwalking )up", "down"), (r"(?<=\bwalking )down", "up"),
        (r"(?<=\bgoing )up", "down"), (r"(?<=\bgoing )down", "up"),
        (rf"pulling{_DET}", "pushing"), (rf"pushing{_DET}", "pulling"),
    )
)  # fmt: skip


def edits(text: str, picture: Picture, absent: Sequence[str], rng: Random) -> dict[str, list[Edit]]:
    """The safe edits of a sentence, by reason: ``co-occurrence``, ``attribute``, ``relation``; those possible, shuffled.

    absent: things that are not in the picture, the most confusing ones first.
    """
    if _DOUBT.search(text):
        return {"co-occurrence": [], "attribute": [], "relation": []}
    found = {
        "co-occurrence": [*_replaced(text, picture, absent), *_appended(text, absent, rng)],
        "attribute": [*_colours(text, picture, rng), *_numbers(text, picture, rng), *_antonyms(text, picture)],
        "relation": [*_relations(text, picture), *_postures(text, picture)],
    }
    for made in found.values():
        rng.shuffle(made)
    return found


def _put(text: str, start: int, end: int, new: str) -> Edit:
    """The edit with what it asks of the words around it: a or an before it, a capital where a sentence begins."""
    if text[start:end][:1].isupper() and start == 0:
        new = capital(new)
    before = re.search(r"(?<![\w'’-])([Aa]n?) $", text[:start])
    if before is not None:
        article = with_article(new).split(" ", 1)[0]
        if article != before[1].lower():
            return Edit(before.start(1), end, ("A" + article[1:] if before[1][0] == "A" else article) + " " + new)
    return Edit(start, end, new)


def _replaced(text: str, picture: Picture, absent: Sequence[str]) -> Iterator[Edit]:
    """A thing that is named, replaced by an absent one of the same kind: a cat for a dog."""
    for mention in mentions(text):
        name = next((n for n in picture.names if mention.subject in exact_forms(n) and kind(n) is not None), None)
        form = (
            next((f for f in sorted(forms(name), key=len, reverse=True) if _ends(mention.text, f)), "") if name else ""
        )
        other = next((n for n in absent if name and form and kind(n) == kind(name)), None)
        if other is None or text[mention.end :].startswith(("'s", "’s", "-")):
            continue
        new = many(other) if is_plural(form.split()[-1]) else noun(other)
        yield _put(text, mention.end - len(form), mention.end, new)


def _ends(phrase: str, form: str) -> bool:
    return bool(re.search(rf"(?<![\w-]){re.escape(form)}$", phrase, re.IGNORECASE))


def _appended(text: str, absent: Sequence[str], rng: Random) -> Iterator[Edit]:
    """An absent thing at the end of the sentence."""
    end = len(text.rstrip(" .!"))
    if absent and end and text[end - 1].isalpha() and not re.search(r"[.!?;:\"]", text[:end]):
        closes = any(mention.end == end for mention in mentions(text))
        yield Edit(end, end, rng.choice(_TAILS + _TAILS_OF_THINGS * closes).format(a=one(absent[0])))


def _colours(text: str, picture: Picture, rng: Random) -> Iterator[Edit]:
    words = list(_WORD.finditer(text))
    for index, word in enumerate(words):
        colour = word[0]
        before, after = _text(words, index - 1), _text(words, index + 1)
        if colour not in _COLOURS or before in ("and", "-", *_COLOURS) or after in ("and", "-", *_COLOURS):
            continue
        told_of = before in ("is", "are") and (after in ("", ".", ",") or after in FUNCTION_WORDS)
        if not (told_of or (_is_noun(after) and after not in _NAMED_BY_COLOUR)):
            continue
        options = [new for new in _COLOURS if new != colour and {new, colour} not in CLOSE and new not in picture.said]
        if options:
            yield _put(text, word.start(), word.end(), rng.choice(options))


def _numbers(text: str, picture: Picture, rng: Random) -> Iterator[Edit]:
    words = list(_WORD.finditer(text))
    for index, word in enumerate(words):
        number = NUMBERS.index(word[0].lower()) if word[0].lower() in NUMBERS[2:7] else 0
        at = index + 1
        while is_adjective(_text(words, at)) and at - index < 3:
            at += 1
        head = _text(words, at)
        if not number or not is_plural(head) or _text(words, index - 1) in ("of", "the", "-"):
            continue
        counted = [picture.counts.get(name) for name in picture.annotated.exhaustive if singular(head) in forms(name)]
        if counted and counted != [number]:
            continue  # people and annotators disagree, or nobody counted
        options = [new for new in range(2, 7) if new != number and NUMBERS[new] not in picture.said]
        if options:
            yield _put(text, word.start(), word.end(), NUMBERS[rng.choice(options)])


def _antonyms(text: str, picture: Picture) -> Iterator[Edit]:
    words = list(_WORD.finditer(text))
    for index, word in enumerate(words):
        new, before, after = _ANTONYMS.get(word[0]), _text(words, index - 1), _text(words, index + 1)
        if new is None or new in picture.said or not _is_noun(after) or "-" in (before, after):
            continue
        if word[0] in ("old", "new", "young") and (after in _AGED) != (word[0] == "young"):
            continue
        if before in DETERMINERS or is_adjective(before):
            yield _put(text, word.start(), word.end(), new)


def _relations(text: str, picture: Picture) -> Iterator[Edit]:
    for pattern, new in _RELATIONS:
        if new in picture.said or (new in _BENEATH and not _BENEATH.isdisjoint(picture.said)):
            continue  # somebody says just that of another thing
        for found in pattern.finditer(text):
            yield _put(text, found.start(), found.end(), new)


def _postures(text: str, picture: Picture) -> Iterator[Edit]:
    """What a living thing does: sitting for standing. A vase that sits on a table stands there, too."""
    ends = [m.end for m in mentions(text) if any(m.subject in forms(name) for name in _LIVING)]
    for found in re.finditer(r"\b(" + "|".join(_POSTURES) + r")\b(?![-'’])", text):
        new = _POSTURES[found[1]]
        if new not in picture.said and any(text[end : found.start()] in (" ", " is ", " are ") for end in ends):
            yield Edit(found.start(), found.end(), new)


def _text(words: Sequence[re.Match[str]], index: int) -> str:
    """The word there in lower case, empty outside."""
    return words[index][0].lower() if 0 <= index < len(words) else ""


def _is_noun(word: str) -> bool:
    """Whether a word may be the noun that the one before describes."""
    return (
        word.isalpha()
        and word not in FUNCTION_WORDS | DETERMINERS
        and not is_verbal(word)
        and word not in FAMILIES["colour"]
    )
