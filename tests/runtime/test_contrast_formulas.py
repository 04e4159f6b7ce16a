"""The formulas against values that were computed from the published code."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgereverie.runtime import contrast_formulas as formulas
from edgereverie.runtime.sampling import log_softmax, measured

COMBINED = {
    "apc_beta0.1": lambda c: formulas.cut(c["l_v"], c["l_v"], 0.1),
    "vcd_a1_b0.1": lambda c: formulas.vcd(c["l_v"], c["l_u"], 1.0, 0.1),
    "vcd_a0.5_b0.2": lambda c: formulas.vcd(c["l_v"], c["l_u"], 0.5, 0.2),
    "pai_cfg_gamma1.1": lambda c: formulas.guided(c["l_v"], c["l_u"], 1.1, 0.1),
    "marine_g0.7": lambda c: formulas.blended(c["l_v"], c["l_u"], 0.7),
    "m3id_only_repo": lambda c: formulas.m3id(c["l_v"], c["l_u"], c["t"], 0.02, 0.1),
    "crops_lambda0.01_alpha1_beta0.1_thr0.95": lambda c: formulas.crops(
        c["l_v"], c["l_u"], c["l_h"], c["t"], decay=0.01, alpha=1.0, beta=0.1, sure=0.95
    ),
    "ritual_additive_a3": lambda c: formulas.added(c["l_v"], c["l_u"], 3.0, 0.1),
    "agla_additive_a2_b0.5": lambda c: formulas.added(c["l_v"], c["l_u"], 2.0, 0.5),
    "only_rule_g0.2": lambda c: formulas.adaptive(c["l_v"], c["l_u"], 0.2, 0.1),
}
SINGLE = {
    "only_tvd": lambda c: formulas.distance(c["l_v"], c["l_u"]),
    "jsd_nats": lambda c: formulas.jensen_shannon(c["l_v"], c["l_u"]),
    "kl_v_u": lambda c: formulas.divergence(c["l_v"], c["l_u"]),
    # What the picture adds to the likeliest token, and what a token's record says of a step.
    "logprob_gain_argmax": lambda c: (log_softmax(c["l_v"]) - log_softmax(c["l_u"]))[c["l_v"].argmax()],
    "entropy_v": lambda c: measured(c["l_v"], 0, int(c["l_v"].argmax()))[2],
    "margin_v": lambda c: float(np.diff(np.sort(np.exp(log_softmax(c["l_v"])))[-2:])[0]),
}


@pytest.fixture
def reference(golden: Path) -> dict[str, Any]:
    return json.loads((golden / "expected" / "decoding_formulas.json").read_text(encoding="utf-8"))


def test_every_published_formula(reference: dict[str, Any]) -> None:
    for case in reference["cases"]:
        assert case.keys() == {"t", "l_v", "l_u", "l_h"} | COMBINED.keys() | SINGLE.keys()  # none is passed over
        arrays = case | {name: np.array(case[name]) for name in ("l_v", "l_u", "l_h")}
        for name, formula in COMBINED.items():
            wanted = [-math.inf if value is None else value for value in case[name]]
            assert formula(arrays) == pytest.approx(wanted, abs=1e-9), (case["t"], name)
        for name, formula in SINGLE.items():
            assert formula(arrays) == pytest.approx(case[name], abs=1e-9), (case["t"], name)


def test_the_noise_schedule(reference: dict[str, Any]) -> None:
    for row in reference["vcd_noise"]:
        wanted = (row["sqrt_alpha_bar"], row["sqrt_one_minus"])
        assert formulas.kept_and_noise(row["step"]) == pytest.approx(wanted, abs=1e-12)


def test_noise_is_of_the_schedules_size_and_repeats() -> None:
    """Of 27,648 pixels of 1 the mean is sqrt(alpha bar) = 0.863 and the deviation 0.505, each within five of its errors."""
    pixels = np.ones((3, 96, 96), np.float32)
    drawn = formulas.noised(pixels, 500, 7)
    assert drawn.dtype == np.float32
    assert float(drawn.mean()) == pytest.approx(0.8630, abs=5 * 0.505 / 27648**0.5)
    assert float(drawn.std()) == pytest.approx(0.5052, abs=5 * 0.505 / (2 * 27648) ** 0.5)
    assert np.array_equal(drawn, formulas.noised(pixels, 500, 7))
    assert not np.array_equal(drawn, formulas.noised(pixels, 500, 8))


def test_a_sure_step_is_left_alone_by_crops() -> None:
    seen = np.log([0.96, 0.03, 0.01])
    out = formulas.crops(seen, seen[::-1], seen[::-1], 9, decay=0.01, alpha=1.0, beta=0.1, sure=0.95)
    assert out.tolist() == [0.0, -math.inf, -math.inf]  # what is plausible is the first alone
