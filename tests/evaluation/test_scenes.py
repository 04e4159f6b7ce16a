"""The project's own benchmark: every claim of a description against the exact truth of a drawn scene."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image

from edgereverie.data.annotations.scenes import read, scene_of
from edgereverie.data.scenes import wording
from edgereverie.data.scenes.world import make_scene
from edgereverie.errors import DataError
from edgereverie.evaluation.benchmarks.base import score_answers
from edgereverie.evaluation.benchmarks.scenes import COLUMNS, PROMPT, judged
from edgereverie.evaluation.source import Source
from edgereverie.registry import BENCHMARKS

SCENES = BENCHMARKS.get("scenes")


def write_lines(path: Path, rows: Iterable[object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def thing(shape: str, colour: str, size: str, place: int) -> dict[str, object]:
    return {"shape": shape, "colour": colour, "size": size, "place": place}


ROWS = [
    {"id": "t", "image": "train/0.png", "things": [thing("drop", "blue", "small", 4)]},
    # a small red ring at the top left, a large blue star in the centre
    {"id": "a", "image": "heldout/0.png", "things": [thing("ring", "red", "small", 0), thing("star", "blue", "large", 4)]},
    # two small black moons, at the left and at the right
    {"id": "b", "image": "heldout/1.png", "things": [thing("moon", "black", "small", 3), thing("moon", "black", "small", 5)]},
]  # fmt: skip
TEXTS = {
    # true: a ring, red, top left, a star, blue; false: large (the ring is small), a cross
    "heldout/0.png": "A large red ring is at the top left. There is a blue star. There is a cross.",
    # true: two moons, black; "three" is not said; false: the heart; said twice, the moons count once
    "heldout/1.png": "There are two moons. The moons are black. There are two moons. There is a heart.",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_lines(tmp_path / "scenes.jsonl", ROWS)
    for row in ROWS:
        path = tmp_path / "images" / row["image"]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(path)
    return tmp_path


def test_held_out_pictures_are_described_and_no_others(folder: Path) -> None:
    items = SCENES.items(Source(folder))
    assert [(item.id, item.unit, item.question) for item in items] == [
        (name, name, PROMPT) for name in ("heldout/0.png", "heldout/1.png")
    ]
    assert items[0].truth == "a small red ring at the top left, a large blue star in the centre"
    assert items[0].image == folder / "images" / "heldout" / "0.png"
    assert [item.id for item in SCENES.items(Source(folder), 1)] == ["heldout/0.png"]


def test_training_pictures_are_asked_about_where_there_are_no_others(folder: Path) -> None:
    write_lines(folder / "scenes.jsonl", ROWS[:1])
    assert [item.id for item in SCENES.items(Source(folder))] == ["train/0.png"]


def test_every_claim_counts_by_its_kind(folder: Path) -> None:
    result = score_answers(SCENES, "claims", SCENES.items(Source(folder)), TEXTS)
    assert result.scorer == "scenes/claims"
    counts = result.counts()["scenes/claims"]
    # a: ring, star | red, blue | top left are true; a cross | large are false. b: moons (and their number), black | a heart.
    expected = {
        "descriptions": 2, "hallucinated_descriptions": 2, "false": 3, "undecided": 0, "objects": 3, "named_objects": 3,
        "false_object": 2, "false_attribute": 1, "false_count": 0, "false_position": 0, "false_relation": 0,
        "true_attribute": 3, "true_count": 1, "true_position": 1, "true_relation": 0,
    }  # fmt: skip
    assert {name: counts[name] for name in expected} == expected
    assert counts["true"] == sum(
        counts[f"true_{kind}"] for kind in ("object", "attribute", "count", "position", "relation")
    )
    assert counts["words"] == 18 + 16
    scores = {score.metric.removeprefix("scenes/claims/"): score.value for score in result.scores}
    assert scores["hallucinated"] == pytest.approx(3 / (counts["true"] + 3))
    assert scores["hallucinated_attribute"] == pytest.approx(1 / 4)
    assert np.isnan(scores["hallucinated_relation"])
    assert (scores["false"], scores["recall"], scores["words"]) == (1.5, 1.0, 17.0)


def test_marks_say_which_claims_are_false(folder: Path) -> None:
    first, second = score_answers(SCENES, "claims", SCENES.items(Source(folder)), TEXTS).marks
    assert (first.right, first.faults) == (0.0, 2.0)
    assert "The ring is large." in first.note and "There is a cross." in first.note
    assert (second.faults, second.note) == (1.0, "not so: There is a heart.")


@pytest.mark.parametrize(("text", "true", "false", "undecided", "named"), [
    ("", [], [], [], set()),
    ("There is no drop.", ["There is no drop."], [], [], set()),
    ("There is no ring.", [], ["There is no ring."], [], set()),
    ("The ring is shiny.", ["There is a ring."], [], ["The ring is shiny."], {"ring"}),
    ("The star is to the right of the ring.",
     ["There is a star.", "There is a ring.", "The star is to the right of the ring."], [], [], {"ring", "star"}),
    ("There are three rings.", ["There is a ring."], ["There are three rings."], [], {"ring"}),
])  # fmt: skip
def test_what_a_text_claims(
    folder: Path, text: str, true: list[str], false: list[str], undecided: list[str], named: set[str]
) -> None:
    scene = scene_of(next(one for one in read(folder / "scenes.jsonl") if one.image == "heldout/0.png"))
    found = judged(scene, PROMPT, text)
    for side, wanted in ((found.true, true), (found.false, false), (found.undecided, undecided)):
        assert sorted(claim.statement for claim in side) == sorted(wanted)
    assert found.named == named


def test_the_scenes_own_words_hold_nothing_false(tmp_path: Path) -> None:
    """What the drawn world says of itself is true of it: all shares of false claims are zero, and nothing is left out."""
    for number in range(60):
        scene = make_scene(f"own/{number}", 0.5)
        _, question, answer = wording.describe(scene.things, Random(number))
        found = judged(scene, question, answer)
        assert not found.false and not found.undecided, (answer, found)
        assert found.named == set(scene.shapes)


def test_faults_of_the_file(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"scenes\.jsonl: no such file") as caught:
        SCENES.items(Source(tmp_path / "elsewhere"))
    assert "edgereverie data scenes" in caught.value.hint
    (folder / "images" / "heldout" / "1.png").unlink()
    with pytest.raises(DataError, match=r"heldout/1\.png"):
        SCENES.items(Source(folder))
    assert len(SCENES.items(Source(folder, pictures=False))) == 2
    write_lines(folder / "scenes.jsonl", [ROWS[1] | {"things": [thing("ring", "red", "small", 9)]}])
    with pytest.raises(DataError, match=r"scenes\.jsonl, line 1|scenes\.jsonl:1"):
        SCENES.items(Source(folder))


def test_answers_from_a_file(folder: Path, tmp_path: Path) -> None:
    items = SCENES.items(Source(folder))
    path = tmp_path / "answers.jsonl"
    write_lines(path, [{"image": name, "text": text} for name, text in reversed(TEXTS.items())])
    assert SCENES.answers(path, items) == TEXTS
    write_lines(path, [{"image": "heldout/0.png", "caption": ""}])
    with pytest.raises(DataError, match=r"1 questions without an answer: heldout/1\.png"):
        SCENES.answers(path, items)


def test_columns_are_whole_numbers_and_named_once() -> None:
    assert len(set(COLUMNS)) == len(COLUMNS)
    names = [metric.name for metric in SCENES.variants["claims"].metrics]
    assert len(set(names)) == len(names)
