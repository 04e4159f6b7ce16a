"""MME: its own tool's figures on published answers, and its files in every published form."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from PIL import Image

from edgereverie.errors import DataError
from edgereverie.evaluation.benchmarks.base import BenchmarkResult, score_answers
from edgereverie.evaluation.benchmarks.mme import BENCHMARK, GROUPS, HALLUCINATION, TASKS, MmeItem
from edgereverie.evaluation.source import Source

COLUMNS = ["task", "image_no", "question_no", "gt", "response"]


def scores_of(result: BenchmarkResult) -> dict[str, float]:
    return {score.metric.removeprefix(f"{result.scorer}/"): score.value for score in result.scores}


def test_published_answers_give_the_official_scores_to_the_last_digit(golden: Path) -> None:
    expected = json.loads((golden / "expected" / "mme.json").read_text(encoding="utf-8"))
    models = [name for name, case in expected.items() if isinstance(case, dict) and "task" in case]
    assert models
    for model in models:
        path = golden / expected[model]["file"]
        items = BENCHMARK.items(Source(path, pictures=False))
        found = scores_of(score_answers(BENCHMARK, "official", items, BENCHMARK.answers(path, items)))
        for task, score in expected[model]["task"].items():
            assert found[f"{task}/score"] == score
        assert found["perception/score"] == expected[model]["total"]["Perception"]
        assert found["cognition/score"] == expected[model]["total"]["Cognition"]
        assert found["hallucination/score"] == expected["hallucination_subset"][model]["sum"]


def folder_of(root: Path, tasks: Iterable[str], pictures: int = 2, answer: str | None = None) -> Path:
    """A folder like eval_tool/Your_Results: each picture is asked a yes and a no."""
    root.mkdir(parents=True, exist_ok=True)
    for task in tasks:
        rows = []
        for number in range(pictures):
            for thing, truth in (("ring", "Yes"), ("star", "No")):
                question = f"Is there a {thing} in picture {number}? Please answer yes or no."
                rows.append("\t".join([f"{number:04}.jpg", question, truth, *([answer] if answer else [])]) + "\n")
        (root / f"{task}.txt").write_text("".join(rows), encoding="utf-8")
    return root


def items_of(root: Path, splits: tuple[str, ...] = (), limit: int | None = None) -> list[MmeItem]:
    return BENCHMARK.items(Source(root, pictures=False, splits=splits), limit)


def test_scores_by_hand(tmp_path: Path) -> None:
    items = items_of(folder_of(tmp_path / "mme", ["existence", "count"]), ("existence", "count"))
    said = {
        # Existence: first picture both right, second one of two: 3 of 4 right, 1 of 2 whole. 75 + 50.
        "existence/0000/0": "Yes", "existence/0000/1": "no.", "existence/0001/0": "YES!", "existence/0001/1": "Yes",
        # Count: "  yes" and "" are neither in the official reading: 2 of 4 right, none whole. 50 + 0.
        "count/0000/0": "  yes", "count/0000/1": "not a star", "count/0001/0": "Yes", "count/0001/1": "",
    }  # fmt: skip
    result = score_answers(BENCHMARK, "official", items, said)
    assert result.counts() == {
        "mme/official/existence": dict(TP=2, FP=1, TN=1, FN=0, other=0, pictures=2, both_right=1),
        "mme/official/count": dict(TP=1, FP=0, TN=1, FN=0, other=2, pictures=2, both_right=0),
    }
    found = scores_of(result)
    assert (found["existence/score"], found["count/score"]) == (125.0, 50.0)
    assert (found["existence/accuracy"], found["existence/accuracy_plus"]) == (0.75, 0.5)
    assert (found["count/other"], found["existence/yes_ratio"], found["count/yes_ratio"]) == (0.5, 0.75, 0.25)
    # lmms-eval strips: 3 of 4 right and the first picture whole, 75 + 50.
    assert scores_of(score_answers(BENCHMARK, "lmms", items, said))["count/score"] == 125.0
    marks = {mark.id: (mark.read, mark.right, mark.note) for mark in result.marks}
    assert marks["count/0000/0"] == ("unread", 0.0, "neither yes nor no was read")
    assert marks["existence/0001/1"] == ("yes", 0.0, "said yes, it is no")


def test_groups_are_sums_over_whole_groups_of_tasks(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "mme", TASKS, pictures=1)
    # More pictures of one task weigh no more in the sum.
    folder_of(root, ["count"], pictures=5)
    items = items_of(root)
    result = score_answers(BENCHMARK, "official", items, {item.id: "yes" for item in items})
    found = scores_of(result)
    # Always yes is right on one of each picture's two questions: 50 points a task.
    assert [found[f"{group}/score"] for group in GROUPS] == [500.0, 200.0, 200.0]
    right = scores_of(score_answers(BENCHMARK, "lmms", items, {item.id: item.truth for item in items}))
    assert [right[f"{group}/score"] for group in GROUPS] == [2000.0, 800.0, 800.0]
    assert found["hallucination/accuracy"] == 0.5 and found["hallucination/yes_ratio"] == 1.0
    some = items_of(root, ("existence", "OCR"))
    tallies = score_answers(BENCHMARK, "official", some, {item.id: "no" for item in some}).tallies
    assert [tally.split for tally in tallies] == ["mme/official/existence", "mme/official/OCR"]


def test_the_hallucination_subset_is_a_split(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "mme", HALLUCINATION)
    items = items_of(root, ("hallucination",))
    assert list(dict.fromkeys(item.split for item in items)) == list(HALLUCINATION)
    assert len(items_of(root, ("hallucination",), limit=1)) == 8
    with pytest.raises(DataError, match=r"mme/posters\.txt: no such file, and no folder posters"):
        items_of(root)
    with pytest.raises(DataError, match="no split 'halucination'"):
        items_of(root, ("halucination",))


def test_the_released_folders_are_read(tmp_path: Path) -> None:
    release = tmp_path / "mme" / "MME_Benchmark_release_version"
    flat, apart = release / "existence", release / "artwork"
    (apart / "images").mkdir(parents=True)
    (apart / "questions_answers_YN").mkdir()
    flat.mkdir()
    for place in (flat / "0001.png", apart / "images" / "10002.jpg"):
        Image.new("RGB", (8, 8)).save(place)
    text = "Is it there?  Please answer yes or no.\tYes\nIs it gone? Please answer yes or no.\tNo\n\n"
    for place in (flat / "0001.txt", apart / "questions_answers_YN" / "10002.txt"):
        place.write_bytes(text.replace("\n", "\r\n").encode("utf-8-sig"))
    items = BENCHMARK.items(Source(tmp_path, splits=("existence", "artwork")))
    assert [(item.id, item.truth, item.image) for item in items[::2]] == [
        ("existence/0001/0", "yes", flat / "0001.png"), ("artwork/10002/0", "yes", apart / "images" / "10002.jpg"),
    ]  # fmt: skip
    assert items[1].question == "Is it gone? Please answer yes or no."
    # The tool's own lists tell the order, and find their pictures there.
    for task, name in (("existence", "0001.png"), ("artwork", "10002.jpg")):
        rows = f"{name}\tIs it gone?\tNo\n{name}\tIs it there?\tYes\n"
        (tmp_path / "mme" / f"{task}.txt").write_text(rows, encoding="utf-8")
    listed = BENCHMARK.items(Source(tmp_path, splits=("existence", "artwork")))
    assert [item.truth for item in listed] == ["no", "yes", "no", "yes"]
    assert [item.image for item in listed] == [item.image for item in items]
    (flat / "0001.png").unlink()
    with pytest.raises(DataError, match=r"existence\.txt:1: the picture '0001\.png' is not in"):
        BENCHMARK.items(Source(tmp_path, splits=("existence",)))


def answered(item: MmeItem) -> str:
    return f"{item.truth} {item.id}"


def test_answers_are_read_in_every_published_form(tmp_path: Path) -> None:
    tasks = ("existence", "artwork")
    items = items_of(folder_of(tmp_path / "mme", tasks), tasks)
    expected = {item.id: answered(item) for item in items}
    results = tmp_path / "results"
    results.mkdir()
    for task in tasks:
        # Another order of the pictures, and Windows line ends.
        rows = [item for item in reversed(items) if item.split == task]
        (results / f"{task}.txt").write_bytes(
            "".join(
                f"{item.unit.rpartition('/')[2]}.jpg\t{item.question}\t{item.truth}\t{answered(item)}\r\n"
                for item in rows
            ).encode()
        )
    assert BENCHMARK.answers(results, items) == expected
    (results / "existence.txt").rename(tmp_path / "existence.txt")
    with pytest.raises(DataError, match=r"existence\.txt is not there"):
        BENCHMARK.answers(results, items)
    ask = "\nAnswer the question using a single word or phrase."
    forms = [
        [{"id": item.id, "text": answered(item)} for item in items],
        [
            {
                "question_id": f"{item.unit}.png",
                "prompt": item.question.replace(" Please answer yes or no.", ask),
                "text": answered(item),
            }
            for item in reversed(items)
        ],
        [{"question_id": f"{item.unit}.png", "text": answered(item)} for item in items],
        [
            {
                "question_id": item.unit.replace("/", "/images/") + ".png",
                "prompt": item.question,
                "text": answered(item),
            }
            for item in items
        ],
    ]
    for form in forms:
        path = tmp_path / "answers.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in form), encoding="utf-8")
        assert BENCHMARK.answers(path, items) == expected
    table = [[item.split, item.unit.rpartition("/")[2], int(item.id[-1]), item.truth, answered(item)] for item in items]
    path = tmp_path / "answers.json"
    path.write_text(json.dumps({"columns": COLUMNS, "rows": table}), encoding="utf-8")
    assert BENCHMARK.answers(path, items) == expected
    # The table tells the right answers too.
    assert [item.id for item in items_of(path, tasks)] == [item.id for item in items]
    with pytest.raises(DataError, match="it cannot be asked"):
        BENCHMARK.items(Source(path))


def test_all_that_is_wrong_with_answers_is_listed(tmp_path: Path) -> None:
    items = items_of(folder_of(tmp_path / "mme", ["count"]), ("count",))
    rows = [
        {"question_id": "count/0000.jpg", "prompt": items[0].question, "text": "yes"},
        {"question_id": "count/0000.jpg", "prompt": items[0].question, "text": "yes"},
        {"question_id": "count/0001.jpg", "prompt": "Is there a moon?", "text": "yes"},
        {"question_id": "count/0001.jpg", "prompt": items[2].question, "text": 1},
        {"text": "yes"},
    ]
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(DataError) as raised:
        BENCHMARK.answers(path, items)
    told = str(raised.value)
    assert f"1 questions answered more than once: count/0000/0 ({path}:2)" in told
    assert f"1 answers that belong to no question: count/0001 'Is there a moon?' ({path}:3)" in told
    assert f"1 rows without a text in text or answer or response: {path}:4" in told
    assert f"1 rows that name no question: {path}:5" in told
    assert "3 questions without an answer: count/0000/1, count/0001/0, count/0001/1" in told


ROWS = ["a.jpg\tIs it there?\tYes\n", "a.jpg\tIs it gone?\tNo\n"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "there are no questions"),
        (ROWS[0], r"count\.txt:1: 'a\.jpg' has not two questions"),
        ("".join([ROWS[0], "b.jpg\tIs it there?\tYes\n", ROWS[1]]), r"count\.txt:1: 'a\.jpg' has not two questions"),
        ("".join(ROWS * 2), r"count\.txt:3: 'a\.jpg' has not two questions"),
        ("a.jpg\tIs it there?\n" + ROWS[1], r"lines 1 hold another number of columns than 3 or 4"),
        (ROWS[0] + "a.jpg\tIs it gone?\tNo\tno\tno\n", r"lines 2 hold another number of columns than 3 or 4"),
        (ROWS[0] + "a.jpg\tIs it gone?\tMaybe\n", r"count\.txt:2: the right answer is 'Maybe'"),
        (ROWS[0] + "a.jpg\tIs it gone?\tNo \n", r"count\.txt:2: the right answer is 'No '"),
    ],
)
def test_broken_lists_of_questions_are_errors(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "count.txt").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        items_of(tmp_path, ("count",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"columns": ["a"], "rows": []}', "expected an object with the columns task, image_no"),
        (json.dumps({"columns": COLUMNS, "rows": [["count", 0, 0, "Yes"]]}), "row 1: expected 5 values"),
        (json.dumps({"columns": COLUMNS, "rows": [[["count"], 0, 0, "Yes", "no"]]}), "that begin with the task"),
        (json.dumps({"columns": COLUMNS, "rows": []}), "there are no questions"),
        ('{"columns": ', "not JSON"),
    ],
)
def test_broken_tables_are_errors(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "table.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        items_of(path)
