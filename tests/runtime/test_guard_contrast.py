"""Contrastive decoding over hand-set probabilities: which stream is opened when, and what is said then."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from math import exp, log
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from edgereverie.records import Options, Turn
from edgereverie.runtime.guards.contrast import GUARD, Contrast

_spec = importlib.util.spec_from_file_location("_talker", Path(__file__).with_name("_talker.py"))
_talker = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_talker)
PICTURE = Image.new("RGB", (40, 30), "red")
VCD = replace(GUARD, form="vcd")


@pytest.fixture(scope="module")
def words() -> Any:
    return _talker.tokenizer()


def says(question: str, seen: bool, said: str) -> Any:
    """ "A", then unsure: star .5 and moon .4 with the picture; without it star .8 and moon .1."""
    if said == "":
        return {"A": 0.99}
    if said == "A":
        return {"star": 0.5, "moon": 0.4} if seen else {"star": 0.8, "moon": 0.1}
    return {"": 0.99}


def ask(model: Any, guard: Any, question: str = "What is it?", **options: Any) -> Any:
    return model.answer(PICTURE, [Turn("user", question)], Options(**options), guard)


def test_what_would_be_said_blindly_is_taken_off(words: Any) -> None:
    """star 2 log .5 - log .8 = -1.16, moon 2 log .4 - log .1 = +.47."""
    model = _talker.talker(words, says)
    assert ask(model, "none").text == "A star"
    answer = ask(model, VCD)
    assert answer.text == "A moon"
    assert answer.guards == ("contrast",)


def test_the_record_is_the_models_own(words: Any) -> None:
    answer = ask(_talker.talker(words, says), VCD)
    first, second = answer.record
    assert first.log_prob == pytest.approx(log(0.99), abs=1e-3)
    assert (second.log_prob, second.margin) == (
        pytest.approx(log(0.4), abs=1e-3),
        pytest.approx(log(0.5 / 0.4), abs=1e-3),
    )
    assert second.rank == 1  # star was likelier; what may never be said is not counted below
    assert answer.confidence == pytest.approx(exp((log(0.99) + log(0.4)) / 2), abs=1e-3)


def test_the_second_stream_is_opened_at_the_first_unsure_step_and_catches_up_in_one_feed(words: Any) -> None:
    sure = _talker.talker(words, lambda question, seen, said: "A star and a moon.")
    ask(sure, VCD)
    prompt = len(sure.prompt(PICTURE, [Turn("user", "What is it?")])[0])
    assert sure.engine.fed == prompt + 6  # six tokens, and no second prompt
    assert sure.engine.together == []
    model = _talker.talker(words, says)
    ask(model, VCD)
    blind = len(model.prompt(None, [Turn("user", "What is it?")])[0])
    # "A" alone, then the second stream's prompt and "A"; "moon" goes into both, for the step before was unsure.
    assert model.engine.fed == prompt + 1 + blind + 1 + 2
    assert model.engine.together == [2]


def test_the_gate(words: Any) -> None:
    """At .8 instead of .95 a step of .85 is sure enough, and decided plainly."""

    def half_sure(question: str, seen: bool, said: str) -> Any:
        return ({"star": 0.85, "moon": 0.1} if seen else {"star": 0.99}) if not said else {"": 0.99}

    model = _talker.talker(words, half_sure)
    assert ask(model, VCD).text == "moon"
    assert ask(model, replace(VCD, gate=0.8)).text == "star"


def test_implausible_words_stay_out(words: Any) -> None:
    """moon has less than a tenth of star's probability: however little the blind stream thinks of it, it is not said."""

    def rare(question: str, seen: bool, said: str) -> Any:
        return ({"star": 0.8, "moon": 0.07} if seen else {"star": 0.9, "moon": 1e-6}) if not said else {"": 0.99}

    assert ask(_talker.talker(words, rare), VCD).text == "star"
    assert ask(_talker.talker(words, rare), replace(VCD, beta=0.01)).text == "moon"


def test_m3id_grows_with_the_answer(words: Any) -> None:
    """(1 - g) / g is 0 at step 0, .0202 at step 1, 1 at decay log 2: -.69 + 1 * (-.47) against -.92 + 1 * 1.39."""
    assert ask(_talker.talker(words, says), GUARD).text == "A star"
    assert ask(_talker.talker(words, says), replace(GUARD, decay=log(2))).text == "A moon"


@pytest.mark.parametrize("form", ["m3id", "vcd", "guided", "adaptive"])
@pytest.mark.parametrize("other", ["none", "blank", "noised"])
def test_every_form_with_every_stream(words: Any, form: Any, other: Any) -> None:
    model = _talker.talker(words, says)
    guard = Contrast(form=form, other=other, gate=1.0)
    answer = ask(model, guard)
    assert answer.text.startswith("A ")
    assert answer == replace(ask(model, guard), seconds=answer.seconds)
    model.sight.close()
    assert model.engine.live == 0
    assert model.engine.encoded == {"none": 1, "blank": 2, "noised": 3}[other]  # noise is drawn for each answer


def test_sampling_repeats(words: Any) -> None:
    texts = {ask(_talker.talker(words, says), VCD, temperature=1.0, seed=3).text for _ in range(3)}
    assert len(texts) == 1


@pytest.mark.parametrize(
    ("question", "picture", "options", "reason"),
    [
        ("Is there a ring?", True, {}, "lists its answers"),
        ("What is it?\nA. a ring\nB. a star", True, {}, "lists its answers"),
        ("What is it?", False, {}, "no picture"),
    ],
)
def test_where_it_stays_idle(words: Any, question: str, picture: bool, options: Any, reason: str) -> None:
    model = _talker.talker(words, says)
    answer = model.answer(PICTURE if picture else None, [Turn("user", question)], Options(), VCD)
    assert reason in answer.reason
    assert answer.text == model.answer(PICTURE if picture else None, [Turn("user", question)], Options()).text
