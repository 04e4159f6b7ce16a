"""How well scores tell right from wrong, and how well probabilities tell how often; intervals by resampling pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

BINS = 15
RESAMPLES = 1000


def auroc(scores: np.ndarray, right: np.ndarray) -> float:
    """Probability that a right item scores higher than a wrong one, ties counting half; nan without either kind.

    >>> auroc(np.array([3.0, 1.0, 2.0]), np.array([1, 0, 0])), auroc(np.array([1.0, 1.0]), np.array([1, 0]))
    (1.0, 0.5)
    """
    right = np.asarray(right, bool)
    positive, negative = int(right.sum()), int((~right).sum())
    if not positive or not negative:
        return math.nan
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((ranks[right].sum() - positive * (positive + 1) / 2) / (positive * negative))


def average_precision(scores: np.ndarray, right: np.ndarray) -> float:
    """Precision averaged over the steps of recall; items of equal score are taken together.

    >>> round(average_precision(np.array([3.0, 2.0, 1.0]), np.array([1, 0, 1])), 4) == round((1 + 2 / 3) / 2, 4)
    True
    """
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(np.asarray(right, np.float64)[order])
    last = np.r_[np.diff(scores[order]) != 0, True]
    taken, hits = np.flatnonzero(last) + 1, hits[last]
    return float((np.diff(hits, prepend=0.0) * hits / taken).sum() / hits[-1]) if hits[-1] else math.nan


def brier(probabilities: np.ndarray, right: np.ndarray) -> float:
    """Mean squared distance of probability and label.

    >>> brier(np.array([0.5, 1.0]), np.array([1, 1]))
    0.125
    """
    return float(np.mean((probabilities - right) ** 2))


def ece(probabilities: np.ndarray, right: np.ndarray, bins: int = BINS) -> float:
    """Distance of mean probability and share of right items, over bins of equal width (low, high], weighted by their items.

    >>> ece(np.array([0.9, 0.9]), np.array([1, 0])).__round__(6)
    0.4
    """
    edges = np.linspace(0.0, 1.0, bins + 1)
    where = np.clip(np.searchsorted(edges, probabilities, side="left") - 1, 0, bins - 1)
    gap = np.bincount(where, weights=np.asarray(right, np.float64) - probabilities, minlength=bins)
    return float(np.abs(gap).sum() / len(probabilities))


def adaptive_ece(probabilities: np.ndarray, right: np.ndarray, bins: int = BINS) -> float:
    """The same over bins of equally many items (Nguyen and O'Connor, 2015); equal probabilities keep their order.

    Where most probabilities are near 1, bins of equal width put nearly all items in one.

    >>> adaptive_ece(np.array([0.9, 0.8, 0.2, 0.1]), np.array([1, 1, 0, 1]), bins=2).__round__(6)
    0.25
    """
    order = np.argsort(probabilities, kind="stable")
    gap = np.asarray(right, np.float64)[order] - probabilities[order]
    return float(sum(abs(part.sum()) for part in np.array_split(gap, bins)) / len(gap))


def risk_coverage(scores: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Share of wrong items among the k that score highest, k = 1 .. n; equal scores keep their order.

    >>> risk_coverage(np.array([0.1, 0.9]), np.array([0, 1])).tolist()
    [0.0, 0.5]
    """
    order = np.argsort(-scores, kind="stable")
    return np.cumsum(1.0 - np.asarray(right, np.float64)[order]) / np.arange(1, len(scores) + 1)


def aurc(scores: np.ndarray, right: np.ndarray) -> float:
    """AURC: the mean of ``risk_coverage``; 0 is perfect, the share of wrong items is chance."""
    return float(risk_coverage(scores, right).mean())


def coverage_at_risk(scores: np.ndarray, right: np.ndarray, alpha: float) -> float:
    """The largest share of items, taken from the top, with a risk of at most alpha; as measured, nothing is promised.

    >>> coverage_at_risk(np.array([4.0, 3.0, 2.0, 1.0]), np.array([1, 1, 0, 0]), 0.4)
    0.75
    """
    fine = np.flatnonzero(risk_coverage(scores, right) <= alpha)
    return float((fine[-1] + 1) / len(scores)) if len(fine) else 0.0


def resampled_auroc(
    scores: Sequence[np.ndarray],
    right: np.ndarray,
    groups: Sequence[object],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> np.ndarray:
    """The AUROC of each of several scores on draws of whole groups (pictures) with replacement: (resamples, scores).

    groups: (items,), what belongs together. Each draw is the same for all scores, so their differences are paired.
    """
    names, inverse = np.unique(np.asarray(groups), return_inverse=True)
    right = np.asarray(right, np.float64)
    ties = [np.unique(one, return_inverse=True)[1] for one in scores]
    rng = np.random.default_rng(seed)
    draws = np.empty((resamples, len(scores)))
    for row in draws:
        weight = np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names))[inverse]
        for column, tie in enumerate(ties):
            positive, negative = np.bincount(tie, weight * right), np.bincount(tie, weight * (1 - right))
            pairs = positive.sum() * negative.sum()
            better = positive @ (np.cumsum(negative) - negative / 2)
            row[column] = better / pairs if pairs else math.nan
    return draws


def interval(draws: np.ndarray) -> tuple[float, float]:
    """The middle 95 % of draws; undefined ones are left out, and without any it is nan."""
    defined = draws[~np.isnan(draws)]
    if not len(defined):
        return math.nan, math.nan
    low, high = np.percentile(defined, (2.5, 97.5))
    return float(low), float(high)
