"""The command line itself: exit codes, errors with their hints, tracebacks only when asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgereverie import __version__, stages
from edgereverie.errors import DataError, MissingPackage

CHECKOUT = Path(__file__).parent.parent.parent


def failing(error: BaseException) -> Callable[..., Any]:
    def stage(*_: object, **__: object) -> None:
        raise error

    return stage


def test_version(command: Callable[..., Any]) -> None:
    done = command("--version")
    assert (done.code, done.out) == (0, f"edgereverie {__version__}\n")


def test_no_words_print_the_help_and_count_as_a_mistake(command: Callable[..., Any]) -> None:
    done = command()
    assert done.code == 2
    assert "Usage: edgereverie" in done.out and done.err == ""


@pytest.mark.parametrize(
    ("words", "error", "hint"),
    [
        (["trian"], "No such command 'trian'. Did you mean 'train'?", "edgereverie --help shows what it takes."),
        (["train"], "Missing argument 'recipe'.", "edgereverie train --help shows what it takes."),
        (["merge", "x", "--bse", "y"], "No such option: --bse", "edgereverie merge --help shows what it takes."),
        (["ask", "m", "q", "--max-tokens", "0"], "--max-tokens", "edgereverie ask --help shows what it takes."),
        (["ask", "m", "q", "--guard", "nome"], "unknown guard 'nome'. Did you mean 'none'?", "edgereverie ask"),
        (["ask", "m", "q", "--backend", "llamacp"], "Did you mean 'llamacpp'? Known: auto, ", "edgereverie ask"),
        (["eval", "m", "--bench", "pop"], "unknown benchmark 'pop'. Did you mean 'pope'?", ""),
        (["eval", "m", "--bench", " ,"], "name at least one benchmark", ""),
    ],
)  # fmt: skip
def test_a_wrong_command_line_is_two_lines_and_code_2(
    command: Callable[..., Any], words: list[str], error: str, hint: str
) -> None:
    done = command(*words)
    assert done.code == 2
    first, second = done.err.strip().splitlines()
    assert first.startswith("error: ") and error in first
    assert second.startswith("hint: ") and hint in second
    assert done.out == ""


def test_an_error_is_its_message_and_its_hint(command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "merge", failing(DataError("x.json:3: no image.", hint="Write one.")))
    done = command("merge", "adapter")
    assert (done.code, done.out, done.err) == (1, "", "error: x.json:3: no image.\nhint: Write one.\n")


def test_an_error_without_hint_prints_none(command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "merge", failing(DataError("No.")))
    assert command("merge", "adapter").err == "error: No.\n"


def test_a_missing_package_says_what_installs_it(command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "merge", failing(MissingPackage("torch", "Merging", "train")))
    done = command("merge", "adapter")
    assert "hint: pip install 'edgereverie[train]'" in done.err


@pytest.mark.parametrize("words", [("--debug", "merge", "adapter"), ("merge", "adapter", "--debug")])
def test_debug_lets_the_traceback_through(
    words: tuple[str, ...], command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgereverie.cli.app import main

    monkeypatch.setattr(stages, "merge", failing(DataError("No.")))
    with pytest.raises(DataError, match=r"No\."):
        main(words)


def test_a_bug_asks_for_a_report(command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "merge", failing(ZeroDivisionError("division by zero")))
    done = command("merge", "adapter")
    assert done.code == 1
    assert done.err.startswith("error: ZeroDivisionError: division by zero\nhint: ")
    assert "Traceback" not in done.err


def test_a_full_disk_is_no_bug(command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "merge", failing(OSError(28, "No space left on device", "merged/model.safetensors")))
    assert command("merge", "adapter").err == "error: No space left on device: merged/model.safetensors\n"


def test_ctrl_c_is_code_130_and_training_says_that_it_resumes(
    command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, recipe_file: Callable[[str], Path]
) -> None:
    monkeypatch.setattr(stages, "merge", failing(KeyboardInterrupt()))
    done = command("merge", "adapter")
    assert (done.code, done.err.strip()) == (130, "stopped")
    monkeypatch.setattr(stages, "train", failing(KeyboardInterrupt()))
    done = command("train", str(recipe_file("name: x\ndata: {scenes: {count: 1}}\n")))
    assert done.code == 130
    assert done.err.splitlines()[-2:] == [
        "stopped",
        "Run the same command again: training goes on from the last checkpoint.",
    ]


@pytest.mark.skipif(os.name == "nt", reason="signals and pipes of POSIX")
def test_a_reader_that_goes_away_is_no_error() -> None:
    """`edgereverie recipes list | head -1` closes the pipe early: nothing is said about that."""
    code = """
from edgereverie import shipped
many = shipped.shipped_recipes() * 5000
shipped.shipped_recipes = lambda: many
from edgereverie.cli.app import main
main(["recipes", "list"])
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
    )  # fmt: skip
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.read(10)
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    process.wait(timeout=60)
    assert errors == ""
