"""Evidence of claims: every figure is arithmetic over hand-set probabilities; on real weights two ways to measure agree."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from edgereverie.records import Answer, Claim, Options, Token, Turn
from edgereverie.runtime.evidence import assess, why, wording
from edgereverie.runtime.fusion import Fusion
from edgereverie.runtime.model import Model
from edgereverie.runtime.request import Request

pytestmark = pytest.mark.usefixtures("odds_reading")
IMAGE = object()  # stands for a picture: the scripted model only asks whether there is one
BLIND = 0.25  # what each token is worth without the picture: four tokens, all alike


class ScriptedModel:
    """odds: part of a question -> yes over no with the picture, nats; without it 1 nat for yes, a model that leans to yes."""

    def __init__(self, odds: Mapping[str, float]) -> None:
        self.odds, self.asked, self.passes = odds, [], []

    def yes_over_no_many(self, image: object, questions: Sequence[Sequence[Turn]]) -> list[float]:
        texts = [turns[0].text for turns in questions]
        self.asked.append((image is not None, texts))
        return [self._odds(text) if image is not None else 1.0 for text in texts]

    def _odds(self, text: str) -> float:
        return next(value for part, value in self.odds.items() if part in text)

    def prompt(self, image: object, turns: Sequence[Turn]) -> tuple[list[int], int]:
        return [0, 0, 0], 0

    def run(self, image: object, ids: Sequence[int], cut: int, *, every: bool) -> tuple[object, np.ndarray]:
        assert every
        self.passes.append((image is not None, len(ids) - cut))
        return self, np.zeros((len(ids) - cut, 4), np.float32)

    def close(self) -> None:
        pass


def answer(text: str, sure: Sequence[float]) -> Answer:
    """One token a word, with its blank; sure: its probability with the picture, the last one's for the rest."""
    record, at = [], 0
    for index, word in enumerate(text.split(" ")):
        end = at + len(word) + (at > 0)
        p = sure[min(index, len(sure) - 1)]
        record.append(Token(1, at, end, math.log(p), 10 * p, 0.0, 0))
        at = end
    return Answer(text, record=tuple(record))


def measured(
    text: str, sure: Sequence[float], odds: Mapping[str, float], question: str = "Describe it.", **fusion
) -> tuple:
    model = ScriptedModel(odds)
    request = Request(model, IMAGE, (Turn("user", question),))
    return model, {claim.statement: claim for claim in assess(request, answer(text, sure), Fusion(**fusion))}


def test_figures_of_a_claims_words() -> None:
    """A red ring: its own words are red and ring, at 0.5 and 0.8; blind each is worth a quarter."""
    _, found = measured("A red ring.", [0.1, 0.5, 0.8], {"ring": 3.0})
    evidence = found["The ring is red."].evidence
    assert evidence["log_prob_mean"] == pytest.approx((math.log(0.5) + math.log(0.8)) / 2)
    assert evidence["log_prob_min"] == pytest.approx(math.log(0.5))
    assert evidence["margin_min"] == pytest.approx(5.0)
    assert evidence["grounding_sum"] == pytest.approx(math.log(0.5 / BLIND) + math.log(0.8 / BLIND))
    assert evidence["grounding"] == pytest.approx(evidence["grounding_sum"] / 2)
    assert evidence["grounding_min"] == pytest.approx(math.log(0.5 / BLIND))
    assert evidence["length"] == 2
    assert found["There is a ring."].evidence["grounding"] == pytest.approx(math.log(0.8 / BLIND))


def test_one_pass_without_the_picture_and_none_with_it() -> None:
    """With the picture, the answer's own record tells. The pass holds the prompt and all tokens but the last."""
    model, _ = measured("A red ring.", [0.5], {"ring": 3.0})
    assert model.passes == [(False, 3 + 2)]


def test_each_question_is_asked_once_with_the_picture_and_once_without() -> None:
    model, _ = measured("A ring. The ring is red.", [0.5], {"ring": 3.0})
    questions = ["Is there a ring in the image?", "Is the ring red?"]
    assert model.asked == [(True, questions), (False, questions)]


def test_flag_asks_nothing() -> None:
    model = ScriptedModel({})
    request = Request(model, IMAGE, (Turn("user", "Describe it."),))
    found = assess(request, answer("A red ring.", [0.5]), Fusion(), ask=False)
    assert model.asked == []
    assert all("verification" not in claim.evidence and "grounding" in claim.evidence for claim in found)


def test_a_leaning_to_yes_cancels_out() -> None:
    """Odds of 1.2 look like a yes, but 1.0 of it is there without any picture."""
    _, found = measured("A ring.", [BLIND], {"ring": 1.2})
    claim = found["There is a ring."]
    assert claim.evidence["verification"] == pytest.approx(0.2)
    assert claim.support == pytest.approx(1 / (1 + math.exp(-0.2)))
    assert claim.verdict == "unverified"


def test_the_denial_is_asked_only_where_it_is_understood() -> None:
    """s = ([s(q+) - s0(q+)] - [s(q-) - s0(q-)]) / 2 = ((3 - 1) - (-2 - 1)) / 2."""
    odds = {"is no ring": -2.0, "Is there a ring": 3.0}
    model, found = measured("A ring.", [0.5], odds, negation=True)
    evidence = found["There is a ring."].evidence
    assert model.asked[0][1] == ["Is there a ring in the image?", "Is it true that there is no ring in the image?"]
    assert (evidence["no_with_image"], evidence["no_without"]) == (-2.0, 1.0)
    assert evidence["verification"] == pytest.approx(2.5)


def test_what_is_claimed_of_a_thing_is_no_better_verified_than_the_thing() -> None:
    odds = {"Is there a ring": -1.5, "Is the ring red": 4.0, "Is there a star": 3.0, "Is the ring to the left": 5.0}
    _, found = measured("A red ring is to the left of the star.", [0.5], odds)
    assert found["The ring is red."].evidence["yes_with_image"] == 4.0
    assert found["The ring is red."].evidence["verification"] == pytest.approx(-2.5)
    assert found["The ring is to the left of the star."].evidence["verification"] == pytest.approx(-2.5)


def test_a_denied_claim_is_signed() -> None:
    _, found = measured("No.", [0.5], {"Is there a ring": -2.0}, question="Is there a ring in the image?")
    claim = found["There is no ring."]
    assert claim.evidence["polarity"] == -1.0
    assert claim.evidence["yes_with_image"] == -2.0
    assert claim.evidence["verification"] == pytest.approx(3.0)
    assert claim.verdict == "supported"


def test_without_a_picture_nothing_is_measured() -> None:
    model = ScriptedModel({})
    (claim,) = assess(Request(model, None, (Turn("user", "Describe it."),)), answer("A ring.", [0.5]), Fusion())
    assert (claim.verdict, claim.support, claim.evidence) == ("unverified", 0.5, {"polarity": 1.0})
    assert model.asked == model.passes == []


EVIDENCE = {"grounding_sum": -1.24, "yes_with_image": -0.5, "yes_without": 1.0}
RING = Claim("a ring", 0, 6, "ring", 0.1, "contradicted", EVIDENCE, "object", "There is a ring.")


def test_why_tells_the_evidence() -> None:
    assert why(RING) == (
        "the picture takes 1.2 nats from these words; asked 'Is there a ring in the image?' the model says no "
        "(-1.5 nats over its guess without the picture)"
    )
    denied = {"no_with_image": 2.0, "no_without": 0.5, "reflection": -0.7, "agreement": 0.6}
    assert why(replace(RING, evidence=denied | EVIDENCE)).split("; ")[2:] == [
        "asked 'Is it true that there is no ring in the image?' the model says yes "
        "(+1.5 nats over its guess without the picture)",
        "asked whether the answer is right, the model leans to no (-0.7 nats)",
        "60% of its sampled answers agree",
    ]
    assert why(replace(RING, evidence={"thing_verification": -2.0})) == (
        "the model doubts that what this speaks of is there (-2.0 nats)"
    )
    assert why(replace(RING, evidence={"grounding_sum": 0.01})) == "the picture changes nothing about these words"
    assert (
        why(replace(RING, evidence={"log_prob_mean": math.log(0.8)})) == "its words came with a probability of 80% each"
    )
    assert why(replace(RING, evidence={"polarity": 1.0})) == "nothing was measured"


def test_wording_covers_every_kind() -> None:
    assert len(set(wording())) == 16


BACKENDS = {"llamacpp": "llama_cpp", "onnxrt": "onnxruntime", "hf": "torch"}
TEXT = "A red ring is at the left, and two stars are above it."


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_record_of_an_answer_tells_what_reading_it_again_does(backend: str, loadable, photo: Path) -> None:
    """Whether the model's own record is used or the text is read again with the picture, the figures are the same."""
    if find_spec(BACKENDS[backend]) is None:
        pytest.skip(f"needs {BACKENDS[backend]}")
    with Model.load(loadable(backend), backend, precise=True) as model:
        turns = (Turn("user", "Describe the image."),)
        request = Request(model, photo, turns, Options(max_tokens=12))
        own = model.answer(photo, turns, request.options)
        from edgereverie.runtime.evidence import _passes

        seen, blind = _passes(request, own, len(own.text))
        again = model.score_tokens(photo, turns, own.text)
        if len(again.log_probs) == len(
            seen.log_probs
        ):  # else the text is written in other tokens than it was generated in
            np.testing.assert_allclose(seen.log_probs, again.log_probs, atol=2e-3)
            np.testing.assert_allclose(seen.margins, again.margins, atol=2e-3)
            np.testing.assert_allclose(blind, model.score_tokens(None, turns, own.text).log_probs, atol=2e-3)
        half = own.record[5].start
        begun, begun_blind = _passes(request, own, half)
        assert len(begun.log_probs) == len(begun_blind) == sum(token.start < half for token in own.record)
        np.testing.assert_allclose(begun_blind, blind[: len(begun_blind)], atol=1e-4)
        assert len(_passes(request, own, 0)[1]) == 0


def test_backends_measure_alike(loadable, photo: Path) -> None:
    """The same text, the same weights: claims, verdicts and figures agree on all backends that are there."""
    there = [name for name, package in BACKENDS.items() if find_spec(package) is not None]
    if len(there) < 2:
        pytest.skip("needs two backends")
    found = {}
    for backend in there:
        with Model.load(loadable(backend), backend, precise=True) as model:
            request = Request(model, photo, (Turn("user", "Describe the image."),))
            found[backend] = assess(request, Answer(TEXT), Fusion(negation=True))
    first = found[there[0]]
    assert {claim.kind for claim in first} == {"object", "attribute", "position", "count"}
    for backend in there[1:]:
        for one, other in zip(first, found[backend], strict=True):
            assert (one.statement, one.start, one.end) == (other.statement, other.start, other.end)
            assert one.evidence.keys() == other.evidence.keys()
            assert list(one.evidence.values()) == pytest.approx(list(other.evidence.values()), abs=0.1)
            assert one.support == pytest.approx(other.support, abs=0.03)
