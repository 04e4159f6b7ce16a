"""Every benchmark's files are in the catalogue under its name, and it finds them where ``data get --unpack`` puts them."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from edgereverie.data.catalogue import catalogue
from edgereverie.data.get import get, unpacked
from edgereverie.evaluation.source import Source
from edgereverie.registry import BENCHMARKS

DRAWN = {"scenes"}  # nothing to fetch: `edgereverie data scenes` draws them


def of_lines(*rows: Any) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def packed(files: Mapping[str, bytes]) -> bytes:
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return into.getvalue()


def pope(thing: str) -> bytes:
    text = f"Is there a {thing} in the image?"
    return of_lines({"question_id": 1, "image": "COCO_val2014_000000000042.jpg", "text": text, "label": "yes"})


MME_TASKS = (
    "existence count position color posters celebrity scene landmark artwork OCR commonsense_reasoning "
    "numerical_calculation text_translation code_reasoning"
).split()
MMBENCH = "index\tquestion\tA\tB\tanswer\tcategory\tl2-category\tsplit\timage_path\n0\tWhich?\tOne\tTwo\tA\tc\tl\tdev\t0.jpg\n"
AMBER = {"id": 1, "type": "generative", "truth": ["beach"], "hallu": ["kite"]}
SCIENCEQA = {"7": {"question": "Which?", "choices": ["a", "b"], "answer": 0, "hint": "", "image": None, "split": "test",
                   "grade": "grade2", "subject": "natural science", "topic": "biology"}}  # fmt: skip
# What each file of an entry holds, in small, in the form in which it is published.
FILES: dict[str, dict[str, bytes]] = {
    "pope": {f"coco_pope_{split}.json": pope("chair") for split in ("random", "popular", "adversarial")},
    "amber": {
        "annotations.json": json.dumps([AMBER]).encode(),
        "query_all.json": json.dumps([{"id": 1, "image": "AMBER_1.jpg", "query": "Describe this image."}]).encode(),
        "query_discriminative.json": b"[]",
        "query_generative.json": json.dumps([{"id": 1, "image": "AMBER_1.jpg", "query": "Describe this image."}]).encode(),
        "relation.json": json.dumps({"beach": ["sand"], "kite": []}).encode(),
        "safe_words.txt": b"image\n",
        "metrics.txt": b"",
    },
    "chair": {"synonyms.txt": b"person, girl\nchair, seat\n"},
    "gavie": {"evaluation_set.json": json.dumps([{"image_id": "2356371", "question": "Why?"}]).encode()},
    "mmhal": {
        "response_template.json": json.dumps([{
            "question_type": "attribute", "question_topic": "x", "image_id": "ab", "image_src": "https://x.org/1_o.jpg",
            "image_content": ["Cat"], "question": "What colour?", "gt_answer": "Grey.", "model_answer": "",
        }]).encode(),
        "test_data.zip": packed({"images/1_o.jpg": b"1"}),
    },
    "hallusionbench": {
        "HallusionBench.json": json.dumps([{
            "category": "VD", "subcategory": "chart", "visual_input": "1", "set_id": "0", "figure_id": str(figure),
            "sample_note": "x", "question_id": "0", "question": "Is it?", "gt_answer_details": "x", "gt_answer": "1",
            "filename": f"./hallusion_bench/VD/chart/0_{figure}.png",
        } for figure in (0, 1)]).encode(),
    },
    "scienceqa": {
        "problems.json": json.dumps(SCIENCEQA).encode(),
        "pid_splits.json": json.dumps({"train": [], "val": [], "test": ["7"]}).encode(),
    },
    "mmvet": {
        "mm-vet.zip": packed({
            "mm-vet/mm-vet.json": json.dumps(
                {"v1_0": {"imagename": "v1_0.png", "question": "x?", "answer": "1", "capability": ["ocr"]}}
            ).encode(),
            "mm-vet/images/v1_0.png": b"1",
        }),
    },
    "mme": {
        "eval_tool.zip": packed({
            f"eval_tool/{folder}/{task}.txt": b"".join(
                b"1.jpg\tIs it? Please answer yes or no.\t%s%s\r\n" % (word, b"\tYes" if folder == "LaVIN" else b"")
                for word in (b"Yes", b"No")
            )
            for task in MME_TASKS for folder in ("Your_Results", "LaVIN")
        }),
    },
    "mmbench": {"MMBench_DEV_EN.tsv": MMBENCH.encode()},
    "llavabench": {
        "questions.jsonl": of_lines({"question_id": 0, "image": "001.jpg", "text": "What?", "category": "conv"}),
        "context.jsonl": of_lines({"id": "1", "image": "001.jpg", "caption": "A peak."}),
        "answers_gpt4.jsonl": of_lines({"question_id": 0, "text": "A peak.", "answer_id": "x"}),
        **{f"images/{number:03}.jpg": b"1" for number in range(1, 25)},
    },
}  # fmt: skip
# What an entry says comes from another one, in the same folder.
BESIDE: dict[str, dict[str, bytes]] = {
    "chair": {
        "coco-annotations-2014/annotations_trainval2014.zip": packed({
            "annotations/instances_val2014.json": json.dumps({
                "images": [{"id": 42, "file_name": "COCO_val2014_000000000042.jpg", "width": 9, "height": 9}],
                "categories": [{"id": 62, "name": "chair"}],
                "annotations": [{"image_id": 42, "category_id": 62, "bbox": [0, 0, 9, 9], "iscrowd": 0}],
            }).encode(),
            "annotations/captions_val2014.json": json.dumps({
                "images": [{"id": 42, "file_name": "COCO_val2014_000000000042.jpg", "width": 9, "height": 9}],
                "annotations": [{"id": 1, "image_id": 42, "caption": "A girl on a seat."}],
            }).encode(),
        }),
    },
}  # fmt: skip


def test_every_benchmark_is_in_the_catalogue_under_its_own_name() -> None:
    assert set(BENCHMARKS.names()) - DRAWN <= set(catalogue())


@pytest.mark.parametrize("name", sorted(set(BENCHMARKS.names()) - DRAWN))
def test_a_benchmark_finds_its_files_where_they_are_put(name: str, tmp_path: Path) -> None:
    place(tmp_path, name, FILES[name])
    for path, content in BESIDE.get(name, {}).items():
        place(tmp_path, path.split("/")[0], {path.split("/")[1]: content})
    items = BENCHMARKS.get(name).items(Source(tmp_path, pictures=False))
    assert items and all(item.question for item in items)
    if name in ("mmvet", "mmhal", "llavabench"):  # whose pictures come with their questions
        assert all(item.image.is_file() for item in BENCHMARKS.get(name).items(Source(tmp_path)))


@pytest.mark.parametrize("name", ["amber", "hallusionbench", "scienceqa"])
def test_pictures_that_are_got_apart_get_into_the_same_folder(name: str, tmp_path: Path) -> None:
    content = {
        "amber": {"AMBER.zip": packed({"image/AMBER_1.jpg": b"1"})},
        "hallusionbench": {"hallusion_bench.zip": packed({"hallusion_bench/VD/chart/0_0.png": b"1",
                                                          "hallusion_bench/VD/chart/0_1.png": b"1",
                                                          "hallusion_bench/VS/map/0_1.png": b"1"})},
        "scienceqa": {f"{split}.zip": packed({f"{split}/7/image.png": b"1", f"{split}/8/image.png": b"1"})
                      for split in ("train", "val", "test")},
    }  # fmt: skip
    files = dict(FILES[name])
    if name == "scienceqa":
        files["problems.json"] = json.dumps({"7": {**SCIENCEQA["7"], "image": "image.png"}}).encode()
    place(tmp_path, name, files)
    place(tmp_path, f"{name}-images", content[name])
    items = BENCHMARKS.get(name).items(Source(tmp_path))
    assert items and all(item.image.is_file() for item in items)


def place(root: Path, name: str, files: Mapping[str, bytes]) -> None:
    """All the files of an entry, each with a content that stands for its own, and its archives unpacked."""
    entry = catalogue()[name]
    assert set(files) == {file.path for file in entry.files}, f"{name}: the entry lists other files"
    folder = root / (entry.folder or name)
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    unknown = [file.model_copy(update={"sha256": None, "bytes": None}) for file in entry.files]
    small = entry.model_copy(update={"files": unknown})
    get(small, folder)
    unpacked(small, folder)
