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
    with pytest.raises(ValueError, match="same images"):
        s.paired_bootstrap(np.ones((3, 4)), np.ones((4, 4)), [s.accuracy])


def test_spread_over_seeds() -> None:
    found = s.spread("chair/table/chair_i", [0.1, 0.2, 0.3])
    assert (found.mean, found.deviation) == pytest.approx((0.2, 0.1))  # sqrt((0.01 + 0 + 0.01) / 2)
    assert math.isnan(s.spread("chair/table/chair_i", [0.1]).deviation)
    with pytest.raises(ValueError, match="at least one"):
        s.spread("chair/table/chair_i", [])
