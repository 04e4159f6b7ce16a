"""MMBench: VLMEvalKit's numbers on published answers, tables with pictures inside, and readers that tell all that is wrong."""

from __future__ import annotations

import base64
import gzip
import io
import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edgereverie.errors import DataError
from edgereverie.evaluation.benchmarks.base import compare, score_answers
from edgereverie.evaluation.benchmarks.mmbench import BENCHMARK, MmbenchItem
from edgereverie.evaluation.run import run_benchmark
from edgereverie.evaluation.source import Source
from edgereverie.records import Answer

HEADER = ("index", "question", "hint", "A", "B", "C", "answer", "category", "image", "l2-category", "split")
PERCEPTION, REASONING = "coarse_perception", "logic_reasoning"


def encoded(colour: int, side: int = 24) -> str:
    stream = io.BytesIO()
    Image.new("RGB", (side, side), (colour, 90, 10)).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def table() -> list[list[str]]:
    """Two questions, of three and of two options, in all their orders; rotated rows refer to the picture of the first."""
    first, second = encoded(10), encoded(200)
    return [
        ["3", "What is it?", "Look \"well\".\nTwice.", "cat", "dog", "cow", "B", "animals", first, PERCEPTION, "dev"],
        ["7", "Is it day?", "", "yes", "no", "", "A", "time", second, REASONING, "dev"],
        ["1000003", "What is it?", "", "dog", "cow", "cat", "A", "animals", "3", PERCEPTION, "dev"],
        ["1000007", "Is it day?", "", "no", "yes", "", "B", "time", "7", REASONING, "dev"],
        ["2000003", "What is it?", "", "cow", "cat", "dog", "C", "animals", "3", PERCEPTION, "dev"],
    ]  # fmt: skip


def write(path: Path, rows: list[list[str]], header: tuple[str, ...] = HEADER) -> Path:
    def cell(text: str) -> str:
        return '"' + text.replace('"', '""') + '"' if any(sign in text for sign in '"\n\t') else text

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join("\t".join(map(cell, row)) + "\n" for row in [header, *rows]), encoding="utf-8")
    return path


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    write(tmp_path / "mmbench" / "MMBench_DEV_EN.tsv", table())
    return tmp_path


def test_published_answers_give_the_official_counts(golden: Path, tmp_path: Path) -> None:
    expected = json.loads((golden / "expected" / "mmbench.json").read_text(encoding="utf-8"))
    (tmp_path / "mmbench").mkdir()
    shutil.copy(golden / expected["file"], tmp_path / "mmbench")
    items = BENCHMARK.items(Source(tmp_path, pictures=False))
    assert len(items) == expected["n_rows"]
    texts = BENCHMARK.answers(golden / expected["file"], items)
    result = score_answers(BENCHMARK, "vlmevalkit", items, texts)
    counts = result.counts()["mmbench/vlmevalkit/dev"]
    assert counts["questions"] == expected["n_questions"]
    assert counts["circular"] == expected["circular_hits"]
    assert counts["first_pass"] == expected["vanilla_first_pass_hits"]
    accuracy = result.scores[0]
    assert accuracy.metric == "mmbench/vlmevalkit/dev/accuracy"
    assert accuracy.value == pytest.approx(expected["circular_acc"], abs=1e-15)
    assert accuracy.low < accuracy.value < accuracy.high


def test_a_question_counts_when_it_is_right_in_every_order(bench: Path) -> None:
    items = BENCHMARK.items(Source(bench))
    assert BENCHMARK.default(items) == "vlmevalkit"
    # Question 3 is right in all three orders, question 7 in its first only.
    said = {"3": "B", "7": "A", "1000003": "a dog", "1000007": "A", "2000003": "(C)"}
    result = score_answers(BENCHMARK, "vlmevalkit", items, said)
    whole = {"questions": 2, "circular": 1, "first_pass": 2, "orders": 5, "orders_right": 4}
    three = {"questions": 1, "circular": 1, "first_pass": 1, "orders": 3, "orders_right": 3}
    two = {"questions": 1, "circular": 0, "first_pass": 1, "orders": 2, "orders_right": 1}
    name = "mmbench/vlmevalkit/dev"
    assert result.counts() == {
        name: whole,
        f"{name}/l2-category/{PERCEPTION}": three, f"{name}/l2-category/{REASONING}": two,
        f"{name}/category/animals": three, f"{name}/category/time": two,
    }  # fmt: skip
    values = {score.metric: score.value for score in result.scores}
    assert (values[f"{name}/accuracy"], values[f"{name}/first_pass"], values[f"{name}/each_order"]) == (0.5, 1.0, 0.8)
    assert result.tallies[0].units == ("3", "7")
    marks = {mark.id: (mark.read, mark.right, mark.faults, mark.note) for mark in result.marks}
    assert marks["1000003"] == ("A", 1.0, 0.0, "")
    assert marks["7"] == ("A", 1.0, 0.0, "right in this order, not in all")
    assert marks["1000007"] == ("A", 0.0, 1.0, "wrong option: A")


def test_what_the_two_rules_read_differently_is_told_apart(bench: Path) -> None:
    items = BENCHMARK.items(Source(bench), 1)
    said = {"3": "**B**", "1000003": "Cannot determine the answer", "2000003": "C"}
    kit, lmms = (score_answers(BENCHMARK, name, items, said) for name in ("vlmevalkit", "lmms"))
    assert [(mark.read, mark.note) for mark in kit.marks] == [
        ("B", "right in this order, not in all"), ("Z", "refused"), ("C", "right in this order, not in all"),
    ]  # fmt: skip
    assert [mark.read for mark in lmms.marks] == ["unread", "unread", "C"]
    assert lmms.marks[0].note == "names no option"


def test_options_that_are_not_there_are_texts_to_lmms(tmp_path: Path) -> None:
    row = {"index": 5, "question": "What is it?", "A": "banana", "B": "cherry", "answer": "A"}
    path = tmp_path / "mmbench" / "q.jsonl"
    path.parent.mkdir()
    path.write_text(
        json.dumps(row) + "\n" + json.dumps({**row, "index": 6, "C": "fig", "D": "kiwi"}) + "\n", encoding="utf-8"
    )
    items = BENCHMARK.items(Source(tmp_path, pictures=False))
    read = {name: [mark.read for mark in score_answers(BENCHMARK, name, items, dict.fromkeys(("5", "6"), "a banana")).marks]
            for name in BENCHMARK.variants}  # fmt: skip
    assert read == {"vlmevalkit": ["A", "A"], "lmms": ["unread", "A"]}


def test_pictures_in_the_table_become_files_once_each(bench: Path) -> None:
    items = BENCHMARK.items(Source(bench))
    images = [item.image for item in items]
    assert images[0] == images[2] == images[4] != images[1] == images[3]
    assert {image.parent for image in images} == {bench / "mmbench" / "images"}
    assert len(list((bench / "mmbench" / "images").iterdir())) == 2
    assert images[0].read_bytes() == base64.b64decode(encoded(10))
    written = images[0].stat().st_mtime_ns
    assert [item.image for item in BENCHMARK.items(Source(bench))] == images and images[0].stat().st_mtime_ns == written


def test_only_pictures_that_are_asked_about_are_written(bench: Path, tmp_path: Path) -> None:
    items = BENCHMARK.items(Source(bench, images=tmp_path / "shown"), 1)
    assert [item.id for item in items] == ["3", "1000003", "2000003"]
    assert len(list((tmp_path / "shown").iterdir())) == 1
    assert [item.image for item in BENCHMARK.items(Source(bench, pictures=False))] == [None] * 5
    assert not (bench / "mmbench" / "images").exists()


def test_what_is_asked_and_what_is_known_of_it(bench: Path) -> None:
    item = BENCHMARK.items(Source(bench))[0]
    lines = item.question.split("\n")
    assert lines[:6] == ['Look "well".', "Twice.", "What is it?", "A. cat", "B. dog", "C. cow"] and "letter" in lines[6]
    assert (item.truth, item.unit, item.kind) == ("B. dog", "3", f"{PERCEPTION}/animals")
    second = BENCHMARK.items(Source(bench))[1]
    assert second.options == {"A": "yes", "B": "no"} and second.question.startswith("Is it day?\n")


def test_pictures_by_path_and_rows_as_json(tmp_path: Path) -> None:
    (tmp_path / "mmbench" / "images").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "mmbench" / "images" / "a.png")
    row = {
        "index": 5,
        "question": "What is it?",
        "A": "cat",
        "B": 2,
        "C": None,
        "answer": "A",
        "image_path": "a.png",
        "L2-category": "x",
    }
    with gzip.open(tmp_path / "mmbench" / "any-name.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n" + json.dumps({**row, "index": 1000005, "answer": "B"}) + "\n")
    items = BENCHMARK.items(Source(tmp_path))
    assert items[0].image == (tmp_path / "mmbench" / "images" / "a.png").resolve()
    assert items[0].options == {"A": "cat", "B": "2"} and items[0].l2_category == "x" and items[1].truth == "B. 2"


def test_cells_that_pandas_takes_for_empty_are_no_options(tmp_path: Path) -> None:
    row = ["3", "Which?", "nan", "None", "dog", "NA", "B", "null", encoded(1), PERCEPTION, "dev"]
    write(tmp_path / "mmbench" / "q.tsv", [row])
    item = BENCHMARK.items(Source(tmp_path))[0]
    assert item.options == {"B": "dog"} and item.category == "" and item.question.startswith("Which?\nB. dog\n")


def test_splits_are_scored_apart_and_chosen(tmp_path: Path) -> None:
    rows = [[*row[:-1], "test" if row[0].endswith("7") else "dev"] for row in table()]
    write(tmp_path / "mmbench" / "q.tsv", rows)
    items = BENCHMARK.items(Source(tmp_path))
    result = score_answers(BENCHMARK, "vlmevalkit", items, {item.id: item.answer for item in items})
    assert {"mmbench/vlmevalkit/dev", "mmbench/vlmevalkit/test", "mmbench/vlmevalkit/test/category/time"} <= set(
        result.counts()
    )
    assert [item.id for item in BENCHMARK.items(Source(tmp_path, splits=("test",)))] == ["7", "1000007"]
    with pytest.raises(DataError, match="no split 'tset'"):
        BENCHMARK.items(Source(tmp_path, splits=("tset",)))


def changed(row: int, column: str, value: str) -> list[list[str]]:
    rows = table()
    rows[row][HEADER.index(column)] = value
    return rows


def large() -> str:
    stream = io.BytesIO()
    Image.new("1", (9000, 9000)).save(stream, "PNG")  # 81 million pixels in some 10 kB
    return base64.b64encode(stream.getvalue()).decode()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (table()[1:], r"tsv:3: the question 3 is not there in its first order"),
        ([*table(), table()[0]], r"tsv:8: the index 3 stands at .*tsv:2 already"),
        (changed(1, "index", "7.0"), r"tsv:4: 'index' should be a whole number, found '7.0'"),
        (changed(0, "answer", "b"), r"tsv:2: the answer is 'b', expected one of the options \(A, B, C\)"),
        (changed(1, "answer", "C"), r"tsv:4: the answer is 'C', expected one of the options \(A, B\)"),
        (changed(1, "image", ""), r"tsv:4: the row has no picture"),
        (changed(1, "image", "99"), r"tsv:4: the picture is said to be that of 99, which has none"),
        (changed(1, "image", "no picture"), r"tsv:4: 'image' should be a whole number"),
        (changed(1, "image", "ä" * 80), r"tsv:4: 'image' is no base64 text \(80 characters\)"),
        (changed(1, "image", base64.b64encode(b"not a picture" * 8).decode()), r"tsv:4: .*cannot be read"),
        (changed(1, "image", large()), r"tsv:4: .*9000 x 9000 pixels"),
        ([*table(), ["9", "cut"]], r"tsv:8: 2 cells stand under 11 columns"),
        ([], "no questions"),
    ],
)  # fmt: skip
def test_a_broken_table_is_an_error_with_its_line(tmp_path: Path, rows: list[list[str]], message: str) -> None:
    write(tmp_path / "mmbench" / "q.tsv", rows)
    with pytest.raises(DataError, match=message):
        BENCHMARK.items(Source(tmp_path))


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    rows = [["x", *row[1:]] if number % 2 else row for number, row in enumerate(table())]
    write(tmp_path / "mmbench" / "q.tsv", [*rows, ["one", "cell"], *([["y", *table()[0][1:]]] * 30)])
    with pytest.raises(DataError) as error:
        BENCHMARK.items(Source(tmp_path))
    lines = str(error.value).split("\n")
    assert lines[0].endswith("33 faults.") and lines[-1] == "... and 13 more." and len(lines) == 22


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "tsv:1: expected different columns"),
        (b"index\n3\n", "tsv:1: expected different columns"),
        (b"index\tA\tA\n3\t1\t2\n", "tsv:1: expected different columns"),
        (b'index\tA\n3\t"open\n', "not a tab-separated table"),
        (b"index\tA\n3\t\xff\n", "cannot be read as UTF-8"),
        (b"index\tA\n3\tx\n", "the key 'question' is missing"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "mmbench").mkdir()
    (tmp_path / "mmbench" / "q.tsv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        BENCHMARK.items(Source(tmp_path, pictures=False))


def test_no_table_or_two_are_refused(bench: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file") as error:
        BENCHMARK.items(Source(tmp_path / "empty"))
    assert "data get mmbench" in (error.value.hint or "")
    (bench / "mmbench" / "edgereverie.lock.json").write_text("{}", encoding="utf-8")  # what fetching leaves there
    assert len(BENCHMARK.items(Source(bench))) == 5
    write(bench / "mmbench_dev_20230712.tsv", table())
    with pytest.raises(DataError, match=r"2 tables could be .*MMBench_DEV_EN.tsv, mmbench_dev_20230712.tsv"):
        BENCHMARK.items(Source(bench))


def test_answers_in_every_published_form(bench: Path, tmp_path: Path) -> None:
    items = BENCHMARK.items(Source(bench))
    said = {item.id: 'No.\n\u2028Ünd "so"' if item.id == "7" else item.answer for item in items}
    forms = {
        "kit.json": json.dumps([{"index": int(id), "prediction": text} for id, text in said.items()]),
        "llava.jsonl": "".join(json.dumps({"question_id": id, "text": text}) + "\n" for id, text in reversed(said.items())),
    }  # fmt: skip
    for name, content in forms.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    write(tmp_path / "kit.tsv", [[id, "why?", text] for id, text in said.items()], ("index", "question", "prediction"))
    for name in (*forms, "kit.tsv"):
        assert BENCHMARK.answers(tmp_path / name, items) == said


def test_answers_that_do_not_fit_are_all_listed(bench: Path, tmp_path: Path) -> None:
    items = BENCHMARK.items(Source(bench))
    rows = [{"index": 3, "prediction": "A"}, {"index": 3, "prediction": "B"}, {"index": 99, "prediction": "A"},
            {"prediction": "A"}, {"index": 7, "prediction": 4}, {"index": True, "prediction": "A"}]  # fmt: skip
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(DataError) as error:
        BENCHMARK.answers(path, items)
    told = str(error.value)
    for part in ("more than once: 3 (", "belong to no question: 99 (", "2 rows that name no question", "1 rows without a text",
                 "without an answer: 7, 1000003, 1000007, 2000003"):  # fmt: skip
        assert part in told
    with pytest.raises(DataError, match="spreadsheet") as error:
        BENCHMARK.answers(tmp_path / "answers.xlsx", items)
    assert "tab-separated" in (error.value.hint or "")


def test_a_picture_is_shown_once_for_all_orders_of_its_question(bench: Path) -> None:
    shown = []

    def answerer(image, questions, most):
        shown.append((image, len(questions)))
        return [Answer("A") for _ in questions]

    run = run_benchmark(BENCHMARK, Source(bench), answerer, variants=("vlmevalkit", "lmms"))
    assert [count for _, count in shown] == [3, 2]
    assert [result.counts()[f"{result.scorer}/dev"]["circular"] for result in run.results] == [0, 0]
    after = score_answers(BENCHMARK, "vlmevalkit", run.items, {item.id: item.answer for item in run.items})
    change = {score.metric: score.value for score in compare(BENCHMARK, run.results[0], after)}
    assert change["mmbench/vlmevalkit/dev/accuracy"] == 1.0


@given(st.lists(st.lists(st.sampled_from(("A", "B", "", "Z")), min_size=1, max_size=4), min_size=1, max_size=8))
def test_counts_are_those_of_a_plain_loop(orders: list[list[str]]) -> None:
    items, said = [], {}
    for group, answers in enumerate(orders):
        for turn, answer in enumerate(answers):
            id = str(group + 1_000_000 * turn)
            items.append(
                MmbenchItem(id, None, "?", "A", str(group), first=turn == 0, options={"A": "x1", "B": "x2"}, answer="A")
            )
            said[id] = answer
    counts = score_answers(BENCHMARK, "vlmevalkit", items, said).counts()["mmbench/vlmevalkit"]
    assert counts["circular"] == sum(all(answer == "A" for answer in answers) for answers in orders)
    assert counts["first_pass"] == sum(answers[0] == "A" for answers in orders)
    assert counts["orders_right"] == sum(answers.count("A") for answers in orders)
