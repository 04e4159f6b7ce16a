"""GAVIE: what the judge is shown, with the box's height in its place, and scores that are read or counted as unread."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgereverie.errors import DataError
from edgereverie.evaluation.benchmarks.base import score_answers
from edgereverie.evaluation.benchmarks.gavie import BENCHMARK, Scores, scores
from edgereverie.evaluation.judging import judge_answers, score_prepared
from edgereverie.evaluation.source import Source

QUESTIONS = [
    {"image_id": "11", "question": "Which colour has the kite?"},
    {"image_id": "11", "question": "Who holds it?"},
    {"image_id": "7", "question": "Describe the dog."},
]
EXTRACT = {
    "11": [{"caption": "a red  kite", "bbox": [4, 8, 20, 30]}, {"caption": "a boy", "bbox": [1, 2.5, 3, 9]}],
    "7": [{"caption": "a dog", "bbox": [0, 0, 5, 6]}],
}
GENOME = [
    {"id": 7, "regions": [{"region_id": 1, "phrase": "a dog", "x": 0, "y": 0, "width": 5, "height": 6}]},
    {"id": 99, "regions": "of no concern"},
    {"id": 11, "regions": [{"phrase": "a red kite", "x": 4, "y": 8, "width": 20, "height": 30},
                           {"phrase": "a boy", "x": 1, "y": 2.5, "width": 3, "height": 9}]},
]  # fmt: skip
TEXTS = {"0": "It is red.", "1": "A girl.", "2": "A dog, asleep."}


def folder(tmp_path: Path, **files: object) -> Source:
    for name, value in ({"evaluation_set": QUESTIONS} | files).items():
        (tmp_path / f"{name}.json").write_text(json.dumps(value))
    return Source(tmp_path, pictures=False)


class Judge:
    name = "scripted"

    def __init__(self, *said: str) -> None:
        self.said, self.asked = said, []

    def respond(self, image, turns, options):
        self.asked.append(turns[-1].text)
        yield self.said[(len(self.asked) - 1) % len(self.said)]


GOOD = (
    "Relevancy: 9 - it follows.\nAccuracy: 8 - it is.",
    "Relevancy: 10 - so\nAccuracy: 0 - a boy",
    "Relevancy: 5\nAccuracy: 4",
)


@pytest.mark.parametrize("files", [{"vg_annotation": EXTRACT}, {"region_descriptions": GENOME}])
def test_accuracy_and_relevancy_are_means_of_what_the_judge_says(tmp_path: Path, files: dict) -> None:
    items, judge = BENCHMARK.items(folder(tmp_path, **files)), Judge(*GOOD)
    result = judge_answers(BENCHMARK, "official", items, TEXTS, judge)
    values = {score.metric: score.value for score in result.scores}
    assert values["gavie/official/accuracy"] == 12 / 3 and values["gavie/official/relevancy"] == 24 / 3
    assert values["gavie/official/unread"] == 0 and result.judge == "scripted"
    assert result.tallies[0].units == ("11", "7")
    assert "a red kite X:4 Y:8 Width:20 Height:30\na boy X:1 Y:2.5 Width:3 Height:9" in judge.asked[0]
    assert "Which colour has the kite?" in judge.asked[0] and "It is red." in judge.asked[0]
    assert "a dog X:0 Y:0 Width:5 Height:6" in judge.asked[2] and "kite" not in judge.asked[2]


def test_what_cannot_be_read_stands_in_no_mean_and_is_counted(tmp_path: Path) -> None:
    items = BENCHMARK.items(folder(tmp_path, vg_annotation=EXTRACT))
    said = {"0": GOOD[0], "1": "Both are good.", "2": GOOD[2]}
    result = score_answers(BENCHMARK, "official", items, said)
    values = {score.metric: score.value for score in result.scores}
    assert values["gavie/official/accuracy"] == 12 / 2 and values["gavie/official/relevancy"] == 14 / 2
    assert values["gavie/official/unread"] == 1 / 3
    assert (result.marks[1].read, result.marks[1].faults) == ("unread", 1.0)
    nothing = score_answers(BENCHMARK, "official", items, dict.fromkeys(TEXTS, "No."))
    values = {score.metric: score.value for score in nothing.scores}
    assert values["gavie/official/accuracy"] != values["gavie/official/accuracy"]  # nan: nothing was read
    assert values["gavie/official/unread"] == 1


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("Relevancy: 9 - a\nAccuracy: 8 - b", (8, 9)),
        ("Accuracy: 8\nRelevancy: 9", (8, 9)),
        ("**Relevancy:** 9/10 - a\n- **Accuracy**: 7.5", (7.5, 9)),
        ("RELEVANCE: 10\naccuracy: 0 out of 10", (0, 10)),
        ("Relevancy:\nscore of the answer1: 9\nreason: fine\n\nAccuracy:\nscore of the answer1: 3\nreason: no", (3, 9)),
        ("Sure:\nRelevancy: 9\nAccuracy: 8\nI hope that helps.", (8, 9)),
        ("Relevancy: 9", None),
        ("Relevancy: 9\nAccuracy: 11", None),
        ("Relevancy: 9\nAccuracy: 10.5", None),
        ("Relevancy: 9\nAccuracy: -3", None),
        ("Relevancy: 9\nAccuracy: eight", None),
        ("Relevancy: 9\nAccuracy: 8\nAccuracy: 7", None),
        ("The relevancy: 9 and the accuracy: 8", None),
        ("Relevancy: 9\nInaccuracy: 8", None),
        ("9 8", None),
        ("", None),
    ],
)
def test_each_score_once_between_zero_and_ten(reply: str, expected: tuple[float, float] | None) -> None:
    assert scores(reply) == (None if expected is None else Scores(*expected))


def test_the_published_questions_are_read(golden: Path) -> None:
    items = BENCHMARK.items(Source(golden, pictures=False))
    assert len(items) == 1000 and len({item.unit for item in items}) == 120
    assert (items[0].id, items[0].unit, items[0].question) == ("0", "2356371", "Which objects are on the wooden table?")
    with pytest.raises(DataError, match=r"vg_annotation.json or region_descriptions.json, and neither is there"):
        BENCHMARK.variants["official"].judge.requests(items[0], "A cup.")


def test_answers_by_id_by_question_or_in_order(tmp_path: Path) -> None:
    items = BENCHMARK.items(folder(tmp_path))
    path = tmp_path / "answers.json"
    for rows in (
        [{"id": int(id), "text": text} for id, text in reversed(TEXTS.items())],
        [{**row, "answer": text} for row, text in zip(reversed(QUESTIONS), reversed(TEXTS.values()), strict=True)],
        [
            {"image_id": 11 if n < 2 else 7, "instruction": QUESTIONS[n]["question"], "text": t}
            for n, t in enumerate(TEXTS.values())
        ],
        [{"text": text} for text in TEXTS.values()],
    ):
        path.write_text(json.dumps(rows))
        assert BENCHMARK.answers(path, items) == TEXTS
    path.write_text(json.dumps([{**QUESTIONS[0], "text": "x"}, {"image_id": "7", "question": "Why?", "text": "y"}]))
    with pytest.raises(DataError, match=r"(?s)no question: 7: Why\?.*2 questions without an answer: 1, 2"):
        BENCHMARK.answers(path, items)
    path.write_text(json.dumps([{"text": "x"}]))
    with pytest.raises(DataError, match="1 answers stand in the file and 3 questions"):
        BENCHMARK.answers(path, items)


def test_prepared_replies_need_no_annotations(tmp_path: Path) -> None:
    items = BENCHMARK.items(folder(tmp_path))
    path = tmp_path / "judged.json"
    path.write_text(json.dumps([{"id": str(n), "content": text} for n, text in enumerate(GOOD)]))
    assert score_prepared(BENCHMARK, "official", items, path, judge="Ada").counts()["gavie/official"] == {
        "items": 3, "read": 3, "accuracy": 12, "relevancy": 24, "unread": 0}  # fmt: skip


def test_pictures_lie_in_visual_genome_s_folders_or_in_one(tmp_path: Path) -> None:
    source = Source(folder(tmp_path).folder)
    for name in ("VG_100K_2/11.jpg", "7.jpg"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    assert [item.image.name for item in BENCHMARK.items(source)] == ["11.jpg", "11.jpg", "7.jpg"]
    (tmp_path / "images" / "7.jpg").unlink()
    with pytest.raises(DataError, match=r"entry 3: the picture 'VG_100K/7.jpg' is not in"):
        BENCHMARK.items(source)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"evaluation_set": []}, "holds no questions"),
        ({"evaluation_set": [{"image_id": "x1", "question": "?"}]}, "should be a picture's number, found 'x1'"),
        ({"evaluation_set": [{"image_id": "1"}]}, "the key 'question' is missing"),
        ({"vg_annotation": []}, "expected an object of regions by picture, found list"),
        ({"vg_annotation": {"11": 5}}, "'11': expected a picture's number with its list of regions"),
        ({"vg_annotation": {"11": [5]}}, "'11', region 1: expected a JSON object, found int"),
        ({"vg_annotation": {"11": [{"caption": "a", "bbox": [1, 2, 3]}]}}, "'bbox' should be x, y, width and height"),
        ({"vg_annotation": {"7": []}}, "nothing is told of picture 11"),
        ({"region_descriptions": [{"id": 11, "regions": 5}]}, "'regions' is"),
        ({"region_descriptions": GENOME[:1]}, "nothing is told of picture 11"),
    ],
)
def test_broken_files_are_errors_that_say_where(tmp_path: Path, files: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        judge_answers(BENCHMARK, "official", BENCHMARK.items(folder(tmp_path, **files)), TEXTS, Judge(*GOOD))
