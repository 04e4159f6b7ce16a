"""CHAIR's pictures and truth on COCO: from prepared objects or COCO's own annotations, whole or broken."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest

from edgereverie.errors import DataError
from edgereverie.evaluation import nltk_data
from edgereverie.evaluation.benchmarks._chair_truth import KEPT
from edgereverie.evaluation.benchmarks.base import score_answers
from edgereverie.evaluation.benchmarks.chair import BENCHMARK
from edgereverie.evaluation.run import run_benchmark
from edgereverie.evaluation.scoring import score_file
from edgereverie.evaluation.source import Source
from edgereverie.records import Answer

SYNONYMS = "person, man, woman, people\ndog, puppy\nskis, ski\nbus\ncar\n"
CATEGORIES = [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}, {"id": 18, "name": "dog"}]


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Val: 42 (a dog; people wrote of a man and a bus), 9 (nothing). Train: 7 (a car)."""
    root = tmp_path / "data"
    places = root / "coco-annotations-2014" / "annotations"
    places.mkdir(parents=True)
    (root / "chair").mkdir()
    (root / "chair" / "synonyms.txt").write_text(SYNONYMS)
    _write(places, "val2014", {42: [18, 18], 9: []}, [(42, "A man with puppies."), (42, "Buses!"), (9, "Grass.")])
    _write(places, "train2014", {7: [3]}, [(7, "A road.")])
    return root


def _write(folder: Path, part: str, held: dict[int, list[int]], said: list[tuple[int, str]]) -> None:
    images = [{"id": id, "file_name": f"COCO_{part}_{id:012d}.jpg", "width": 8, "height": 8} for id in held]
    things = [(id, category) for id, categories in held.items() for category in categories]
    annotations = [
        {"id": number, "image_id": id, "category_id": category, "bbox": [0, 0, 4, 4], "iscrowd": 0}
        for number, (id, category) in enumerate(things, start=1)
    ]
    instances = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    (folder / f"instances_{part}.json").write_text(json.dumps(instances))
    captions = [{"id": n, "image_id": id, "caption": text} for n, (id, text) in enumerate(said, start=1)]
    (folder / f"captions_{part}.json").write_text(json.dumps({"images": images, "annotations": captions}))


def test_coco_truth_is_instances_and_what_people_wrote(coco: Path) -> None:
    """42: dog (instance), person (man), bus (buses); "puppies" is a dog again. 7: car. 9: nothing."""
    (coco / "chair" / "images.txt").write_text("42\n9\n7\n")
    items = BENCHMARK.items(Source(coco, pictures=False))
    assert {item.id: item.truth for item in items} == {"42": "bus, dog, person", "9": "", "7": "car"}
    assert [item.image.name for item in items if item.image] == [
        "COCO_val2014_000000000042.jpg", "COCO_val2014_000000000009.jpg", "COCO_train2014_000000000007.jpg",
    ]  # fmt: skip
    assert {item.room for item in items} == {512}
    captions = {"42": "A dog, a bus and a car.", "9": "A man.", "7": "Cars."}
    counts = score_answers(BENCHMARK, "maxlinn", items, captions).counts()["chair/maxlinn"]
    assert counts == {
        "mentions": 4, "hallucinated_mentions": 2, "captions": 3, "hallucinated_captions": 2,
        "true_objects": 4, "named_objects": 2, "words": 14,
    }  # fmt: skip  # "bus" is "bu" to pattern: dog, car; man; car. words: 9 + 3 + 2, with punctuation


def test_the_small_file_is_made_once_and_stands_for_cocos(coco: Path) -> None:
    source = Source(coco, pictures=False)
    items = BENCHMARK.items(source)
    kept = coco / "chair" / KEPT
    first = kept.read_bytes()
    header, *rows = map(json.loads, gzip.decompress(first).decode().splitlines())
    assert len(rows) == 3 and len(header["from"]["instances_val2014.json"]["sha256"]) == 64
    for path in coco.rglob("*_*2014.json"):
        path.unlink()
    assert BENCHMARK.items(source) == items
    assert kept.read_bytes() == first
    assert not list(kept.parent.glob(".*"))


def test_the_small_file_is_made_anew_when_cocos_files_change(coco: Path) -> None:
    source = Source(coco, pictures=False)
    BENCHMARK.items(source)
    _write(coco / "coco-annotations-2014" / "annotations", "val2014", {42: [3], 70: [1]}, [(42, "A road.")])
    assert "70" in {item.id for item in BENCHMARK.items(source)}


def test_a_small_file_of_another_kind_is_refused(coco: Path) -> None:
    (coco / "chair" / KEPT).write_bytes(gzip.compress(b'{"edgereverie": "chair-coco", "version": 0}\n'))
    with pytest.raises(DataError, match=r"coco2014\.jsonl\.gz:1: expected the header of a version 1 file"):
        BENCHMARK.items(Source(coco, pictures=False))
    (coco / "chair" / KEPT).write_bytes(b"half")
    with pytest.raises(DataError, match=r"coco2014\.jsonl\.gz:1: expected the header"):
        BENCHMARK.items(Source(coco, pictures=False))


def test_a_limit_draws_from_val2014_and_a_larger_one_holds_the_smaller(coco: Path) -> None:
    many = {id: [18] for id in range(100, 140)}
    _write(coco / "coco-annotations-2014" / "annotations", "val2014", many, [(100, "A dog.")])
    drawn = [[item.id for item in BENCHMARK.items(Source(coco, pictures=False), limit)] for limit in (5, 20, 40, 90)]
    assert [len(ids) for ids in drawn] == [5, 20, 40, 40]
    assert drawn[2][:20] == drawn[1] and drawn[1][:5] == drawn[0] != sorted(drawn[0])
    assert "7" not in drawn[3]


def test_captions_are_scored_on_the_pictures_that_they_describe(coco: Path, tmp_path: Path) -> None:
    answers = tmp_path / "greedy.jsonl"
    answers.write_text(
        '{"image_id": 42, "caption": "Dogs."}\n{"image_id": "COCO_train2014_000000000007.jpg", "caption": ""}\n'
    )
    run = score_file(BENCHMARK, Source(coco, pictures=False), answers)
    assert [item.id for item in run.items] == ["7", "42"] and run.results[0].scorer == "chair/maxlinn"
    (coco / "chair" / "images.txt").write_text("9\nCOCO_val2014_000000000042.jpg\n")
    with pytest.raises(
        DataError, match=r"1 answers that belong to no question: 7 .*\n1 questions without an answer: 9"
    ):
        score_file(BENCHMARK, Source(coco, pictures=False), answers)
    assert [item.id for item in BENCHMARK.items(Source(coco, pictures=False), 1)] == ["9"]


def test_an_evaluations_journal_is_scored_on_its_pictures(coco: Path, tmp_path: Path) -> None:
    (coco / "chair" / "images.txt").write_text("42\n")
    picture = coco / "chair" / "images" / "COCO_val2014_000000000042.jpg"
    picture.parent.mkdir()
    picture.write_bytes(b"only its hash is wanted")
    journal = tmp_path / "starter-chair.jsonl"
    said = Answer("A dog and a car.", confidence=0.5)
    source = Source(coco, pictures=False)
    made = run_benchmark(BENCHMARK, source, lambda *asked: [said], journal=journal, identity="x")
    (coco / "chair" / "images.txt").unlink()
    run = score_file(BENCHMARK, source, journal)
    assert run.results[0].scores == made.results[0].scores
    assert run.predictions[0].answer.confidence == 0.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"answers\.jsonl: the file holds no captions"),
        ('{"image_id": 42, "caption": "a"}\n{"image_id": 42, "caption": "b"}\n', "1 questions answered more than once: 42"),
        ('{"image_id": 43, "caption": "a"}\n{"image_id": 42, "caption": "b"}\n', "belong to no question: 43"),
        ('{"image_id": 42, "caption": ["a"]}\n', "1 rows without a text in caption"),
        ('{"image_id": 42.0, "caption": "a"}\n', "1 rows that name no question"),
        ('{"image_id": true, "caption": "a"}\n', "1 rows that name no question"),
        ('{"image_id": 42, "cap', r"answers\.jsonl:1: not JSON"),
        ('[{"image_id": 42, "caption": "a"}', r"not JSON"),
        ("[3]", "expected a JSON object, found int"),
        ('{"image_id": 8, "caption": "a"}\n', "1 answers that belong to no question: 8"),
    ],
)  # fmt: skip
def test_broken_files_of_captions_are_refused_with_all_that_is_wrong(
    coco: Path, tmp_path: Path, text: str, message: str
) -> None:
    answers = tmp_path / "answers.jsonl"
    answers.write_text(text)
    with pytest.raises(DataError, match=message):
        score_file(BENCHMARK, Source(coco, pictures=False), answers)


def test_prepared_objects(coco: Path) -> None:
    (coco / "chair" / "gt_objects.json").write_text('{"42": ["dog"], "COCO_val2014_000000000009.jpg": []}')
    items = BENCHMARK.items(Source(coco, pictures=False))
    assert {item.id: item.truth for item in items} == {"42": "dog", "9": ""}
    assert not (coco / "chair" / KEPT).exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "expected"),
        ("{}", "expected"),
        ('{"1": ["dog"], "2": "dog", "3": ["cat"], "01": []}', r"3 pictures cannot be read: 2: .*; 3: 'cat' .*; 01 stands twice"),
        ('{"1": ', r"gt_objects\.json:1: not JSON"),
    ],
)  # fmt: skip
def test_broken_prepared_objects(coco: Path, text: str, message: str) -> None:
    (coco / "chair" / "gt_objects.json").write_text(text)
    with pytest.raises(DataError, match=message):
        BENCHMARK.items(Source(coco, pictures=False))


def test_what_is_missing_is_said_with_how_to_get_it(coco: Path) -> None:
    annotations = coco / "coco-annotations-2014" / "annotations"
    (annotations / "captions_train2014.json").unlink()
    with pytest.raises(DataError, match=r"Of instances_train2014\.json and captions_train2014\.json only one is here"):
        BENCHMARK.items(Source(coco, pictures=False))
    (annotations / "captions_val2014.json").unlink()
    with pytest.raises(DataError, match=r"neither gt_objects\.json nor COCO's") as raised:
        BENCHMARK.items(Source(coco, pictures=False))
    assert "data get coco-annotations-2014" in (raised.value.hint or "")
    (coco / "chair" / "synonyms.txt").unlink()
    with pytest.raises(DataError, match=r"synonyms\.txt: no such file"):
        BENCHMARK.items(Source(coco, pictures=False))


def test_a_category_that_the_table_does_not_know(coco: Path) -> None:
    (coco / "chair" / "synonyms.txt").write_text("person\ndog\n")
    (coco / "chair" / "images.txt").write_text("7\n")
    with pytest.raises(DataError, match=r"coco2014\.jsonl\.gz:4: synonyms\.txt does not know 'car'"):
        BENCHMARK.items(Source(coco, pictures=False))


def test_a_list_of_pictures_is_read_strictly(coco: Path) -> None:
    (coco / "chair" / "images.txt").write_text("42\n42\n8\n\n9\n")
    with pytest.raises(DataError) as raised:
        BENCHMARK.items(Source(coco, pictures=False))
    for told in (
        "line 2: picture 42 stands on line 1 already",
        "line 3: .* knows no picture '8'",
        "line 4: .* picture ''",
    ):
        assert re.search(told, str(raised.value))
    (coco / "chair" / "images.txt").write_text("")
    with pytest.raises(DataError, match=r"images\.txt: the file is empty"):
        BENCHMARK.items(Source(coco, pictures=False))


def test_pictures_are_looked_for_when_a_model_is_asked(coco: Path) -> None:
    with pytest.raises(DataError, match=r"picture 9: the picture 'COCO_val2014_000000000009\.jpg' is not in"):
        BENCHMARK.items(Source(coco))


def test_ways_of_scoring_fit_the_vocabulary(coco: Path, folder: Path) -> None:
    items = BENCHMARK.items(Source(coco, pictures=False))
    own = BENCHMARK.items(Source(folder))
    assert (BENCHMARK.ways(items), BENCHMARK.default(items)) == (["maxlinn", "opera", "lmms"], "maxlinn")
    assert (BENCHMARK.ways(own), BENCHMARK.default(own)) == (["table"], "table")
    with pytest.raises(DataError, match="no table of forms"):
        score_answers(BENCHMARK, "table", items, {item.id: "" for item in items})
    with pytest.raises(DataError, match="a vocabulary of their own"):
        score_answers(BENCHMARK, "maxlinn", own, {item.id: "" for item in own})


def test_what_a_way_of_scoring_lacks_is_said_before_anything_is_asked(
    coco: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nltk_data, "_places", lambda folder: [folder])

    def answer(*asked: object) -> list[Answer]:
        raise AssertionError("a model was asked")

    with pytest.raises(DataError, match="nltk's tokenizers/punkt_tab is in none of"):
        run_benchmark(BENCHMARK, Source(coco, pictures=False), answer, variants=["opera"])


def test_marks_name_the_words_that_are_wrong(coco: Path) -> None:
    items = BENCHMARK.items(Source(coco, pictures=False))
    texts = {"42": "Puppies, a car and women.", "9": "Puppies."}
    marks = {mark.id: mark for mark in score_answers(BENCHMARK, "maxlinn", items, texts).marks}
    assert (marks["42"].read, marks["42"].faults, marks["42"].note) == (
        "dog, car, person",
        1,
        "not in the picture: car",
    )
    assert marks["9"].note == "not in the picture: puppy (dog)" and marks["9"].right == 0
    quiet = score_answers(BENCHMARK, "maxlinn", items, {"42": "", "9": "Grass."}).marks
    assert [(mark.right, mark.faults, mark.note) for mark in quiet] == [(1, 0, "")] * 2
