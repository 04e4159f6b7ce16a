"""Words are alike when they are the same: nothing to install, and no synonyms beyond the benchmark's own lists."""

from __future__ import annotations


def same(one: str, other: str) -> float:
    """
    >>> same("dog", "dog"), same("dog", "puppy")
    (1.0, 0.0)
    """
    return float(one == other)


SIMILARITY = same
