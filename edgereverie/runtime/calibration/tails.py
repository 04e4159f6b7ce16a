"""Binomial tails and what they imply about a rate, to the last digits that matter, with numpy alone."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache

import numpy as np


@lru_cache(maxsize=32)
def _log_choices(n: int) -> np.ndarray:
    """log of n over k, for k = 0 .. n."""
    logs = np.array([math.lgamma(k + 1) for k in range(n + 1)])
    return logs[n] - logs - logs[::-1]


def binomial_tail(k: int, n: int, rate: float) -> float:
    """P(X <= k) for X ~ Binomial(n, rate).

    >>> round(binomial_tail(0, 22, 0.1), 6) == round(0.9**22, 6), binomial_tail(5, 5, 0.3)
    (True, 1.0)
    """
    if not (0 <= rate <= 1 and n >= 0):
        raise ValueError(f"A binomial has n >= 0 and a rate in [0, 1], got n={n}, rate={rate}.")
    if k < 0:
        return 0.0
    if k >= n or rate == 0:
        return 1.0
    if rate == 1:
        return 0.0
    counts = np.arange(k + 1)
    logs = _log_choices(n)[: k + 1] + counts * math.log(rate) + (n - counts) * math.log1p(-rate)
    return min(1.0, math.fsum(np.exp(logs).tolist()))


def rate_at_most(k: int, n: int, delta: float) -> float:
    """Clopper and Pearson's upper bound: with probability at least 1 - delta the rate that gave k of n is no larger.

    >>> rate_at_most(5, 5, 0.1), round(rate_at_most(0, 50, 0.05), 12) == round(1 - 0.05 ** (1 / 50), 12)
    (1.0, True)
    """
    _require(delta, "delta")
    if not 0 <= k <= n:
        raise ValueError(f"{k} of {n} is no count.")
    if k == n:
        return 1.0
    low, high = k / n, 1.0
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if binomial_tail(k, n, middle) > delta else (low, middle)
    return high


def rate_at_least(k: int, n: int, delta: float) -> float:
    """The lower bound of the same kind.

    >>> rate_at_least(0, 5, 0.1), round(rate_at_least(5, 5, 0.1), 12) == round(0.1 ** (1 / 5), 12)
    (0.0, True)
    """
    return 1.0 - rate_at_most(n - k, n, delta)


def conformal_rank(n: int, alpha: float) -> int:
    """ceil((n + 1)(1 - alpha)), the rank of the conformal quantile; alpha is read as the decimal that it was written as.

    In floats (n + 1)(1 - alpha) can fall on either side of a whole number, and the rank would be off by one.

    >>> conformal_rank(150, 0.2), conformal_rank(9, 0.1), conformal_rank(19, 0.05)
    (121, 9, 19)
    """
    _require(alpha, "alpha")
    return n + 1 - math.floor((n + 1) * Fraction(repr(float(alpha))))


def _require(value: float, name: str) -> None:
    if not 0 < value < 1:
        raise ValueError(f"{name} is a probability between 0 and 1, got {value}.")
