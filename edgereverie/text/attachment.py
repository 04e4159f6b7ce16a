"""What hangs on what: a phrase on the one before it by a preposition or a verb, and whose doing a participle is."""

from __future__ import annotations

from edgereverie.text.english import PREPOSITIONS, VERBS_BASE, VERBS_S, is_verbal, words_of
from edgereverie.text.noun_phrases import Phrase, Word

_VERBS = VERBS_S | VERBS_BASE
# What people and animals do, not the things about them: the jacket of a man is not riding a horse.
_DEEDS = words_of(
    "riding holding wearing eating drinking playing using carrying reading watching walking pushing pulling throwing "
    "catching swinging looking talking smiling posing running jumping skiing surfing"
)
_PLACING = words_of("in on at down along across over through")
_CLOTHING = words_of("in with wearing")


def owners_of(words: list[Word], phrases: list[Phrase]) -> list[int | None]:
    """For each phrase the one that it hangs on by a preposition or a verb, None for one that stands by itself."""
    out: list[int | None] = []
    for index, phrase in enumerate(phrases):
        before = words[phrase.first - 1].text if phrase.first else ""
        hangs = before in PREPOSITIONS or (
            index > 0 and words[phrases[index - 1].last].text not in (",", "and", ";") and is_doing(before)
        )
        out.append(index - 1 if hangs and index > 0 else None)
    return out


def grammatical_subject(phrases: list[Phrase], index: int, owners: list[int | None]) -> Phrase:
    """What hangs on a preposition is no subject; but of the colour of the ring, the ring."""
    root = index
    while (above := owners[root]) is not None and phrases[root].thing:
        if phrases[above].subject in ("color", "colour", "size"):
            break
        root = above
    return phrases[root]


def doer(words: list[Word], phrases: list[Phrase], index: int, owner: int, root: int) -> Phrase | None:
    """Whose doing a participle behind a hanging phrase is; None where two could be meant."""
    phrase = phrases[index]
    tie = words[phrase.first - 1].text
    if tie == "with":
        return phrase
    if words[phrase.last].text in _DEEDS:
        return phrases[root] if tie in _PLACING | _CLOTHING and owner == root else None
    return None if tie == "in" and words[phrase.last].text.endswith("ing") else phrase


def is_doing(word: str) -> bool:
    return is_verbal(word) or word in _VERBS
