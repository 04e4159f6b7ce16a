"""Three lines of Python: every form of picture, guards and streaming by keyword."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import edgereverie as er
from edgereverie.errors import BackendError, DataError, EdgeReverieError
from edgereverie.runtime.model import Model

CHECKOUT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    spec = importlib.util.spec_from_file_location("slow_model", CHECKOUT / "tests" / "cli" / "_slow_model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with module.model(0.0) as model:
        yield model


SAYS = "There is a red ring and a blue star and a green moon and a pink heart."


def test_a_picture_may_be_a_path_a_string_bytes_or_pixels(model: Model, photo: Path) -> None:
    with Image.open(photo) as opened:
        forms = [photo, str(photo), photo.read_bytes(), opened.copy(), None]
    before = model.engine.encoded
    answers = [model.ask(form, "What is there?") for form in forms]
    assert [str(answer) for answer in answers] == [SAYS] * 5
    assert f"{answers[0]}" == answers[0].text and answers[0].guards == ("flag",)
    assert {claim.subject for claim in answers[0].claims} == {"ring", "star", "moon", "heart"}
    assert model.engine.encoded - before == 2, "the same file once, and pixels once"


def test_guards_options_and_turns_by_keyword(model: Model) -> None:
    short = model.ask(None, "What?", guards="none", max_tokens=3)
    assert short.ended == "length" and short.tokens == 3 and short.claims == ()
    talk = [er.Turn("user", "One?"), er.Turn("assistant", "Yes."), er.Turn("user", "Two?")]
    assert model.ask(None, talk, guards="none").prompt_tokens > short.prompt_tokens
    with pytest.raises(TypeError, match="max_tokns"):
        model.ask(None, "What?", max_tokns=3)


def test_an_answer_streams(model: Model) -> None:
    *events, last = model.ask(None, "What?", guards="flag", stream=True)
    assert isinstance(last, er.Done) and "".join(event.text for event in events if isinstance(event, er.Piece)) == SAYS
    assert last.answer.text == SAYS


def test_what_cannot_be_asked_is_told_at_once(model: Model, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such image"):
        model.ask(tmp_path / "absent.png", "What?")
    with pytest.raises(BackendError, match="question is empty"):
        model.ask(None, " ", stream=True)
    with pytest.raises(EdgeReverieError, match="Unknown guard 'flg'"):
        model.ask(None, "What?", guards="flg", stream=True)
    with pytest.raises(BackendError, match="context"):
        model.ask(None, "What?", max_tokens=10_000)
    with pytest.raises(BackendError, match="neither a bundle"):
        er.load(tmp_path)


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="the starter runs in torch")
def test_the_module_docstring_is_true(tmp_path: Path) -> None:
    """Its two programs run as they stand, each in a fresh interpreter."""
    Image.fromarray(np.full((40, 60, 3), 200, np.uint8)).save(tmp_path / "photo.jpg")
    programs = re.findall(r"(?:^    .*\n|^\n)+", er.__doc__, re.MULTILINE)
    programs = ["".join(line[4:] for line in found.splitlines(True)) for found in programs if "er." in found]
    assert len(programs) == 2 and programs[0].startswith("import edgereverie as er")
    code = programs[0] + programs[1].replace("...  ", "print(type(event).__name__)  ")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)}, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.match(r"(Yes|No)\b.*\n", done.stdout) and done.stdout.endswith("Done\n") and "Piece\n" in done.stdout
