"""Words are alike when they are the same: nothing to install, no synonyms beyond the benchmark's own lists."""

from __future__ import annotations


def SIMILARITY(one: str, other: str) -> float:
    """
    >>> SIMILARITY("dog", "dog"), SIMILARITY("dog", "puppy")
    (1.0, 0.0)
    """
    return float(one == other)
