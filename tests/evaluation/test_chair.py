"""CHAIR by hand arithmetic, and its strict reader."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import pytest

from edgereverie.errors import DataError
from edgereverie.evaluation.benchmarks._chair_items import ChairItem
from edgereverie.evaluation.benchmarks.base import score_answers
from edgereverie.evaluation.benchmarks.chair import BENCHMARK
from edgereverie.evaluation.source import Source
from edgereverie.text.objects import ObjectVocabulary

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


@pytest.mark.parametrize("scorer", ["opera", "maxlinn"])
def test_published_captions_give_the_official_figures(golden: Path, scorer: str) -> None:
    """The objects that the official scorer read in 500 published captions, counted by us: the same sums and rates."""
    case = json.loads((golden / "expected" / "chair_official.json").read_text())["cases"]["opera_llava-1.5_greedy"]
    tokens = golden / "expected" / f"chair_tokens_{scorer}_opera_llava-1.5_greedy.jsonl.gz"
    rows = [json.loads(line) for line in gzip.decompress(tokens.read_bytes()).decode().splitlines()]
    truth = json.loads(gzip.decompress((golden / "chair" / "gt_objects.json.gz").read_bytes()))
    table = (golden / "chair" / "synonyms.txt").read_text().splitlines()
    vocabulary = ObjectVocabulary(
        {line.split(", ")[0].strip(): [line.split(", ")[0].strip()] for line in table if line}
    )
    items = [
        ChairItem(str(number), None, "", "", str(number), frozenset(truth.get(str(row["image_id"]), [])), vocabulary)
        for number, row in enumerate(rows)
    ]
    result = score_answers(
        BENCHMARK, "table", items, {str(number): "; ".join(row["node_words"]) for number, row in enumerate(rows)}
    )
    expected, counts = case[scorer], result.counts()["chair/table"]
    assert (counts["captions"], counts["mentions"]) == (expected["n_caps"], expected["n_words"])
    assert counts["hallucinated_captions"] == expected["n_hallucinated_caps"]
    assert counts["hallucinated_mentions"] == expected["n_hallucinated_words"]
    assert counts["true_objects"] == expected["n_gt"]
    values = {score.metric: score.value for score in result.scores}
    assert values["chair/table/chair_i"] == pytest.approx(expected["CHAIRi"], abs=1e-12)
    assert values["chair/table/chair_s"] == pytest.approx(expected["CHAIRs"], abs=1e-12)
    assert values["chair/table/recall"] == pytest.approx(expected["Recall"], abs=1e-12)


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
