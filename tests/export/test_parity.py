from __future__ import annotations

import json
import math

import numpy as np
import pytest

from edgereverie.errors import ExportError
from edgereverie.export.base import ParityBound
from edgereverie.export.parity import Prompt, compare, judge, observe


class Fixed:
    """An engine whose logits are given: row i at position i, whatever the tokens; the last one stands for all after it."""

    backend, context, image_token = "fixed", 100, 2

    def __init__(self, rows, features=None):
        self.rows, self.features = np.array(rows, np.float32), features
        self.open_streams = 0

    def encode(self, pixels):
        return np.full((2, 2), self.features, np.float32)

    def open(self):
        return FixedStream(self, 0)


class FixedStream:
    def __init__(self, engine, at):
        self.engine, self.at = engine, at
        engine.open_streams += 1

    def feed(self, ids, features=None, *, logits="last"):
        assert features is None or self.engine.image_token in ids
        rows = np.minimum(np.arange(self.at, self.at + len(ids)), len(self.engine.rows) - 1)
        self.at += len(ids)
        return self.engine.rows[rows if logits == "all" else rows[-1:]]

    def fork(self):
        return FixedStream(self.engine, self.at)

    def close(self):
        self.engine.open_streams -= 1


def test_figures_by_hand():
    # softmax([ln 3, 0]) = (3/4, 1/4), softmax([0, 0]) = (1/2, 1/2):
    # KL = 3/4 ln(3/2) + 1/4 ln(1/2) = 0.130812...; the other two positions are equal, so the mean is a third of it.
    reference = Fixed([[math.log(3), 0], [0, 2], [5, 1]])
    exported = Fixed([[0, 0.0], [0, 2], [5, 1]])
    parity = compare(reference, exported, [([1, 2, 3], None)], ParityBound(min_top1=0.5))
    assert parity.max_logit_diff == pytest.approx(math.log(3))
    assert parity.mean_kl == pytest.approx((0.75 * math.log(1.5) + 0.25 * math.log(0.5)) / 3)
    assert parity.max_kl == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert parity.top1 == 1.0 and parity.positions == 3 and parity.max_feature_diff is None
    assert parity.perplexity is parity.reference_perplexity is None, "no answer was marked"
    told = parity.as_json()
    assert parity.passed and told["passed"] is True and told["bound"]["min_top1"] == 0.5
    assert set(told["bound"]) == {"max_logit_diff", "min_top1", "max_mean_kl", "max_perplexity_ratio"}
    assert reference.open_streams == exported.open_streams == 0


def test_perplexity_of_the_answers_by_hand():
    # The answer is ids 1 and 2 of [1, 0, 0]; each is predicted by the row before it. softmax([ln 3, 0]) gives token 0 3/4,
    # [0, 0] gives it 1/2: the reference's perplexity is exp(-(ln 3/4 + ln 1/2) / 2) = sqrt(8/3), the other's exactly 2.
    reference, exported = Fixed([[math.log(3), 0], [0, 0], [9, 0]]), Fixed([[0, 0], [0, 0], [9, 0]])
    prompt = Prompt([1, 0, 0], None, [False, True, True])
    bound = ParityBound(min_top1=0.0, max_perplexity_ratio=1.2)
    parity = compare(reference, exported, [prompt], bound)
    assert parity.reference_perplexity == pytest.approx(math.sqrt(8 / 3))
    assert parity.perplexity == pytest.approx(2.0)
    (fault,) = parity.faults
    assert fault == "Its perplexity is 1.225 times the model's; the profile allows 1.2 times."
    assert compare(reference, exported, [prompt], ParityBound(min_top1=0.0, max_perplexity_ratio=1.23)).passed


def test_what_the_picture_stands_for_is_not_compared_and_the_greedy_answer_begins_where_the_answer_does():
    # ids: word, picture, picture, word, answer, answer. Rows 0 and 1 differ wildly and predict picture tokens, or are one's.
    pixels = np.zeros((3, 2, 2), np.float32)
    prompt = Prompt([1, 2, 2, 0, 1, 1], pixels, [False] * 4 + [True] * 2)
    rows = [[9, 0], [0, 9], [1, 0], [0, 2], [3, 0], [0, 4]]
    other = [[0, 9], [9, 0], *rows[2:]]
    parity = compare(Fixed(rows, 1.0), Fixed(other, 1.0), [prompt], ParityBound(max_logit_diff=1e-6))
    assert parity.passed and parity.positions == 4 and parity.greedy == 1.0
    # From the answer's first token on, predicted by row 3 (token 1), a change in row 4 is seen by the greedy answer too.
    changed = Fixed([*rows[:4], [0, 3], rows[5]], 1.0)
    assert compare(Fixed(rows, 1.0), changed, [prompt], ParityBound(min_top1=0)).greedy == 0.0
    earlier = Fixed([*rows[:2], [0, 1], *rows[3:]], 1.0)  # in the question: top1 sees it, the answer is the same
    parity = compare(Fixed(rows, 1.0), earlier, [prompt], ParityBound(min_top1=0))
    assert parity.greedy == 1.0 and parity.top1 == 0.75


def test_the_reference_is_asked_once_for_all_artefacts(tmp_path):
    reference = Fixed([[1, 0], [0, 1]])
    prompts = [Prompt([1, 0], None), Prompt([0, 1], None)]
    observed = observe(reference, prompts, tmp_path)
    reference.rows = None  # it is gone by now
    assert judge(observed, Fixed([[1, 0], [0, 1]]), ParityBound(max_logit_diff=1e-9)).passed
    assert judge(observed, Fixed([[1, 0], [1, 0]]), ParityBound(min_top1=0.4), most=1).cases == 1


def test_a_mean_divergence_has_a_bound_of_its_own():
    reference, exported = Fixed([[math.log(3), 0]]), Fixed([[0.1, 0]])
    parity = compare(reference, exported, [([1], None)], ParityBound(max_mean_kl=0.05))
    p = math.exp(0.1) / (math.exp(0.1) + 1)
    assert parity.mean_kl == pytest.approx(0.75 * math.log(0.75 / p) + 0.25 * math.log(0.25 / (1 - p)))
    assert parity.faults == ("The mean divergence is 0.107 nats; the profile allows 0.05.",)


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
    assert parity.as_json()["max_logit_diff"] is None and json.dumps(parity.as_json(), allow_nan=False)


def test_features_of_pictures_are_compared_too():
    pixels = np.zeros((3, 2, 2), np.float32)
    parity = compare(Fixed([[1, 0]], 1.0), Fixed([[1, 0]], 1.5), [([1, 2], pixels), ([1], None)], ParityBound())
    assert parity.max_feature_diff == 0.5 and parity.image_cases == 1 and parity.cases == 2


def test_no_cases_and_other_vocabularies_are_errors():
    with pytest.raises(ExportError, match="at least one prompt"):
        compare(Fixed([[1, 0]]), Fixed([[1, 0]]), [], ParityBound())
    with pytest.raises(ExportError, match=r"shape \(1, 3\), fixed of \(1, 2\)"):
        compare(Fixed([[1, 0]]), Fixed([[1, 0, 0]]), [([1], None)], ParityBound())
