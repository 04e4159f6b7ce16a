"""Taking claims out of a text so that what stays is a text that claims the rest and nothing new."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edgereverie.records import Claim
from edgereverie.runtime.guards._edits import softened, tidy, without_one
from edgereverie.runtime.guards._retell import plainly, retold
from edgereverie.text.assertions import Assertion
from edgereverie.text.claims import claims as read
from edgereverie.text.claims import stated
from edgereverie.text.english import words_of
from edgereverie.text.noun_phrases import SENTENCE

Key = tuple[str, str, str, str, bool]
_PRONOUNS = words_of("it its they their these those both this he she his her")


def without(text: str, claims: Sequence[Claim], wrong: Sequence[Claim]) -> str:
    """The text without the wrong claims, empty when nothing is left.

    What goes with a wrong claim: the same claim made elsewhere, and with a thing all that is said of it. A sentence loses
    the words of the claim where it stays a sentence without them, else the claim is told as a possibility, else what is
    right in it is told anew. A sentence of which nothing right stays goes as a whole. Everything that is put in its place
    is read again, and taken only when it makes the same claims as before without the wrong ones.
    """
    gone = closure([stated(claim.statement).key for claim in claims], [stated(claim.statement).key for claim in wrong])
    if not gone:
        return text
    kept, dropped, break_ = "", False, ""
    for match in SENTENCE.finditer(text):
        here = [claim for claim in read("", text[: match.end()]) if claim.start >= match.start()]
        good = [claim for claim in here if claim.key not in gone and not _rests_on(claim.key, gone)]
        left = ""
        if good or not (dropped and _begins_with_pronoun(match.group())):
            left = _mended(kept, match.group(), match.start(), here, good)
            dropped = not left and bool(here)
        if left:
            kept, break_ = _joined(kept, break_, left), ""
        break_ = max(break_, _break_after(match.group()), key=len)
    return kept.strip()


def _joined(kept: str, break_: str, sentence: str) -> str:
    """A sentence behind what was kept; where a paragraph ended between them, it still does."""
    if not kept:
        return sentence.lstrip()
    return kept.rstrip() + (break_ or " ") + sentence.lstrip()


def _break_after(sentence: str) -> str:
    return "\n" * sentence[len(sentence.rstrip()) :].count("\n")


def closure(keys: Sequence[Key], wrong: Sequence[Key]) -> set[Key]:
    """The wrong ones, and with a thing that is not there everything that is said of it.

    >>> ring, red = ("object", "ring", "", "", True), ("attribute", "ring", "red", "", True)
    >>> closure([ring, red], [ring]) == {ring, red}, closure([ring, red], [red]) == {red}
    (True, True)
    """
    gone = set(wrong)
    return gone | {key for key in keys if _rests_on(key, gone)}


def _rests_on(key: Key, gone: set[Key]) -> bool:
    _, subject, _, other, _ = key
    things = {name for kind, name, _, _, present in gone if kind == "object" and present}
    return key not in gone and bool({subject, subject.split()[-1], other} & things) and key[4]


def _mended(kept: str, sentence: str, start: int, here: Sequence[Assertion], good: Sequence[Assertion]) -> str:
    """A sentence that makes its good claims and no others, behind what was kept before it."""
    wanted = {claim.key for claim in good}
    before = {claim.key for claim in read("", kept)}
    if len(good) == len(here) and _claimed(kept, sentence) == wanted:
        return sentence
    bare = sentence.strip()
    if not wanted - before:
        cut = _cut(kept, bare, {claim.key for claim in here} - wanted, soften=False) if wanted else None
        return tidy(cut) if cut is not None and _claimed(kept, cut) == wanted else ""
    bad = {claim.key for claim in here} - wanted
    cut = _cut(kept, bare, bad, soften=True)
    if cut is not None and _claimed(kept, cut) == wanted:
        return tidy(cut)
    local = [_moved(claim, -(start + len(sentence) - len(sentence.lstrip()))) for claim in good]
    for told in (retold(bare, local, before), plainly([claim for claim in good if claim.key not in before])):
        if told and _claimed(kept, told) <= wanted | before and wanted <= _claimed(kept, told) | before:
            return tidy(told)
    return tidy(plainly([claim for claim in good if _claimed(kept, claim.statement) <= wanted | before]))


def _cut(kept: str, sentence: str, bad: set[Key], *, soften: bool) -> str | None:
    """The sentence after small cuts, one claim at a time; soften: where none will do, the claim becomes a possibility.

    None where a claim resists.
    """
    for _ in range(2 * len(bad) + 2):
        found = _heard(kept, sentence)
        wrong = [claim for claim in found if claim.key in bad]
        if not wrong:
            return sentence
        everything = {one.key for one in found}
        # A thing goes with what is said of it; what is said goes from the end, so that the rest keeps its place.
        for claim in sorted(wrong, key=lambda one: (one.kind == "object", one.start), reverse=True):
            choices = without_one(sentence, claim, [one for one in found if one.kind == "object"])
            if soften and claim.kind in ("attribute", "position") and claim.present:
                choices.append(softened(sentence, claim))
            cut = _first_that_keeps(kept, choices, claim.key, everything - bad, everything)
            if cut is not None:
                sentence = cut
                break
        else:
            return None
    return None


def _first_that_keeps(kept: str, choices: Sequence[str], gone: Key, stay: set[Key], all_of_it: set[Key]) -> str | None:
    for choice in choices:
        claimed = _claimed(kept, choice)
        if gone not in claimed and stay <= claimed <= all_of_it:
            return choice
    return None


def _heard(kept: str, sentence: str) -> list[Assertion]:
    """The claims of a sentence behind what was kept, counted from its own beginning."""
    ahead = f"{kept.rstrip()} " if kept.strip() else ""
    return [_moved(claim, -len(ahead)) for claim in read("", ahead + sentence) if claim.start >= len(ahead)]


def _claimed(kept: str, sentence: str) -> set[Key]:
    return {claim.key for claim in _heard(kept, sentence.strip())}


def _moved(claim: Assertion, by: int) -> Assertion:
    return replace(claim, start=claim.start + by, end=claim.end + by)


def _begins_with_pronoun(sentence: str) -> bool:
    words = sentence.split()
    return bool(words) and words[0].lower().strip(",.") in _PRONOUNS
