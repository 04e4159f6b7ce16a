"""A conversation, line by line from a pipe and key by key at a terminal."""

from __future__ import annotations

import io
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgereverie.cli.chat import _unquoted, complete, stopping
from edgereverie.cli.prompt import paths, state_folder
from edgereverie.records import Turn

CHECKOUT = Path(__file__).parent.parent.parent
SLOW = Path(__file__).parent / "_slow_model.py"
TEXT = "There is a red ring, a [bold]heart[/bold] and a star."
MARKED = "There is a red ring, a [bold]heart[/bold][!] and a star[?]."
Command = Callable[..., Any]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lines on standard input, from a pipe."""
    return lambda *lines: monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))


class TestFromAPipe:
    def test_each_line_is_answered_and_the_conversation_grows(
        self, command: Command, speaker: Any, typed: Any, picture: Path
    ) -> None:
        typed("What is there?", "", "Sure?", "/exit", "never asked")
        done = command("chat", "starter", "--image", str(picture), "--max-tokens", "7", "--seed", "5")
        assert (done.code, done.out, done.err) == (0, f"{MARKED}\n{MARKED}\n", "")
        assert [turn.text for turn in speaker.asked[1][1]] == ["What is there?", TEXT, "Sure?"]
        assert {asked[0] for asked in speaker.asked} == {picture} and speaker.looked == [picture]
        assert speaker.asked[0][2].max_tokens == 7 and speaker.asked[0][2].seed == 5
        assert speaker.closed

    def test_claims_why_clear_and_image(self, command: Command, speaker: Any, typed: Any, picture: Path) -> None:
        typed(
            "/claims", "What?", "/claims", "/why", "/clear", "/why", "Again?", f"/image '{picture}'", "Now?", "/image"
        )
        out = command("chat", "starter").out
        assert out.count("Ask something first.") == 2
        assert (
            "a [bold]heart[/bold]: contradicted, support 0.04\n  the picture takes 1.5 nats from these words\n" in out
        )
        assert re.search(r"^a \[bold\]heart\[/bold\] +contradicted +0.04 ", out, re.MULTILINE)
        assert [len(asked[1]) for asked in speaker.asked] == [1, 1, 1]
        assert speaker.asked[-1][0] == picture and out.endswith(f"{picture}\n")

    def test_guards_change_between_questions(self, command: Command, speaker: Any, typed: Any) -> None:
        typed("One?", "/guard verify", "Two?", "/guard nome", "/guard", "/guard none", "Three?")
        done = command("chat", "starter")
        assert [asked[3] for asked in speaker.asked] == ["flag", "verify", "none"]
        assert done.out.splitlines() == [MARKED, "guards: verify", "There is a red ring and a star[?].",
                                         "guards: verify", "guards: none", TEXT]  # fmt: skip
        assert "unknown guard 'nome'. Did you mean 'none'?" in done.err

    def test_saving_keeps_what_was_cleared(
        self, command: Command, speaker: Any, typed: Any, tmp_path: Path, picture: Path
    ) -> None:
        talk, page = tmp_path / "my talk.json", tmp_path / "talk.html"
        typed(
            f"/image {picture}",
            "One?",
            "/clear",
            "Two?",
            f"/save {talk}",
            f"/save {talk}",
            f"/save {page}",
            "/save x.txt",
        )
        done = command("chat", "starter")
        values = json.loads(talk.read_text(encoding="utf-8"))
        assert [(each["image"], each["question"]) for each in values["exchanges"]] == [
            (str(picture), "One?"),
            (str(picture), "Two?"),
        ]
        assert (
            values["model"] == "speaker" and values["exchanges"][0]["answer"]["claims"][1]["verdict"] == "contradicted"
        )
        assert page.read_text(encoding="utf-8").count("<section") == 2
        assert done.err == "error: name a file that ends with .json or .html.\n"
        typed("One?", f"/save {talk}")
        assert "exists already" in command("chat", "starter").err

    def test_errors_are_told_and_the_chat_goes_on(
        self, command: Command, speaker: Any, typed: Any, picture: Path, tmp_path: Path
    ) -> None:
        typed(
            f"/image {picture}",
            "/image absent.png",
            f"/save {tmp_path / 'no' / 'x.json'}",
            "/nonsense",
            "/tmp/x.png?",
            "/help",
        )
        done = command("chat", "starter")
        assert "error: absent.png: no such image.\nhint: " in done.err and "/nonsense is no command" in done.err
        assert "No such file or directory" in done.err
        assert "/why " in done.out and "Ctrl-C stops" in done.out
        assert [(asked[0], asked[1][0].text) for asked in speaker.asked] == [(picture, "/tmp/x.png?")], (
            "the old picture stays"
        )

    def test_a_line_may_go_on_in_the_next(self, command: Command, speaker: Any, typed: Any) -> None:
        typed("one \\", "two\\", "three")
        command("chat", "starter")
        assert speaker.asked[0][1] == [Turn("user", "one \ntwo\nthree")]

    def test_a_bad_picture_is_told_before_the_model_loads(self, command: Command, unloaded: None) -> None:
        done = command("chat", "starter", "--image", "absent.png")
        assert done.code == 1 and "no such image" in done.err


def test_tab_completes_commands_paths_and_guards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my photos").mkdir()
    (tmp_path / "my photo.png").touch()
    (tmp_path / ".hidden").touch()
    monkeypatch.chdir(tmp_path)
    assert (
        list(complete("/cl")) == ["/claims ", "/clear "] and list(complete("")) == [] and list(complete("What")) == []
    )
    assert list(complete("/image my p")) == ["/image my photo.png", f"/image my photos{os.sep}"]
    assert list(paths(f"{tmp_path}{os.sep}")) == [
        f"{tmp_path}{os.sep}my photo.png",
        f"{tmp_path}{os.sep}my photos{os.sep}",
    ]
    assert list(complete("/guard fl")) == ["/guard flag"] and "/guard flag,verify" in complete("/guard flag,ver")
    assert list(complete("/why x")) == []


@pytest.mark.skipif(os.name == "nt", reason="shells of POSIX")
def test_dropped_paths_are_read() -> None:
    typed = ["a b.png", "'a b.png'", r"a\ b.png", '"a', "it's.png"]
    assert [_unquoted(text) for text in typed] == ["a b.png", "a b.png", "a b.png", '"a', "it's.png"]


def test_the_first_ctrl_c_is_noted_and_the_second_raised() -> None:
    before = signal.getsignal(signal.SIGINT)
    with stopping() as stopped:
        assert not stopped()
        signal.raise_signal(signal.SIGINT)
        assert stopped()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_the_history_has_its_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    variable = "LOCALAPPDATA" if os.name == "nt" else "XDG_STATE_HOME"
    monkeypatch.setenv(variable, str(tmp_path))
    assert state_folder() == tmp_path / "edgereverie"
    monkeypatch.setenv(variable, "relative")
    assert state_folder() is not None and "relative" not in str(state_folder())


class Keyboard:
    """A program at a terminal of its own."""

    def __init__(self, *words: str, **environment: str) -> None:
        import fcntl
        import pty
        import struct
        import termios

        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        given = {"PYTHONPATH": str(CHECKOUT), "TERM": "xterm-256color", **environment}
        kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            [sys.executable, str(SLOW), *words], stdin=slave, stdout=slave, stderr=slave, env=kept | given,
            # A shell's background jobs inherit that Ctrl-C is ignored.
            preexec_fn=lambda: (
                os.setsid(), fcntl.ioctl(0, termios.TIOCSCTTY, 0), signal.signal(signal.SIGINT, signal.SIG_DFL)
            ),
        )  # fmt: skip
        os.close(slave)
        self.seen = ""
        self._from = 0

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def wait_for(self, text: str, seconds: float = 60) -> str:
        """Everything up to and with ``text``, from where the last wait ended."""
        end = time.monotonic() + seconds
        while text not in self.seen[self._from :]:
            assert time.monotonic() < end, f"{text!r} did not come:\n{self.seen[self._from :]!r}"
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self.master, 65536).decode(errors="replace")
                except OSError:
                    assert text in self.seen[self._from :], self.seen[self._from :]
        start, self._from = self._from, self.seen.index(text, self._from) + len(text)
        return self.seen[start : self._from]

    def close(self) -> int:
        try:
            return self.process.wait(timeout=30)
        finally:
            self.process.kill()
            self.process.wait()
            os.close(self.master)


@pytest.fixture
def keyboard(tmp_path: Path) -> Iterator[Callable[..., Keyboard]]:
    pytest.importorskip("pty")
    opened = []

    def start(*words: str, **environment: str) -> Keyboard:
        opened.append(Keyboard(*words, **{"XDG_STATE_HOME": str(tmp_path / "state")} | environment))
        return opened[-1]

    yield start
    for each in opened:
        if each.process.poll() is None:
            each.process.kill()
            each.process.wait()


class TestAtATerminal:
    def test_ctrl_c_stops_the_answer_frees_its_streams_and_the_chat_goes_on(
        self, keyboard: Any, picture: Path, tmp_path: Path
    ) -> None:
        talk = keyboard("chat", "slow", "--guard", "none", "--image", str(picture), PAUSE="0.15")
        talk.wait_for("looking at")
        talk.wait_for("> ")
        talk.press("What is there?\r")
        talk.wait_for("red ring")
        talk.press("\x03")
        stopped = talk.wait_for("(stopped)")
        assert "pink heart" not in stopped
        talk.wait_for("> ")
        talk.press("And now?\r")
        talk.wait_for("pink heart.")
        talk.wait_for("> ")
        talk.press(f"/save {tmp_path / 'talk.json'}\r")
        talk.wait_for("wrote ")
        talk.wait_for("> ")
        talk.press("half a line\x03")
        talk.wait_for("(/exit or Ctrl-D leaves)")
        talk.wait_for("> ")
        talk.press("\x04")
        talk.wait_for("open streams: 0")
        assert talk.close() == 0
        said = json.loads((tmp_path / "talk.json").read_text(encoding="utf-8"))["exchanges"]
        assert [each["question"] for each in said] == ["And now?"], "what was stopped is forgotten"

    def test_pastes_history_and_completion(self, keyboard: Any, tmp_path: Path) -> None:
        talk = keyboard("chat", "slow", "--guard", "none", "--max-tokens", "3")
        talk.wait_for("> ")
        talk.press("\x1b[200~two\nlines\x1b[201~\r")
        talk.wait_for("cut at 3 tokens")
        talk.wait_for("> ")
        talk.press("/gu\tver\t\r")
        talk.wait_for("guards: verify")
        talk.wait_for("> ")
        talk.press("/guard none\r")
        talk.wait_for("guards: none")
        talk.wait_for("> ")
        talk.press(f"/save {tmp_path / 't.json'}\r/exit\r")
        talk.wait_for("open streams: 0")
        assert talk.close() == 0
        (said,) = json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))["exchanges"]
        assert said["question"] == "two\nlines"
        kept = tmp_path / "state" / "edgereverie" / "chat_history"
        assert "/guard verify" in kept.read_text(encoding="utf-8") and kept.stat().st_mode & 0o077 == 0
        again = keyboard("chat", "slow", "--guard", "none")
        again.wait_for("> ")
        again.press("\x1b[A\x1b[A\x1b[A\r")
        again.wait_for("guards: none\r\n")
        again.wait_for("> ")
        again.press("\x04")
        assert again.close() == 0

    def test_no_history_leaves_nothing(self, keyboard: Any, tmp_path: Path) -> None:
        talk = keyboard("chat", "slow", "--no-history")
        talk.wait_for("> ")
        talk.press("/help\r")
        talk.wait_for("goes on in the next.")
        talk.wait_for("> ")
        talk.press("/exit\r")
        assert talk.close() == 0
        assert not (tmp_path / "state").exists()

    def test_a_history_that_cannot_be_written_is_done_without(self, keyboard: Any, tmp_path: Path) -> None:
        (tmp_path / "state").write_text("a file where the folder should be")
        talk = keyboard("chat", "slow")
        talk.wait_for("> ")
        talk.press("/exit\r")
        talk.wait_for("open streams: 0")
        assert talk.close() == 0

    def test_a_dumb_terminal_gets_plain_text(self, keyboard: Any) -> None:
        talk = keyboard("chat", "slow", "--guard", "none", TERM="dumb")
        talk.wait_for("> ")
        talk.press("What?\r")
        answered = talk.wait_for("pink heart.")
        assert "\x1b" not in answered
        talk.wait_for("> ")
        talk.press("\x04")
        assert talk.close() == 0

    def test_ask_streams_and_ctrl_c_ends_it(self, keyboard: Any) -> None:
        ask = keyboard("ask", "slow", "What?", "--guard", "none", PAUSE="0.15")
        ask.wait_for("There is a red ring")
        ask.press("\x03")
        ask.wait_for("stopped")
        ask.wait_for("open streams: 0")
        assert ask.close() == 130
