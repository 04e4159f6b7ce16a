"""POPE: the official scorer's numbers on published answers, and a reader that refuses every kind of broken file."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from edgereverie.errors import DataError
from edgereverie.evaluation.benchmarks.base import compare, score_answers, texts_by_id
from edgereverie.evaluation.benchmarks.pope import BENCHMARK, PopeItem
from edgereverie.evaluation.source import Source
from edgereverie.records import Answer, Prediction


def rows_of(path: Path) -> list[dict]:
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in text.decode("utf-8").splitlines()]


def test_published_answers_give_the_official_counts(golden: Path) -> None:
    official = golden / "expected" / "pope_official.json"
    scored = 0
    for case in json.loads(official.read_text(encoding="utf-8"))["cases"]:
        if not (golden / case["answers"]).is_file() or not (golden / case["questions"]).is_file():
            continue
        split = case["split"]
        questions = rows_of(golden / case["questions"])
        answers = [row for row in rows_of(golden / case["answers"]) if row.get("category", split) == split]
        assert len(questions) == len(answers) == case["n"]
        items = [
            PopeItem(str(n), Path(q["image"]), q["text"], q["label"], q["image"], q["label"] == "yes", split=split)
            for n, q in enumerate(questions)
        ]
        # Like the official scorer, by order: answer files number their questions each in their own way.
        result = score_answers(
            BENCHMARK, "official", items, {str(number): row["text"] for number, row in enumerate(answers)}
        )
        expected = case["pope_evaluate_py"]
        assert result.counts()[f"pope/official/{split}"] == {key: expected[key] for key in ("TP", "FP", "TN", "FN")}
        for score in result.scores:
            assert score.value == pytest.approx(expected[score.metric.rpartition("/")[2]], abs=1e-12)
            assert score.low < score.value < score.high
            assert score.n == case["n"]
        scored += 1
    assert scored >= 5


def test_counts_by_hand(folder: Path) -> None:
    items = [item for item in BENCHMARK.items(Source(folder)) if item.split == "random"]
    # Truth: a holds ring and star, b a cross, c nothing; every question answered with yes: TP 3, FP 6.
    result = score_answers(BENCHMARK, "official", items, {item.id: "Yes." for item in items})
    assert result.counts() == {"pope/official/random": {"TP": 3, "FP": 6, "TN": 0, "FN": 0}}
    values = {score.metric: score.value for score in result.scores}
    assert values["pope/official/random/accuracy"] == pytest.approx(3 / 9)
    assert values["pope/official/random/yes_ratio"] == 1.0
    tally = result.tallies[0]
    assert tally.units == ("a.png", "b.png", "c.png")
    assert tally.counts.tolist() == [[2, 1, 0, 0], [1, 2, 0, 0], [0, 3, 0, 0]]


def test_items_carry_the_split_and_limit_keeps_whole_images(folder: Path) -> None:
    items = BENCHMARK.items(Source(folder))
    assert len(items) == 27 and len({item.id for item in items}) == 27
    assert items[0].id == "random/1" and items[-1].id == "adversarial/9"
    limited = BENCHMARK.items(Source(folder), 2)
    assert len(limited) == 18 and {item.unit for item in limited} == {"a.png", "b.png"}


ROW = {"question_id": 1, "image": "a.png", "text": "Is there a ring?", "label": "yes"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        ("", "no questions"),
        ("{", r"random.jsonl:1: not JSON"),
        ("[1]\n", r"random.jsonl:1: expected a JSON object, found list"),
        (json.dumps(ROW) + "\n\n" + json.dumps(ROW) + "\n", r"random.jsonl:2: the line is empty"),
        (json.dumps(ROW) + "\n" + json.dumps(ROW) + "\n", r"random.jsonl:2: question_id 1 stands on line 1"),
        (json.dumps({**ROW, "label": "Yes"}) + "\n", r"random.jsonl:1: the label is 'Yes'"),
        (
            json.dumps({k: v for k, v in ROW.items() if k != "text"}) + "\n",
            r"random.jsonl:1: the key 'text' is missing",
        ),
        (json.dumps({**ROW, "text": 3}) + "\n", r"random.jsonl:1: 'text' should be str"),
        (json.dumps({**ROW, "image": "z.png"}) + "\n", r"random.jsonl:1: the picture 'z.png' is not in"),
        (json.dumps({**ROW, "image": "../a.png"}) + "\n", r"random.jsonl:1: .*leaves the image root"),
        (b"\xff\xfe\n", "cannot be read as UTF-8"),
    ],
)
def test_a_broken_file_is_an_error_with_its_line(folder: Path, content: str | bytes | None, message: str) -> None:
    path = folder / "pope" / "random.jsonl"
    path.unlink()
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message):
        BENCHMARK.items(Source(folder))


def test_missing_unknown_and_doubled_answers_are_listed(folder: Path) -> None:
    items = BENCHMARK.items(Source(folder))
    answers = {item.id: "Yes" for item in items}
    del answers["popular/3"]
    answers["popular/99"] = "No"
    with pytest.raises(DataError, match=r"1 questions have no answer: popular/3.*1 answers belong.*popular/99"):
        score_answers(BENCHMARK, "official", items, answers)
    with pytest.raises(DataError, match=r"more than once: random/1"):
        texts_by_id([Prediction("random/1", Answer("Yes")), Prediction("random/1", Answer("No"))])


def test_runs_are_compared_on_the_same_questions_only(folder: Path) -> None:
    items = BENCHMARK.items(Source(folder))
    yes = score_answers(BENCHMARK, "official", items, {item.id: "Yes" for item in items})
    right = score_answers(BENCHMARK, "official", items, {item.id: item.truth.capitalize() for item in items})
    change = {score.metric: score for score in compare(BENCHMARK, yes, right)}
    assert change["pope/official/random/accuracy"].value == pytest.approx(6 / 9)
    fewer = BENCHMARK.items(Source(folder), 2)
    with pytest.raises(DataError, match="not asked the same questions"):
        compare(BENCHMARK, yes, score_answers(BENCHMARK, "official", fewer, {item.id: "Yes" for item in fewer}))
