"""Guards over hand-set log-odds: every support below is arithmetic, and the rewriting is read as a person would."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from edgereverie.records import Answer, Claim, Turn
from edgereverie.registry import GUARDS
from edgereverie.runtime.guards._evidence import Fusion, existence_question
from edgereverie.runtime.guards._rewrite import without
from edgereverie.runtime.guards.verify import ABSTENTION
from edgereverie.runtime.request import Request
from edgereverie.runtime.scoring import Scored
from edgereverie.text.claims import mentions

IMAGE = object()  # stands for a picture: the scripted model only asks whether there is one


class ScriptedModel:
    """Answers the guards' two questions from tables. odds: subject -> yes over no with the picture, in nats; without it
    the odds are 1 nat for yes, a model that leans to yes. gain: nats per token that the picture adds to every token."""

    def __init__(self, odds: Mapping[str, float], gain: float = 0.0) -> None:
        self.odds, self.gain, self.asked = odds, gain, []

    def yes_over_no(self, image: object, turns: Sequence[Turn]) -> float:
        self.asked.append((image is not None, turns[0].text))
        return next(value for name, value in self.odds.items() if name in turns[0].text) if image is not None else 1.0

    def score_tokens(self, image: object, turns: Sequence[Turn], text: str) -> Scored:
        """One token for each two characters, -3 nats each; the picture adds ``gain``."""
        spans = tuple((at, min(at + 2, len(text))) for at in range(0, len(text), 2))
        return Scored(np.full(len(spans), -3.0 + (self.gain if image is not None else 0.0)), spans)


def guarded(guard: str, question: str, text: str, odds: Mapping[str, float], gain: float = 0.0) -> Answer:
    return GUARDS.get(guard).apply(asked(ScriptedModel(odds, gain), question), Answer(text))


def asked(model: ScriptedModel, question: str) -> Request:
    return Request(model, IMAGE, (Turn("user", question),))


def logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_flag_leaves_the_text_and_measures_each_claim() -> None:
    answer = guarded("flag", "Describe the image.", "A ring and a star.", {"ring": 4.0, "star": -1.5}, gain=0.5)
    ring, star = answer.claims
    assert answer.text == "A ring and a star."
    # ring: 4 with the picture, 1 without: 3. Grounding 0.5 nat per token, a quarter counts: 3.125.
    assert ring.evidence["verification"] == pytest.approx(3.0)
    assert ring.evidence["grounding"] == pytest.approx(0.5)
    assert ring.evidence["grounding_sum"] == pytest.approx(
        0.5 * 3
    )  # "A ring" is characters 0 to 6: three tokens of two
    assert ring.support == pytest.approx(logistic(3.125))
    assert ring.verdict == "supported"
    # star: -1.5 - 1 = -2.5, plus 0.125.
    assert star.support == pytest.approx(logistic(-2.375))
    assert star.verdict == "contradicted"
    assert answer.confidence == star.support
    assert answer.text[star.start : star.end] == "a star"


def test_a_leaning_to_yes_cancels_out() -> None:
    """Odds of 1.2 look like a yes, but 1.0 of it is there without any picture."""
    (claim,) = guarded("flag", "Describe the image.", "A ring.", {"ring": 1.2}).claims
    assert claim.support == pytest.approx(logistic(0.2))
    assert claim.verdict == "unverified"


def test_grounding_may_tip_but_not_outweigh() -> None:
    fusion = Fusion()
    assert fusion.support({"verification": -2.0, "grounding": 50.0}) == pytest.approx(logistic(-2.0 + 0.25 * 2.0))
    assert fusion.verdict(0.7) == "supported"
    assert fusion.verdict(0.3) == "contradicted"
    assert fusion.verdict(0.5) == "unverified"


def test_a_thing_named_twice_is_asked_about_once() -> None:
    model = ScriptedModel({"ring": 3.0})
    GUARDS.get("flag").apply(asked(model, "Describe it."), Answer("A ring. The ring is red."))
    assert model.asked == [(True, "Is there a ring in the image?"), (False, "Is there a ring in the image?")]


@pytest.mark.parametrize(
    ("text", "odds", "support", "verdict"),
    [
        ("Yes.", 4.0, logistic(3.0), "supported"),
        ("Yes.", -2.0, logistic(-3.0), "contradicted"),
        ("No.", -2.0, logistic(3.0), "supported"),
        ("No.", 4.0, logistic(-3.0), "contradicted"),
    ],
)
def test_yes_and_no_are_claims_about_what_was_asked(text: str, odds: float, support: float, verdict: str) -> None:
    (claim,) = guarded("flag", "Is there a ring in the image?", text, {"ring": odds}).claims
    assert claim.subject == "ring"
    assert claim.support == pytest.approx(support)
    assert claim.verdict == verdict
    assert claim.evidence["polarity"] == (1.0 if text == "Yes." else -1.0)


@pytest.mark.parametrize(
    ("text", "odds", "expected"),
    [
        ("Yes.", {"ring": -2.0}, "No."),
        ("Yes, there is a ring.", {"ring": -2.0}, "No."),
        ("No.", {"ring": 4.0}, "Yes."),
        ("No, there is no ring.", {"ring": 4.0}, "Yes."),
        ("Yes.", {"ring": 1.2}, "Yes."),  # unverified: not turned
        ("No.", {"ring": 0.9}, "No."),
        ("Yes, there is a ring.", {"ring": 4.0}, "Yes, there is a ring."),
        ("No, there is only a star.", {"ring": -2.0, "star": -2.0}, "No."),
        ("No, there is only a star.", {"ring": -2.0, "star": 4.0}, "No, there is only a star."),
    ],
)
def test_verify_turns_a_yes_or_no_only_when_it_is_contradicted(
    text: str, odds: Mapping[str, float], expected: str
) -> None:
    answer = guarded("verify", "Is there a ring in the image?", text, odds)
    assert answer.text == expected
    assert all(claim.verdict != "contradicted" for claim in answer.claims)
    assert not answer.abstained


def test_a_turned_answer_carries_the_opposite_claim() -> None:
    answer = guarded("verify", "Is there a ring in the image?", "Yes.", {"ring": -2.0}, gain=1.0)
    (claim,) = answer.claims
    assert (claim.text, claim.subject, claim.evidence["polarity"]) == ("No", "ring", -1.0)
    assert claim.support == answer.confidence == pytest.approx(logistic(3.0))
    assert "grounding" not in claim.evidence


def test_verify_abstains_when_nothing_is_left() -> None:
    answer = guarded("verify", "Describe the image.", "A star. It is red.", {"star": -4.0})
    assert (answer.text, answer.abstained, answer.claims) == (ABSTENTION, True, ())
    assert answer.confidence < 0.3


def test_verify_keeps_the_claims_that_stay_in_their_new_places() -> None:
    answer = guarded("verify", "Describe the image.", "There is a star, a ring and two moons.",
                     {"star": -4.0, "ring": 4.0, "moon": 4.0})  # fmt: skip
    assert answer.text == "There is a ring and two moons."
    assert (
        [answer.text[c.start : c.end] for c in answer.claims]
        == ["a ring", "two moons"]
        == [c.text for c in answer.claims]
    )
    assert answer.confidence == min(claim.support for claim in answer.claims)


@pytest.mark.parametrize("guard", ["flag", "verify"])
def test_without_a_picture_nothing_is_judged(guard: str) -> None:
    model = ScriptedModel({})
    answer = GUARDS.get(guard).apply(Request(model, None, (Turn("user", "Describe the image."),)), Answer("A ring."))
    assert answer.text == "A ring."
    assert [claim.verdict for claim in answer.claims] == ["unverified"]
    assert model.asked == []


def test_no_guard_changes_nothing() -> None:
    answer = Answer("A ring.", confidence=0.4)
    assert GUARDS.get("none").apply(asked(ScriptedModel({}), "What is it?"), answer) is answer


@pytest.mark.parametrize("guard", GUARDS.names())
@pytest.mark.parametrize("text", ["", "Hmm.", "It is red.", "🙂"])
def test_answers_that_claim_nothing_stay(guard: str, text: str) -> None:
    assert guarded(guard, "Describe the image.", text, {}).text == text


@pytest.mark.parametrize("name", GUARDS.names())
def test_the_module_is_named_like_its_guard(name: str) -> None:
    assert GUARDS.get(name).name == name


REWRITES = [
    ("A ring and a star.", "star", "A ring."),
    ("A ring and a star.", "ring", "A star."),
    ("A ring, a star and two crosses.", "star", "A ring and two crosses."),
    ("A ring, a star and two crosses.", "ring star", "Two crosses."),
    ("There are a ring and a star.", "star", "There is a ring."),
    ("There is a ring and two stars.", "ring", "There are two stars."),
    (
        "The image shows a red ring at the top and a star in the centre.",
        "ring",
        "The image shows a star in the centre.",
    ),
    ("I see a ring, a star, and a moon. It is dark.", "moon", "I see a ring and a star. It is dark."),
    ("A ring is at the top. A star is at the left.", "star", "A ring is at the top."),
    ("A ring is at the top. A star is at the left. It is blue.", "star", "A ring is at the top."),
    ("A star is here. It is blue. They shine. A ring is red.", "star", "A ring is red."),
    ("A man is riding a horse.", "horse", "There is a man."),
    ("Two men are riding a horse.", "horse", "There are two men."),
    ("A man with a hat.", "hat", "A man."),
    ("A man sits on a bench with a dog.", "dog", "A man sits on a bench."),
    ("The woman holds an umbrella.", "umbrella", "There is a woman."),
    ("A star.", "star", ""),
    ("A ring.", "", "A ring."),
]


@pytest.mark.parametrize(("text", "wrong", "expected"), REWRITES)
def test_what_is_left_is_a_text(text: str, wrong: str, expected: str) -> None:
    held = [Claim(m.text, m.start, m.end, m.subject, 0.5, "unverified") for m in mentions(text)]
    bad = [claim for claim in held if claim.subject in wrong.split()]
    assert len(bad) == len(wrong.split())
    left = without(text, held, bad)
    assert left == expected
    assert not {m.subject for m in mentions(left)} & set(wrong.split())


def test_the_question_fits_the_noun() -> None:
    assert existence_question("ring") == "Is there a ring in the image?"
    assert existence_question("arrow") == "Is there an arrow in the image?"
    assert existence_question("scissors") == "Are there scissors in the image?"


def test_thresholds_belong_to_the_guard() -> None:
    strict = replace(GUARDS.get("flag"), fusion=Fusion(supported=0.99))
    answer = strict.apply(asked(ScriptedModel({"ring": 4.0}), "Describe it."), Answer("A ring."))
    assert answer.claims[0].verdict == "unverified"
