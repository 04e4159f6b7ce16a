"""Reflection over a scripted model: verdicts are arithmetic, and each of the ways out is taken once."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from math import log
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from edgereverie.records import Answer, Options, Turn
from edgereverie.runtime.guards.base import ABSTENTION
from edgereverie.runtime.guards.reflect import GUARD, ORDERS, judged
from edgereverie.runtime.request import Request

_spec = importlib.util.spec_from_file_location("_talker", Path(__file__).with_name("_talker.py"))
_talker = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_talker)
PICTURE = Image.new("RGB", (40, 30), "red")


@pytest.fixture(scope="module")
def words() -> Any:
    return _talker.tokenizer()


WHY = "It is blue."
FIRST, SECOND = "A star.", "A moon."


def model_of(words: Any, right: dict[str, float], *, blind: float = 0.5, again: str = SECOND, gain: float = 1.0) -> Any:
    """Answers FIRST, and ``again`` after it has said WHY that is wrong.

    right: of each answer, the share of "right" against "wrong" with the picture; without it ``blind`` for all. gain: how
    many times likelier the picture makes the first word of ``again``.
    """

    def says(question: Any, seen: bool, said: str) -> Any:
        if question in ORDERS:
            share = right[question.before[-1]] if seen else blind
            return {"right": 0.9999 * share, "wrong": 0.9999 * (1 - share)}
        if question.startswith("Explain why this answer is wrong"):
            assert FIRST in question and question.before[-1] == FIRST
            return WHY
        if WHY in question.before:
            return again
        if not said and not seen:
            return {"A": 0.98 / gain}
        return FIRST

    return _talker.talker(words, says)


def ask(model: Any, guard: Any = GUARD, question: str = "What is it?") -> Answer:
    answer = model.answer(PICTURE, [Turn("user", question)], Options(), guard)
    model.sight.close()
    assert model.engine.live == 0
    return answer


def test_the_verdict_is_the_mean_of_both_orders_less_the_blind_one(words: Any) -> None:
    """ "right" first .8 to .2, "wrong" first .6 to .4; without the picture .5 to .5 and .9 to .1."""
    shares = {ORDERS[0]: (0.8, 0.5), ORDERS[1]: (0.6, 0.9)}

    def says(question: Any, seen: bool, said: str) -> Any:
        share = shares.get(question, (0.5, 0.5))[0 if seen else 1]
        return {"right": 0.9999 * share, "wrong": 0.9999 * (1 - share)}

    model = _talker.talker(words, says)
    found = judged(Request(model, PICTURE, (Turn("user", "What is it?"),)), FIRST)
    assert found.seen == pytest.approx((log(4) + log(1.5)) / 2, abs=1e-3)
    assert found.blind == pytest.approx((log(1) + log(9)) / 2, abs=1e-3)
    assert found.gain == pytest.approx(found.seen - found.blind)


def test_what_is_not_doubted_stays_and_says_how_sure(words: Any) -> None:
    answer = ask(model_of(words, {FIRST: 0.9}))
    assert (answer.text, answer.draft, answer.reason) == (FIRST, None, "")
    assert answer.claims[0].evidence["reflection"] == pytest.approx(log(9), abs=1e-3)


def test_a_leaning_to_wrong_that_is_there_blindly_is_no_doubt(words: Any) -> None:
    """It says "wrong" with .7, but without the picture with .9."""
    answer = ask(model_of(words, {FIRST: 0.3}, blind=0.1))
    assert answer.text == FIRST
    assert answer.claims[0].evidence["reflection"] == pytest.approx(log(3 / 7) + log(9), abs=1e-3)


def test_a_better_second_answer_is_taken(words: Any) -> None:
    answer = ask(model_of(words, {FIRST: 0.2, SECOND: 0.8}))
    assert (answer.text, answer.draft, answer.abstained) == (SECOND, FIRST, False)
    assert answer.reason == f"reflect: {WHY}"
    assert answer.claims[0].evidence["reflection"] == pytest.approx(log(4), abs=1e-3)
    assert answer.text[answer.claims[0].start : answer.claims[0].end] == "A moon"


def test_it_has_to_be_better_by_the_margin(words: Any) -> None:
    """log(.52/.48) - log(.48/.52) = .16 nats: under half a nat."""
    model = model_of(words, {FIRST: 0.48, SECOND: 0.52})
    assert ask(model).text == FIRST
    assert ask(model, replace(GUARD, margin=0.1)).text == SECOND


def test_when_both_are_doubted_it_abstains_and_says_why(words: Any) -> None:
    answer = ask(model_of(words, {FIRST: 0.2, SECOND: 0.3}))
    assert (answer.text, answer.abstained, answer.draft, answer.claims) == (ABSTENTION, True, FIRST, ())
    assert answer.reason == f"reflect: {WHY}"


def test_a_second_answer_with_less_grounding_is_not_taken(words: Any) -> None:
    """The picture makes FIRST's words likelier, SECOND's it makes less likely than FIRST's: they are not what it would say."""

    def says(question: Any, seen: bool, said: str) -> Any:
        if question in ORDERS:
            share = ({FIRST: 0.2, SECOND: 0.8}[question.before[-1]]) if seen else 0.5
            return {"right": 0.9999 * share, "wrong": 0.9999 * (1 - share)}
        if question.startswith("Explain"):
            return WHY
        if WHY in question.before:
            return SECOND
        if said == "A":
            return {"star": 0.6, "moon": 0.2} if seen else {"star": 0.2, "moon": 0.6}
        return FIRST

    assert ask(_talker.talker(words, says)).text == FIRST


def test_saying_the_same_again_changes_nothing(words: Any) -> None:
    answer = ask(model_of(words, {FIRST: 0.2}, again=FIRST))
    assert (answer.text, answer.abstained, answer.reason) == (FIRST, False, "")


@pytest.mark.parametrize("again", ["", " "])
def test_an_empty_second_answer_changes_nothing(words: Any, again: str) -> None:
    assert ask(model_of(words, {FIRST: 0.2}, again=again)).text == FIRST


def test_without_a_picture_nothing_is_asked(words: Any) -> None:
    model = model_of(words, {})
    assert model.answer(None, [Turn("user", "What is it?")], Options(), GUARD).text == FIRST


def test_without_room_to_ask_about_it_the_answer_stays(words: Any) -> None:
    """The context ends somewhere among the questions about the answer, its rationale and the second answer."""
    model = model_of(words, {FIRST: 0.2, SECOND: 0.8})
    prompt = len(model.prompt(PICTURE, [Turn("user", "What is it?")])[0])
    texts = set()
    for room in range(6, 400, 9):
        model.engine.context = prompt + room
        answer = model.answer(PICTURE, [Turn("user", "What is it?")], Options(max_tokens=6), GUARD)
        texts.add(answer.text)
        model.sight.close()
        assert model.engine.live == 0
    assert texts == {FIRST, SECOND}


def test_an_answer_with_a_control_token_in_it_is_not_asked_about(words: Any) -> None:
    model = model_of(words, {FIRST: 0.2, SECOND: 0.8})
    request = Request(model, PICTURE, (Turn("user", "What is it?"),))
    odd = Answer("<|end|> a star")
    assert GUARD.apply(request, odd) is odd
