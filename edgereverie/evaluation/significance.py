"""Whether a difference of two runs can be chance: tests that pair the same questions, and the price of making many.

McNemar's test takes questions one by one, as if they were independent. The permutation test takes units (pictures) whole, and
any metric; where questions about one picture fail together it is the one to believe.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgereverie.evaluation.statistics import Formula

PERMUTATIONS = 9999
_BLOCK = 1 << 18
_EQUAL = 1e-12  # relative; sums in another order differ by less


@dataclass(frozen=True, slots=True)
class Chance:
    """How probable a difference at least as large is when nothing differs; nan where the metric is undefined.

    p: two-sided. resolution: the smallest p that this many permutations can tell; 0 for a test without draws. exact: all
    permutations were taken, not a sample of them.
    """

    p: float
    resolution: float = 0.0
    exact: bool = True


@dataclass(frozen=True, slots=True)
class McNemar:
    """Questions that one run alone has right: ``gained`` by the later, ``lost`` by it. p: exact, two-sided."""

    gained: int
    lost: int
    p: float


def mcnemar(before: np.ndarray, after: np.ndarray) -> McNemar:
    """From right (true) and wrong (false) of the same questions, (n,) each (McNemar 1947; exact binomial).

    >>> mcnemar(np.array([1, 1, 0, 0, 0]), np.array([1, 0, 1, 1, 1]))  # 2 * (C(4, 0) + C(4, 1)) / 2 ** 4
    McNemar(gained=3, lost=1, p=0.625)
    """
    before, after = np.asarray(before, bool), np.asarray(after, bool)
    if before.shape != after.shape:
        raise ValueError(f"Paired runs need the same questions, got {before.shape} and {after.shape}.")
    gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
    return McNemar(gained, lost, _two_sided(min(gained, lost), gained + lost))


def _two_sided(fewer: int, n: int) -> float:
    """2 P(X <= fewer) for X of Binomial(n, 1/2), at most 1."""
    term = total = 1
    for k in range(1, fewer + 1):  # whole numbers: right to the last digit, however small it gets
        term = term * (n - k + 1) // k
        total += term
    return min(1.0, 2 * total / 2**n)


def permutation_tests(
    before: np.ndarray,
    after: np.ndarray,
    formulas: Sequence[Formula],
    *,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> list[Chance]:
    """For each formula, the share of ways to swap the two runs unit by unit that differ at least as much.

    before, after: (units, columns) counts, row i of both the same unit. Units without a difference are left out: swapping them
    changes nothing. All 2 ** units ways are taken where they are no more than ``permutations``; else so many are drawn, and the
    observed one is counted among them, so that p is never 0 (Phipson and Smyth 2010). A way that leaves the metric undefined
    counts as extreme.
    """
    if before.shape != after.shape:
        raise ValueError(f"Paired runs need the same units and columns, got {before.shape} and {after.shape}.")
    before, after = np.asarray(before, np.float64), np.asarray(after, np.float64)
    a, b, change = before.sum(axis=0), after.sum(axis=0), after - before
    change = change[change.any(axis=1)]
    observed = [float(formula(b) - formula(a)) for formula in formulas]
    exact = 2 ** len(change) <= permutations
    ways = 2 ** len(change) if exact else permutations
    extreme = np.zeros(len(formulas), np.int64)
    rng = np.random.default_rng(seed)
    step = max(1, _BLOCK // max(1, len(change)))
    for start in range(0, ways, step):
        numbers = np.arange(start, min(start + step, ways))
        swapped = _every(numbers, len(change)) if exact else _drawn(rng, len(numbers), len(change))
        moved = swapped @ change
        for place, formula in enumerate(formulas):
            found = np.abs(formula(b - moved) - formula(a + moved))
            least = abs(observed[place])
            extreme[place] += np.count_nonzero(~(found < least - _EQUAL * max(1.0, least)))
    own = 0 if exact else 1
    return [
        Chance(math.nan if math.isnan(value) else float((count + own) / (ways + own)), 1 / (ways + own), exact)
        for value, count in zip(observed, extreme, strict=True)
    ]


def _every(numbers: np.ndarray, units: int) -> np.ndarray:
    return ((numbers[:, None] >> np.arange(units)) & 1).astype(np.float64)


def _drawn(rng: np.random.Generator, rows: int, units: int) -> np.ndarray:
    bits = np.unpackbits(np.frombuffer(rng.bytes(rows * -(-units // 8)), np.uint8).reshape(rows, -1), axis=1)
    return bits[:, :units].astype(np.float64)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values adjusted for being several, in their order (Holm 1979); undefined ones stay so and are not counted.

    Calling those of at most 5 % differences makes a false call in at most 5 % of such families, however the tests hang together.

    >>> holm([0.01, 0.04, 0.03])  # 3 * 0.01, then 2 * 0.03, then the larger of 0.06 and 0.04
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, np.float64)
    order = np.argsort(np.where(np.isnan(p), np.inf, p), kind="stable")
    tests = int(np.count_nonzero(~np.isnan(p)))
    adjusted, largest = np.full(len(p), np.nan), 0.0
    for rank, place in enumerate(order[:tests]):
        largest = max(largest, min(1.0, (tests - rank) * p[place]))
        adjusted[place] = largest
    return adjusted.tolist()
