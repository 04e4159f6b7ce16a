"""A batch that was stopped and went on gives the very answers of one that was not, to the last bit, in every runtime."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgereverie import stages
from edgereverie.evaluation.journal import Journal
from edgereverie.records import Options

THINGS = ("ring", "star", "moon", "heart", "cross", "dog")


def answers(path: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        row["answer"]["seconds"] = 0
    return rows


@pytest.mark.parametrize("backend", ["llamacpp", "onnxrt"])
def test_going_on_changes_no_bit(
    loadable: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    rng = np.random.default_rng(5)
    names = ["a.png", "b.png", "c.png", "d.png"]
    for name in names:
        Image.fromarray(rng.integers(0, 255, (96, 96, 3), dtype=np.uint8)).save(tmp_path / name)
    rows = [
        {"id": f"{thing} {name}", "image": name, "question": f"Is there a {thing}?"}
        for thing in THINGS
        for name in names
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    model, options = str(loadable(backend)), Options(max_tokens=12)

    def run(out: str) -> list[dict[str, Any]]:
        return answers(stages.batch(model, tmp_path / "in.jsonl", tmp_path / out, backend=backend, options=options))

    whole = run("whole.jsonl")
    assert len({row["answer"]["text"] for row in whole}) > 1 and all(row["answer"]["confidence"] for row in whole)
    written = Journal.add
    for stop in (3, 9, 16):

        def add(self: Journal, predictions: Any, stop: int = stop) -> None:
            if len(self.answers) == stop:
                raise KeyboardInterrupt
            written(self, predictions)

        monkeypatch.setattr(Journal, "add", add)
        with pytest.raises(KeyboardInterrupt):
            run("stopped.jsonl")
    monkeypatch.setattr(Journal, "add", written)
    assert run("stopped.jsonl") == whole
