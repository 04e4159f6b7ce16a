"""Files of questions: every fault at once, every answer once, whatever kills it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from edgereverie.records import Options, Turn
from edgereverie.stages import batching

CHECKOUT = Path(__file__).parent.parent.parent
SLOW = Path(__file__).parent / "_slow_model.py"
Command = Callable[..., Any]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, colour in (("a.png", "red"), ("b.png", "blue"), ("c.png", "green")):
        Image.new("RGB", (16, 16), colour).save(folder / name)
    (folder / "cut.png").write_bytes((folder / "a.png").read_bytes()[:45])
    return folder


@pytest.fixture
def questions(tmp_path: Path) -> Callable[..., Path]:
    """Write rows, or lines as they are, to in.jsonl."""

    def write(*rows: Any) -> Path:
        path = tmp_path / "in.jsonl"
        path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), "utf-8")
        return path

    return write


@pytest.fixture
def answering(speaker: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The stand-in of the other verbs, as a model that a batch can ask."""
    speaker.bundle = SimpleNamespace(text=lambda: "its manifest")
    speaker.sight = SimpleNamespace(forget=lambda: None)
    monkeypatch.setattr(batching, "open_model", lambda *_, **__: speaker)
    monkeypatch.setattr(batching, "_fitting", lambda model, found, bad: list(found))
    return speaker


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_answers_keep_the_order_and_pictures_are_asked_together(
    command: Command, answering: Any, questions: Any, photos: Path, tmp_path: Path
) -> None:
    turns = [
        {"role": "user", "text": "Is it?"},
        {"role": "assistant", "text": "Yes."},
        {"role": "user", "text": "Sure?"},
    ]
    path = questions(
        {"id": "1", "image": "a.png", "question": "One?"}, {"id": 2, "image": "b.png", "question": "Two?"},
        {"id": "3", "question": "No picture?", "options": {"max_tokens": 3, "stop": ["x"], "temperature": 1}},
        {"id": "4", "image": "a.png", "turns": turns},
    )  # fmt: skip
    out = tmp_path / "out.jsonl"
    done = command("batch", "m", str(path), str(out), "--images", str(photos), "--guard", "verify", "--max-tokens", "9")
    assert (done.code, done.out) == (0, f"wrote {out}\n")
    rows = rows_of(out)
    assert [row["id"] for row in rows] == ["1", "2", "3", "4"]
    assert list(rows[0]) == ["id", "image", "question", "answer"] and list(rows[3]) == [
        "id",
        "image",
        "turns",
        "answer",
    ]
    assert rows[3]["turns"] == turns and rows[2]["image"] is None
    assert rows[0]["answer"]["text"] == "There is a red ring and a star." and "record" not in rows[0]["answer"]
    asked = [(image.name if image else None, turns[-1].text) for image, turns, _, _ in answering.asked]
    assert asked == [("a.png", "One?"), ("a.png", "Sure?"), ("b.png", "Two?"), (None, "No picture?")]
    assert answering.asked[3][2] == Options(max_tokens=3, stop=("x",), temperature=1)
    assert answering.asked[0][2:] == (Options(max_tokens=9), "verify")
    assert answering.asked[1][1][1] == Turn("assistant", "Yes.")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl", "photos"]


BAD = (
    {"id": "1", "image": "cut.png", "question": "x?"}, {"id": "2", "image": "none.png", "question": "x?"},
    {"id": "3", "image": "../in.jsonl", "question": "x?"}, {"id": "3", "question": "x?"}, {"id": "3", "question": "y?"},
    {"id": "4", "qestion": "x?"}, {"id": "5", "question": " "}, {"id": "6"}, {"id": "7", "question": "a", "turns": []},
    {"id": "8", "turns": [{"role": "assistant", "text": "x"}]}, {"id": "9", "turns": [{"role": "user"}]},
    {"id": "10", "question": "x", "options": {"max_tokns": 3, "top_p": 2, "seed": 1.5, "stop": [""]}},
    '{"id": "11", "question": "x"', "[1]", {"id": "12", "image": "a.png", "question": "fine?"},
)  # fmt: skip


FAULTS = (
    (1, "cut.png: the image is damaged or cut short"), (2, "none.png: no such image"),
    (3, "does not stay inside the image root"), (5, "'id' '3' is taken by line 4"),
    (6, "unknown key 'qestion'. Did you mean 'question'?"), (7, "'question' is empty"),
    (8, "expected either 'question' or 'turns'"), (9, "expected either"), (10, "turn 1 is from the assistant"),
    (11, "turn 1 is {'role': 'user'}"), (12, "'options' has no 'max_tokns'. Did you mean 'max_tokens'?"),
    (12, "'options.top_p' is 2"), (12, "'options.seed' is 1.5"), (12, "'options.stop' is ['']"), (13, "not JSON"), (14, "[1]"),
)  # fmt: skip


def test_all_faults_are_told_at_once_before_a_model_loads(
    command: Command, unloaded: None, questions: Any, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "open_model", lambda *_, **__: pytest.fail("loaded"))
    path = questions(*BAD)
    done = command("batch", "m", str(path), str(tmp_path / "out.jsonl"), "--images", str(photos))
    assert done.code == 1 and done.out == ""
    lines = done.err.splitlines()
    assert lines[0] == f"error: {path}: 16 faults."
    for place, words in FAULTS:
        assert any(line.startswith(f"{path}:{place}:") and words in line for line in lines), (place, words, done.err)
    assert not (tmp_path / "out.jsonl").exists() and not (tmp_path / "out.jsonl.journal").exists()


def test_bad_lines_are_left_out_and_counted_when_that_is_asked_for(
    command: Command, answering: Any, questions: Any, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    done = command("batch", "m", str(questions(*BAD)), str(out), "--images", str(photos), "--skip-bad")
    assert done.code == 0 and [row["id"] for row in rows_of(out)] == ["3", "12"]
    told = " ".join(done.err.split())
    assert (
        "left out 13 lines: 8 with wrong fields, 2 not a JSON object, 2 whose picture cannot be read, 1 whose id is taken"
        in told
    )
    only = questions({"id": "1"})
    assert command("batch", "m", str(only), str(tmp_path / "other"), "--skip-bad").code == 1, "nothing is left"


def test_other_settings_are_refused_until_forced(
    command: Command, answering: Any, questions: Any, photos: Path, tmp_path: Path
) -> None:
    from edgereverie.errors import BackendError

    rows = [{"id": name, "image": name, "question": "x?"} for name in ("a.png", "b.png", "c.png")]
    path, out = questions(*rows), tmp_path / "out.jsonl"
    words = ("batch", "m", str(path), str(out), "--images", str(photos))
    answering.fails, answering.fails_on = BackendError("broken"), "c.png"
    assert command(*words).code == 1 and not out.exists() and len(answering.asked) == 3
    answering.fails = None
    for changed in (["--guard", "none"], ["--seed", "1"], ["--max-tokens", "3"]):
        done = command(*words, *changed)
        assert done.code == 1 and "belongs to another run" in done.err
    Image.new("RGB", (16, 16), "black").save(photos / "b.png")
    assert "belongs to another run" in command(*words).err, "another picture is another question"
    Image.new("RGB", (16, 16), "blue").save(photos / "b.png")
    assert len(answering.asked) == 3
    done = command(*words)
    assert done.code == 0 and "going on: 2 of 3 were answered before" in done.err
    assert [asked[0].name for asked in answering.asked[3:]] == ["c.png"]
    assert "exists already" in command(*words).err
    whole = out.read_bytes()
    answering.fails = BackendError("broken")
    assert command(*words, "--force", "--guard", "none").code == 1 and out.read_bytes() == whole, (
        "until there is a new one"
    )
    answering.fails, answering.asked[4:] = None, []
    assert command(*words, "--force", "--guard", "none").code == 0 and len(answering.asked) == 7
    assert rows_of(out)[0]["answer"]["claims"] == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["absent.jsonl", "OUT"], "absent.jsonl: no such file"),
        (["IN", "no/out.jsonl"], "no/out.jsonl: its folder does not exist"),
        (["IN", "."], ".: a folder"),
        (["IN", "OUT", "--images", "absent"], "absent"),
        (["IN", "OUT", "--guard", "nome"], "unknown guard 'nome'"),
    ],
)
def test_what_is_wrong_is_told_first(
    command: Command, questions: Any, tmp_path: Path, words: list[str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "open_model", lambda *_, **__: pytest.fail("loaded"))
    places = {"IN": str(questions({"id": "1", "image": "a.png", "question": "x"})), "OUT": str(tmp_path / "out.jsonl")}
    done = command("batch", "m", *(places.get(word, word) for word in words))
    assert done.code in (1, 2) and told in done.err


def test_an_empty_file_has_no_questions(command: Command, questions: Any, tmp_path: Path) -> None:
    assert "the file has no questions" in command("batch", "m", str(questions()), str(tmp_path / "out.jsonl")).err


def started(words: list[str], pause: str = "0.02") -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT), "PAUSE": pause}
    return subprocess.Popen(
        [sys.executable, str(SLOW), *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs inherit it ignored
    )  # fmt: skip


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_batch_that_is_killed_at_any_moment_goes_on_and_asks_nothing_twice(
    questions: Any, photos: Path, tmp_path: Path
) -> None:
    rows = [
        {"id": f"{name}{number}", "image": name, "question": "Is there a ring?" + "?" * number}
        for number in range(4)
        for name in ("a.png", "b.png", "c.png")
    ]
    path, out = questions(*rows), tmp_path / "out.jsonl"
    journal = tmp_path / "out.jsonl.journal"
    words = ["batch", "m", str(path), str(out), "--images", str(photos), "--max-tokens", "16", "--guard", "none"]
    answered = 0
    for wanted in (0, 1, 3, 7):
        process = started(words)
        end = time.monotonic() + 60
        while not journal.exists() or journal.read_bytes().count(b"\n") < 1 + max(answered, wanted):
            assert process.poll() is None and time.monotonic() < end, process.stderr
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not out.exists()
        lines = journal.read_bytes().split(b"\n")
        ids = [json.loads(line)["answers"][0]["id"] for line in lines[1:-1]]
        assert len(ids) == len(set(ids)) and len(ids) >= answered, "nothing is lost and nothing is there twice"
        answered = len(ids)
        with journal.open("ab") as stream:  # as a kill in the middle of a write leaves it
            stream.write(b'{"answers": [{"id": "half')
    done = started(words, "0")
    told = done.communicate(timeout=60)
    assert done.returncode == 0, told
    assert f"going on: {answered} of 12 were answered before" in told[1]
    rest = 12 - answered
    assert f"pictures encoded: {-(-rest // 4)}" in told[0], "each of the pictures that are left, once"
    whole = tmp_path / "whole.jsonl"
    fresh = started([*words[:3], str(whole), *words[4:]], "0")
    assert "wrote" in fresh.communicate(timeout=60)[0] and fresh.returncode == 0

    def timeless(path: Path) -> list[dict[str, Any]]:
        return [row | {"answer": row["answer"] | {"seconds": 0}} for row in rows_of(path)]

    assert timeless(out) == timeless(whole) and not journal.exists()


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_two_batches_do_not_write_one_journal_and_ctrl_c_says_that_it_goes_on(
    questions: Any, photos: Path, tmp_path: Path
) -> None:
    path, out = questions(*({"id": str(number), "question": "x?"} for number in range(50))), tmp_path / "out.jsonl"
    words = ["batch", "m", str(path), str(out), "--guard", "none"]
    first = started(words, "0.02")
    end = time.monotonic() + 60
    while not out.with_name("out.jsonl.journal").exists():
        assert time.monotonic() < end and first.poll() is None
        time.sleep(0.01)
    second = started(words)
    assert "another run is writing this journal" in second.communicate(timeout=60)[1]
    first.send_signal(signal.SIGINT)
    told = first.communicate(timeout=60)
    assert first.returncode == 130
    assert told[1].endswith("stopped\nRun the same command again: it goes on where it was.\n")
    assert "open streams: 0" in told[0]
