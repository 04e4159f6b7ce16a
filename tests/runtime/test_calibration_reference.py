"""Every value of the reference file, which numpy, scipy and scikit-learn computed elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgereverie import measures
from edgereverie.runtime.calibration import conformal, scaling, selective
from edgereverie.runtime.calibration.tails import binomial_tail, conformal_rank, rate_at_most


@pytest.fixture(scope="module")
def reference(golden: Path) -> dict[str, Any]:
    return json.loads((golden / "expected" / "calibration_reference.json").read_text())


def split(reference: dict[str, Any], name: str) -> tuple[np.ndarray, np.ndarray]:
    return np.array(reference[name]["z"]), np.array(reference[name]["y"])


def answers(reference: dict[str, Any]) -> list[conformal.Claims]:
    return [(np.array(row["s"]), np.array(row["ok"])) for row in reference["responses"]]


def test_measures(reference: dict[str, Any]) -> None:
    z, y = split(reference, "test")
    p, told = scaling.logistic(z), reference["raw_test"]
    assert measures.auroc(p, y) == pytest.approx(told["auroc"], abs=1e-14)
    assert measures.average_precision(p, y) == pytest.approx(told["ap"], abs=1e-14)
    assert measures.brier(p, y) == pytest.approx(told["brier"], abs=1e-14)
    assert scaling.negative_log_likelihood(z, y).mean() == pytest.approx(told["nll"], abs=1e-13)
    assert measures.ece(p, y) == pytest.approx(told["ece15"], abs=1e-13)
    assert measures.ece(p, y, 10) == pytest.approx(told["ece10"], abs=1e-13)
    assert measures.aurc(p, y) == pytest.approx(told["aurc"], abs=1e-13)


def test_platt(reference: dict[str, Any]) -> None:
    told = reference["platt_sklearn_sigmoid"]
    slope, offset = scaling.platt(*split(reference, "cal"))
    assert (-slope, -offset) == pytest.approx((told["a"], told["b"]), abs=1e-5)  # theirs stops at a gradient of 1e-6
    z, y = split(reference, "test")
    scaled = slope * z + offset
    ece = measures.ece(scaling.logistic(scaled), y)
    assert ece == pytest.approx(told["test_ece15"], abs=1e-5)
    assert scaling.negative_log_likelihood(scaled, y).mean() == pytest.approx(told["test_nll"], abs=1e-6)


def test_logistic_regression(reference: dict[str, Any]) -> None:
    z, y = split(reference, "cal")
    weights, bias = scaling.fit_logistic(z[:, None], y)
    told = reference["logistic_mle"]
    assert (weights[0], bias) == pytest.approx((told["coef"], told["intercept"]), abs=1e-5)


def test_temperature(reference: dict[str, Any]) -> None:
    told = reference["temperature"]
    warm = scaling.temperature(*split(reference, "cal"))
    assert warm == pytest.approx(told["T"], rel=1e-6)
    z, y = split(reference, "test")
    ece = measures.ece(scaling.logistic(z / warm), y)
    assert ece == pytest.approx(told["test_ece15"], abs=1e-7)
    assert scaling.negative_log_likelihood(z / warm, y).mean() == pytest.approx(told["test_nll"], abs=1e-9)


def test_isotonic(reference: dict[str, Any]) -> None:
    told = reference["isotonic"]
    steps = scaling.isotonic(*split(reference, "cal"))
    assert steps.x == pytest.approx(told["x"], abs=0)
    assert steps.y == pytest.approx(told["y"], abs=1e-15)
    z, y = split(reference, "test")
    assert steps(z)[:20] == pytest.approx(told["predict_on_test_first20"], abs=1e-14)
    assert measures.ece(steps(z), y) == pytest.approx(told["test_ece15"], abs=1e-13)


def test_selective_answering(reference: dict[str, Any]) -> None:
    told = reference["selective_fixed_sequence"]
    z, y = split(reference, "cal")
    found = selective.fixed_sequence(z, y, told["alpha"], told["delta"], least=told["min_n"])
    assert (found.threshold, found.answered, found.errors) == (told["lambda_hat"], told["answered"], told["errors"])
    assert found.bound == pytest.approx(told["pvalue"], rel=1e-12)
    ((threshold, n, errors, p),) = told["first_rejected"]
    counts = [int(one[0]) for one in selective.answered_from(z, y, np.array([threshold]))]
    assert counts == [n, errors]
    assert binomial_tail(errors, n, told["alpha"]) == pytest.approx(p, rel=1e-12)
    z, y = split(reference, "test")
    answered = z >= found.threshold
    assert answered.mean() == told["test_coverage"]
    assert 1 - y[answered].mean() == pytest.approx(told["test_risk"], abs=1e-15)


def test_sgr(reference: dict[str, Any]) -> None:
    told = reference["sgr"]
    z, y = split(reference, "cal")
    found = selective.sgr(z, y, told["alpha"], told["delta"])
    assert found.threshold == told["final_threshold"]
    assert found.bound == pytest.approx(told["final_bound"], rel=1e-12)
    for _, threshold, n, errors, bound in told["trace"]:
        counts = [int(one[0]) for one in selective.answered_from(z, y, np.array([threshold]))]
        assert counts == [n, errors]
        assert rate_at_most(errors, n, told["delta"] / told["kmax"]) == pytest.approx(bound, rel=1e-12)


def test_upper_bounds(reference: dict[str, Any]) -> None:
    for told in reference["clopper_pearson_upper_examples"]:
        assert rate_at_most(told["k"], told["n"], told["delta"]) == pytest.approx(told["upper"], rel=1e-12)


def test_claim_filter(reference: dict[str, Any]) -> None:
    told, rows = reference["conformal_factuality"], answers(reference)
    n = told["n"]
    assert conformal_rank(n, told["alpha"]) == told["k"]
    cut = conformal.claim_filter(rows[:n], told["alpha"])
    assert cut == told["q"]
    kept = [scores > cut for scores, _ in rows[n:]]
    true = [bool(np.all(ok[keep])) for (_, ok), keep in zip(rows[n:], kept, strict=True)]
    assert np.mean(true) == told["test_all_true"]
    assert np.concatenate(kept).mean() == pytest.approx(told["test_kept"], abs=1e-15)


def test_risk_control(reference: dict[str, Any]) -> None:
    told, rows = reference["conformal_risk_control"], answers(reference)
    n = reference["conformal_factuality"]["n"]
    cut = conformal.risk_control(rows[:n], told["alpha"])
    assert cut == told["lambda_hat"]
    assert conformal.false_share(rows[:n], cut).mean() == pytest.approx(told["cal_risk"], abs=1e-15)
    assert conformal.false_share(rows[n:], cut).mean() == pytest.approx(told["test_risk"], abs=1e-15)


def test_resampled_auroc_is_that_of_the_drawn_items() -> None:
    """Each draw again by hand: the drawn pictures' items, as often as drawn, in the plain AUROC."""
    rng = np.random.default_rng(1)
    groups, right = rng.integers(0, 12, 80), rng.integers(0, 2, 80)
    scores = [np.round(rng.normal(right, 1.0), 1), rng.random(80)]
    draws = measures.resampled_auroc(scores, right, groups, resamples=20, seed=4)
    again = np.random.default_rng(4)
    names = np.unique(groups)
    for row in draws:
        items = np.concatenate([np.flatnonzero(groups == names[i]) for i in again.integers(0, len(names), len(names))])
        assert row == pytest.approx([measures.auroc(one[items], right[items]) for one in scores], abs=1e-12)


def test_intervals_leave_undefined_draws_out() -> None:
    assert measures.interval(np.array([np.nan, 1.0, 1.0])) == (1.0, 1.0)
    assert np.isnan(measures.interval(np.array([np.nan]))).all()
