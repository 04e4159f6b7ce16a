"""Promises kept: over 500 draws of calibration data from a population whose true risks are known exactly.

A promise with probability 1 - delta may fail in a share delta of the draws; more failures than that are accepted only as
far as 500 binomial draws reach by chance (one time in ten thousand). A promise on average is compared with the mean over the
draws. The same counts convict rules that promise too much, so they can fail.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from edgereverie.runtime.calibration import conformal, selective
from edgereverie.runtime.calibration.scaling import logistic
from edgereverie.runtime.calibration.tails import binomial_tail

DRAWS = 500
LEVELS = np.arange(1, 100) / 100  # scores come in hundredths, so ties abound


@dataclass(frozen=True)
class World:
    """chance: of each score. right: probability of being right at each score."""

    chance: np.ndarray
    right: np.ndarray

    def draw(self, rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
        index = rng.choice(len(LEVELS), n, p=self.chance)
        return LEVELS[index], (rng.random(n) < self.right[index]).astype(int)

    def risk(self, threshold: float) -> float:
        """The true share of wrong items among those answered."""
        answered = np.where(threshold <= LEVELS, self.chance, 0.0)
        return float(answered @ (1 - self.right) / answered.sum())


def normal(chance: np.ndarray) -> np.ndarray:
    return chance / chance.sum()


WORLDS = {
    "calibrated": World(normal(np.ones(99)), LEVELS),
    "overconfident": World(normal(LEVELS**3), logistic(3 * LEVELS - 1.0)),
    "high risk from the middle on": World(normal(np.ones(99)), np.where(LEVELS > 0.6, 0.97, 0.5)),
    "just over the line everywhere": World(normal(np.ones(99)), np.full(99, 0.895)),
    "surest are worst": World(normal(np.ones(99)), np.where(LEVELS > 0.9, 0.8, 0.97)),
    "few scores": World(normal(np.where(np.isin(np.arange(99), (20, 60, 90)), 1.0, 0.0)), LEVELS),
}
Rule = Callable[[np.ndarray, np.ndarray, float, float], float | None]


def walked(scores: np.ndarray, right: np.ndarray, alpha: float, delta: float) -> float | None:
    least = selective.items_needed(alpha, delta, errors=3)
    found = selective.fixed_sequence(scores, right, alpha, delta, thresholds=LEVELS, least=least)
    return None if found is None else found.threshold


def walked_own(scores: np.ndarray, right: np.ndarray, alpha: float, delta: float) -> float | None:
    found = selective.fixed_sequence(scores, right, alpha, delta, least=30)
    return None if found is None else found.threshold


def sgr(scores: np.ndarray, right: np.ndarray, alpha: float, delta: float) -> float | None:
    found = selective.sgr(scores, right, alpha, delta)
    return None if found is None else found.threshold


def hopeful(scores: np.ndarray, right: np.ndarray, alpha: float, delta: float) -> float | None:
    """No rule of ours: the lowest threshold whose measured risk is alpha."""
    counts, errors = selective.answered_from(scores, right, LEVELS)
    fine = LEVELS[(counts >= 30) & (errors <= alpha * counts)]
    return float(fine[0]) if len(fine) else None


def broken(rule: Rule, world: World, alpha: float, delta: float, n: int, draws: int = DRAWS) -> tuple[int, int]:
    """How many draws of n items end in a rule, and how many of these rules break their promise."""
    rng = np.random.default_rng(7)
    found = [rule(*world.draw(rng, n), alpha, delta) for _ in range(draws)]
    thresholds = [one for one in found if one is not None]
    return len(thresholds), sum(world.risk(one) > alpha for one in thresholds)


def by_chance(failures: int, draws: int, rate: float) -> bool:
    """Whether so many failures, or more, are no rarer than one in ten thousand at this rate."""
    return 1 - binomial_tail(failures - 1, draws, rate) > 1e-4


@pytest.mark.parametrize("alpha", [0.05, 0.1])
@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("rule", [walked, walked_own, sgr])
def test_selective_answering(rule: Rule, world: str, alpha: float) -> None:
    _, failures = broken(rule, WORLDS[world], alpha, 0.1, n=300)
    assert by_chance(failures, DRAWS, 0.1)


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.05, 0.1])
@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("rule", [walked, walked_own, sgr])
@pytest.mark.parametrize("n", [60, 1500])
def test_selective_answering_over_many_draws(rule: Rule, world: str, alpha: float, n: int) -> None:
    for delta in (0.05, 0.1):
        _, failures = broken(rule, WORLDS[world], alpha, delta, n=n, draws=1000)
        assert by_chance(failures, 1000, delta)


def test_selective_answering_does_answer() -> None:
    """At a risk of 3 % the first test, of some 65 answers, bears 3 errors: 87 % of the draws pass it."""
    found, _ = broken(walked, WORLDS["high risk from the middle on"], 0.1, 0.1, n=300)
    assert found > 0.8 * DRAWS
    found, _ = broken(sgr, WORLDS["high risk from the middle on"], 0.1, 0.1, n=1000)  # a union bound asks for more
    assert found > 0.9 * DRAWS


def test_taking_the_measured_risk_at_its_word_is_convicted() -> None:
    _, failures = broken(hopeful, WORLDS["just over the line everywhere"], 0.1, 0.1, n=300)
    assert not by_chance(failures, DRAWS, 0.1)


def test_selective_answering_at_the_extremes() -> None:
    scores = np.linspace(0, 1, 200)
    for rule in (walked, walked_own, sgr):
        assert rule(scores, np.zeros(200, int), 0.1, 0.1) is None
        assert rule(np.full(200, 0.5), np.tile([0, 1], 100), 0.1, 0.1) is None
        assert rule(np.full(200, 0.5), np.ones(200, int), 0.1, 0.1) == 0.5 or rule is walked
    assert walked_own(scores, np.ones(200, int), 0.1, 0.1) == 0.0
    assert walked(scores, np.ones(200, int), 0.1, 0.1) == LEVELS[0]
    assert walked(np.full(200, 0.5), np.ones(200, int), 0.1, 0.1) <= 0.5  # lower thresholds answer the same
    # One item less than (1 - alpha)^n <= delta asks for, then enough.
    assert walked_own(np.ones(21), np.ones(21, int), 0.1, 0.1) is None
    assert selective.fixed_sequence(np.ones(21), np.ones(21, int), 0.1, 0.1) is None
    assert selective.fixed_sequence(np.ones(22), np.ones(22, int), 0.1, 0.1).threshold == 1.0


def made_answers(rng: np.random.Generator, n: int, *, ties: bool) -> list[conformal.Claims]:
    """Answers of one to eight claims; some pictures are hard, so claims of one answer depend on each other."""
    answers = []
    for _ in range(n):
        many, hard = int(rng.integers(1, 9)), rng.random() < 0.3
        true = rng.random(many) < (0.6 if hard else 0.95)
        scores = rng.normal(np.where(true, 1.5, 0.0), 1.0)
        answers.append((np.round(scores) if ties else scores, true))
    return answers


Loss = Callable[[list[conformal.Claims], float], np.ndarray]


def any_false(answers: list[conformal.Claims], cut: float) -> np.ndarray:
    return np.array([bool(np.any((scores > cut) & ~true)) for scores, true in answers], float)


@pytest.mark.parametrize("alpha", [0.05, 0.1])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(
    "rule, loss", [(conformal.claim_filter, any_false), (conformal.risk_control, conformal.false_share)]
)
def test_promises_on_average_over_claims(rule: Callable, loss: Loss, ties: bool, alpha: float) -> None:
    """500 splits of one pool into 100 answers to choose on and the rest to test on; answers are exchangeable, so the mean
    test loss over the pools of all draws is at most alpha."""
    rng = np.random.default_rng(11)
    means = []
    for _ in range(DRAWS // 10):
        pool = made_answers(rng, 400, ties=ties)
        for _ in range(10):
            order = rng.permutation(400)
            cut = rule([pool[i] for i in order[:100]], alpha)
            means.append(loss([pool[i] for i in order[100:]], cut).mean())
    spread = np.std(np.array(means).reshape(-1, 10).mean(axis=1), ddof=1) / math.sqrt(DRAWS // 10)
    assert np.mean(means) <= alpha + 3.7 * spread
    if not ties and loss is any_false:
        # At most one rank is given away, by the rule with ranks, where no two scores are equal.
        assert np.mean(means) >= alpha - 1 / 101 - 3.7 * spread


def test_a_filter_that_forgets_the_new_answer_is_convicted() -> None:
    """The plain (1 - alpha) quantile, without the answer to come: at n = 10 and alpha 0.1, 2 of 11 fail."""
    rng = np.random.default_rng(3)
    values = rng.random((DRAWS * 20, 11))
    plain = np.sort(values[:, :10], axis=1)[:, 8]
    ours = np.array([conformal.quantile(row, 0.1) for row in values[:, :10]])
    assert by_chance(int(np.sum(values[:, 10] > ours)), len(values), 0.1)
    assert not by_chance(int(np.sum(values[:, 10] > plain)), len(values), 0.1)


@pytest.mark.parametrize("alpha", [0.05, 0.1])
def test_prediction_sets_hold_the_truth(alpha: float) -> None:
    """One new question to each of 5,000 draws of 40: the truth is left out in a share alpha of them at most."""
    rng = np.random.default_rng(5)
    left_out = 0
    for _ in range(5_000):
        scores, right = WORLDS["overconfident"].draw(rng, 41)
        truth = np.where(right == 1, scores, 1 - scores)
        left_out += 1 - truth[40] > conformal.set_threshold(truth[:40], alpha)
    assert by_chance(int(left_out), 5_000, alpha)


def test_conformal_rules_at_the_extremes() -> None:
    wrong = [(np.array([0.3, 0.9]), np.array([False, False]))] * 50
    right = [(np.array([0.3, 0.9]), np.array([True, True]))] * 50
    silent = [(np.empty(0), np.empty(0, bool))] * 50
    for rule in (conformal.claim_filter, conformal.risk_control):
        assert rule(wrong, 0.1) == 0.9  # nothing scores above it: nothing is kept
        assert rule(right, 0.1) == -math.inf
        assert rule(silent, 0.1) == -math.inf
        assert rule(right[:8], 0.1) == math.inf  # 9 are needed
        assert rule(right[:9], 0.1) == -math.inf
    constant = [(np.full(2, 0.5), np.array([True, index % 2 == 0])) for index in range(50)]
    assert conformal.claim_filter(constant, 0.1) == 0.5
    assert conformal.risk_control(constant, 0.1) == 0.5
    assert conformal.risk_control(constant, 0.3) == -math.inf  # a quarter of the claims is false: 12.5 <= 51 * 0.3 - 1


@pytest.mark.parametrize("n, rate", [(1, 0.5), (7, 0.1), (40, 0.05), (300, 0.1), (300, 0.93)])
def test_binomial_tails_are_those_of_exact_fractions(n: int, rate: float) -> None:
    from fractions import Fraction

    p = Fraction(rate)
    exact, total = [], Fraction(0)
    for k in range(n + 1):
        total += math.comb(n, k) * p**k * (1 - p) ** (n - k)
        exact.append(float(total))
    for k in range(n + 1):
        assert binomial_tail(k, n, rate) == pytest.approx(exact[k], rel=1e-11, abs=1e-300)


def test_tails_of_large_samples() -> None:
    """n = 200,000 at 1 %: the mean is 2,000 and the deviation 44.5; the normal tail at minus two of it is 0.02275."""
    deviation = math.sqrt(200_000 * 0.01 * 0.99)
    assert binomial_tail(round(2_000 - 2 * deviation), 200_000, 0.01) == pytest.approx(0.02275, rel=0.02)
    assert binomial_tail(200_000, 200_000, 0.01) == 1.0
