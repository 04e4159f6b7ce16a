"""How alike two words are, for benchmarks that forgive synonyms: one module for each way, which exposes ``SIMILARITY``.

A similarity is a function of two words, 1 for the same and 0 for nothing in common. Its choice moves the figures, so it stands in
the scorer's name. Packages outside add theirs by the entry-point group ``edgereverie.evaluation.similarities``. One that takes
more than is always there has an attribute ``available``, which tells whether it can be used.
"""

from __future__ import annotations

from collections.abc import Callable

Similarity = Callable[[str, str], float]


def available(similarity: Similarity) -> bool:
    """Whether all is installed that it takes."""
    return getattr(similarity, "available", True)
