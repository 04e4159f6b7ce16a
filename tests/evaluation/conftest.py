"""A small benchmark folder with three pictures, written in the official form."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from PIL import Image

PICTURES = ("a.png", "b.png", "c.png")
VOCABULARY = {"ring": ["ring", "rings"], "star": ["star", "stars"], "cross": ["cross", "crosses"]}
HEADER = {"edgereverie": "chair", "version": 1, "vocabulary": VOCABULARY, "prompt": "Describe the image."}
OBJECTS = {"a.png": ["ring", "star"], "b.png": ["cross"], "c.png": []}


def write_lines(path: Path, rows: Iterable[object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def pope_rows() -> list[dict]:
    rows = []
    for picture in PICTURES:
        for name in VOCABULARY:
            label = "yes" if name in OBJECTS[picture] else "no"
            text = f"Is there a {name} in the image?"
            rows.append({"question_id": len(rows) + 1, "image": picture, "text": text, "label": label})
    return rows


def written(root: Path) -> Path:
    """The folder, written to ``root``."""
    (root / "images").mkdir(parents=True)
    for number, picture in enumerate(PICTURES):
        Image.new("RGB", (8, 8), (80 * number, 20, 200)).save(root / "images" / picture)
    for split in ("random", "popular", "adversarial"):
        write_lines(root / "pope" / f"{split}.jsonl", pope_rows())
    write_lines(root / "chair.jsonl", [HEADER, *({"image": p, "objects": OBJECTS[p]} for p in PICTURES)])
    return root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return written(tmp_path / "bench")
