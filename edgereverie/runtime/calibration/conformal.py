"""Promises that hold on average over the draw of calibration and test items, for any score: conformal prediction.

An item is one answer to one picture; items must be exchangeable, so no two of them share a picture. Sources: split
conformal prediction (Vovk et al. 2005); conformal factuality (Mohri and Hashimoto 2024); conformal risk control
(Angelopoulos et al. 2022).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgereverie.runtime.calibration.tails import conformal_rank

Claims = tuple[np.ndarray, np.ndarray]
"""One answer: its claims' scores, and whether each is true."""


def quantile(values: np.ndarray, alpha: float) -> float:
    """The conformal quantile: a new exchangeable value lies at or under it with probability at least 1 - alpha.

    Infinite when there are too few values to say so.

    >>> quantile(np.arange(1.0, 10.0), 0.1), quantile(np.arange(1.0, 9.0), 0.1)
    (9.0, inf)
    """
    rank = conformal_rank(len(values), alpha)
    return float(np.sort(values)[rank - 1]) if rank <= len(values) else math.inf


def claim_filter(answers: Sequence[Claims], alpha: float) -> float:
    """Keep claims that score above this: P(every kept claim is true) >= 1 - alpha.

    The quantile of each answer's highest false claim, minus infinity where none is false.
    """
    worst = np.array([max(scores[~np.asarray(true, bool)], default=-math.inf) for scores, true in answers])
    return quantile(worst, alpha)


def false_share(answers: Sequence[Claims], threshold: float) -> np.ndarray:
    """Each answer's loss: false claims that score above the threshold, as a share of all its claims; 0 without claims."""
    losses = [
        np.count_nonzero((scores > threshold) & ~np.asarray(true, bool)) / max(1, len(scores))
        for scores, true in answers
    ]
    return np.array(losses, dtype=np.float64)


def risk_control(answers: Sequence[Claims], alpha: float) -> float:
    """Keep claims that score above this: E[false kept / all claims] <= alpha.

    The smallest threshold, of minus infinity and the claims' own scores, with n/(n+1) times the mean loss plus 1/(n+1) at
    most alpha; the loss falls as the threshold rises. Infinite when there are too few answers.
    """
    n = len(answers)
    bound = (n + 1) * alpha - 1  # of the summed losses
    if bound < -1e-12:
        return math.inf
    scores = np.concatenate([np.asarray(one, np.float64) for one, _ in answers]) if n else np.empty(0)
    shares = (
        np.concatenate([(1 - np.asarray(true, np.float64)) / max(1, len(one)) for one, true in answers])
        if n
        else np.empty(0)
    )
    if shares.sum() <= bound + 1e-12:
        return -math.inf
    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    kept = shares.sum() - np.cumsum(shares[order])
    last = np.r_[ranked[1:] != ranked[:-1], True]  # of equal scores, all go together
    good = np.flatnonzero(last & (kept <= bound + 1e-12))
    return float(ranked[good[0]])


def set_threshold(truth_probabilities: np.ndarray, alpha: float) -> float:
    """Take every answer y with 1 - p(y) at most this into the set: P(truth in set) >= 1 - alpha.

    truth_probabilities: (items,), what was given to the right answer.
    """
    return quantile(1.0 - truth_probabilities, alpha)


def answers_needed(alpha: float) -> int:
    """The fewest items with which any of these can promise anything: 1 / (n + 1) <= alpha.

    >>> answers_needed(0.1), answers_needed(0.05), answers_needed(0.2)
    (9, 19, 4)
    """
    n = 1
    while conformal_rank(n, alpha) > n:
        n += 1
    return n
