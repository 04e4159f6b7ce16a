"""Questions about labelled pictures, from each form of data, and what is said of faulty ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from edgereverie.data.labelled import pictures_of, read_labelled
from edgereverie.data.scenes.files import draw_dataset
from edgereverie.errors import DataError


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for name in "abc":
        Image.new("RGB", (8, 8), "white").save(tmp_path / f"{name}.png")
    return tmp_path


def written(folder: Path, rows: Sequence[object]) -> Path:
    path = folder / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_drawn_scenes_are_described_and_asked_for_something_there_and_something_not(tmp_path: Path) -> None:
    folder = draw_dataset(tmp_path / "scenes", train=0, heldout=12, seed=1, companion_share=0.7)
    questions = read_labelled(folder, folder / "images", images=5, seed=3)
    assert len(questions) == 15 and len(pictures_of(questions)) == 5
    for one in questions:
        assert one.image == questions[questions.index(one) // 3 * 3].image  # a picture's questions stand together
        if one.yes is not None:
            shape = one.question.removesuffix(" in the image?").split()[-1]
            assert one.yes == any(thing.name == shape for thing in one.known.things)
    assert [one.yes for one in questions] == [None, True, False] * 5
    assert len({one.id for one in questions}) == 15
    assert read_labelled(folder, folder / "images", images=5, seed=3) == questions
    assert read_labelled(folder, folder / "images", images=5, seed=4) != questions


def test_objects_that_no_line_names_prove_nothing(pictures: Path) -> None:
    path = written(pictures, [
        {"image": "a.png", "objects": ["Dog", "traffic light"]}, {"image": "b.png", "objects": ["orange"]},
        {"image": "c.png", "objects": []},
    ])  # fmt: skip
    questions = read_labelled(path, pictures, images=None, seed=0)
    assert sorted(pictures_of(questions)) == ["a.png", "b.png"]  # nothing is known of the third that could be asked
    assert all(one.known.exhaustive == {"dog", "traffic light", "orange"} for one in questions)
    (there,) = (one.question for one in questions if one.image == "b.png" and one.yes)
    assert there == "Is there an orange in the image?"


def test_questions_and_their_answers_in_pope_s_words_too(pictures: Path) -> None:
    path = written(pictures, [
        {"image": "a.png", "question": "Is the dog brown?", "answer": "yes"},
        {"question_id": 4, "image": "b.png", "text": "Is there a cat?", "label": "no"},
        {"image": "a.png", "question": "Is it raining?", "answer": "No"},
    ])  # fmt: skip
    found = {(one.image, one.question, one.yes) for one in read_labelled(path, pictures, images=None, seed=0)}
    assert found == {
        ("a.png", "Is the dog brown?", True), ("a.png", "Is it raining?", False), ("b.png", "Is there a cat?", False),
    }  # fmt: skip


@pytest.mark.parametrize("rows, told", [
    ([{"image": "z.png", "objects": ["dog"]}], "data.jsonl:1: .*no such image"),
    ([{"image": "../a.png", "objects": ["dog"]}], "does not stay inside"),
    ([{"image": "a.png", "objects": "dog"}], "not a list of names"),
    ([{"image": "a.png", "question": "Is it red?", "answer": "maybe"}], "'answer' is 'maybe'"),
    ([{"image": "a.png", "question": "Is it red?"}], "neither 'objects' nor"),
    ([{"image": "a.png", "colour": "red"}], "unknown key 'colour'"),
    ([{"image": None, "objects": ["dog"]}], "'image' is null"),
    ([{"image": "a.png", "objects": ["dog"]}, {"image": "b.png", "question": "Red?", "answer": "no"}], "two files|some lines"),
    ([{"image": "a.png", "objects": []}], "no picture with anything to ask about"),
])  # fmt: skip
def test_faulty_data_are_refused_with_their_place(pictures: Path, rows: list[object], told: str) -> None:
    with pytest.raises(DataError, match=told):
        read_labelled(written(pictures, rows), pictures, images=None, seed=0)
