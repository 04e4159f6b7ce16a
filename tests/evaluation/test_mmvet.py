"""MM-Vet: the published grades' totals, capabilities by hand, and grade files that do not fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgereverie.errors import DataError
from edgereverie.evaluation.benchmarks.base import score_answers
from edgereverie.evaluation.benchmarks.mmvet import BENCHMARK, grade
from edgereverie.evaluation.judging import judge_run, prepared, score_prepared
from edgereverie.evaluation.source import Source


def test_published_grades_give_the_published_totals(golden: Path) -> None:
    items = BENCHMARK.items(Source(golden, pictures=False))
    assert len(items) == 218
    path = golden / "mmvet" / "llava-v1.5-7b_gpt-4-grade-3runs.json"
    result = score_prepared(BENCHMARK, "official", items, path)
    assert result.judge == "gpt-4"
    values = {score.metric.removeprefix("mmvet/official/"): score.value for score in result.scores}
    # LLaVA's llava-v1.5-7b_gpt-4-cap-score-3runs.csv: total 31.1, std 0.2, runs [31.2, 30.8, 31.2].
    assert [round(100 * values[f"run-{run}/score"], 1) for run in (1, 2, 3)] == [31.2, 30.8, 31.2]
    assert (round(100 * values["all/score"], 1), round(100 * values["all/deviation"], 1)) == (31.1, 0.2)
    assert values["all/unread"] == 0
    assert not [mark for mark in result.marks if mark.read == "unread"]


def test_published_answers_are_read_in_both_forms(golden: Path, tmp_path: Path) -> None:
    items = BENCHMARK.items(Source(golden, pictures=False))
    path = golden / "mmvet" / "llava-v1.5-7b.answers.json"
    texts = BENCHMARK.answers(path, items)
    assert texts == json.loads(path.read_text(encoding="utf-8"))
    rows = [{"question_id": int(id.removeprefix("v1_")), "text": text} for id, text in texts.items()]
    lines = tmp_path / "answers.jsonl"
    lines.write_text("".join(json.dumps(row) + "\n" for row in reversed(rows)))
    assert BENCHMARK.answers(lines, items) == texts
    with pytest.raises(DataError, match="a judge needs the right answer"):
        BENCHMARK.variants["official"].judge.requests(items[0], "x = 3")


QUESTIONS = {
    "v1_0": {"imagename": "a.png", "question": "What is x?", "answer": "-1<AND>-5", "capability": ["ocr", "math"]},
    "v1_1": {"imagename": "a.png", "question": "What is y?", "answer": "2", "capability": ["math", "ocr"]},
    "v1_2": {"imagename": "b.png", "question": "Who?", "answer": "A cat<OR>a kitten", "capability": ["rec"]},
    "v1_3": {"imagename": "c.png", "question": "Where?", "answer": "Left", "capability": ["rec", "ocr"]},
}


def items_of(folder: Path, questions: object = QUESTIONS, limit: int | None = None) -> list:
    (folder / "mm-vet.json").write_text(json.dumps(questions))
    return BENCHMARK.items(Source(folder, pictures=False), limit)


def test_capabilities_and_their_sets_by_hand(tmp_path: Path) -> None:
    items = items_of(tmp_path)
    grades = {"v1_0": (0.5, 0.5), "v1_1": (1.0, 0.0), "v1_2": (0.0, 0.4), "v1_3": (0.3, 0.3)}
    said = {f"{id}#{run}": str(value) for id, values in grades.items() for run, value in enumerate(values, 1)}
    result = score_answers(BENCHMARK, "official", items, said)
    values = {score.metric.removeprefix("mmvet/official/"): score.value for score in result.scores}
    # Run 1: 1.8 of 4 = 0.45; run 2: 1.2 of 4 = 0.3; their mean 0.375, their deviation 0.075.
    assert values["run-1/score"] == pytest.approx(0.45) and values["run-2/score"] == pytest.approx(0.3)
    assert values["all/score"] == pytest.approx(0.375) and values["all/deviation"] == pytest.approx(0.075)
    assert values["ocr/score"] == pytest.approx((0.5 + 0.5 + 0.3) / 3)  # v1_0, v1_1, v1_3, each the mean of its runs
    assert values["rec/score"] == pytest.approx((0.2 + 0.3) / 2)
    assert values["sets/math+ocr/score"] == pytest.approx(0.5) and values["sets/rec/score"] == pytest.approx(0.2)
    assert [tally.split.removeprefix("mmvet/official/") for tally in result.tallies][:3] == ["all", "ocr", "math"]
    assert result.tallies[0].units == ("a.png", "b.png", "c.png")
    assert result.marks[0].right == pytest.approx(0.5) and result.marks[1].read == "1, 0"


def test_without_capabilities_only_totals_are_told(golden: Path) -> None:
    items = BENCHMARK.items(Source(golden, pictures=False), 3)
    result = score_answers(BENCHMARK, "official", items, {f"{item.id}#1": "0.5" for item in items})
    assert list(result.counts()) == ["mmvet/official/all"]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("0.0", 0.0),
        ("1", 1.0),
        ("1.0 because", 1.0),
        (".7", 0.7),
        ("0.5\n", 0.5),
        ("1e-1", 0.1),
        ("0.5\nsince", None),
        (" 0.5", None),
        ("0,5", None),
        ("1.1", None),
        ("-0.1", None),
        ("Correctness: 0.5", None),
        ("nan", None),
        ("", None),
    ],
)
def test_a_grade_is_the_first_word_as_a_number(reply: str, expected: float | None) -> None:
    assert grade(reply) == expected


class Judge:
    """Grades in turn, and keeps what it was asked."""

    name = "scripted"

    def __init__(self, *said: str) -> None:
        self.said, self.asked = said, []

    def respond(self, image, turns, options):
        self.asked.append(turns[-1].text)
        yield self.said[(len(self.asked) - 1) % len(self.said)]


def test_the_paper_s_way_asks_five_times(tmp_path: Path) -> None:
    items = items_of(tmp_path)
    texts, judge = {item.id: "x = -1" for item in items}, Judge("0.5")
    judged = judge_run(BENCHMARK, "paper", items, texts, judge)
    assert len(judge.asked) == 20 and list(judged.replies)[:6] == [*(f"v1_0#{run}" for run in range(1, 6)), "v1_1#1"]
    assert "-1 <AND> -5" in judge.asked[0] and "A cat <OR> a kitten" in judge.asked[10]
    result = score_answers(BENCHMARK, "paper", items, judged.replies)
    values = {score.metric: score.value for score in result.scores}
    assert (values["mmvet/paper/all/score"], values["mmvet/paper/all/deviation"]) == (0.5, 0.0)


def test_what_cannot_be_graded_counts_as_zero_and_is_told(tmp_path: Path) -> None:
    items = items_of(tmp_path)
    judged = judge_run(BENCHMARK, "official", items, {i.id: "x" for i in items}, Judge("Well, 0.5", "1.0"), retries=0)
    assert judged.unread == ("v1_0#1", "v1_2#1")
    result = score_answers(BENCHMARK, "official", items, judged.replies)
    values = {score.metric: score.value for score in result.scores}
    assert (values["mmvet/official/all/score"], values["mmvet/official/all/unread"]) == (0.5, 0.5)
    assert (result.marks[0].read, result.marks[0].right) == ("unread", 0.0)


RUN = {"model": ["gpt-4"], "content": ["0.5"], "score": [0.5]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"v1_3": 5}, r"(?s)without grades in 'content' or 'score': .*'v1_3'.*1 questions without grades: v1_3"),
        ({"v1_9": RUN}, r"belong to no question: v1_9"),
        ({"v1_0": {"model": []}}, r"without grades in 'content' or 'score': .*'v1_0'"),
        ({"v1_0": {**RUN, "score": [0.7]}}, r"'score' is not what 'content' says: .*'v1_0'"),
        ({"v1_0": {"content": ["0.5", "1"]}}, r"3 questions without 2 grades: v1_1, v1_2, v1_3"),
        ({"v1_0": {"content": [0.5]}}, r"without grades in 'content'"),
    ],
)
def test_grade_files_that_do_not_fit_are_errors_that_list_all(tmp_path: Path, change: dict, message: str) -> None:
    items = items_of(tmp_path)
    path = tmp_path / "grades.json"
    path.write_text(json.dumps({item.id: RUN for item in items} | change))
    with pytest.raises(DataError, match=message):
        score_prepared(BENCHMARK, "official", items, path)


def test_a_list_is_no_grade_file(tmp_path: Path) -> None:
    items = items_of(tmp_path)
    (tmp_path / "grades.json").write_text(json.dumps([5, {"id": "v1_0", **RUN}]))
    with pytest.raises(
        DataError, match=r"(?s)1 entries that are no objects: .*entry 1.*3 questions without grades: v1_1"
    ):
        prepared(BENCHMARK, "official", items, tmp_path / "grades.json")


def test_one_answer_alone_is_read_in_both_forms(tmp_path: Path) -> None:
    (item,) = items_of(tmp_path, {"v1_2": QUESTIONS["v1_2"]})
    path = tmp_path / "answers.jsonl"
    for row in ({"question_id": 2, "text": "A cat.", "metadata": {}}, {"v1_2": "A cat."}, {"v1_2": {"text": "A cat."}}):
        path.write_text(json.dumps(row) + "\n")
        assert BENCHMARK.answers(path, [item]) == {"v1_2": "A cat."}


def test_a_missing_question_s_grade_is_listed(tmp_path: Path) -> None:
    items = items_of(tmp_path)
    path = tmp_path / "grades.json"
    path.write_text(json.dumps({"v1_0": RUN, "v1_2": RUN}))
    with pytest.raises(DataError, match="2 questions without grades: v1_1, v1_3"):
        prepared(BENCHMARK, "official", items, path)


@pytest.mark.parametrize(
    ("questions", "message"),
    [
        ([], "expected an object of questions by id, found list"),
        ({}, "holds no questions"),
        ({"v1_0": 5}, "'v1_0': expected a JSON object, found int"),
        ({"v1_0": {**QUESTIONS["v1_0"], "capability": []}}, "'capability' should be a list of names"),
        ({"v1_0": {**QUESTIONS["v1_0"], "answer": 5}}, "'answer' should be str"),
    ],
)
def test_a_broken_file_of_questions_is_an_error(tmp_path: Path, questions: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        items_of(tmp_path, questions)


def test_limit_keeps_whole_pictures(tmp_path: Path) -> None:
    assert [item.id for item in items_of(tmp_path, limit=1)] == ["v1_0", "v1_1"]


def test_the_archive_s_own_layout_is_found(tmp_path: Path) -> None:
    unpacked = tmp_path / "mmvet" / "mm-vet"
    (unpacked / "images").mkdir(parents=True)
    (unpacked / "mm-vet.json").write_text(json.dumps(QUESTIONS))
    for name in ("a.png", "b.png", "c.png"):
        (unpacked / "images" / name).write_bytes(b"")
    assert BENCHMARK.items(Source(tmp_path))[2].image == unpacked / "images" / "b.png"
    (unpacked / "images" / "b.png").unlink()
    with pytest.raises(DataError, match=r"'v1_2': the picture 'b.png' is not in"):
        BENCHMARK.items(Source(tmp_path))
