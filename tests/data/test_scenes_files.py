"""Drawn scenes on disk: equal bytes for equal arguments, true benchmark labels, published forms that read back."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image

from edgereverie.bundle import sha256_of
from edgereverie.data.jsonl import read_pairs, read_samples
from edgereverie.data.scenes.draw import SIDE, draw_scene
from edgereverie.data.scenes.files import _questions, draw_dataset, draw_training_scenes
from edgereverie.data.scenes.world import COMPANION, SHAPES, Scene, Thing, make_scene
from edgereverie.errors import BundleError
from edgereverie.registry import SOURCES

ARGUMENTS = {"train": 24, "heldout": 12, "seed": 7, "companion_share": 0.7}
TRAINING = {
    "count": 6,
    "diet": "reflective",
    "conversations": 2,
    "companion_share": 0.5,
    "careless_share": 0.5,
    "seed": 3,
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_dataset(tmp_path_factory.mktemp("scenes") / "set", **ARGUMENTS)


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): sha256_of(path) for path in sorted(folder.rglob("*")) if path.is_file()
    }


def truth(dataset: Path) -> dict[str, list[str]]:
    """Shapes in each picture, by its path."""
    return {row["image"]: [thing["shape"] for thing in row["things"]] for row in rows(dataset / "scenes.jsonl")}


def test_equal_arguments_give_equal_bytes(dataset: Path, tmp_path: Path) -> None:
    again = draw_dataset(tmp_path / "again", **ARGUMENTS)
    assert hashes(again) == hashes(dataset)
    other = draw_dataset(tmp_path / "other", **(ARGUMENTS | {"seed": 8}))
    changed = {name for name, digest in hashes(other).items() if hashes(dataset).get(name) != digest}
    assert changed == set(hashes(dataset)), "another seed changes every file"


def test_the_manifest_lists_every_other_file(dataset: Path) -> None:
    manifest = json.loads((dataset / "manifest.json").read_text(encoding="utf-8"))
    found = hashes(dataset)
    del found["manifest.json"]
    assert manifest["files"] == found
    assert {key: manifest[key] for key in ARGUMENTS} == ARGUMENTS
    assert len([name for name in found if name.startswith("images/train/")]) == 24
    assert len([name for name in found if name.startswith("images/heldout/")]) == 12


def test_an_existing_folder_is_replaced_only_by_force(dataset: Path, tmp_path: Path) -> None:
    small = ARGUMENTS | {"train": 2, "heldout": 1}
    out = draw_dataset(tmp_path / "set", **small)
    with pytest.raises(BundleError, match="exists already"):
        draw_dataset(out, **small)
    before = hashes(out)
    assert hashes(draw_dataset(out, **small, force=True)) == before


def test_a_stopped_drawing_leaves_no_folder(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw_dataset(tmp_path / "set", **ARGUMENTS, progress=stop)
    with pytest.raises(KeyboardInterrupt):
        draw_training_scenes(tmp_path / "training", **TRAINING, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_training_scenes_are_drawn_once_for_equal_arguments(tmp_path: Path) -> None:
    drawn: list[int] = []

    def draw(**changed: object) -> list:
        drawn.clear()
        return draw_training_scenes(
            tmp_path / "data", **(TRAINING | changed), progress=lambda done, _: drawn.append(done)
        )

    first = draw()
    stamps = hashes(tmp_path / "data")
    assert drawn == [1, 2, 3, 4, 5, 6] and draw() == first and drawn == []
    assert draw(seed=4) != first and drawn
    assert draw() == first and hashes(tmp_path / "data") == stamps
    assert len({sample.id for sample in first}) == len(first)
    for sample in first:
        assert (tmp_path / "data" / "images" / sample.image).is_file()


@pytest.mark.parametrize("split", ["random", "popular", "adversarial"])
def test_pope_asks_three_present_and_three_absent_in_turn(dataset: Path, split: str) -> None:
    found = rows(dataset / "pope" / f"{split}.jsonl")
    shapes = truth(dataset)
    assert [row["question_id"] for row in found] == list(range(1, 12 * 6 + 1))
    for start in range(0, len(found), 6):
        group = found[start : start + 6]
        (image,) = {row["image"] for row in group}
        asked = [row["text"].removeprefix("Is there ").split()[1] for row in group]
        assert [row["label"] for row in group] == ["yes", "no"] * 3
        assert [shape in shapes[image] for shape in asked] == [True, False] * 3
        assert len(set(asked)) == 6
    assert len({row["image"] for row in found}) == 12


def absent_asked(dataset: Path, split: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in rows(dataset / "pope" / f"{split}.jsonl"):
        if row["label"] == "no":
            found.setdefault(row["image"], []).append(row["text"].split()[3])
    return found


def test_popular_and_adversarial_take_the_loudest_absent_shapes(dataset: Path) -> None:
    """Recomputed from scenes.jsonl: how many training pictures hold a shape; and of those with p, how many hold it too."""
    shapes = truth(dataset)
    training = [set(found) for image, found in shapes.items() if image.startswith("train/")]
    single = Counter(shape for found in training for shape in found)
    for split in ("popular", "adversarial"):
        for image, asked in absent_asked(dataset, split).items():
            here = set(shapes[image])

            def loudness(shape: str, split: str = split, here: set[str] = here) -> float:
                if split == "popular":
                    return single[shape]
                return max(sum({shape, p} <= found for found in training) / single[p] for p in here if single[p])

            others = set(SHAPES) - here - set(asked)
            assert [loudness(s) for s in asked] == sorted(map(loudness, asked), reverse=True)
            assert min(map(loudness, asked)) >= max(map(loudness, others))


def test_pope_ranking_of_a_case_worked_out_by_hand() -> None:
    """Present: ring, star, moon. Popular: most pictures first. Adversarial: the greatest share of a present shape's
    pictures: with the ring 8 of 10 have a heart; with the star 6 of 20 a cross (0.3); with the moon 1 of 2 a drop (0.5).
    """
    scene = Scene("s", tuple(Thing(shape, "red", "small", place) for place, shape in enumerate(("ring", "star", "moon"))),
                  (240, 240, 240), ((0, 0),) * 3)  # fmt: skip
    single = dict.fromkeys(SHAPES, 0) | {
        "ring": 10,
        "star": 20,
        "moon": 2,
        "square": 40,
        "circle": 30,
        "cross": 25,
        "heart": 8,
    }
    together = {
        frozenset(pair): n for pair, n in ((("ring", "heart"), 8), (("star", "cross"), 6), (("moon", "drop"), 1))
    }

    def absent(split: str) -> list[str]:
        return [shape for shape, label in _questions(scene, split, single, together, Random(0)) if label == "no"]

    assert absent("popular") == ["square", "circle", "cross"]
    assert absent("adversarial") == ["heart", "drop", "cross"]


def test_adversarial_questions_ask_for_companions(dataset: Path) -> None:
    """What the habit is for: companions of what is there are asked for far more often than in the random split."""
    shapes = truth(dataset)

    def share(split: str) -> float:
        asked = [(image, shape) for image, found in absent_asked(dataset, split).items() for shape in found]
        return sum(COMPANION[shape] in shapes[image] for image, shape in asked) / len(asked)

    assert share("adversarial") > 0.8 > share("random")


def test_chair_holds_the_distinct_shapes_of_each_heldout_picture(dataset: Path) -> None:
    header, *found = rows(dataset / "chair.jsonl")
    assert header["vocabulary"]["cross"] == ["cross", "crosses"] and header["vocabulary"]["star"] == ["star", "stars"]
    assert set(header["vocabulary"]) == set(SHAPES)
    shapes = truth(dataset)
    assert {row["image"] for row in found} == {image for image in shapes if image.startswith("heldout/")}
    for row in found:
        assert len(row["objects"]) == len(set(row["objects"])) and set(row["objects"]) == set(shapes[row["image"]])


def test_published_files_read_back_as_the_canonical_ones(dataset: Path) -> None:
    samples = list(read_samples(dataset / "samples.jsonl"))
    reverie = list(SOURCES.get("reverie").read(dataset / "published" / "reverie.json"))
    wanted = [sample for sample in samples if sample.rationale is not None]
    assert len(wanted) > 100
    assert [(s.id, s.image, s.turns, s.rationale) for s in reverie] == [
        (s.id, s.image, s.turns, s.rationale) for s in wanted
    ]

    pairs = list(read_pairs(dataset / "pairs.jsonl"))
    povid = list(SOURCES.get("preference").read(dataset / "published" / "povid.json"))
    assert [(p.id, p.image, p.turns, p.chosen, p.rejected) for p in povid] == [
        (p.id, p.image, p.turns, p.chosen, p.rejected) for p in pairs
    ]


def test_generated_records_become_two_reflections_each(dataset: Path) -> None:
    path = dataset / "published" / "reverie_records.json"
    records = json.loads(path.read_text(encoding="utf-8"))
    read = list(SOURCES.get("reverie").read(path))
    assert len(read) == 2 * len(records)
    for record, right, wrong in zip(records, read[::2], read[1::2], strict=True):
        assert [right.rationale, wrong.rationale] == ["positive", "negative"]
        assert right.turns[1].text == wrong.turns[1].text == record["correct_answer"]
        assert (right.turns[3].text, wrong.turns[3].text) == (
            record["correct_rationale"],
            record["incorrect_rationale"],
        )
        assert record["confusing_answer"] in wrong.turns[2].text


def test_lrv_instructions_are_half_negative(dataset: Path) -> None:
    read = list(SOURCES.get("lrv").read(dataset / "published" / "lrv.json"))
    assert Counter(sample.polarity for sample in read) == {"positive": 48, "negative": 48}
    assert {sample.image for sample in read} == {image for image in truth(dataset) if image.startswith("train/")}


def test_pictures_show_each_thing_at_its_place() -> None:
    """The middle colour of a thing's cell is the thing's, an empty cell is all background, drawn as a real PNG holds it."""
    rgb = {"red": (214, 39, 40), "blue": (40, 90, 220), "black": (30, 30, 30)}
    for shape in ("circle", "square", "heart", "star", "cross", "diamond"):
        for place in (0, 4, 8):
            thing = Thing(shape, "blue", "large", place)
            pixels = np.asarray(draw_scene(Scene("s", (thing,), (240, 241, 242), ((0.0, 0.0),))))
            assert pixels.shape == (SIDE, SIDE, 3)
            row, column = divmod(place, 3)
            cell = SIDE // 3
            assert tuple(pixels[row * cell + cell // 2, column * cell + cell // 2]) == rgb["blue"], shape
            outside = np.ones((SIDE, SIDE), bool)
            outside[row * cell : (row + 1) * cell, column * cell : (column + 1) * cell] = False
            assert (pixels[outside] == (240, 241, 242)).all(), f"a large {shape} leaves its place"


def test_large_things_are_larger_and_all_scenes_draw(tmp_path: Path) -> None:
    def ink(size: str, shape: str) -> int:
        pixels = np.asarray(draw_scene(Scene("s", (Thing(shape, "black", size, 4),), (240, 240, 240), ((0.0, 0.0),))))
        return int((pixels != 240).any(-1).sum())

    for shape in SHAPES:
        assert 1.8 * ink("small", shape) < ink("large", shape), shape
    for index in range(20):
        path = tmp_path / f"{index}.png"
        draw_scene(make_scene(f"draw/{index}", 0.5)).save(path)
        with Image.open(path) as opened:
            assert opened.size == (SIDE, SIDE) and opened.mode == "RGB"


@pytest.mark.skipif(os.name == "nt", reason="file size limits are POSIX")
def test_a_full_disk_leaves_no_folder(tmp_path: Path, file_size_limit) -> None:
    with file_size_limit(4096), pytest.raises(OSError, match="File too large"):
        draw_dataset(tmp_path / "set", **ARGUMENTS)
    assert list(tmp_path.iterdir()) == []
