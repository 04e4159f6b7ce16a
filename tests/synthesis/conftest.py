"""A scripted teacher, and small pictures that all differ."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from edgereverie.synthesis.budget import Budget
from edgereverie.synthesis.teachers.openai import OpenAi
from edgereverie.synthesis.teachers.retry import Patience


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of replies are flushed one by one; only the journal's own tests and the kills wait for that."""
    if request.path.stem not in ("test_journal", "test_kill"):
        monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def pictures(tmp_path: Path) -> Callable[[int], Path]:
    """A folder with so many pictures of 8 x 8 pixels, each of its own colour."""

    def draw(count: int) -> Path:
        root = tmp_path / "images"
        root.mkdir(exist_ok=True)
        for number in range(count):
            colour = (number % 256, number // 256, 90)
            Image.new("RGB", (8, 8), colour).save(root / f"{number:04d}.png", compress_level=0)
        return root

    return draw


@pytest.fixture
def ask(pictures: Callable[[int], Path]) -> Callable[..., OpenAi]:
    """A client of a scripted server, that does not wait long between its tries."""

    def make(server: Any, budget: Budget | None = None, **named: Any) -> OpenAi:
        named = {"patience": Patience(tries=4, first=0.002), "seconds": 30.0} | named
        return OpenAi(server.url, "scripted", budget=budget, **named)

    return make
