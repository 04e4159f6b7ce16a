"""The reward by which CSR's code tells sentences apart that were tried at one place."""

from __future__ import annotations

from collections.abc import Sequence


def costs(likely: Sequence[float], relevant: Sequence[float], weight: float) -> list[float]:
    """What each of the sentences costs, less being better: its ranks, 1/n the best and 1 the worst, weighed and summed.

    likely, relevant: larger is better; among equals the earlier comes first. weight: of relevance against likelihood
    (``inference_csr/construct.py`` of CSR, arXiv 2405.14622).

    >>> [round(cost, 2) for cost in costs([-0.5, -0.4], [20.0, 10.0], 0.9)]
    [0.55, 0.95]
    """
    return [(1 - weight) * _rank(at, likely) + weight * _rank(at, relevant) for at in range(len(likely))]


def _rank(at: int, values: Sequence[float]) -> float:
    ordered = sorted(range(len(values)), key=lambda other: -values[other])
    return (ordered.index(at) + 1) / len(values)
