"""Search over a scripted model: which sentence is chosen, and where the answer ends."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from math import log
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from edgereverie.records import Answer, Options, Turn
from edgereverie.runtime.guards.search import GUARD
from edgereverie.runtime.request import Piece

_spec = importlib.util.spec_from_file_location("_talker", Path(__file__).with_name("_talker.py"))
_talker = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_talker)
PICTURE = Image.new("RGB", (40, 30), "red")


@pytest.fixture(scope="module")
def words() -> Any:
    return _talker.tokenizer()


def ask(model: Any, guard: Any = GUARD, question: str = "Describe it.", **options: Any) -> Answer:
    answer = model.answer(PICTURE, [Turn("user", question)], Options(**options), guard)
    model.sight.close()
    assert model.engine.live == 0
    return answer


def says(question: str, seen: bool, said: str) -> Any:
    """ "A star." comes first; the picture makes "A moon." five times likelier, and "A star." less likely."""
    if said == "A":
        return {"star": 0.5, "moon": 0.4} if seen else {"star": 0.8, "moon": 0.08}
    if said.endswith("."):
        return {"": 0.99}
    return {"A": 0.99} if not said else {".": 0.99}


def test_the_sentence_goes_on_that_the_picture_speaks_for(words: Any) -> None:
    """Gains: moon log 5 / 3 tokens, star log(.5 / .8) / 3. Ranks: star 1/2 and 2/2, moon 2/2 and 1/2; relevance weighs .9."""
    model = _talker.talker(words, says)
    two = replace(GUARD, beams=2, diversity=1.0)  # "moon" has 0.22 nats less than "star": one nat is enough to differ
    assert ask(model, two).text == "A moon."
    assert ask(model, replace(two, weight=0.1)).text == "A star."
    assert ask(model, "none").text == "A star."


def test_the_answer_is_told_sentence_by_sentence_with_its_record(words: Any) -> None:
    model = _talker.talker(words, lambda question, seen, said: "A red star. A moon. It is blue.")
    events = list(model.events(PICTURE, [Turn("user", "Describe it.")], Options(), replace(GUARD, diversity=0.0)))
    answer = events[-1].answer
    assert answer.text == "A red star. A moon. It is blue." == "".join(e.text for e in events if isinstance(e, Piece))
    assert "".join(answer.text[t.start : t.end] for t in answer.record) == answer.text
    assert all(token.log_prob == pytest.approx(log(0.98), abs=1e-3) for token in answer.record)
    assert (answer.ended, answer.tokens) == ("stop", len(answer.record))


@pytest.mark.parametrize("most", [1, 2, 4, 6])
def test_the_longest_answer_is_kept_to(words: Any, most: int) -> None:
    model = _talker.talker(words, lambda question, seen, said: "A red star. A moon. It is blue.")
    answer = ask(model, replace(GUARD, diversity=0.0), max_tokens=most)
    assert (len(answer.record), answer.ended) == (most, "length")


def test_stop_words_end_it(words: Any) -> None:
    model = _talker.talker(words, lambda question, seen, said: "A red star. A moon. It is blue.")
    answer = ask(model, replace(GUARD, diversity=0.0), stop=("moon",))
    assert (answer.text, answer.ended) == ("A red star. A ", "stop")


def test_closed_questions_and_blind_ones_are_answered_plainly(words: Any) -> None:
    model = _talker.talker(words, says)
    assert "does not ask for a description" in ask(model, question="Is there a star?").reason
    answer = model.answer(None, [Turn("user", "Describe it.")], Options(), GUARD)
    assert (answer.text, "no picture" in answer.reason) == ("A star.", True)
