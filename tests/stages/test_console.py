"""Bars: one that stays, and others that only a terminal gets to see."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from edgereverie.stages import _console


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("bar", [_console.bar, _console.passing, _console.bytes_passing])
def test_what_each_bar_shows(monkeypatch: pytest.MonkeyPatch, terminal: bool, bar: Callable[..., Any]) -> None:
    written = io.StringIO()
    monkeypatch.setattr(_console, "console", Console(file=written, force_terminal=terminal, width=100))
    with bar("count") as tell:
        assert (tell is None) == (bar is not _console.bar and not terminal)
        if tell is not None:
            tell(3, 3)
    assert ("count" in written.getvalue()) == (bar is _console.bar or terminal)


def test_a_log_is_told_when_long_work_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten of a hundred were done by an earlier run; twenty more take 60 s, so the seventy that are left take 210 s."""
    written, clock = io.StringIO(), iter([0.0, 0.0, 30.0, 60.0, 61.0])
    monkeypatch.setattr(_console, "console", Console(file=written, force_terminal=False, width=100))
    monkeypatch.setattr(_console.time, "monotonic", lambda: next(clock))
    with _console.long_bar("ask", every=60.0) as tell:
        tell(10, 100)
        tell(20, 100)
        assert not written.getvalue()
        tell(30, 100)
        assert written.getvalue().startswith("ask: 30 of 100, 4 min left, until ")
        tell(100, 100)
    assert written.getvalue().splitlines()[-1] == "ask: 100 of 100"


def test_a_terminal_sees_long_work_move(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(_console, "console", Console(file=written, force_terminal=True, width=100))
    with _console.long_bar("ask") as tell:
        tell(1, 3)
        tell(3, 3)
    assert "3/3" in written.getvalue()
