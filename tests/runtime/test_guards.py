"""What holds of the guard that does nothing."""

from __future__ import annotations

from edgereverie.records import Answer, Turn
from edgereverie.registry import GUARDS
from edgereverie.runtime.request import Request


def test_no_guard_changes_nothing() -> None:
    answer = Answer("A ring.", confidence=0.4)
    request = Request(model=None, image=None, turns=(Turn("user", "What is it?"),))
    assert GUARDS.get("none").apply(request, answer) is answer
