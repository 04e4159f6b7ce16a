"""Evidence to probability: arithmetic by hand, closed forms, and what a fusion does with figures that are not there."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

from edgereverie import measures
from edgereverie.errors import BundleError
from edgereverie.runtime.calibration import scaling
from edgereverie.runtime.calibration.fusing import fitted
from edgereverie.runtime.fusion import EVERY, Feature, Fusion, Reading, figures, fusion_of


def drawn(n: int, seed: int = 0, **without: float) -> tuple[list[dict[str, float]], np.ndarray]:
    """Claims whose log-odds are 1.5 verification + 0.5 grounding - 0.3, drawn by just these odds. without: the share of
    claims that lack a figure."""
    rng = np.random.default_rng(seed)
    verification, grounding = rng.normal(0.5, 2.0, n), rng.normal(1.0, 1.0, n)
    true = rng.random(n) < scaling.logistic(1.5 * verification + 0.5 * grounding - 0.3)
    rows = []
    for one, other in zip(verification, grounding, strict=True):
        row = {"verification": float(one), "grounding": float(other)}
        rows.append({name: value for name, value in row.items() if rng.random() >= without.get(name, 0.0)})
    return rows, true.astype(int)


def test_uncalibrated_is_the_plain_reading_of_log_odds() -> None:
    plain = Fusion()
    # Half of 3, all of 0.5, four times -0.2, and 1.
    told = {"verification": 3.0, "grounding": 0.5, "log_prob_mean": -0.2}
    assert plain.support(told) == pytest.approx(1 / (1 + math.exp(-2.2)))
    # Clipped at 4 nats, and words that were not measured count for nothing: half of -6, and 4.
    assert plain.support({"verification": -6.0, "grounding": 40.0}) == pytest.approx(1 / (1 + math.exp(-1.0)))
    assert plain.support({}) == 0.5
    assert [plain.verdict(p) for p in (0.7, 0.5, 0.3)] == ["supported", "unverified", "contradicted"]


def test_one_feature_is_standardised_weighed_and_biased() -> None:
    reading = Reading((Feature("grounding", 2.0, mean=1.0, scale=4.0, low=-3.0, high=5.0),), bias=0.5)
    assert reading.logit({"grounding": 3.0}) == pytest.approx(0.5 + 2.0 * (3.0 - 1.0) / 4.0)
    assert reading.logit({"grounding": 99.0}) == reading.logit({"grounding": 5.0}) == pytest.approx(2.5)


def test_fitting_finds_the_weights_that_drew_the_labels() -> None:
    rows, true = drawn(40_000)
    (reading,) = (fitted(rows, ["object"] * len(rows), true).groups[EVERY].full,)
    weights = {one.name: one.weight / one.scale for one in reading.features}
    assert weights == pytest.approx({"verification": 1.5, "grounding": 0.5}, abs=0.06)


def test_probabilities_of_new_claims_come_true_as_often_as_they_say() -> None:
    rows, true = drawn(20_000)
    learned = fitted(rows, ["object"] * len(rows), true)
    rows, true = drawn(20_000, seed=1)
    p = np.array([learned.support(row) for row in rows])
    assert measures.ece(p, true) < 0.015
    assert np.all((p > 0) & (p < 1))


def test_a_figure_that_is_sometimes_missing_counts_as_the_mean_and_what_its_absence_tells() -> None:
    rows, true = drawn(20_000, grounding=0.3)
    learned = fitted(rows, ["object"] * len(rows), true)
    grounding = next(one for one in learned.groups[EVERY].full.features if one.name == "grounding")
    at_mean = learned.groups[EVERY].full.logit({"verification": 0.5, "grounding": grounding.mean})
    assert learned.groups[EVERY].full.logit({"verification": 0.5}) == pytest.approx(at_mean + grounding.missing)
    assert abs(grounding.missing) < 0.15  # here absence is by chance and tells nothing
    assert learned.lacks({"verification": 0.5}) == ()


def test_a_figure_that_was_never_missing_is_reported_when_it_is() -> None:
    rows, true = drawn(2_000)
    learned = fitted(rows, ["object"] * len(rows), true)
    assert learned.lacks({"verification": 0.5}) == ("grounding",)
    assert learned.lacks({"verification": 0.5, "grounding": 0.1}) == ()
    assert Fusion().lacks({}) == ()  # nothing is promised, so nothing is lacking


def test_isotonic_map_from_a_thousand_claims_on_and_never_sure() -> None:
    for n, straightened in ((999, False), (1000, True)):
        rows, true = drawn(n)
        reading = fitted(rows, ["object"] * n, true).groups[EVERY].full
        assert (reading.straight is not None) is straightened
    surest = reading.probability({"verification": 1e6, "grounding": 1e6})
    assert surest == 1 - 1 / 1002
    assert reading.probability({"verification": -1e6, "grounding": -1e6}) >= 1 / 1002


def test_kinds_of_claims_with_enough_data_get_weights_of_their_own() -> None:
    rows, true = drawn(1_000)
    flipped = [{name: -value for name, value in row.items()} for row in rows]
    kinds = ["object"] * 1_000 + ["count"] * 1_000 + ["position"] * 20
    learned = fitted(rows + flipped + rows[:20], kinds, np.concatenate([true, true, true[:20]]))
    assert set(learned.groups) == {EVERY, "object", "count"}
    sure = {"verification": 3.0, "grounding": 1.0}
    assert learned.support(sure, "object") > 0.9 > 0.1 > learned.support(sure, "count")
    assert learned.support(sure, "position") == learned.groups[EVERY].full.probability(sure)


def test_a_negated_question_is_heard_only_where_it_helps() -> None:
    rng = np.random.default_rng(2)
    true = rng.integers(0, 2, 1_000)
    plain = [{"polarity": 1.0, "yes_without": 0.0, "no_without": 0.0} for _ in true]
    sees = rng.normal(2.0 * (2 * true - 1), 3.0)
    understands = rng.normal(-2.0 * (2 * true - 1), 3.0)  # "is it true that there is none?": yes where it is not true
    agrees = rng.normal(2.0 * (2 * true - 1), 3.0)  # says yes to whatever names the thing
    for negated, helps in ((understands, True), (agrees, False)):
        rows = [
            row | {"yes_with_image": float(yes), "no_with_image": float(no), "verification": float((yes - no) / 2)}
            for row, yes, no in zip(plain, sees, negated, strict=True)
        ]
        learned = fitted(rows, ["object"] * len(rows), true)
        assert learned.negation is helps
        used = figures(rows[0], negation=learned.negation)["verification"]
        assert used == pytest.approx((sees[0] - negated[0]) / 2 if helps else sees[0])


def test_claims_of_one_label_cannot_be_told_apart() -> None:
    rows, _ = drawn(50)
    with pytest.raises(ValueError, match="Both right and wrong"):
        fitted(rows, ["object"] * 50, np.ones(50))


def test_claims_that_were_not_asked_about_are_read_by_their_words() -> None:
    rows, true = drawn(20_000)
    learned = fitted(rows, ["object"] * len(rows), true)
    fresh, true = drawn(20_000, seed=1)
    words = [{"grounding": row["grounding"]} for row in fresh]
    p = np.array([learned.support(row) for row in words])
    assert measures.ece(p, true) < 0.02  # a mean in place of what is missing would be far too sure
    assert 0.5 < measures.auroc(p, true) < measures.auroc(np.array([learned.support(row) for row in fresh]), true)
    assert learned.lacks(words[0]) == ("verification",)  # what is promised of full evidence is not promised of this


def test_a_constant_figure_has_no_part() -> None:
    rows, true = drawn(500)
    learned = fitted([row | {"polarity": 1.0} for row in rows], ["object"] * 500, true)
    assert "polarity" not in {one.name for one in learned.groups[EVERY].full.features}


def test_json_there_and_back() -> None:
    rows, true = drawn(1_200, grounding=0.2)
    learned = fitted(rows, ["object"] * 600 + ["count"] * 600, true)
    again = Fusion.from_json(json.loads(json.dumps(learned.as_json(), allow_nan=False)))
    assert again == learned
    assert [again.support(row, "count") for row in rows[:50]] == [learned.support(row, "count") for row in rows[:50]]


@pytest.mark.parametrize("spoil", [
    lambda data: data.pop("negation"),
    lambda data: data["groups"].pop(EVERY),
    lambda data: data["groups"][EVERY]["full"]["features"][0].update(scale=0.0),
    lambda data: data["groups"][EVERY]["full"]["features"][0].update(colour="red"),
    lambda data: data["groups"][EVERY]["full"]["straight"]["y"].reverse(),
    lambda data: data["groups"].update({EVERY: 3}),
    lambda data: data.update(supported="high"),
])  # fmt: skip
def test_spoilt_json_is_refused(spoil) -> None:
    rows, true = drawn(1_200)
    data = json.loads(json.dumps(fitted(rows, ["object"] * 1_200, true).as_json()))
    spoil(data)
    with pytest.raises(BundleError, match="fusion lacks or misspells"):
        Fusion.from_json(data)


def test_the_calibrated_fusion_is_taken_where_there_is_one() -> None:
    own = Fusion(supported=0.9)
    assert fusion_of(SimpleNamespace(model=SimpleNamespace(calibration=None))) == Fusion()
    assert fusion_of(SimpleNamespace(model=SimpleNamespace(calibration=SimpleNamespace(fusion=own)))) is own


def test_newton_agrees_with_the_closed_form_of_two_groups() -> None:
    """One binary feature: the fit gives each group its own share, so bias = logit(1/4) and weight = logit(2/3) - bias."""
    x = np.array([0] * 40 + [1] * 30)
    y = np.array([1] * 10 + [0] * 30 + [1] * 20 + [0] * 10)
    (weight,), bias = scaling.fit_logistic(x[:, None], y)
    assert bias == pytest.approx(math.log(1 / 3), abs=1e-9)
    assert weight == pytest.approx(math.log(2) - math.log(1 / 3), abs=1e-9)


def test_penalised_fit_has_no_slope_left_even_where_a_line_separates() -> None:
    x, y = np.array([[-2.0], [-1.0], [1.0], [3.0]]), np.array([0, 0, 1, 1])
    (weight,), bias = scaling.fit_logistic(x, y, l2=0.5)
    rest = scaling.logistic(x[:, 0] * weight + bias) - y
    assert rest.sum() == pytest.approx(0.0, abs=1e-9)
    assert float(x[:, 0] @ rest) + 0.5 * weight == pytest.approx(0.0, abs=1e-9)
    with pytest.raises(ValueError, match="separated"):
        scaling.fit_logistic(x, y)


def test_an_unheard_negation_is_left_out_of_the_thing_s_question_too() -> None:
    told = {"polarity": 1.0, "verification": 0.5, "yes_with_image": 3.0, "yes_without": 1.0, "no_with_image": 2.0,
            "no_without": 1.0, "thing_verification": 0.5, "thing_yes_with_image": 2.5, "thing_yes_without": 1.0,
            "thing_no_with_image": 1.5, "thing_no_without": 1.0}  # fmt: skip
    # Both questions: (3 - 1 - (2 - 1)) / 2 for the claim, (2.5 - 1 - (1.5 - 1)) / 2 for its thing.
    heard = figures(told, negation=True)
    assert (heard["verification"], heard["thing_verification"]) == (0.5, 0.5)
    # One alone: 3 - 1, and 2.5 - 1 for its thing, than which it is never better.
    assert figures(told, negation=False) == {
        "polarity": 1.0, "verification": 1.5, "thing_verification": 1.5, "asked": 3.0, "thing_asked": 2.5,
    }  # fmt: skip
