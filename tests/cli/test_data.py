"""Checking and converting data files, with real files in the forms that people have."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from edgereverie.data.jsonl import read_pairs, read_samples, write_pairs, write_samples
from edgereverie.records import PreferencePair, Sample, Turn

Command = Callable[..., Any]
ASK = Turn("user", "Is there a ring?")
SAMPLES = [
    Sample("a", "a.png", (ASK, Turn("assistant", "Yes.")), source="here"),
    Sample("b", "b.png", (ASK, Turn("assistant", "No, é 🙂 none.")), source="here"),
]
PAIRS = [PreferencePair("p", "a.png", (ASK,), "Yes.", "No.", reason="sampled")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / "images" / name)
    write_samples(tmp_path / "samples.jsonl", SAMPLES)
    write_pairs(tmp_path / "pairs.jsonl", PAIRS)
    return tmp_path


def test_check_counts(command: Command, folder: Path) -> None:
    done = command("data", "check", str(folder / "samples.jsonl"), "--images", str(folder / "images"))
    assert (done.code, done.err) == (0, "")
    assert "2 records as edgereverie, 2 pictures" in done.out
    assert ["source", "here", "2"] in [line.split() for line in done.out.splitlines()]
    done = command("data", "check", str(folder / "pairs.jsonl"))
    assert done.code == 0 and ["reason", "sampled", "1"] in [line.split() for line in done.out.splitlines()]
    assert "No picture was looked at" in done.out


def test_check_lists_every_fault_with_its_place(command: Command, folder: Path) -> None:
    path = folder / "samples.jsonl"
    path.write_text(path.read_text(encoding="utf-8") + '{"id": 3}\nnot json\n', encoding="utf-8")
    done = command("data", "check", str(path))
    assert done.code == 1
    assert "samples.jsonl" in done.err and "4" in done.err and "5" in done.err


def test_check_decodes_pictures(command: Command, folder: Path) -> None:
    (folder / "images" / "a.png").write_bytes((folder / "images" / "a.png").read_bytes()[:40])
    (folder / "images" / "b.png").unlink()
    done = command("data", "check", str(folder / "samples.jsonl"), "--images", str(folder / "images"))
    assert done.code == 1
    assert "a.png" in done.err and "b.png" in done.err


def test_convert_there_and_back_keeps_the_samples(command: Command, folder: Path) -> None:
    done = command("data", "convert", str(folder / "samples.jsonl"), str(folder / "llava.json"), "--to", "llava")
    assert (done.code, done.out) == (0, f"wrote {folder / 'llava.json'}: 2 records as llava\n")
    rows = json.loads((folder / "llava.json").read_text(encoding="utf-8"))
    assert rows[0]["conversations"][0] == {"from": "human", "value": "<image>\nIs there a ring?"}
    command("data", "convert", str(folder / "llava.json"), str(folder / "back.jsonl"))
    assert [sample.turns for sample in read_samples(folder / "back.jsonl")] == [sample.turns for sample in SAMPLES]


def test_convert_pairs(command: Command, folder: Path) -> None:
    done = command("data", "convert", str(folder / "pairs.jsonl"), str(folder / "p.json"), "--to", "preference")
    assert done.code == 0, done.err
    command("data", "convert", str(folder / "p.json"), str(folder / "back.jsonl"))
    (back,) = read_pairs(folder / "back.jsonl")
    assert (back.chosen, back.rejected, back.turns) == ("Yes.", "No.", (ASK,))


def test_convert_refuses_what_does_not_fit(command: Command, folder: Path) -> None:
    done = command("data", "convert", str(folder / "pairs.jsonl"), str(folder / "x.json"), "--to", "llava")
    assert done.code == 1 and "holds preference pairs; the form 'llava' is for samples." in done.err
    done = command("data", "convert", str(folder / "samples.jsonl"), str(folder / "pairs.jsonl"))
    assert done.code == 1 and "exists already" in done.err
    assert not (folder / "x.json").exists()


def test_an_unknown_format_is_named(command: Command, folder: Path) -> None:
    done = command("data", "check", str(folder / "samples.jsonl"), "--format", "lava")
    assert done.code == 1 and "Did you mean 'llava'?" in done.err
