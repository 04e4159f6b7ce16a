"""What confidence is worth: arithmetic by hand, scikit-learn where it is installed, the reference's figures."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from edgereverie.evaluation import confidence as c
from edgereverie.evaluation.run import Run, run_benchmark
from edgereverie.evaluation.source import Source
from edgereverie.records import Answer
from edgereverie.registry import BENCHMARKS

SURE = {"ring": 0.9, "star": 0.7, "cross": None}


def answer(image: Path | None, questions: Sequence[str], most: int) -> list[Answer]:
    """Yes to rings, no to the rest; unsure of stars, and of crosses nothing is known."""
    told = [next(name for name in SURE if name in question) for question in questions]
    return [Answer("Yes" if name == "ring" else "No", confidence=SURE[name]) for name in told]


@pytest.fixture
def run(folder: Path) -> Run:
    return run_benchmark(BENCHMARKS.get("pope"), Source(folder, splits=("random",)), answer)


def test_answers_without_a_confidence_take_no_part(run: Run) -> None:
    # a holds ring and star, b a cross, c nothing: rings right on a, stars wrong on a.
    confidence, right = c.pairs(run, run.results[0])
    assert confidence.tolist() == [0.9, 0.7] * 3 and right.tolist() == [1, 0, 0, 1, 0, 1]


def test_the_probability_of_yes_and_its_truth(run: Run) -> None:
    yes, truth = c.yes_scores(run, run.results[0])
    assert yes == pytest.approx([0.9, 0.3] * 3) and truth.tolist() == [1, 1, 0, 0, 0, 0]


def test_figures_by_hand(run: Run) -> None:
    figures = {score.metric: score for score in c.figures(run, run.results[0])}
    assert set(figures) == {f"pope/official/random/{name}" for name in (*c.MEASURES, "yes_auroc")}
    value = {name.rpartition("/")[2]: score.value for name, score in figures.items()}
    # Right (1, 2) of three at 0.9, (2, 1) at 0.7: of 9 pairs 1 * 1 won, 1 * 2 + 2 * 1 even.
    assert value["confidence_auroc"] == pytest.approx((1 * 1 + 0.5 * (1 * 2 + 2 * 1)) / 9)
    assert value["ece"] == pytest.approx((abs(1 - 2.7) + abs(2 - 2.1)) / 6)
    assert value["brier"] == pytest.approx((0.01 + 2 * 0.81 + 2 * 0.09 + 0.49) / 6)
    # Yes at 0.9 and 0.3: true 1 of 3 and 1 of 3: (1 * 2 + 0.5 * (1 * 2 + 1 * 2)) / (2 * 4).
    assert value["yes_auroc"] == pytest.approx(0.5)
    assert all(score.n == 6 for score in figures.values())
    low = figures["pope/official/random/brier"]
    assert low.low < low.value < low.high


def test_a_run_without_confidence_has_no_figures(folder: Path) -> None:
    silent = run_benchmark(BENCHMARKS.get("pope"), Source(folder), lambda _, asked, __: [Answer("No") for _ in asked])
    assert c.figures(silent, silent.results[0]) == ()


def test_a_unit_s_answers_are_drawn_together(run: Run) -> None:
    # Two of three pictures have Brier sums of 0.81 + 0.09, picture a of 0.01 + 0.49: ten draws mix these and nothing else.
    score = next(s for s in c.figures(run, run.results[0]) if s.metric.endswith("/brier"))
    possible = [(0.5 * k + 0.9 * (3 - k)) / 6 for k in range(4)]
    assert (score.low, score.high) == pytest.approx((possible[3], possible[0]))


def test_the_reference_s_figures(golden: Path) -> None:
    told = json.loads((golden / "expected" / "calibration_reference.json").read_text())
    y, z = (np.array(told["test"][key], float) for key in ("y", "z"))
    p, expected = 1 / (1 + np.exp(-z)), told["raw_test"]
    assert c.auroc(p, y) == pytest.approx(expected["auroc"], abs=1e-14)
    assert c.aurc(p, y) == pytest.approx(expected["aurc"], abs=1e-13)
    assert c.ece(p, y) == pytest.approx(expected["ece15"], abs=1e-13)
    assert c.brier(p, y) == pytest.approx(expected["brier"], abs=1e-14)


@given(some.lists(some.tuples(some.integers(0, 10), some.booleans()), min_size=2, max_size=60))
def test_scikit_learn_agrees_ties_and_all(rows: list[tuple[int, bool]]) -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is the reference")
    p, y = np.array([row[0] / 10 for row in rows]), np.array([float(row[1]) for row in rows])
    assert c.brier(p, y) == pytest.approx(metrics.brier_score_loss(y, p), abs=1e-12)
    if 0 < y.sum() < len(y):
        assert c.auroc(p, y) == pytest.approx(metrics.roc_auc_score(y, p), abs=1e-12)
    else:
        assert math.isnan(c.auroc(p, y))


def test_equal_counts_in_bins_by_hand() -> None:
    # 6 answers in 3 bins of two: sums of right - p are 0 - 0.3, 1 - 1.0, 1 - 1.7.
    p, y = np.array([0.1, 0.2, 0.4, 0.6, 0.8, 0.9]), np.array([0, 0, 1, 0, 0, 1])
    assert c.adaptive_ece(p, y, bins=3) == pytest.approx((0.3 + 0.0 + 0.7) / 6)
    shuffled = np.random.default_rng(0).permutation(6)
    assert c.adaptive_ece(p[shuffled], y[shuffled], bins=3) == pytest.approx(1 / 6)
    assert c.adaptive_ece(p, y, bins=15) == pytest.approx(np.abs(y - p).sum() / 6)  # more bins than answers


def test_risk_by_coverage_by_hand() -> None:
    p, y = np.array([0.9, 0.8, 0.7, 0.6]), np.array([1, 0, 1, 1])
    assert c.risk_coverage(p, y).tolist() == [0, 1 / 2, 1 / 3, 1 / 4]
    assert c.aurc(p, y) == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 4) / 4)
    assert c.coverage_at_risk(p, y, 0.05) == 0.25 and c.coverage_at_risk(p, y, 0.3) == 1.0
