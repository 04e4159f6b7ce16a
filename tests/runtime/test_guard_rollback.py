"""Rollback over a scripted model: what is judged, taken back, tried again, kept and dropped."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from edgereverie.records import Answer, Options, Turn
from edgereverie.runtime.guards.base import ABSTENTION
from edgereverie.runtime.guards.rollback import GUARD
from edgereverie.runtime.request import Done, Piece, Retraction

_spec = importlib.util.spec_from_file_location("_talker", Path(__file__).with_name("_talker.py"))
_talker = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_talker)
pytestmark = pytest.mark.usefixtures("odds_reading")
PICTURE = Image.new("RGB", (40, 30), "red")


@pytest.fixture(scope="module")
def words() -> Any:
    return _talker.tokenizer()


def model_of(words: Any, told: str, here: str, instead: str = "") -> Any:
    """Says ``told``, and ``instead`` when it is told to avoid something. Only what is ``here`` is in the picture."""

    def says(question: str, seen: bool, said: str) -> Any:
        if question.startswith(("Is the", "Are the")):
            yes = seen and any(name in question for name in here.split())
            return {"Yes": 0.95, "No": 0.05} if yes else {"No": 0.95, "Yes": 0.05} if seen else {"Yes": 0.5, "No": 0.5}
        return (instead or told) if "(avoid: " in question else told

    return _talker.talker(words, says)


def ask(model: Any, guard: Any = GUARD, question: str = "Describe it.", **options: Any) -> tuple[Answer, list[Any]]:
    events = list(model.events(PICTURE, [Turn("user", question)], Options(**options), guard))
    shown = ""
    for event in events:
        if isinstance(event, Piece):
            shown += event.text
        elif isinstance(event, Retraction):
            assert event.length < len(shown)
            shown = shown[: event.length]
    assert isinstance(events[-1], Done)
    assert shown == events[-1].answer.text
    model.sight.close()
    assert model.engine.live == 0
    return events[-1].answer, [event for event in events if isinstance(event, Retraction)]


def test_what_the_picture_supports_stays(words: Any) -> None:
    answer, taken = ask(model_of(words, "A red star. A moon.", "star moon"))
    assert answer.text == "A red star. A moon."
    assert (taken, answer.draft, answer.reason) == ([], None, "")
    _, colour, _ = answer.claims
    assert [(claim.subject, claim.kind) for claim in answer.claims] == [
        ("star", "object"), ("star", "attribute"), ("moon", "object")]  # fmt: skip
    assert answer.confidence == min(claim.support for claim in answer.claims) > 0.7
    assert colour.statement == "The star is red."
    assert colour.evidence.keys() >= {
        "log_prob_mean",
        "log_prob_min",
        "margin_min",
        "grounding",
        "grounding_min",
        "length",
    }


def test_a_contradicted_sentence_is_written_anew_without_its_noun(words: Any) -> None:
    model = model_of(words, "A star. A moon.", "ring moon", instead="A ring. A moon.")
    answer, (taken,) = ask(model)
    assert answer.text == "A ring. A moon."
    assert taken.length == 0 and "A star" in taken.why
    assert "A star" in answer.reason
    assert [answer.text[c.start : c.end] for c in answer.claims] == ["A ring", "A moon"]
    assert all(claim.verdict == "supported" for claim in answer.claims)
    assert answer.tokens == len(answer.record) + 3  # "A", "star", "." were generated, too


def test_a_second_try_that_is_no_better_is_dropped_with_the_first(words: Any) -> None:
    model = model_of(words, "A red star. A moon.", "moon", instead="A red drop. A moon.")
    answer, taken = ask(model)
    assert answer.text == "A moon."
    assert [event.length for event in taken] == [0, 0]
    assert answer.draft == "A red star. A moon."  # and the record is of that
    assert "".join(answer.draft[t.start : t.end] for t in answer.record) == answer.draft
    (claim,) = answer.claims
    assert answer.text[claim.start : claim.end] == claim.text == "A moon"


def test_what_is_said_of_a_dropped_thing_goes_with_it(words: Any) -> None:
    model = model_of(words, "A moon. A star. It is blue. A ring.", "moon ring")
    answer, _ = ask(model)
    assert answer.text == "A moon. A ring."


def test_when_nothing_is_left_the_answer_abstains(words: Any) -> None:
    answer, _ = ask(model_of(words, "A star. It is blue.", ""))
    assert (answer.text, answer.abstained, answer.claims) == (ABSTENTION, True, ())
    assert "A star" in answer.reason


def test_second_tries_are_counted(words: Any) -> None:
    """Four wrong sentences: three are tried again, the fourth is dropped at once."""
    told = "A star. A moon. A drop. Two cats. A ring."
    _, taken = ask(model_of(words, told, "ring", instead="A blue. "))
    several = sum("second try" in event.why for event in taken)
    assert several <= 3
    _, fewer = ask(model_of(words, told, "ring", instead="A blue. "), replace(GUARD, tries=1))
    assert sum("second try" in event.why for event in fewer) <= 1
    _, none = ask(model_of(words, told, "ring"), replace(GUARD, tries=0))
    assert len(none) == 4 and not any("second try" in event.why for event in none)


@pytest.mark.parametrize("question", ["Do you see a ring?", "What colour is the star?"])
def test_what_is_no_description_is_answered_plainly(words: Any, question: str) -> None:
    answer, taken = ask(model_of(words, "Yes.", ""), question=question)
    assert (answer.text, taken) == ("Yes.", [])
    assert "does not ask for a description" in answer.reason


def test_without_room_for_the_hint_there_is_no_second_try(words: Any) -> None:
    model = model_of(words, "A star. A moon.", "ring moon", instead="A ring. A moon.")
    prompt = len(model.prompt(PICTURE, [Turn("user", "Describe it.")])[0])
    model.engine.context = prompt + 12
    answer, _ = ask(model, max_tokens=12)
    assert answer.text == "A moon."


@pytest.mark.parametrize("most", [1, 2, 3, 5, 9])
def test_a_cut_answer_is_judged_as_far_as_it_goes(words: Any, most: int) -> None:
    answer, _ = ask(model_of(words, "A star. A moon. A ring.", "moon ring"), max_tokens=most)
    assert len(answer.record) <= most
    assert answer.ended == "length"


def test_without_a_picture_it_stays_idle(words: Any) -> None:
    model = model_of(words, "A star.", "")
    answer = model.answer(None, [Turn("user", "Describe it.")], Options(), GUARD)
    assert answer.text == "A star." and "no picture" in answer.reason
    assert model.engine.live == 0


def test_closing_it_midway_gives_the_streams_back(words: Any) -> None:
    model = model_of(words, "A moon. A star. A ring.", "moon ring")
    for steps in range(1, 9):
        events = model.events(PICTURE, [Turn("user", "Describe it.")], Options(), GUARD)
        for _ in range(steps):
            next(events)
        events.close()
        model.sight.close()
        assert model.engine.live == 0


def test_what_is_right_of_a_sentence_stays(words: Any) -> None:
    """No second choice is better than "star"; the moon in the same sentence is there."""
    answer, taken = ask(model_of(words, "A ring. A star and a moon. A drop.", "ring moon drop"))
    assert answer.text == "A ring. A moon. A drop."
    assert [event.length for event in taken] == [7, 7]
    assert [answer.text[claim.start : claim.end] for claim in answer.claims] == ["A ring", "A moon", "A drop"]
    assert answer.draft == "A ring. A star and a moon. A drop."
    assert not answer.abstained
