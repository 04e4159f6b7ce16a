"""verify: what the picture contradicts is taken back. Supports are arithmetic over hand-set odds; without a picture the
scripted model leans to yes with 1 nat, and the picture adds the same to every word."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from edgereverie.records import Answer, Token, Turn
from edgereverie.registry import GUARDS
from edgereverie.runtime.fusion import Fusion
from edgereverie.runtime.guards.base import ABSTENTION
from edgereverie.runtime.guards.verify import Verify
from edgereverie.runtime.request import Request

pytestmark = pytest.mark.usefixtures("odds_reading")
IMAGE = object()


class ScriptedModel:
    """odds: part of a question -> yes over no with the picture, the first that fits; 4 nats where none does."""

    calibration = None

    def __init__(self, odds: Mapping[str, float]) -> None:
        self.odds = odds

    def yes_over_no_many(self, image: object, questions: Sequence[Sequence[Turn]]) -> list[float]:
        return [self._odds(turns[0].text) if image is not None else 1.0 for turns in questions]

    def _odds(self, text: str) -> float:
        return next((value for part, value in self.odds.items() if part in text), 4.0)

    def prompt(self, image: object, turns: Sequence[Turn]) -> tuple[list[int], int]:
        return [0], 0

    def run(self, image: object, ids: Sequence[int], cut: int, *, every: bool) -> tuple[object, np.ndarray]:
        return self, np.zeros((len(ids), 4), np.float32)

    def close(self) -> None:
        pass


def verified(question: str, text: str, odds: Mapping[str, float], guard: Verify | None = None) -> Answer:
    """Each character is a token, as likely with the picture as without, so that grounding is 0."""
    record = tuple(Token(0, i, i + 1, math.log(0.25), 0.0, 0.0, 0) for i in range(len(text)))
    request = Request(ScriptedModel(odds), IMAGE, (Turn("user", question),))
    return (guard or GUARDS.get("verify")).apply(request, Answer(text, record=record))


def logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize(
    ("question", "text", "odds", "expected"),
    [
        ("Is there a ring in the image?", "Yes.", {"ring": -2.0}, "No."),
        ("Is there a ring in the image?", "Yes, there is a ring.", {"ring": -2.0}, "No."),
        ("Is there a ring in the image?", "No.", {"ring": 4.0}, "Yes."),
        ("Is there a ring in the image?", "No, there is no ring.", {"ring": 4.0}, "Yes."),
        ("Is there a ring in the image?", "Yes.", {"ring": 1.2}, "Yes."),  # unverified: not turned
        ("Is there a ring in the image?", "No.", {"ring": 0.9}, "No."),
        ("Is there a ring in the image?", "Yes, there is a ring.", {"ring": 4.0}, "Yes, there is a ring."),
        ("Is there a ring in the image?", "No, there is only a star.", {"ring": -2.0, "star": -2.0}, "No."),
        ("Is there a ring in the image?", "No, there is only a star.", {"ring": -2.0}, "No, there is only a star."),
        ("Is the ring red?", "Yes.", {"Is the ring red": -2.0}, "No."),
        ("Is the ring red?", "No.", {"Is the ring red": 4.0}, "Yes."),
        ("Is the ring red?", "Yes.", {"Is the ring red": 1.2}, "Yes."),
        ("Is the ring red?", "No, it is blue.", {"Is the ring red": -3.0, "blue": -3.0}, "No."),
        ("Are there three dogs in the image?", "Yes.", {"three dogs": -2.0}, "No."),
        ("Is the ring to the left of the star?", "Yes.", {"left of the star": -2.0}, "No."),
        ("Is the ring to the left of the star?", "No.", {"left of the star": 4.0}, "Yes."),
    ],
)
def test_a_yes_or_no_is_turned_only_when_it_is_contradicted(
    question: str, text: str, odds: Mapping[str, float], expected: str
) -> None:
    answer = verified(question, text, odds)
    assert answer.text == expected
    assert all(claim.verdict != "contradicted" for claim in answer.claims)
    assert all(answer.text[claim.start : claim.end] == claim.text for claim in answer.claims)
    assert not answer.abstained
    assert answer.draft == (text if expected != text else None)


def test_a_cut_above_one_half_turns_nothing_that_is_likelier_than_its_opposite() -> None:
    """1.4 with the picture, 1.0 without: support logistic(0.4) = 0.6, under a cut of 0.75 and still likelier than not."""
    strict = Verify(fusion=Fusion(contradicted=0.75, supported=0.9))
    (claim,) = (answer := verified("Is there a ring in the image?", "Yes.", {"ring": 1.4}, strict)).claims
    assert (answer.text, claim.verdict, answer.draft) == ("Yes.", "unverified", None)
    assert claim.support == pytest.approx(logistic(0.4))
    told = verified("Describe the image.", "There is a ring and a star.", {"ring": 1.4, "star": 6.0}, strict)
    assert told.text == "There is a star."


def test_a_turned_answer_carries_the_opposite_claim() -> None:
    answer = verified("Is the ring red?", "Yes.", {"Is the ring red": -2.0})
    (claim,) = answer.claims
    assert (claim.text, claim.statement, claim.kind) == ("No", "The ring is not red.", "attribute")
    assert claim.evidence["polarity"] == -1.0
    assert claim.support == answer.confidence == pytest.approx(logistic(3.0))
    assert not any(name.startswith(("grounding", "log_prob", "margin")) for name in claim.evidence)


def test_it_abstains_when_nothing_is_left() -> None:
    answer = verified("Describe the image.", "A star. It is red.", {"star": -4.0})
    assert (answer.text, answer.abstained, answer.claims) == (ABSTENTION, True, ())
    assert answer.draft == "A star. It is red."
    assert answer.confidence < 0.3


def test_it_keeps_the_claims_that_stay_in_their_new_places() -> None:
    answer = verified("Describe the image.", "There is a star, a red ring and two moons.", {"star": -4.0})
    assert answer.text == "There is a red ring and two moons."
    told = [(claim.text, claim.statement) for claim in answer.claims]
    assert told == [("a red ring", "There is a ring."), ("red", "The ring is red."), ("two moons", "There is a moon."),
                    ("two", "There are two moons.")]  # fmt: skip
    assert all(answer.text[claim.start : claim.end] == claim.text for claim in answer.claims)
    assert all(claim.verdict == "supported" for claim in answer.claims)
    assert answer.confidence == min(claim.support for claim in answer.claims)


@pytest.mark.parametrize(
    ("odds", "expected"),
    [
        ({"Is the ring red": -3.0}, "A small ring is at the top, and three dogs are under the table."),
        ({"three dogs": -3.0}, "A small red ring is at the top, and dogs are under the table."),
        ({"Is there a ring": -3.0}, "Three dogs are under the table."),
        ({"at the top": -3.0}, "A small red ring is possibly at the top, and three dogs are under the table."),
    ],
)
def test_what_is_contradicted_of_each_kind_leaves_the_text(odds: Mapping[str, float], expected: str) -> None:
    text = "A small red ring is at the top, and three dogs are under the table."
    answer = verified("Describe the image.", text, odds)
    assert answer.text == expected
    assert answer.draft == text


def test_the_reason_tells_what_was_taken_back_and_its_support() -> None:
    answer = verified("Describe the image.", "A ring and a star.", {"star": -4.0})
    assert answer.reason == f"The picture does not support: there is a star ({logistic(-5.0):.2f})"


def test_a_claim_made_twice_goes_only_when_it_is_contradicted_both_times() -> None:
    """The picture speaks for the words of the first ring and against those of the second: one doubt is not enough."""
    text = "A ring. The ring is red."
    record = tuple(Token(0, i, i + 1, math.log(0.25) + (2.0 if i < 7 else -2.0), 0.0, 0.0, 0) for i in range(len(text)))
    request = Request(ScriptedModel({"Is there a ring": 0.1}), IMAGE, (Turn("user", "Describe it."),))
    answer = GUARDS.get("verify").apply(request, Answer(text, record=record))
    assert answer.text.startswith("A ring.")


def test_verified_again_nothing_changes() -> None:
    odds = {"star": -4.0, "Is the ring red": -3.0}
    once = verified("Describe the image.", "A red ring, a star and two moons at the left.", odds)
    assert once.text == "A ring and two moons at the left."
    assert verified("Describe the image.", once.text, odds).text == once.text


def test_thresholds_may_belong_to_the_guard() -> None:
    strict = Verify(fusion=Fusion(contradicted=0.001))
    assert verified("Describe it.", "A ring and a star.", {"star": -4.0}, strict).text == "A ring and a star."


@pytest.mark.parametrize("text", ["", "Hmm.", "It is what it is.", "🙂", "Yes."])
def test_answers_that_claim_nothing_stay(text: str) -> None:
    assert verified("Describe the image.", text, {}).text == text
