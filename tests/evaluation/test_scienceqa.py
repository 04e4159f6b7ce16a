"""ScienceQA: LLaVA's figures on published answers, hand-counted ones, and its files in every published form."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from PIL import Image

from edgereverie.errors import DataError
from edgereverie.evaluation.benchmarks.base import BenchmarkResult, score_answers
from edgereverie.evaluation.benchmarks.scienceqa import BENCHMARK
from edgereverie.evaluation.source import Source

PROBLEMS = {
    "7": {"question": "Which is a ring?", "choices": ["an o", "an x"], "answer": 0, "hint": "", "image": None,
          "subject": "natural science", "grade": "grade2", "topic": "biology"},
    "8": {"question": "Which is east?", "choices": ["left", "right", "up"], "answer": 1, "hint": "A map.",
          "image": "image.png", "subject": "social science", "grade": "grade12", "topic": "geography"},
    "9": {"question": "Which rhymes?", "choices": ["cat", "hat"], "answer": 1, "hint": "Read it.", "image": None,
          "subject": "language science", "grade": "grade6", "topic": "verbs"},
    "11": {"question": "Which floats?", "choices": ["a b", "c d"], "answer": 0, "hint": "", "image": "image.png",
           "subject": "natural science", "grade": "grade7", "topic": "physics"},
}  # fmt: skip


def write_problems(root: Path, problems: dict | None = None, test: Iterable[str] = ("7", "8", "9", "11")) -> Path:
    (root / "scienceqa").mkdir(parents=True)
    (root / "scienceqa" / "problems.json").write_text(json.dumps(problems or PROBLEMS), encoding="utf-8")
    splits = {"train": ["1"], "test": list(test)}
    (root / "scienceqa" / "pid_splits.json").write_text(json.dumps(splits), encoding="utf-8")
    return root


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    return write_problems(tmp_path / "bench")


def scores_of(result: BenchmarkResult) -> dict[str, float]:
    return {score.metric.removeprefix(f"{result.scorer}/"): score.value for score in result.scores}


def test_published_answers_give_llava_s_figures(golden: Path) -> None:
    cases = json.loads((golden / "expected" / "scienceqa.json").read_text(encoding="utf-8"))["cases"]
    scored = 0
    for case in cases:
        answers, questions = golden / case["answers"], golden / case["questions"]
        if not answers.is_file() or not questions.is_file():
            continue
        items = BENCHMARK.items(Source(questions, pictures=False))
        result = score_answers(BENCHMARK, "llava", items, BENCHMARK.answers(answers, items))
        counts, found = result.counts()["scienceqa/llava"], scores_of(result)
        assert (counts["right"], counts["questions"]) == (case["correct"], case["count"])
        assert 100 * found["accuracy"] == case["acc"]
        assert case.get("parsed_minus1", counts["unread"]) == counts["unread"]
        told = (
            f"Total: {counts['questions']}, Correct: {counts['right']}, Accuracy: {100 * found['accuracy']:.2f}%, "
            f"IMG-Accuracy: {100 * found['image_accuracy']:.2f}%"
        )
        assert told == case["stdout"]
        scored += 1
    assert scored


def test_each_scorer_s_figures_by_hand(problems: Path) -> None:
    items = BENCHMARK.items(Source(problems, pictures=False))
    # Truth: A, B, B, A; pictures in 8 and 11.
    said = {"7": "a", "8": "It is right.", "9": "B.hat", "11": "A. a b"}
    results = {name: score_answers(BENCHMARK, name, items, said) for name in BENCHMARK.variants}
    # LLaVA reads only "A. a b"; lmms-eval also "a" and "B.hat"; VLMEvalKit sees 8 and 11, and finds "right" in the text.
    assert results["llava"].counts()["scienceqa/llava"] == {
        "questions": 4, "right": 1, "image_questions": 2, "image_right": 1, "unread": 3,
    }  # fmt: skip
    assert results["lmms"].counts()["scienceqa/lmms"]["right"] == 3
    assert results["vlmevalkit"].counts() == {
        "scienceqa/vlmevalkit": {
            "questions": 2, "right": 2, "image_questions": 2, "image_right": 2, "unread": 0,
        }
    }  # fmt: skip
    assert [mark.id for mark in results["vlmevalkit"].marks] == ["8", "11"]
    llava = scores_of(results["llava"])
    assert (llava["accuracy"], llava["image_accuracy"], llava["unread"]) == (0.25, 0.5, 0.75)
    assert scores_of(results["lmms"])["image_accuracy"] == 0.5


def test_the_columns_of_scienceqa_s_own_table(problems: Path) -> None:
    items = BENCHMARK.items(Source(problems, pictures=False))
    found = scores_of(score_answers(BENCHMARK, "llava", items, {"7": "A", "8": "C", "9": "B", "11": "B"}))
    # Right: 7 (natural, no context, grade 2) and 9 (language, text, grade 6); wrong: 8 and 11, the two with pictures.
    assert {name: found[f"{name}/accuracy"] for name in ("NAT", "SOC", "LAN", "TXT", "IMG", "NO", "G1-6", "G7-12")} == {
        "NAT": 0.5, "SOC": 0.0, "LAN": 1.0, "TXT": 0.5, "IMG": 0.0, "NO": 1.0, "G1-6": 1.0, "G7-12": 0.0,
    }  # fmt: skip
    assert [item.kind for item in items] == ["biology", "geography", "verbs", "physics"]


@pytest.mark.parametrize(
    ("text", "read", "right", "note"),
    [
        ("A", "A", 1.0, ""), ("B", "B", 0.0, "chose B, an x"), ("C", "C", 0.0, "C is no choice of 2"),
        ("The answer is Z.", "Z", 0.0, "Z is no choice of 2"), ("", "unread", 0.0, "names no choice"),
        ("\u00c5. \n\t", "unread", 0.0, "names no choice"),
    ],
)  # fmt: skip
def test_marks_say_how_an_answer_was_read(problems: Path, text: str, read: str, right: float, note: str) -> None:
    items = BENCHMARK.items(Source(problems, pictures=False), limit=1)
    mark = score_answers(BENCHMARK, "llava", items, {"7": text}).marks[0]
    assert (mark.id, mark.read, mark.right, mark.note) == ("7", read, right, note)


def test_questions_are_asked_as_llava_asks_them(problems: Path) -> None:
    for place in ("images/test/8", "images/11"):
        (problems / "scienceqa" / place).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(problems / "scienceqa" / place / "image.png")
    items = BENCHMARK.items(Source(problems))
    assert items[1].question == (
        "Context: A map.\nWhich is east?\nA. left\nB. right\nC. up\n"
        "Answer with the option's letter from the given choices directly."
    )
    assert items[0].question.startswith("Which is a ring?\nA. an o\n") and items[0].image is None
    assert [str(item.image.relative_to(problems)) for item in items if item.image] == [
        "scienceqa/images/test/8/image.png", "scienceqa/images/11/image.png",
    ]  # fmt: skip
    assert [item.truth for item in items] == ["A", "B", "B", "A"] and len({item.unit for item in items}) == 4
    (problems / "scienceqa" / "images" / "11" / "image.png").unlink()
    with pytest.raises(DataError, match=r"problem 11: the picture '11/image\.png' is not in"):
        BENCHMARK.items(Source(problems))


def test_questions_with_a_picture_are_a_split(problems: Path) -> None:
    def ids(*splits: str) -> list[str]:
        return [item.id for item in BENCHMARK.items(Source(problems, pictures=False, splits=splits))]

    assert (ids("image"), ids("text"), ids("image", "text")) == (["8", "11"], ["7", "9"], ["7", "8", "9", "11"])
    with pytest.raises(DataError, match="no split 'val'"):
        ids("val")


def test_answers_are_read_in_every_published_form(problems: Path, tmp_path: Path) -> None:
    items = BENCHMARK.items(Source(problems, pictures=False))
    expected = {"7": "A", "8": "B. right\nsure", "9": "", "11": "\u00e9"}
    rows = [{"question_id": id, "prompt": "<image>\nx", "text": text} for id, text in reversed(expected.items())]
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert BENCHMARK.answers(path, items) == expected
    scored = [{"question_id": id, "pred": text} for id, text in expected.items()]
    for content in (
        {"correct": scored[:1], "incorrect": scored[1:]},
        {"acc": 25.0, "correct": 1, "count": 4, "results": {"7": 0}, "outputs": expected},
        [{"id": int(id), "answer": text} for id, text in expected.items()],
    ):
        path.write_text(json.dumps(content, indent=2), encoding="utf-8")
        assert BENCHMARK.answers(path, items) == expected


def test_all_that_is_wrong_with_answers_is_listed(problems: Path, tmp_path: Path) -> None:
    items = BENCHMARK.items(Source(problems, pictures=False))
    path = tmp_path / "answers.jsonl"
    rows = [{"question_id": "7", "text": "A"}, {"question_id": 7, "text": "A"}, {"question_id": "5", "text": "A"}]
    rows += [{"question_id": "8", "text": ["A"]}, {"text": "A"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(DataError) as raised:
        BENCHMARK.answers(path, items)
    for told in (
        f"questions answered more than once: 7 ({path}:2)", f"belong to no question: 5 ({path}:3)",
        f"rows without a text in text or pred or answer or response: {path}:4", f"name no question: {path}:5",
        "3 questions without an answer: 8, 9, 11",
    ):  # fmt: skip
        assert told in str(raised.value)
    path.write_text('{"correct": [], "incorrect": {}}', encoding="utf-8")
    with pytest.raises(DataError, match="'incorrect' should be list"):
        BENCHMARK.answers(path, items)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"choices": ["one"]}, "problem 8: the choices should be 2 to 5 texts"),
        ({"choices": ["one", 2]}, "problem 8: the choices should be 2 to 5 texts"),
        ({"answer": 3}, "problem 8: the answer is 3, and there are 3 choices"),
        ({"answer": True}, "problem 8: 'answer' should be int, found True"),
        ({"question": None}, "problem 8: 'question' should be str"),
    ],
)
def test_broken_problems_are_errors(tmp_path: Path, change: dict, message: str) -> None:
    root = write_problems(tmp_path, PROBLEMS | {"8": PROBLEMS["8"] | change})
    with pytest.raises(DataError, match=message):
        BENCHMARK.items(Source(root, pictures=False))


def test_every_missing_problem_is_told(tmp_path: Path) -> None:
    root = write_problems(tmp_path, test=("7", "70", "71"))
    with pytest.raises(DataError, match=r"2 faults\.(.|\n)*problem 70: it is not there\.(.|\n)*problem 71"):
        BENCHMARK.items(Source(root, pictures=False))
    (root / "scienceqa" / "problems.json").write_text(json.dumps(PROBLEMS)[:99], encoding="utf-8")
    with pytest.raises(DataError, match="not JSON"):
        BENCHMARK.items(Source(root, pictures=False))
    (root / "scienceqa" / "problems.json").unlink()
    with pytest.raises(DataError, match=r"scienceqa/problems\.json: no such file"):
        BENCHMARK.items(Source(root, pictures=False))


ROW = {"id": "7", "prompt": "<image>\nWhich?\nA. x\nB. y", "choices": ["x", "y"], "answer": 0, "has_image": True}


def test_the_rows_that_llava_asks_are_read(tmp_path: Path) -> None:
    path = tmp_path / "scienceqa" / "test_llava_CQM-A.jsonl"
    path.parent.mkdir()
    rows = [ROW, {**ROW, "id": 8, "has_image": False, "prompt": "Which?"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    items = BENCHMARK.items(Source(tmp_path, pictures=False))
    assert [(item.id, item.pictured, item.truth) for item in items] == [("7", True, "A"), ("8", False, "A")]
    assert items[0].question.startswith("Which?\nA. x\nB. y\nAnswer with")
    assert items[1].image is None
    broken = [ROW, ROW, {**ROW, "id": "9", "has_image": "no"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in broken), encoding="utf-8")
    with pytest.raises(
        DataError, match=r"2 faults(.|\n)*:2: question 7 was there before(.|\n)*:3: 'has_image' should be true"
    ):
        BENCHMARK.items(Source(path, pictures=False))
    path.write_text("", encoding="utf-8")
    with pytest.raises(DataError, match="holds no questions"):
        BENCHMARK.items(Source(path, pictures=False))
