"""Intervals and differences: hand arithmetic, closed forms, and what resampling by image must do."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgereverie.evaluation import statistics as s


def test_rates_by_hand() -> None:
    counts = np.array([6, 2, 10, 2])  # TP FP TN FN of 20
    assert float(s.accuracy(counts)) == pytest.approx(16 / 20)
    assert float(s.precision(counts)) == pytest.approx(6 / 8)
    assert float(s.recall(counts)) == pytest.approx(6 / 8)
    assert float(s.f1(counts)) == pytest.approx(2 * 0.75 * 0.75 / 1.5)
    assert float(s.yes_ratio(counts)) == pytest.approx(8 / 20)


def test_undefined_rates_are_nan_and_never_crash() -> None:
    nothing = np.zeros(4, dtype=int)
    assert all(math.isnan(float(rate(nothing))) for rate in (s.accuracy, s.precision, s.recall, s.f1, s.yes_ratio))
    only_no = np.array([[0, 0, 5, 0]] * 3)
    assert [math.isnan(i.value) for i in s.bootstrap(only_no, [s.precision, s.accuracy])] == [True, False]
    assert math.isnan(s.bootstrap(np.zeros((0, 4)), [s.accuracy])[0].low)


def test_draws_without_a_value_leave_the_interval_defined() -> None:
    rows = np.array([[1, 0, 0, 0]] + [[0, 0, 1, 0]] * 3)  # a third of the draws miss the only yes: (3/4)^4
    found = s.bootstrap(rows, [s.precision])[0]
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)


def test_interval_agrees_with_the_normal_approximation() -> None:
    n, right = 2000, 1400  # one question per image: deviation sqrt(p (1 - p) / n)
    rows = np.array([[1, 0, 0, 0]] * right + [[0, 0, 0, 1]] * (n - right))
    found = s.bootstrap(rows, [s.accuracy])[0]
    half = 1.96 * math.sqrt(0.7 * 0.3 / n)
    assert found.value == pytest.approx(0.7)
    assert found.low == pytest.approx(0.7 - half, abs=0.003)
    assert found.high == pytest.approx(0.7 + half, abs=0.003)


def test_questions_that_fail_together_widen_the_interval() -> None:
    together = np.array([[6, 0, 0, 0], [0, 0, 0, 6]] * 50)
    apart = np.array([[3, 0, 0, 3]] * 100)
    wide, narrow = s.bootstrap(together, [s.accuracy])[0], s.bootstrap(apart, [s.accuracy])[0]
    assert (narrow.low, narrow.high) == (0.5, 0.5)
    assert wide.high - wide.low == pytest.approx(2 * 1.96 * 0.5 / math.sqrt(100), rel=0.1)


def test_seeds_repeat_and_matter() -> None:
    rows = np.random.default_rng(1).integers(0, 3, size=(50, 4))
    assert s.bootstrap(rows, [s.f1], seed=4) == s.bootstrap(rows, [s.f1], seed=4)
    assert s.bootstrap(rows, [s.f1], seed=4) != s.bootstrap(rows, [s.f1], seed=5)


def test_every_draw_takes_as_many_images_as_there_are() -> None:
    assert np.all(s.resampled_sums(np.ones((37, 2)), resamples=20) == 37)


def test_drawing_in_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(1).integers(0, 3, size=(50, 4))
    whole = s.resampled_sums(rows, resamples=100)
    monkeypatch.setattr(s, "_BLOCK", 50 * 4 * 7)
    assert np.array_equal(whole, s.resampled_sums(rows, resamples=100))


def test_pairing_finds_a_difference_that_separate_intervals_hide() -> None:
    rng = np.random.default_rng(0)
    hard = rng.integers(0, 7, size=200)  # right answers of 6 on each image
    before = np.stack([hard, 0 * hard, 0 * hard, 6 - hard], axis=1)
    better = np.minimum(hard + (np.arange(200) % 5 == 0), 6)
    after = np.stack([better, 0 * hard, 0 * hard, 6 - better], axis=1)
    a, b = s.bootstrap(before, [s.accuracy])[0], s.bootstrap(after, [s.accuracy])[0]
    change = s.paired_bootstrap(before, after, [s.accuracy])[0]
    assert a.high > b.low
    assert 0 < change.low < change.value < change.high
    assert change.value == pytest.approx((better.sum() - hard.sum()) / 1200)


def test_equal_runs_differ_by_exactly_nothing_and_swapping_flips_the_sign() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 4, size=(2, 60, 4))
    assert s.paired_bootstrap(a, a, [s.f1])[0] == s.Interval(0.0, 0.0, 0.0)
    there, back = s.paired_bootstrap(a, b, [s.f1])[0], s.paired_bootstrap(b, a, [s.f1])[0]
    assert (there.value, there.low, there.high) == pytest.approx((-back.value, -back.high, -back.low))


def test_pairing_needs_the_same_images() -> None:
    with pytest.raises(ValueError, match="same units"):
        s.paired_bootstrap(np.ones((3, 4)), np.ones((4, 4)), [s.accuracy])


def test_spread_over_seeds() -> None:
    found = s.spread("chair/table/chair_i", [0.1, 0.2, 0.3])
    assert (found.mean, found.deviation) == pytest.approx((0.2, 0.1))  # sqrt((0.01 + 0 + 0.01) / 2)
    assert math.isnan(s.spread("chair/table/chair_i", [0.1]).deviation)
    with pytest.raises(ValueError, match="at least one"):
        s.spread("chair/table/chair_i", [])


@pytest.mark.parametrize(
    ("counts", "d_prime"),
    [  # TP FP TN FN of published answers to POPE, and d' as the reference gives it, from uncorrected rates
        ((1150, 40, 1460, 350), 2.66),
        ((1365, 482, 1018, 135), 1.80),
        ((1211, 161, 1339, 289), 2.11),
    ],
)
def test_d_prime_of_published_answers(counts: tuple[int, ...], d_prime: float) -> None:
    assert float(s.d_prime(np.array(counts))) == pytest.approx(d_prime, abs=0.011)


def test_signal_detection_is_scipy_s() -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy is the reference")
    counts = np.random.default_rng(0).integers(0, 40, size=(50, 4))
    tp, fp, tn, fn = counts.T.astype(float)
    hits, alarms = stats.norm.ppf((tp + 0.5) / (tp + fn + 1)), stats.norm.ppf((fp + 0.5) / (fp + tn + 1))
    asked = (tp + fn > 0) & (fp + tn > 0)
    assert s.d_prime(counts)[asked] == pytest.approx((hits - alarms)[asked], abs=1e-9)
    assert s.criterion(counts)[asked] == pytest.approx((-(hits + alarms) / 2)[asked], abs=1e-9)


def test_signal_detection_at_the_ends_and_without_one_kind_of_question() -> None:
    assert math.isfinite(float(s.d_prime(np.array([10, 0, 10, 0])))) and float(s.d_prime(np.array([5, 5, 5, 5]))) == 0
    assert math.isnan(float(s.d_prime(np.array([10, 0, 0, 2])))) and math.isnan(float(s.criterion(np.zeros(4))))
    assert float(s.criterion(np.array([10, 10, 0, 0]))) < 0 < float(s.criterion(np.array([0, 0, 10, 10])))


def test_draws_are_multinomial() -> None:
    drawn = np.concatenate(list(s.drawn_units(20, resamples=4000)))
    assert drawn.shape == (4000, 20) and np.all(drawn.sum(axis=1) == 20)
    # Each unit: Binomial(20, 1/20), of mean 1 and variance 19/20; two units: covariance -1/20.
    assert drawn.mean(axis=0) == pytest.approx(np.ones(20), abs=5 * math.sqrt(0.95 / 4000))
    covariance = np.cov(drawn.T)
    assert np.diag(covariance) == pytest.approx(np.full(20, 0.95), abs=0.12)
    assert covariance[~np.eye(20, dtype=bool)].mean() == pytest.approx(-0.05, abs=0.003)


def test_equal_seeds_draw_equal_units_whatever_is_counted() -> None:
    rng = np.random.default_rng(1)
    one, other = rng.integers(0, 9, (30, 2)), rng.integers(0, 9, (30, 5))
    both = s.resampled_sums(np.hstack([one, other]), seed=3)
    assert np.array_equal(both[:, :2], s.resampled_sums(one, seed=3))
    assert np.array_equal(both[:, 2:], s.resampled_sums(other, seed=3))
