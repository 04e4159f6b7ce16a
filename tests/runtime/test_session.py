"""A conversation about a picture: what the model is told of it, what is kept of it, and what an interruption leaves."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from edgereverie.errors import DataError
from edgereverie.records import Answer, Options, Turn
from edgereverie.runtime.request import Done, Piece
from edgereverie.runtime.session import Session

SLOW = Path(__file__).parent.parent / "cli" / "_slow_model.py"


@pytest.fixture(scope="module")
def slow() -> ModuleType:
    spec = importlib.util.spec_from_file_location("slow_model", SLOW)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def session(slow: ModuleType) -> Iterator[Session]:
    with slow.model(0.0) as model:
        yield Session(model, options=Options(max_tokens=40))
    assert not slow.alive, "every stream was closed"


def test_the_model_is_told_of_the_conversation(session: Session, slow: ModuleType, photo: Path) -> None:
    session.see(photo)
    *_, done = session.ask("One?")
    assert isinstance(done, Done) and session.answer is done.answer and done.answer.text == slow.SAYS
    before = done.answer.prompt_tokens
    *_, done = session.ask("Two?")
    assert done.answer.prompt_tokens > before + done.answer.tokens
    assert session.turns == (
        Turn("user", "One?"), Turn("assistant", slow.SAYS), Turn("user", "Two?"), Turn("assistant", slow.SAYS),
    )  # fmt: skip
    assert session.model.engine.encoded == 1


def test_a_stopped_answer_leaves_no_stream_and_no_trace(session: Session, slow: ModuleType, photo: Path) -> None:
    session.see(photo)
    kept = set(slow.alive)
    events = session.ask("One?")
    assert isinstance(next(events), Piece) and len(slow.alive) > len(kept)
    events.close()
    assert slow.alive == kept and session.turns == () and session.answer is None and session.transcript == ()
    list(session.ask("Two?"))
    assert [turn.text for turn in session.turns] == ["Two?", slow.SAYS]


def test_an_interruption_inside_a_step_frees_the_streams_too(
    session: Session, slow: ModuleType, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.see(photo)
    kept, engine, calls = set(slow.alive), session.model.engine, 0
    rule = engine.rule

    def interrupted(fed: tuple[int, ...]):
        nonlocal calls
        calls += 1
        if calls == 20:
            raise KeyboardInterrupt
        return rule(fed)

    monkeypatch.setattr(engine, "rule", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(session.ask("What is there?"))
    assert slow.alive == kept and session.turns == ()


def test_another_picture_begins_anew_and_a_bad_one_changes_nothing(
    session: Session, photo: Path, tmp_path: Path
) -> None:
    session.see(photo)
    list(session.ask("One?"))
    with pytest.raises(DataError):
        session.see(tmp_path / "absent.png")
    assert session.image == photo and len(session.turns) == 2
    other = tmp_path / "other.png"
    other.write_bytes(photo.read_bytes())
    session.see(other)
    assert session.turns == () and session.answer is None
    list(session.ask("Two?"))
    assert [(said.image, said.question) for said in session.transcript] == [(photo, "One?"), (other, "Two?")]


def test_guards_and_options_may_change_between_questions(session: Session) -> None:
    list(session.ask("One?"))
    session.guards, session.options = "flag", Options(max_tokens=5)
    list(session.ask("Two?"))
    assert session.answer.guards == ("flag",) and session.answer.tokens == 5 and session.answer.claims


def test_claims_are_looked_for_once_when_no_guard_did(session: Session) -> None:
    assert session.checked() is None
    list(session.ask("What is there?"))
    assert session.answer.claims == ()
    found = session.checked()
    assert {claim.subject for claim in found.claims} == {"ring", "star", "moon", "heart"}
    assert session.checked() is found and session.answer is found and session.transcript[-1].answer is found


def test_looking_for_claims_that_fails_leaves_the_answer(
    session: Session, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.see(photo)
    list(session.ask("What is there?"))
    before = session.exchanges
    monkeypatch.setattr(session.model.engine, "rule", lambda fed: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        session.checked()
    assert session.exchanges == before and session.answer is before[-1].answer


def test_an_empty_answer_is_remembered_but_not_told(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(session.model), "events", lambda *_: iter([Done(Answer("  "))]))
    list(session.ask("One?"))
    assert session.turns == () and [said.question for said in session.transcript] == ["One?"]
