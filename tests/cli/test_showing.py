"""What a terminal shows while an answer comes, is taken back in part, and is finished."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgereverie.cli import showing
from edgereverie.cli.showing import Shown, rows_up
from edgereverie.errors import BackendError
from edgereverie.records import Answer, Claim
from edgereverie.runtime.request import Piece, Retraction

spec = importlib.util.spec_from_file_location("cli_terminal", Path(__file__).parent / "_terminal.py")
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
Terminal = module.Terminal


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Make standard output a terminal of this size."""
    monkeypatch.delenv("NO_COLOR", raising=False)

    def make(columns: int = 40, lines: int = 12, term: str = "xterm-256color") -> Any:
        screen = Terminal(columns, lines)
        monkeypatch.setenv("TERM", term)
        monkeypatch.setattr("sys.stdout", screen)
        monkeypatch.setattr(showing, "terminal_size", lambda: os.terminal_size((columns, lines)))
        return screen

    return make


def wrapped(text: str, columns: int = 40) -> str:
    """How a terminal of so many columns shows single-width text."""
    rows = [line[i : i + columns].rstrip() for line in text.split("\n") for i in range(0, max(1, len(line)), columns)]
    return "\n".join(rows)


DRAFT = "There is a red ring on the left, a green heart in the middle of it, and a small star."
KEPT = "There is a red ring on the left"
FINAL = KEPT + ", and a small star."
STAR = Claim("a small star", FINAL.index("a small"), len(FINAL) - 1, "star", 0.5, "unverified")


def test_what_is_taken_back_is_struck_where_it_stands(terminal: Callable[..., Any]) -> None:
    screen, shown = terminal(), Shown()
    for start in range(0, len(DRAFT), 7):
        shown.take(Piece(DRAFT[start : start + 7]))
    assert screen.text == wrapped(DRAFT) and screen.struck_text == ""
    shown.take(Retraction(len(KEPT), "no heart is there"))
    assert screen.text == wrapped(DRAFT), "it can still be read"
    assert screen.struck_text == DRAFT[len(KEPT) :]
    shown.take(Piece(FINAL[len(KEPT) :]))
    assert screen.text == wrapped(DRAFT + FINAL[len(KEPT) :])
    shown.finish(Answer(FINAL, (STAR,), reason="no heart is there"))
    told = f"taken back: {DRAFT[len(KEPT) :].strip()} (no heart is there)"
    assert screen.text == wrapped(FINAL[:-1] + "[?].") + "\n" + wrapped(told)
    assert screen.struck_text == ""


def test_two_retractions_of_which_the_second_cuts_deeper(terminal: Callable[..., Any]) -> None:
    screen, shown = terminal(), Shown()
    for event in (Piece("one two three"), Retraction(8), Piece("four"), Retraction(4), Piece("five")):
        shown.take(event)
    assert shown.text == "one five"
    assert screen.text == "one threetwo fourfive" and screen.struck_text == "threetwo four"
    shown.finish(Answer("one five"))
    assert screen.text == "one five\ntaken back: three\ntaken back: two four"


def test_a_checked_answer_is_marked_in_place(terminal: Callable[..., Any]) -> None:
    screen, shown = terminal(), Shown("a.png")
    shown.take(Piece(FINAL))
    shown.finish(Answer(FINAL, (STAR,), guarantee="P(risk <= 0.1) >= 0.9", ended="length", tokens=9))
    assert screen.text.split("\n")[0] == "a.png"
    assert screen.text.split("\n", 1)[1].startswith(wrapped(FINAL[:-1] + "[?]."))
    assert "guaranteed: P(risk <= 0.1) >= 0.9" in screen.text and "cut at 9 tokens" in screen.text


def test_a_dumb_terminal_is_told_what_was_taken_back(terminal: Callable[..., Any]) -> None:
    screen, shown = terminal(columns=200, lines=30, term="dumb"), Shown()
    for event in (Piece(DRAFT), Retraction(len(KEPT), "no heart"), Piece(FINAL[len(KEPT) :])):
        shown.take(event)
    shown.finish(Answer(FINAL, (STAR,), reason="no heart"))
    assert screen.text.split("\n")[:5] == [
        DRAFT, f"(taken back: {DRAFT[len(KEPT) :].strip(' ')}; no heart)", FINAL[len(KEPT) :], "corrected:", FINAL[:-1] + "[?].",
    ]  # fmt: skip


def test_an_answer_that_outgrew_the_screen_is_corrected_below(terminal: Callable[..., Any]) -> None:
    screen, shown = terminal(columns=20, lines=3), Shown()
    for event in (Piece(DRAFT), Retraction(len(KEPT)), Piece(FINAL[len(KEPT) :])):
        shown.take(event)
    shown.finish(Answer(FINAL))
    assert screen.text.startswith(wrapped(DRAFT, 20)), "nothing is written over"
    assert "corrected:\n" + wrapped(FINAL, 20) in screen.text


def test_a_plain_answer_is_written_once(terminal: Callable[..., Any]) -> None:
    screen, shown = terminal(), Shown()
    shown.take(Piece("A ring."))
    shown.finish(Answer("A ring."))
    assert screen.text == "A ring." and (screen.row, screen.column) == (1, 0)


def test_an_error_begins_on_a_line_of_its_own(terminal: Callable[..., Any]) -> None:
    screen = terminal()

    def breaking() -> Iterator[Any]:
        yield Piece("Half an ans")
        raise BackendError("out of memory")

    with pytest.raises(BackendError):
        showing.shown(breaking())
    assert (screen.text, screen.row, screen.column) == ("Half an ans", 1, 0)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text("ab \n日本é", max_size=60), st.integers(2, 9))
def test_rows_are_counted_as_terminals_wrap(text: str, columns: int) -> None:
    screen = Terminal(columns, 999)
    screen.write(text)
    assert rows_up(text, columns) == screen.row


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(st.lists(st.one_of(st.text("ab \n日", min_size=1, max_size=25), st.integers(0, 30)), max_size=8))
def test_whatever_comes_the_finished_answer_stands_where_it_began(
    terminal: Callable[..., Any], script: list[Any]
) -> None:
    screen = terminal(columns=12, lines=200)
    screen.write("$ ask\n")
    shown = Shown()
    for step in script:
        shown.take(Piece(step) if isinstance(step, str) else Retraction(min(step, len(shown.text))))
    answer = Answer(shown.text, (Claim("x", 0, 0, "x", 0.5, "unverified"),))
    shown.finish(answer)
    expected = Terminal(12, 200)
    expected.write("$ ask\n" + shown.text + "\n")
    lines = expected.text.split("\n")
    assert screen.text.split("\n")[: len(lines)] == lines
