"""One question from the command line; the model is a stand-in that says what the test wants said."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from edgereverie.cli.claims import marked
from edgereverie.errors import BackendError, DataError
from edgereverie.records import Answer, Claim, Options, Turn

TEXT = "There is a red ring, a [bold]heart[/bold] and a star."
MARKED = "There is a red ring, a [bold]heart[/bold][!] and a star[?]."
Command = Callable[..., Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures, two files that are none, and a folder with a third picture."""
    root = tmp_path / "photos"
    (root / "inside").mkdir(parents=True)
    for name in ("b.png", "a.jpg", "inside/c.png"):
        Image.new("RGB", (8, 8)).save(root / name)
    (root / "notes.txt").write_text("no picture")
    (root / "z.png").write_bytes(b"neither")
    return root


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """Put bytes on standard input."""

    def put(content: bytes) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), encoding="utf-8"))

    return put


def test_a_pipe_gets_the_marked_answer_and_nothing_else(command: Command, speaker: Any, picture: Path) -> None:
    done = command("ask", "starter", "What is there?", "--image", str(picture), "--max-tokens", "9")
    assert (done.code, done.out, done.err) == (0, MARKED + "\n", "")
    assert speaker.asked == [(picture, [Turn("user", "What is there?")], Options(max_tokens=9), "flag")]
    assert speaker.closed


def test_a_pipe_never_sees_what_is_taken_back(command: Command, speaker: Any) -> None:
    assert command("ask", "starter", "What?", "--guard", "verify").out == "There is a red ring and a star[?].\n"


def test_json_is_a_line_with_the_whole_answer(command: Command, speaker: Any, picture: Path) -> None:
    (line,) = command("ask", "starter", "What?", "--json", "--image", str(picture)).out.splitlines()
    row = json.loads(line)
    assert list(row) == ["image", "question", "answer"] and row["image"] == str(picture)
    answer = row["answer"]
    assert answer["text"] == TEXT and answer["tokens"] == 12 and answer["record"] == []
    assert (
        answer["claims"][1]["verdict"] == "contradicted"
        and "takes 1.5 nats from these words" in answer["claims"][1]["why"]
    )
    assert TEXT[answer["claims"][1]["start"] : answer["claims"][1]["end"]] == answer["claims"][1]["text"]
    assert json.loads(command("ask", "starter", "What?", "--json").out)["image"] is None


def test_without_a_guard_there_is_only_the_answer(command: Command, speaker: Any) -> None:
    assert command("ask", "starter", "What?", "--guard", "none").out == TEXT + "\n"


def test_every_option_of_generation_arrives(command: Command, speaker: Any, tmp_path: Path) -> None:
    grammar = tmp_path / "list.gbnf"
    grammar.write_text('root ::= "yes"', encoding="utf-8")
    command("ask", "m", "q", "--temperature", "0.7", "--top-p", "0.9", "--top-k", "40", "--min-p", "0.05", "--seed", "3",
            "--repetition-penalty", "1.2", "--stop", "a", "--stop", "b", "--grammar", str(grammar))  # fmt: skip
    assert speaker.asked[0][2] == Options(
        temperature=0.7, top_p=0.9, top_k=40, min_p=0.05, seed=3, repetition_penalty=1.2, stop=("a", "b"),
        grammar='root ::= "yes"',
    )  # fmt: skip
    command("ask", "m", "q", "--grammar", "json")
    assert speaker.asked[1][2] == Options(grammar="json")


def test_a_folder_is_asked_picture_by_picture(command: Command, speaker: Any, folder: Path, picture: Path) -> None:
    done = command("ask", "m", "q", "--image", str(folder), "--image", str(picture))
    names = [str(folder / "a.jpg"), str(folder / "b.png"), str(picture)]
    assert done.out.splitlines() == [f"{name}: {MARKED}" for name in names]
    assert [str(asked[0]) for asked in speaker.asked] == names
    assert done.err == "passed over, no pictures: notes.txt, z.png\n"
    rows = [json.loads(line) for line in command("ask", "m", "q", "--json", "--image", str(folder)).out.splitlines()]
    assert [row["image"] for row in rows] == names[:2]


def test_one_picture_of_a_folder_that_fails_does_not_stop_the_others(
    command: Command, speaker: Any, folder: Path
) -> None:
    speaker.fails, speaker.fails_on = DataError("a.jpg: cut short.", hint="Copy it again."), "a.jpg"
    done = command("ask", "m", "q", "--image", str(folder))
    assert done.code == 1 and done.out == f"{folder / 'b.png'}: {MARKED}\n"
    assert done.err.endswith("error: a.jpg: cut short.\nhint: Copy it again.\n")
    lines = command("ask", "m", "q", "--image", str(folder), "--json").out.splitlines()
    assert json.loads(lines[0])["error"] == "a.jpg: cut short." and "answer" in json.loads(lines[1])


def test_question_and_picture_from_standard_input(command: Command, speaker: Any, given: Any, picture: Path) -> None:
    given("  Is there a café?\n".encode())
    command("ask", "m", "-", "--image", str(picture))
    assert speaker.asked[0][1] == [Turn("user", "Is there a café?")]
    given(picture.read_bytes())
    assert command("ask", "m", "q", "--image", "-").code == 0
    assert speaker.asked[1][0].size == (8, 8)


def test_abstaining_is_code_3(command: Command, speaker: Any) -> None:
    speaker.abstains = True
    assert command("ask", "m", "q").code == 3
    assert command("ask", "m", "q", "--json").code == 3


def test_the_page_holds_the_picture_and_every_explanation(
    command: Command, speaker: Any, picture: Path, tmp_path: Path
) -> None:
    done = command("ask", "m", "What <is> there?", "--image", str(picture), "--html", str(tmp_path / "a.html"))
    html = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert done.err == f"wrote {tmp_path / 'a.html'}\n"
    assert "data:image/png;base64," in html and "What &lt;is&gt; there?" in html
    assert "contradicted by the picture" in html and "the picture takes 1.5 nats from these words" in html


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--image", "absent.png"], 1, "absent.png: no such image."),
        (["--image", "EMPTY"], 1, "none of its 0 files is a picture"),
        (["--image", "BROKEN"], 1, "not an image that can be read"),
        (["--guard", "flag,nome"], 2, "unknown guard 'nome'. Did you mean 'none'?"),
        (["--guard", ","], 2, "name at least one guard"),
        (["--guard", "none,flag"], 2, "none goes with no other guard"),
        (["--top-p", "0"], 2, "expected a number above 0, and at most 1"),
        (["--repetition-penalty", "0"], 2, "expected a number above 0"),
        (["--temperature", "nan"], 2, "--temperature"),
        (["--stop", ""], 2, "a stop word is empty"),
        (["--grammar", "absent.gbnf"], 2, "absent.gbnf: cannot be read"),
        (["--html", "."], 2, "--html"),
        (["--html", "no such folder/a.html"], 2, "no such folder is no folder"),
    ],
)
def test_what_is_wrong_is_told_before_a_model_loads(
    command: Command, unloaded: None, tmp_path: Path, words: list[str], code: int, told: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.png").write_text("no picture")
    places = {"EMPTY": str(tmp_path / "empty"), "BROKEN": str(tmp_path / "x.png")}
    done = command("ask", "starter", "What?", *(places.get(word, word) for word in words))
    assert done.code == code and told in done.err and done.out == ""


@pytest.mark.parametrize("question", ["", "  ", "-"])
def test_an_empty_question_is_refused(command: Command, unloaded: None, given: Any, question: str) -> None:
    given(b"\n")
    done = command("ask", "starter", question)
    assert done.code == 2 and "the question is empty" in done.err


def test_standard_input_is_read_once(command: Command, unloaded: None) -> None:
    assert "cannot both come on standard input" in command("ask", "starter", "-", "--image", "-").err


def test_a_missing_bundle_is_told(command: Command, tmp_path: Path) -> None:
    done = command("ask", str(tmp_path), "What?")
    assert done.code == 1 and "neither a bundle" in done.err and "hint: " in done.err


def test_the_model_is_closed_when_answering_fails(command: Command, speaker: Any) -> None:
    speaker.fails = BackendError("out of context", hint="ask less")
    done = command("ask", "starter", "What?")
    assert (done.code, done.err) == (1, "error: out of context\nhint: ask less\n")
    assert speaker.closed


def test_colours_strike_what_is_contradicted() -> None:
    words = Claim("ring", 2, 6, "ring", 0.1, "contradicted")
    text = marked(Answer("A ring.", (words,)))
    styles = {text.plain[span.start : span.end]: str(span.style) for span in text.spans if span.style}
    assert styles == {"ring": "red strike", "[!]": "red"}


def test_an_answer_cannot_steer_the_terminal(command: Command, speaker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hostile = "\x1b]0;title\x07\x1b[2Jx\u202ey\r"
    from edgereverie.runtime.request import Done

    monkeypatch.setattr(speaker, "events", lambda *_: iter([Done(Answer(hostile))]))
    out = command("ask", "m", "q").out
    assert not set(out) & set("\x1b\x07\r\u202e") and "x" in out and len(out) == len(hostile) + 1


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_what_a_pipe_cannot_write_is_no_error(speaker: Any, monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    from edgereverie.cli.app import main
    from edgereverie.runtime.request import Done

    text = "Ein Ring \N{EN DASH} 環"
    monkeypatch.setattr(speaker, "events", lambda *_: iter([Done(Answer(text))]))
    pipe = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(pipe, encoding="cp1252"))
    with pytest.raises(SystemExit) as leaving:
        main(["ask", "m", "q", *words])
    assert not leaving.value.code
    told = pipe.getvalue().decode("cp1252").strip()
    assert (json.loads(told)["answer"]["text"] if words else told) == (text if words else "Ein Ring \N{EN DASH} ?")


@pytest.mark.skipif(os.name == "nt", reason="a full disk as POSIX has it")
def test_the_page_is_whole_or_not_there(command: Command, speaker: Any, tmp_path: Path, file_size_limit: Any) -> None:
    with file_size_limit(1000):
        assert command("ask", "m", "q", "--html", str(tmp_path / "a.html")).code == 1
    assert list(tmp_path.iterdir()) == []
