"""CHAIR over a vocabulary of its own, by hand arithmetic, and its strict reader."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from edgereverie.errors import DataError
from edgereverie.evaluation.benchmarks.base import score_answers
from edgereverie.evaluation.benchmarks.chair import BENCHMARK
from edgereverie.evaluation.source import Source

VOCABULARY = {"ring": ["ring", "rings"], "star": ["star", "stars"], "cross": ["cross", "crosses"]}
HEADER = {"edgereverie": "chair", "version": 1, "vocabulary": VOCABULARY, "prompt": "Describe the image."}
GOOD = {"image": "a.png", "objects": ["ring"]}


def test_the_standard_definition_by_hand(folder: Path) -> None:
    items = BENCHMARK.items(Source(folder))
    captions = {
        "a.png": "A ring, two rings and a cross.",  # 3 mentions, the cross is made up; 1 of 2 objects named; 7 words
        "b.png": "I see a Cross here.",  # 1 mention, right; 1 of 1 object; 5 words
        "c.png": "Stars and a star.",  # 2 mentions, both made up; 0 objects; 4 words
    }
    result = score_answers(BENCHMARK, "table", items, captions)
    values = {score.metric: score.value for score in result.scores}
    assert values["chair/table/chair_i"] == pytest.approx(3 / 6)
    assert values["chair/table/chair_s"] == pytest.approx(2 / 3)
    assert values["chair/table/recall"] == pytest.approx(2 / 3)
    assert values["chair/table/words"] == pytest.approx(16 / 3)
    assert values["chair/table/objects"] == pytest.approx(6 / 3)
    assert result.counts()["chair/table"] == {
        "mentions": 6, "hallucinated_mentions": 3, "captions": 3, "hallucinated_captions": 2,
        "true_objects": 3, "named_objects": 2, "words": 16,
    }  # fmt: skip
    assert {score.n for score in result.scores} == {3}


def test_silent_captions_have_no_chair_i_but_zero_recall(folder: Path) -> None:
    items = BENCHMARK.items(Source(folder))
    values = {
        s.metric: s.value for s in score_answers(BENCHMARK, "table", items, {item.id: "" for item in items}).scores
    }
    assert math.isnan(values["chair/table/chair_i"])
    assert (
        values["chair/table/chair_s"] == 0.0
        and values["chair/table/recall"] == 0.0
        and values["chair/table/words"] == 0.0
    )


def test_items(folder: Path) -> None:
    items = BENCHMARK.items(Source(folder))
    assert [(item.id, item.question, item.truth) for item in items] == [
        ("a.png", "Describe the image.", "ring, star"),
        ("b.png", "Describe the image.", "cross"),
        ("c.png", "Describe the image.", ""),
    ]
    assert [item.id for item in BENCHMARK.items(Source(folder), 2)] == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "chair.jsonl:1: expected the header"),
        ([GOOD], "chair.jsonl:1: expected the header"),
        ([{**HEADER, "version": 2}, GOOD], "chair.jsonl:1: expected the header of a version 1"),
        ([{k: v for k, v in HEADER.items() if k != "prompt"}, GOOD], "chair.jsonl:1: the key 'prompt' is missing"),
        ([{**HEADER, "vocabulary": {"ring": "ring"}}, GOOD], "chair.jsonl:1: the forms of 'ring'"),
        ([{**HEADER, "vocabulary": {}}, GOOD], "chair.jsonl:1: The object vocabulary is empty"),
        ([HEADER], "lists no images"),
        ([HEADER, GOOD, GOOD], "chair.jsonl:3: the image 'a.png' stands on line 2"),
        ([HEADER, {"image": "a.png", "objects": ["moon"]}], "chair.jsonl:2: .*does not know 'moon'"),
        ([HEADER, {"image": "a.png", "objects": [["ring"]]}], "chair.jsonl:2: .*does not know"),
        ([HEADER, {"image": "a.png", "objects": "ring"}], "chair.jsonl:2: 'objects' should be list"),
        ([HEADER, {"image": "a.png"}], "chair.jsonl:2: the key 'objects' is missing"),
        ([HEADER, {"image": "z.png", "objects": []}], "chair.jsonl:2: the picture 'z.png' is not in"),
    ],
)
def test_a_broken_file_is_an_error_with_its_line(folder: Path, rows: list, message: str) -> None:
    (folder / "chair.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(DataError, match=message):
        BENCHMARK.items(Source(folder))


def test_a_missing_file_and_damaged_json(folder: Path) -> None:
    (folder / "chair.jsonl").write_text(json.dumps(HEADER) + '\n{"image": \n')
    with pytest.raises(DataError, match=r"chair\.jsonl:2: not JSON"):
        BENCHMARK.items(Source(folder))
    (folder / "chair.jsonl").unlink()
    with pytest.raises(DataError, match="no such file"):
        BENCHMARK.items(Source(folder))
