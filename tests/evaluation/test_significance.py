"""Tests of differences: hand arithmetic, scipy where it is installed, and what the null hypothesis must look like."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from edgereverie.evaluation import significance as g
from edgereverie.evaluation import statistics as s


def rows(right: list[int], of: int = 1) -> np.ndarray:
    return np.array([[one, 0, 0, of - one] for one in right])


@pytest.mark.parametrize(
    ("gained", "lost", "p"),
    [
        (0, 0, 1),  # nothing differs
        (5, 0, Fraction(2, 32)),  # 2 * C(5, 0) / 2^5
        (1, 9, Fraction(2 * (1 + 10), 1024)),
        (4, 4, 1),  # 2 * 163 / 256 is over 1
        (12, 5, Fraction(2 * (1 + 17 + 136 + 680 + 2380 + 6188), 2**17)),
    ],
)
def test_mcnemar_by_hand(gained: int, lost: int, p: Fraction) -> None:
    before = np.array([0] * gained + [1] * lost + [1, 1, 0])
    after = np.array([1] * gained + [0] * lost + [1, 1, 0])
    assert g.mcnemar(before, after) == g.McNemar(gained, lost, float(p))


@given(some.integers(0, 400), some.integers(0, 400))
def test_mcnemar_is_scipy_s_binomial_test(gained: int, lost: int) -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy is the reference")
    found = g.mcnemar(np.arange(gained + lost) < lost, np.arange(gained + lost) >= lost)
    expected = stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert found.p == pytest.approx(expected, rel=1e-9)


def test_mcnemar_needs_the_same_questions() -> None:
    with pytest.raises(ValueError, match="same questions"):
        g.mcnemar(np.ones(3), np.ones(4))


def test_few_units_are_permuted_in_every_way() -> None:
    # Three of four units gain one right answer, the fourth differs in nothing: of 2^3 ways all or none swapped differ by 3/4.
    before, after = rows([0, 0, 0, 1]), rows([1, 1, 1, 1])
    assert g.permutation_tests(before, after, [s.accuracy]) == [g.Chance(2 / 8, 1 / 8, True)]


def test_equal_runs_can_only_be_chance() -> None:
    same = rows([0, 1, 1])
    assert g.permutation_tests(same, same, [s.accuracy]) == [g.Chance(1.0, 1.0, True)]


def test_drawn_permutations_are_scipy_s_on_a_plain_mean() -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy is the reference")
    rng = np.random.default_rng(3)
    before, after = rng.integers(0, 7, 40), rng.integers(0, 8, 40)
    found = g.permutation_tests(rows(before, 7), rows(after, 7), [s.accuracy])[0]
    other = stats.permutation_test(
        (after, before), lambda a, b, axis: np.mean(a - b, axis=axis), permutation_type="samples", vectorized=True,
        n_resamples=9999, rng=np.random.default_rng(5),
    )  # fmt: skip
    error = math.sqrt(other.pvalue * (1 - other.pvalue) / 9999)
    assert (found.resolution, found.exact) == (1 / 10_000, False)
    assert found.p == pytest.approx(other.pvalue, abs=5 * error)


def test_all_ways_are_scipy_s_to_the_last_digit() -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy is the reference")
    rng = np.random.default_rng(4)
    before, after = rng.integers(0, 7, 11), rng.integers(0, 8, 11)
    other = stats.permutation_test(
        (after, before), lambda a, b, axis: np.mean(a - b, axis=axis), permutation_type="samples", vectorized=True,
        n_resamples=np.inf,
    )  # fmt: skip
    found = g.permutation_tests(rows(before, 7), rows(after, 7), [s.accuracy])[0]
    assert found.exact and found.p == pytest.approx(other.pvalue, abs=1e-12)


def test_drawing_comes_near_to_taking_every_way() -> None:
    rng = np.random.default_rng(6)
    before, after = rng.integers(0, 4, (2, 12, 4))
    formulas = [s.accuracy, s.f1, s.yes_ratio, s.d_prime]
    every = g.permutation_tests(before, after, formulas)
    drawn = g.permutation_tests(before, after, formulas, permutations=4000)
    assert all(chance.exact for chance in every) and not any(chance.exact for chance in drawn)
    for one, other in zip(every, drawn, strict=True):
        assert one.p == pytest.approx(other.p, abs=5 * math.sqrt(0.25 / 4000))


def test_blocks_and_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(7)
    before, after = rng.integers(0, 4, (2, 64, 4))
    whole = g.permutation_tests(before, after, [s.f1], permutations=500, seed=1)
    assert whole == g.permutation_tests(before, after, [s.f1], permutations=500, seed=1)
    assert whole != g.permutation_tests(before, after, [s.f1], permutations=500, seed=2)
    monkeypatch.setattr(g, "_BLOCK", 64 * 8)
    assert whole == g.permutation_tests(before, after, [s.f1], permutations=500, seed=1)


def test_without_a_difference_one_test_in_twenty_is_called() -> None:
    rng = np.random.default_rng(8)
    called = 0
    for _ in range(400):
        right = rng.integers(0, 7, (2, 30))
        chance = g.permutation_tests(rows(right[0], 6), rows(right[1], 6), [s.accuracy], permutations=199)[0]
        called += chance.p <= 0.05
    assert called / 400 == pytest.approx(0.05, abs=4 * math.sqrt(0.05 * 0.95 / 400))


def test_questions_that_fail_together_are_no_more_than_one_unit() -> None:
    # Ten pictures of six questions; the later run has all six of eight pictures more and of two fewer. Question by question that
    # is 48 against 12; picture by picture 8 against 2, of which 2 * (1 + 10 + 45) / 1024 of all ways differ as much.
    before = np.array([[0, 0, 0, 6]] * 8 + [[6, 0, 0, 0]] * 2)
    after = np.array([[6, 0, 0, 0]] * 8 + [[0, 0, 0, 6]] * 2)
    questions = g.mcnemar(np.repeat(before[:, 0] > 0, 6), np.repeat(after[:, 0] > 0, 6))
    pictures = g.permutation_tests(before, after, [s.accuracy])[0]
    assert (questions.gained, questions.lost) == (48, 12) and questions.p < 1e-5
    assert pictures.p == pytest.approx(2 * 56 / 1024)


def test_an_undefined_metric_has_no_p_and_undefined_ways_count_as_extreme() -> None:
    silent = np.array([[0, 0, 3, 0]] * 3)
    assert math.isnan(g.permutation_tests(silent, rows([1, 1, 0]), [s.precision])[0].p)
    # One yes in each run, on different pictures. Both swapped or none: 1 - 0 = 1. One swapped: a run has no yes: undefined.
    before, after = np.array([[0, 1, 0, 0], [0, 0, 1, 0]]), np.array([[0, 0, 1, 0], [1, 0, 0, 0]])
    assert g.permutation_tests(before, after, [s.precision])[0].p == 1.0


def test_pairs_need_the_same_units() -> None:
    with pytest.raises(ValueError, match="same units"):
        g.permutation_tests(np.ones((3, 4)), np.ones((4, 4)), [s.accuracy])


def test_holm_by_hand() -> None:
    # 4 * 0.005; 3 * 0.01; then 2 * 0.03; then the larger of 0.06 and 0.04.
    assert g.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert g.holm([0.6, 0.7]) == [1.0, 1.0]
    adjusted = g.holm([math.nan, 0.02, 0.5])
    assert math.isnan(adjusted[0]) and adjusted[1:] == pytest.approx([0.04, 0.5])
    assert g.holm([]) == []


@given(some.lists(some.floats(0, 1), min_size=1, max_size=8))
def test_holm_keeps_the_order_and_never_lowers(p: list[float]) -> None:
    adjusted = g.holm(p)
    assert all(one <= two <= 1 for one, two in zip(p, adjusted, strict=True))
    assert min(adjusted) == pytest.approx(min(1.0, len(p) * min(p)))
    assert [adjusted[i] for i in np.argsort(p, kind="stable")] == sorted(adjusted)
