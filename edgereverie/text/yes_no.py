"""Reading yes or no out of a free answer, one function for each published rule.

Scorers disagree on the same text, so the rule is part of a metric's name: a report says ``pope/official``, never just
POPE. Another scorer's rule is another function here.
"""

from __future__ import annotations

_NEGATIONS = frozenset(("No", "not", "no"))


def pope_official(text: str) -> bool:
    """Whether POPE's own scorer takes the answer for a yes.

    The rule of ``evaluate.py`` in AoiDragon/POPE, and of LLaVA's ``eval_pope.py``: keep what stands before the first
    full stop, delete commas, split on single spaces; one token that is exactly ``No``, ``not`` or ``no`` makes it a no,
    anything else is a yes. Its quirks are kept, because published figures contain them.

    >>> pope_official("Yes, there is a ring."), pope_official("No, there is no ring.")
    (True, False)
    >>> pope_official("NO"), pope_official(""), pope_official("1. No")
    (True, True, True)
    >>> pope_official("Yes, there is no doubt")
    False
    """
    first = text.split(".", 1)[0].replace(",", "")
    return _NEGATIONS.isdisjoint(first.split(" "))
