"""The singular of a noun as ``pattern.en`` forms it, right or wrong, as far as CHAIR's objects can tell.

The scorer of Maxlinn and LisaAnne stands on ``singularize`` of clips/pattern, whose mistakes decide what counts as an object:
"bus" becomes "bu" and is no bus, "ties" becomes "ty", "canoes" "cano". The rules below are those that touch a word of
CHAIR's table or a part of its double words. Compared with pattern's own function on 687,000 words (every noun of WordNet
3.0 and its plurals, each word of the table with 240 endings and with letters changed, all words of published captions),
what comes out is in the table for the same words, and is the same there; elsewhere it may differ.
"""

from __future__ import annotations

import re

_UNCHANGED = frozenset(("scissors", "collies", "doggies"))
_ENDINGS = (
    # Irregular plurals, alone or at the end of a compound: "women", "grandchildren", "dormice".
    ("children", "child"), ("people", "person"), ("geese", "goose"), ("kine", "cow"), ("men", "man"), ("mice", "mouse"),
    ("ae", "a"), ("oes", "o"), ("buses", "bus"), ("xes", "x"), ("ches", "ch"), ("sses", "ss"), ("shes", "sh"),
    ("alves", "alf"), ("elves", "elf"), ("olves", "olf"), ("nives", "nife"),
)  # fmt: skip
_IES = re.compile("(?<=[^aeiouy])ies$")


def singular(word: str) -> str:
    """The word in lower case as one of its kind.

    >>> [singular(word) for word in ("dogs", "buses", "bus", "ties", "women", "knives", "canoes", "potties", "glass")]
    ['dog', 'bus', 'bu', 'ty', 'woman', 'knife', 'cano', 'potty', 'glas']
    """
    if word in _UNCHANGED:
        return word
    if word.startswith("oxen"):
        return "ox" + word[4:]
    for ending, single in _ENDINGS:
        if word.endswith(ending):
            return word[: -len(ending)] + single
    return _IES.sub("y", word) if _IES.search(word) else word.removesuffix("s")
