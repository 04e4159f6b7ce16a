"""Guards together: what one says of an answer reaches those after it, and the reader."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from edgereverie.records import Answer, Options, Turn
from edgereverie.runtime.guarding import chosen, guarded
from edgereverie.runtime.guards.base import ABSTENTION
from edgereverie.runtime.request import Done, Piece, Request, Retraction

_spec = importlib.util.spec_from_file_location("_talker", Path(__file__).with_name("_talker.py"))
_talker = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_talker)
PICTURE = Image.new("RGB", (40, 30), "red")


@dataclass(frozen=True)
class Says:
    """An answer guard that makes the answer another one."""

    name: str
    text: str
    reason: str = ""
    abstained: bool = False

    def apply(self, request: Request, answer: Answer) -> Answer:
        return replace(answer, text=self.text, reason=self.reason, draft=answer.text, abstained=self.abstained)


@pytest.fixture
def request_() -> Request:
    def says(question: str, seen: bool, said: str) -> Any:
        if question.startswith(("Is ", "Are ")):
            return {"": 0.99} if said else {"Yes": 0.9, "No": 0.05} if seen else {"Yes": 0.5, "No": 0.5}
        return "A star and a moon."

    model = _talker.talker(_talker.tokenizer(), says)
    return Request(model, PICTURE, (Turn("user", "Describe it."),), Options())


def test_text_that_is_taken_back_is_only_what_differs(request_: Request) -> None:
    events = list(guarded(request_, [Says("one", "A star.", "no moon"), Says("two", "A star. A ring.", "a ring")]))
    first = next(at for at, event in enumerate(events) if isinstance(event, Retraction))
    assert events[first:-1] == [Retraction(6, "no moon"), Piece("."), Piece(" A ring.")]
    assert events[-1].answer.text == "A star. A ring."


def test_reasons_add_up_and_the_draft_is_the_models_own(request_: Request) -> None:
    *_, done = guarded(request_, [Says("one", "A star.", "no moon"), Says("two", "A ring.", "no star")])
    assert isinstance(done, Done)
    assert done.answer.reason == "no moon; no star"
    assert done.answer.draft == "A star and a moon."
    assert done.answer.guards == ("one", "two")


def test_nothing_is_made_of_an_answer_that_abstained(request_: Request) -> None:
    *_, done = guarded(request_, [Says("one", ABSTENTION, "unsure", abstained=True), Says("two", "A ring.")])
    assert (done.answer.text, done.answer.abstained, done.answer.reason) == (ABSTENTION, True, "unsure")


def test_a_figure_of_the_whole_answer_reaches_the_claims_that_are_judged_later(request_: Request) -> None:
    *_, done = guarded(request_, "reflect,flag")
    assert {claim.subject for claim in done.answer.claims} == {"star", "moon"}
    for claim in done.answer.claims:
        assert claim.evidence.keys() >= {"reflection", "grounding", "log_prob_mean", "polarity"}


def test_flag_beside_verify_would_judge_twice() -> None:
    assert [guard.name for guard in chosen("flag,verify")[1]] == ["verify"]
