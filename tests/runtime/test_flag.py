"""flag: the answer as it was, each claim with what the picture adds to its words."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from edgereverie.records import Answer, Options, Turn
from edgereverie.registry import GUARDS
from edgereverie.runtime.fusion import EVERY, Feature, Fusion, Reading, Readings
from edgereverie.runtime.guards.flag import Flag
from edgereverie.runtime.model import Model
from edgereverie.runtime.request import Request

TURNS = (Turn("user", "Describe the image."),)
GROUNDED = Fusion({EVERY: Readings(Reading((Feature("grounding", 1.0),)))})


@pytest.fixture(scope="module")
def model(loadable) -> Model:
    with Model.load(loadable("llamacpp"), precise=True) as loaded:
        yield loaded


def test_the_text_stays_and_its_claims_are_judged(model: Model, photo: Path) -> None:
    answer = Flag(fusion=GROUNDED).apply(Request(model, photo, TURNS), Answer("A red ring and a star."))
    assert (answer.text, answer.draft, answer.abstained) == ("A red ring and a star.", None, False)
    assert [claim.statement for claim in answer.claims] == ["There is a ring.", "The ring is red.", "There is a star."]
    for claim in answer.claims:
        assert answer.text[claim.start : claim.end] == claim.text
        assert claim.support == pytest.approx(1 / (1 + math.exp(-claim.evidence["grounding"])))
        assert not any(name.startswith(("yes", "no_", "verification")) for name in claim.evidence)
    assert answer.confidence == min(claim.support for claim in answer.claims)


def test_it_costs_one_short_pass(model: Model, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a generated answer nothing is fed but the prompt and the answer, once, without the picture."""
    passes: list[tuple[bool, int]] = []
    run = Model.run

    def counting(self: Model, image: object, ids, cut: int, **more):
        passes.append((image is not None, len(ids) - cut))
        return run(self, image, ids, cut, **more)

    monkeypatch.setattr(Model, "run", counting)
    answer = Answer("A red ring and a star.")
    tokens, _ = model.prompt(None, TURNS)
    own = model.answer(photo, TURNS, Options(max_tokens=8))
    passes.clear()
    record = tuple(token for token in own.record)
    text = own.text
    GUARDS.get("flag").apply(Request(model, photo, TURNS), Answer(text, record=record))
    from edgereverie.text.claims import claims

    assert passes == ([(False, len(tokens) + len(record) - 1)] if claims(TURNS[0].text, text) else [])
    passes.clear()
    GUARDS.get("flag").apply(Request(model, photo, TURNS), answer)  # a text that is not the model's own is read twice
    assert [seen for seen, _ in passes] == [True, False]


def test_an_answer_without_claims_costs_nothing(model: Model, photo: Path) -> None:
    answer = Answer("Hmm.", confidence=0.4)
    assert GUARDS.get("flag").apply(Request(model, photo, TURNS), answer) == answer
