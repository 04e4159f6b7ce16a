"""Scores with their uncertainty: counts per image, intervals by resampling images, differences of two runs.

Questions about one picture are not independent: a picture that is misread fails them together. So the picture is what
gets resampled, never the single question. A rate whose denominator is zero is ``nan``: it is written as null, printed
as "n/a", and takes no part in an interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

RESAMPLES = 1000
_BLOCK = (
    1 << 18
)  # numbers drawn at once: bounds the memory at some 10 MB however many units there are, and fits a cache

Formula = Callable[[np.ndarray], np.ndarray]
"""Sums of counts (..., columns) -> the metric (...), nan where it is undefined."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure made of summed counts, and how people read it.

    name: last part of a score's name (``accuracy``). better: which way is good, None where neither is. share: a
    fraction of one, printed in percent.
    """

    name: str
    title: str
    formula: Formula
    better: str | None = "higher"
    share: bool = True


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its two-sided 95 % interval; all three nan where the value is undefined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class SeedSpread:
    """One metric over training seeds. deviation: of the sample (n - 1), nan for a single seed."""

    metric: str
    mean: float
    deviation: float
    values: tuple[float, ...]


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Element-wise quotient, nan where the denominator is zero.

    >>> ratio(np.array([1, 1]), np.array([4, 0])).tolist()
    [0.25, nan]
    """
    top, bottom = np.broadcast_arrays(np.asarray(numerator, np.float64), np.asarray(denominator, np.float64))
    return np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom != 0)


# Columns TP, FP, TN, FN with "yes" as the positive class, as POPE counts them.
YES_NO_COLUMNS = ("TP", "FP", "TN", "FN")


def accuracy(counts: np.ndarray) -> np.ndarray:
    """Share of right answers.

    >>> float(accuracy(np.array([3, 1, 5, 1])))
    0.8
    """
    tp, fp, tn, fn = np.moveaxis(counts, -1, 0)
    return ratio(tp + tn, tp + fp + tn + fn)


def precision(counts: np.ndarray) -> np.ndarray:
    """Share of yes answers that are right.

    >>> float(precision(np.array([3, 1, 5, 1])))
    0.75
    """
    tp, fp, _, _ = np.moveaxis(counts, -1, 0)
    return ratio(tp, tp + fp)


def recall(counts: np.ndarray) -> np.ndarray:
    """Share of things that are there and were found.

    >>> float(recall(np.array([3, 1, 5, 1])))
    0.75
    """
    tp, _, _, fn = np.moveaxis(counts, -1, 0)
    return ratio(tp, tp + fn)


def f1(counts: np.ndarray) -> np.ndarray:
    """Harmonic mean of precision and recall, as 2 TP / (2 TP + FP + FN): defined also where nothing was found.

    >>> float(f1(np.array([3, 1, 5, 1]))), float(f1(np.array([0, 0, 5, 1])))
    (0.75, 0.0)
    """
    tp, fp, _, fn = np.moveaxis(counts, -1, 0)
    return ratio(2 * tp, 2 * tp + fp + fn)


def yes_ratio(counts: np.ndarray) -> np.ndarray:
    """Share of questions answered with yes: far from the share of true yes, a model has a bias.

    >>> float(yes_ratio(np.array([3, 1, 5, 1])))
    0.4
    """
    tp, fp, tn, fn = np.moveaxis(counts, -1, 0)
    return ratio(tp + fp, tp + fp + tn + fn)


def d_prime(counts: np.ndarray) -> np.ndarray:
    """How well yes is told from no, in standard deviations: z(hit rate) - z(false alarm rate). A habit of saying yes leaves it.

    counts: TP, FP, TN, FN first. The rates are (TP + 1/2) / (P + 1) and (FP + 1/2) / (N + 1), so that all or none right is
    finite (Hautus' log-linear rule; Stanislaw and Todorov, Behavior Research Methods 31, 1999). nan where one kind of question
    is not asked.

    >>> round(float(d_prime(np.array([16, 5, 15, 4]))), 6)  # z(16.5 / 21) - z(5.5 / 21)
    1.429123
    """
    hits, alarms = _z_rates(counts)
    return hits - alarms


def criterion(counts: np.ndarray) -> np.ndarray:
    """The habit alone: -(z(hit rate) + z(false alarm rate)) / 2 with the same rates; under 0 leans to yes, above to no.

    >>> round(float(criterion(np.array([18, 10, 10, 2]))), 6) == round(float(-criterion(np.array([10, 2, 18, 10]))), 6)
    True
    """
    hits, alarms = _z_rates(counts)
    return -(hits + alarms) / 2


def _z_rates(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    tp, fp, tn, fn = np.moveaxis(np.asarray(counts, np.float64)[..., :4], -1, 0)
    present, absent = tp + fn, fp + tn
    asked = (present > 0) & (absent > 0)
    return tuple(np.where(asked, _z((said + 0.5) / (of + 1)), np.nan) for said, of in ((tp, present), (fp, absent)))


_z = np.vectorize(NormalDist().inv_cdf, otypes=[np.float64])


def drawn_units(units: int, *, resamples: int = RESAMPLES, seed: int = 0) -> Iterator[np.ndarray]:
    """How often each unit is drawn when as many are drawn with replacement: blocks of (rows, units), in all ``resamples`` rows.

    Equal seeds and equal numbers of units draw the same ones, whatever is counted about them.
    """
    rng = np.random.default_rng(seed)
    step = max(1, _BLOCK // max(1, units))
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        places = rng.integers(0, units, size=(rows, units), dtype=np.int32) + np.arange(rows)[:, None] * units
        yield np.bincount(places.ravel(), minlength=rows * units).reshape(rows, units)


def resampled_sums(per_unit: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Column sums of ``resamples`` draws of the units with replacement: (units, columns) -> (resamples, columns)."""
    counts = np.asarray(per_unit, np.float64)
    drawn = drawn_units(len(counts), resamples=resamples, seed=seed)
    return np.concatenate([weights.astype(np.float64) @ counts for weights in drawn])


def bootstrap(
    per_unit: np.ndarray, formulas: Sequence[Formula], *, resamples: int = RESAMPLES, seed: int = 0
) -> list[Interval]:
    """Each formula's value on all units and its 95 % percentile interval (Efron), all from the same draws.

    per_unit: (units, columns) counts. Without units, everything is nan.
    """
    if len(per_unit) == 0:
        return [Interval(math.nan, math.nan, math.nan) for _ in formulas]
    total = per_unit.sum(axis=0)
    sums = resampled_sums(per_unit, resamples=resamples, seed=seed)
    return [interval_of(float(formula(total)), formula(sums)) for formula in formulas]


def paired_bootstrap(
    before: np.ndarray, after: np.ndarray, formulas: Sequence[Formula], *, resamples: int = RESAMPLES, seed: int = 0
) -> list[Interval]:
    """After minus before, per formula, where row i of both is the same unit: each draw takes a unit from both runs.

    The pairing cancels what makes a picture hard for everyone, so a difference can be certain although the two
    separate intervals overlap. Raises ValueError when the two differ in shape.
    """
    if before.shape != after.shape:
        raise ValueError(f"Paired runs need the same units and columns, got {before.shape} and {after.shape}.")
    columns = before.shape[1]

    def difference(formula: Formula) -> Formula:
        return lambda both: formula(both[..., columns:]) - formula(both[..., :columns])

    differences = [difference(formula) for formula in formulas]
    return bootstrap(np.hstack([before, after]), differences, resamples=resamples, seed=seed)


def interval_of(value: float, draws: np.ndarray) -> Interval:
    """The middle 95 % of draws around a value; those that are undefined are left out."""
    defined = draws[~np.isnan(draws)]
    if math.isnan(value) or defined.size == 0:
        return Interval(math.nan, math.nan, math.nan)
    low, high = np.percentile(defined, (2.5, 97.5))
    return Interval(value, float(low), float(high))


def spread(metric: str, values: Sequence[float]) -> SeedSpread:
    """Mean and sample deviation of one metric over runs with different seeds.

    >>> spread("pope/random/accuracy", [0.8, 0.9]).deviation.__round__(4)
    0.0707
    """
    if not values:
        raise ValueError(f"{metric}: a spread needs at least one value.")
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return SeedSpread(metric, float(np.mean(values)), deviation, tuple(values))
