"""A small AMBER in the authors' form: two pictures, two descriptions, nine questions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgereverie.evaluation.benchmarks._amber_files import AmberItem
from edgereverie.evaluation.benchmarks.amber import BENCHMARK
from edgereverie.evaluation.source import Source

RELATED = {"man": ["guy"], "dog": ["puppy"], "cup": [], "cat": [], "tree": []}
ANNOTATIONS: list[dict[str, Any]] = [
    {"id": 1, "type": "generative", "truth": ["man", "dog", "cup"], "hallu": ["cat", "tree"]},
    {"id": 2, "type": "generative", "truth": ["tree"], "hallu": ["dog"]},
    {"id": 3, "type": "discriminative-hallucination", "truth": "no"},
    {"id": 4, "type": "discriminative-attribute-state", "truth": "yes"},
    {"id": 5, "type": "discriminative-attribute-state", "truth": "no"},
    {"id": 6, "type": "discriminative-attribute-number", "truth": "yes"},
    {"id": 7, "type": "discriminative-attribute-action", "truth": "no"},
    {"id": 8, "type": "discriminative-relation", "truth": "yes"},
    {"id": 9, "type": "discriminative-hallucination", "truth": "no"},
    {"id": 10, "type": "discriminative-attribute-state", "truth": "no"},
    {"id": 11, "type": "relation", "truth": "no"},
]
QUERIES = [
    {"id": n, "image": "a.jpg" if n in (1, 3, 4, 5, 6, 7, 8) else "b.jpg", "query": f"Question {n}?"}
    for n in range(1, 12)
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files; the pictures are not there."""
    amber = tmp_path / "amber"
    amber.mkdir()
    for name, content in (("query_all", QUERIES), ("annotations", ANNOTATIONS), ("relation", RELATED)):
        (amber / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    (amber / "safe_words.txt").write_text("light\nsign", encoding="utf-8")
    return tmp_path


@pytest.fixture
def items_in() -> Callable[..., list[AmberItem]]:
    """(folder, splits ..., limit=None) -> the items."""

    def read(folder: Path, *splits: str, limit: int | None = None) -> list[AmberItem]:
        return BENCHMARK.items(Source(folder, pictures=False, splits=splits), limit)

    return read
