"""Answering only when sure: a threshold under which the model stays silent, so that what it says is seldom wrong.

Both rules promise P(risk among answered <= alpha) >= 1 - delta over the draw of independent calibration items.
Sources: fixed-sequence testing as in Learn then Test (Angelopoulos et al. 2021); SGR (Geifman and El-Yaniv 2017).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgereverie.runtime.calibration.tails import binomial_tail, rate_at_most


@dataclass(frozen=True, slots=True)
class Selected:
    """Answer where the score is at least ``threshold``. answered, errors: on the calibration items. bound: the p-value of the
    fixed-sequence test, or SGR's bound on the risk.
    """

    threshold: float
    answered: int
    errors: int
    bound: float


def answered_from(scores: np.ndarray, right: np.ndarray, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many items score at least each threshold, and how many of them are wrong.

    >>> answered_from(np.array([0.9, 0.5, 0.7]), np.array([1, 0, 0]), np.array([0.7, 0.1]))
    (array([2, 3]), array([1, 2]))
    """
    order = np.argsort(scores, kind="stable")
    wrong = np.concatenate([[0], np.cumsum(1 - right[order].astype(int))])
    below = np.searchsorted(scores[order], thresholds, side="left")
    return len(scores) - below, wrong[-1] - wrong[below]


def fixed_sequence(
    scores: np.ndarray,
    right: np.ndarray,
    alpha: float,
    delta: float,
    *,
    thresholds: np.ndarray | None = None,
    least: int = 1,
) -> Selected | None:
    """The lowest threshold that a walk from the highest reaches while P(Binomial(n, alpha) <= errors) <= delta holds.

    scores, right: (items,), independent items. thresholds: fixed before these items were looked at, which makes every
    test exact; without them the items' own distinct scores are walked. least: thresholds that fewer items answer are passed
    over; what is passed over depends on scores alone. None when the first test fails or there is none.
    """
    walk = np.unique(scores if thresholds is None else thresholds)[::-1]
    last = None
    for threshold, n, errors in zip(walk, *answered_from(scores, right, walk), strict=True):
        if n < max(1, least):
            continue
        p = binomial_tail(int(errors), int(n), alpha)
        if p > delta:
            break
        last = Selected(float(threshold), int(n), int(errors), p)
    return last


def sgr(scores: np.ndarray, right: np.ndarray, alpha: float, delta: float) -> Selected | None:
    """SGR's threshold: bisection over the sorted scores, each bound at delta / ceil(log2 n), of which no more are drawn.

    The bound holds at every threshold visited, so the last that lies under alpha is taken; None when none does.
    """
    n = len(scores)
    if n < 2:
        return None
    steps = math.ceil(math.log2(n))
    order = np.argsort(scores, kind="stable")
    ranked, low, high, best = scores[order], 0, n - 1, None
    for _ in range(steps):
        middle = math.ceil((low + high) / 2)
        threshold = ranked[middle]
        counts, errors = answered_from(scores, right, np.array([threshold]))
        answered, wrong = int(counts[0]), int(errors[0])
        if binomial_tail(wrong, answered, alpha) < delta / steps:  # so the bound on the risk lies under alpha
            high, best = middle, (float(threshold), answered, wrong)
        else:
            low = middle
    if best is None:
        return None
    threshold, answered, wrong = best
    return Selected(threshold, answered, wrong, rate_at_most(wrong, answered, delta / steps))


def items_needed(alpha: float, delta: float, errors: int = 0) -> int:
    """The fewest answered items with which ``fixed_sequence`` can promise anything in spite of so many errors.

    Without errors: (1 - alpha)^n <= delta.

    >>> items_needed(0.1, 0.1), items_needed(0.1, 0.05), items_needed(0.05, 0.05), items_needed(0.01, 0.05)
    (22, 29, 59, 299)
    """
    low, high = errors, errors + 1  # the tail falls as n grows
    while binomial_tail(errors, high, alpha) > delta:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if binomial_tail(errors, middle, alpha) > delta else (low, middle)
    return high


def sgr_items_needed(alpha: float, delta: float) -> int:
    """The fewest items with which ``sgr`` can promise anything: all answered, none wrong.

    >>> n = sgr_items_needed(0.1, 0.1)
    >>> [rate_at_most(0, m, 0.1 / math.ceil(math.log2(m))) < 0.1 for m in (n - 1, n)]
    [False, True]
    """
    n = items_needed(alpha, delta)
    while 1 - (delta / math.ceil(math.log2(n + 1))) ** (1 / n) >= alpha:
        n += 1
    # Near a power of two one item less may leave one step less to pay for.
    while n > 2 and 1 - (delta / math.ceil(math.log2(n - 1))) ** (1 / (n - 1)) < alpha:
        n -= 1
    return n
