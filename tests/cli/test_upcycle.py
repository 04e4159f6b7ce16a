"""``edgereverie upcycle`` hands its stage what the command line said."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgereverie import stages


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    noted: dict[str, Any] = {}
    signature = inspect.signature(stages.upcycle)

    def stage(*positional: Any, **named: Any) -> Path:
        noted.update(signature.bind(*positional, **named).arguments)
        return Path("starter-4e")

    monkeypatch.setattr(stages, "upcycle", stage)
    return noted


def test_its_choices(command: Callable[..., Any], given: dict[str, Any]) -> None:
    done = command("upcycle", "starter")
    assert (done.code, done.out.splitlines()) == (
        0, ["wrote starter-4e", "next: edgereverie train RECIPE --set backbone.model=starter-4e"],
    )  # fmt: skip
    assert given == {
        "model": "starter", "out": None, "layers": "sparse", "experts": 4, "top_k": 2, "seed": 0, "force": False,
    }  # fmt: skip
    command("upcycle", "m", "--layers", "0,2", "--experts", "8", "--top-k", "1", "--seed", "3", "--out", "o", "--force")
    assert given == {
        "model": "m", "out": Path("o"), "layers": "0,2", "experts": 8, "top_k": 1, "seed": 3, "force": True,
    }  # fmt: skip


@pytest.mark.parametrize("words", [("--top-k", "3"), ("--experts", "1")])
def test_what_cannot_be(command: Callable[..., Any], given: dict[str, Any], words: tuple[str, str]) -> None:
    done = command("upcycle", "starter", *words)
    assert done.code == 2 and words[0] in done.err and not given
