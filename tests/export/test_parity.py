from __future__ import annotations

import math

import numpy as np
import pytest

from edgereverie.errors import ExportError
from edgereverie.export.base import ParityBound
from edgereverie.export.parity import compare


class Fixed:
    """An engine whose logits are given: row i after token i, whatever the token."""

    backend, context, image_token = "fixed", 3, 2

    def __init__(self, rows, features=None):
        self.rows, self.features = np.array(rows, np.float32), features

    def encode(self, pixels):
        return np.full((2, 2), self.features, np.float32)

    def open(self):
        return self

    def feed(self, ids, features=None, *, logits="last"):
        return self.rows[: len(ids)]

    def close(self):
        pass


def test_figures_by_hand():
    # softmax([ln 3, 0]) = (3/4, 1/4), softmax([0, 0]) = (1/2, 1/2):
    # KL = 3/4 ln(3/2) + 1/4 ln(1/2) = 0.130812...; the other two positions are equal, so the mean is a third of it.
    reference = Fixed([[math.log(3), 0], [0, 2], [5, 1]])
    exported = Fixed([[0, 0.0], [0, 2], [5, 1]])
    parity = compare(reference, exported, [([1, 2, 3], None)], ParityBound(min_top1=0.5))
    assert parity.max_logit_diff == pytest.approx(math.log(3))
    assert parity.mean_kl == pytest.approx((0.75 * math.log(1.5) + 0.25 * math.log(0.5)) / 3)
    assert parity.top1 == 1.0 and parity.positions == 3 and parity.max_feature_diff is None
    assert (
        parity.passed
        and parity.as_json()["passed"] is True
        and parity.as_json()["bound"] == {"max_logit_diff": None, "min_top1": 0.5}
    )


def test_each_bound_is_a_fault_of_its_own():
    reference, exported = Fixed([[1, 0], [0, 1]]), Fixed([[0, 1], [0, 1]])
    parity = compare(reference, exported, [([1, 2], None)], ParityBound(max_logit_diff=0.5, min_top1=0.9))
    assert not parity.passed and len(parity.faults) == 2
    assert "differ by up to 1" in parity.faults[0] and "at 50.0% of positions" in parity.faults[1]
    with pytest.raises(ExportError, match=r"differs from the one.*50\.0%"):
        parity.require()


def test_nan_never_passes():
    parity = compare(Fixed([[1, 0]]), Fixed([[np.nan, 0]]), [([1], None)], ParityBound(min_top1=0.0))
    assert not parity.passed and "NaN" in parity.faults[0]


def test_features_of_pictures_are_compared_too():
    pixels = np.zeros((3, 2, 2), np.float32)
    parity = compare(Fixed([[1, 0]], 1.0), Fixed([[1, 0]], 1.5), [([1], pixels), ([1], None)], ParityBound())
    assert parity.max_feature_diff == 0.5 and parity.image_cases == 1 and parity.cases == 2


def test_no_cases_and_other_vocabularies_are_errors():
    with pytest.raises(ExportError, match="at least one prompt"):
        compare(Fixed([[1, 0]]), Fixed([[1, 0]]), [], ParityBound())
    with pytest.raises(ExportError, match=r"shape \(1, 3\), fixed of \(1, 2\)"):
        compare(Fixed([[1, 0]]), Fixed([[1, 0, 0]]), [([1], None)], ParityBound())
