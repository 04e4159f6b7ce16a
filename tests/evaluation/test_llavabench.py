"""LLaVA-Bench in the wild: the official scripts' rules by hand, and reviews that do not fit."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from edgereverie.errors import DataError
from edgereverie.evaluation.benchmarks.base import BenchmarkResult
from edgereverie.evaluation.benchmarks.llavabench import BENCHMARK, ratings
from edgereverie.evaluation.judging import judge_answers, score_prepared
from edgereverie.evaluation.source import Source

QUESTIONS = [
    {"question_id": 0, "image": "001.jpg", "text": "Which place is this?", "category": "conv"},
    {"question_id": 1, "image": "001.jpg", "text": "Describe this photo.", "category": "detail"},
    {"question_id": 2, "image": "002.jpg", "text": "How did it come about?", "category": "complex"},
    {"question_id": 3, "image": "002.jpg", "text": "How many are there?", "category": "conv"},
]
CONTEXT = [
    {"id": "001", "image": "001.jpg", "caption": "A hill."},
    {"image": "002.jpg", "caption": ["A bay,", "at dusk."]},
]
REFERENCES = [{"question_id": n, "text": f"Reference {n}.", "answer_id": "x"} for n in range(4)]


def lines(path: Path, rows: Iterable[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def source(tmp_path: Path) -> Source:
    (tmp_path / "llavabench").mkdir()
    for name, rows in (("questions", QUESTIONS), ("context", CONTEXT), ("answers_gpt4", REFERENCES)):
        lines(tmp_path / "llavabench" / f"{name}.jsonl", rows)
    return Source(tmp_path, pictures=False)


def review(number: int, said: str, pair: list[float] | None) -> dict:
    row = {"id": number + 1, "question_id": number, "category": "llava_bench_x", "content": said}
    return row if pair is None else {**row, "tuple": pair}


def values(result: BenchmarkResult) -> dict[str, float]:
    return {score.metric.removeprefix("llavabench/official/"): score.value for score in result.scores}


def test_relative_scores_by_hand(source: Source, tmp_path: Path) -> None:
    rows = [
        review(0, "8 7\nBoth are fine.", [8.0, 7.0]),
        review(1, "9 4.5\nThe first is better.", [9.0, 4.5]),
        review(2, "I rate them 8 and 7.", [-1, -1]),  # what the official script writes where it finds no two numbers
        review(3, "9,6\nBrief.", [9.0, 6.0]),
    ]
    items = BENCHMARK.items(source)
    path = lines(tmp_path / "reviews.jsonl", rows)
    result = score_prepared(BENCHMARK, "official", items, path)
    found = values(result)
    # conv: (7 + 6) / (8 + 9); all: means of 25/4 and 16.5/4, that is 6.25 and 4.125.
    assert found["conv/relative"] == pytest.approx(6.5 / 8.5) and found["detail/relative"] == 0.5
    assert found["all/relative"] == pytest.approx(4.125 / 6.25)
    assert (found["all/reference"], found["all/answer"], found["all/unread"]) == (62.5, 41.25, 0.25)
    assert (found["complex/relative"], found["complex/answer"], found["complex/unread"]) == (1.0, -10.0, 1.0)
    assert [mark.read for mark in result.marks] == ["7 (8)", "4.5 (9)", "unread", "6 (9)"]
    plain = lines(tmp_path / "plain.jsonl", [{**row, "tuple": None} for row in rows])
    for row in rows:
        del row["tuple"]
    assert values(score_prepared(BENCHMARK, "official", items, lines(plain, rows))) == found


def test_means_are_rounded_to_three_places_first(source: Source, tmp_path: Path) -> None:
    """2/3 of 10 and 25/3: 8.333 and 6.667 where the official summary rounds, 0.80006 and not 0.8."""
    items = [item for item in BENCHMARK.items(source) if item.id != "2"]
    path = lines(tmp_path / "r.jsonl", [review(0, "8 6", None), review(1, "8 7", None), review(3, "9 7", None)])
    found = values(score_prepared(BENCHMARK, "official", items, path))
    assert found["all/relative"] == pytest.approx(6.667 / 8.333, abs=1e-12)
    assert found["all/reference"] == pytest.approx(83.33, abs=1e-9)


def test_the_tuple_is_what_the_official_summary_reads(source: Source, tmp_path: Path) -> None:
    rows = [review(n, "8 7", [6.0, 3.0]) for n in range(4)]
    found = values(score_prepared(BENCHMARK, "official", BENCHMARK.items(source), lines(tmp_path / "r.jsonl", rows)))
    assert (found["all/reference"], found["all/answer"]) == (60.0, 30.0)
    rows[2]["tuple"] = ["6", 3]
    with pytest.raises(DataError, match="'tuple' should be two numbers"):
        score_prepared(BENCHMARK, "official", BENCHMARK.items(source), lines(tmp_path / "r.jsonl", rows))


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("8 7", (8.0, 7.0)),
        ("8 7.5\nwhy", (8.0, 7.5)),
        ("8,7", (8.0, 7.0)),
        ("10 0", (10.0, 0.0)),
        ("8, 7", None),  # two blanks: the official script finds three parts
        ("8 7 ", None),
        ("\n8 7", None),
        ("Ratings: 8 7", None),
        ("8/10 7/10", None),
        ("8", None),
        ("8 7 6", None),
        ("eight seven", None),
        ("nan 7", None),
        ("", None),
    ],
)
def test_two_numbers_on_the_first_line_and_no_other_form(reply: str, expected: tuple[float, float] | None) -> None:
    assert ratings(reply) == expected


class Judge:
    name = "scripted"

    def __init__(self, first: str) -> None:
        self.first, self.asked = first, []

    def respond(self, image, turns, options):
        self.asked.append(turns[-1].text)
        yield "8 6\nThe first is better." if "could not be read" in turns[-1].text else self.first


@pytest.mark.parametrize("first", ["Both are fine.", "85 60", "-1 -1", "8"])
def test_the_judge_sees_context_reference_and_answer_and_is_asked_again(source: Source, first: str) -> None:
    items, judge = BENCHMARK.items(source), Judge(first)
    result = judge_answers(BENCHMARK, "official", items, {item.id: f"Mine {item.id}." for item in items}, judge)
    assert len(judge.asked) == 8 and values(result)["all/relative"] == 0.75 and result.judge == "scripted"
    told = judge.asked[4]
    assert (
        told.index("A bay,\nat dusk.")
        < told.index("How did it come about?")
        < told.index("Reference 2.")
        < told.index("Mine 2.")
    )


def test_ratings_out_of_bounds_count_as_the_official_script_has_them_and_as_unread(
    source: Source, tmp_path: Path
) -> None:
    path = lines(tmp_path / "r.jsonl", [review(n, "80 60", None) for n in range(4)])
    found = values(score_prepared(BENCHMARK, "official", BENCHMARK.items(source), path))
    assert (found["all/relative"], found["all/reference"], found["all/unread"]) == (0.75, 800.0, 1.0)


@pytest.mark.parametrize("name", ["context.jsonl", "answers_gpt4.jsonl"])
def test_without_context_or_references_reviews_are_scored_and_no_judge_is_asked(
    source: Source, tmp_path: Path, name: str
) -> None:
    (source.folder / "llavabench" / name).unlink()
    items = BENCHMARK.items(source)
    path = lines(tmp_path / "r.jsonl", [review(n, "8 6", None) for n in range(4)])
    assert values(score_prepared(BENCHMARK, "official", items, path))["all/relative"] == 0.75
    with pytest.raises(DataError, match=rf"a judge needs what {name} should say about 001.jpg"):
        judge_answers(BENCHMARK, "official", items, {item.id: "x" for item in items}, Judge("8 6"))


def test_categories_limits_and_answers(source: Source, tmp_path: Path) -> None:
    conv = BENCHMARK.items(Source(source.folder, pictures=False, splits=("conv",)))
    assert [item.id for item in conv] == ["0", "3"]
    assert [item.id for item in BENCHMARK.items(source, 1)] == ["0", "1"]
    path = lines(tmp_path / "a.jsonl", [{"question_id": n, "prompt": "?", "text": f"T{n}"} for n in (3, 0)])
    assert BENCHMARK.answers(path, conv) == {"0": "T0", "3": "T3"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "holds no questions"),
        ([{**QUESTIONS[0], "category": "odd"}], "the category is 'odd', expected one of complex"),
        ([QUESTIONS[0], QUESTIONS[0]], r"questions.jsonl:2: question_id 0 stands there twice"),
        ([{**QUESTIONS[0], "question_id": "a"}], "'question_id' should be int"),
    ],
)
def test_a_broken_file_is_an_error_with_its_line(source: Source, rows: list, message: str) -> None:
    lines(source.folder / "llavabench" / "questions.jsonl", rows)
    with pytest.raises(DataError, match=message):
        BENCHMARK.items(source)


def test_reviews_that_miss_double_or_do_not_belong_are_listed(source: Source, tmp_path: Path) -> None:
    path = lines(tmp_path / "r.jsonl", [review(0, "8 6", None), review(0, "8 6", None), review(7, "8 6", None)])
    with pytest.raises(
        DataError, match=r"(?s)more than once: 0.*no question: 7.*3 questions without an answer: 1, 2, 3"
    ):
        score_prepared(BENCHMARK, "official", BENCHMARK.items(source), path)
