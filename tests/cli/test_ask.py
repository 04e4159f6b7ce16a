"""An answer on the terminal and as JSON; the model is a stand-in that says what the test wants said."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from edgereverie import stages
from edgereverie.cli.claims import marked
from edgereverie.errors import BackendError
from edgereverie.records import Answer, Claim, Options, Turn

TEXT = "There is a red ring, a [bold]heart[/bold] and a star."


def claim(text: str, verdict: Any, support: float, **evidence: float) -> Claim:
    start = TEXT.index(text)
    return Claim(text, start, start + len(text), text.split()[-1], support, verdict, evidence)


CLAIMS = (
    claim("a red ring", "supported", 0.97, grounding=4.2),
    claim("a [bold]heart[/bold]", "contradicted", 0.04, grounding=-1.5, verification=-3.0),
    claim("a star", "unverified", 0.5),
)


class Speaker:
    """Answers every question with the same words, and remembers what it was asked."""

    name = "speaker"

    def __init__(self) -> None:
        self.asked: list[tuple[Path | None, list[Turn], Options, str]] = []
        self.closed = False
        self.fails: Exception | None = None

    def answer(self, image: Path | None, turns: Sequence[Turn], options: Options, guard: str = "none") -> Answer:
        self.asked.append((image, list(turns), options, guard))
        if self.fails:
            raise self.fails
        return Answer(TEXT, CLAIMS if guard != "none" else (), backend="stand-in", tokens=12, seconds=0.5)

    def respond(self, image: Path | None, turns: Sequence[Turn], options: Options) -> Iterator[str]:
        self.asked.append((image, list(turns), options, "none"))
        yield from (TEXT[:5], TEXT[5:6], TEXT[6:])

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def speaker(monkeypatch: pytest.MonkeyPatch) -> Speaker:
    model = Speaker()
    monkeypatch.setattr(stages, "open_model", lambda path, *, backend="auto", precise=False: model)
    return model


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    return tmp_path / "x.png"


def test_claims_are_marked_and_listed(command: Callable[..., Any], speaker: Speaker, picture: Path) -> None:
    done = command("ask", "starter", "What is there?", "--image", str(picture), "--max-tokens", "9")
    lines = done.out.splitlines()
    assert lines[0] == "There is a red ring, a [bold]heart[/bold][!] and a star[?]."
    assert [line.split("  ")[0] for line in lines[2:]] == ["claim", "a red ring", "a [bold]heart[/bold]", "a star"]
    assert "0.04" in lines[4] and "grounding -1.50, verification -3.00" in lines[4]
    assert speaker.asked == [(picture, [Turn("user", "What is there?")], Options(max_tokens=9), "flag")]
    assert speaker.closed


def test_json_holds_the_whole_answer(command: Callable[..., Any], speaker: Speaker) -> None:
    answer = json.loads(command("ask", "starter", "What?", "--json").out)
    assert answer["text"] == TEXT and answer["tokens"] == 12
    assert answer["claims"][1]["verdict"] == "contradicted"
    assert TEXT[answer["claims"][1]["start"] : answer["claims"][1]["end"]] == answer["claims"][1]["text"]


def test_without_a_guard_there_is_only_the_answer(command: Callable[..., Any], speaker: Speaker) -> None:
    assert command("ask", "starter", "What?", "--guard", "none").out == TEXT + "\n"


def test_the_model_is_closed_when_answering_fails(command: Callable[..., Any], speaker: Speaker) -> None:
    speaker.fails = BackendError("out of context", hint="ask less")
    done = command("ask", "starter", "What?")
    assert (done.code, done.err) == (1, "error: out of context\nhint: ask less\n")
    assert speaker.closed


def test_a_picture_that_is_not_there_is_told_before_the_model_loads(
    command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "open_model", lambda *_, **__: pytest.fail("loaded"))
    done = command("ask", "starter", "What?", "--image", "absent.png")
    assert done.code == 1 and "absent.png: no such image." in done.err


def test_colours_strike_what_is_contradicted() -> None:
    text = marked(Answer(TEXT, CLAIMS))
    styles = {text.plain[span.start : span.end]: str(span.style) for span in text.spans if span.style}
    assert styles["a [bold]heart[/bold]"] == "red strike"
    assert "a red ring" not in styles


def test_a_claim_inside_another_is_marked_once() -> None:
    inner = Claim("ring", TEXT.index("ring"), TEXT.index("ring") + 4, "ring", 0.1, "contradicted")
    assert marked(Answer(TEXT, (inner, CLAIMS[0]))).plain == TEXT


class TestChat:
    """A conversation typed line by line."""

    @pytest.fixture
    def typed(self, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
        def type_lines(*lines: str | type[BaseException]) -> None:
            waiting = iter(lines)

            def read(_: str) -> str:
                line = next(waiting, EOFError)
                if isinstance(line, str):
                    return line
                raise line

            monkeypatch.setattr("builtins.input", read)

        return type_lines

    def test_answers_stream_and_the_conversation_grows(
        self, command: Callable[..., Any], speaker: Speaker, typed: Callable[..., None], picture: Path
    ) -> None:
        typed("What is there?", "", "Sure?", "/exit", "never asked")
        done = command("chat", "starter", "--image", str(picture))
        assert done.code == 0 and done.out.count(TEXT) == 2
        assert [turn.role for turn in speaker.asked[1][1]] == ["user", "assistant", "user"]
        assert speaker.asked[1][1][1].text == TEXT
        assert {asked[0] for asked in speaker.asked} == {picture} and len(speaker.asked) == 2
        assert speaker.closed

    def test_claims_clear_and_image(
        self, command: Callable[..., Any], speaker: Speaker, typed: Callable[..., None], picture: Path
    ) -> None:
        typed("/claims", "What?", "/claims", "/claims", "/clear", "Again?", f"/image '{picture}'", "Now?", "/nonsense")
        done = command("chat", "starter")
        assert "Ask something first." in done.out
        assert done.out.count("a [bold]heart[/bold][!]") == 2
        assert [asked[3] for asked in speaker.asked] == ["none", "flag", "none", "none"], "claims are worked out once"
        assert [len(asked[1]) for asked in speaker.asked] == [1, 1, 1, 1]
        assert speaker.asked[-1][0] == picture
        assert "/nonsense is no command." in done.out and "/image PATH" in done.out

    def test_a_guard_answers_with_marks(
        self, command: Callable[..., Any], speaker: Speaker, typed: Callable[..., None]
    ) -> None:
        typed("What?", "/claims")
        done = command("chat", "starter", "--guard", "none")
        assert "[!]" in done.out
        typed("What?")
        monitored = command("chat", "starter", "--guard", "flag")
        assert "a [bold]heart[/bold][!] and a star[?]." in monitored.out

    def test_ctrl_c_stops_the_answer_and_not_the_chat(
        self, command: Callable[..., Any], speaker: Speaker, typed: Callable[..., None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        turns_seen: list[list[Turn]] = []

        def interrupted(_: Any, turns: Sequence[Turn], __: Options) -> Iterator[str]:
            turns_seen.append(list(turns))
            if len(turns_seen) == 1:
                yield "Half an "
                raise KeyboardInterrupt
            if len(turns_seen) == 2:
                raise KeyboardInterrupt
            yield "Whole."

        monkeypatch.setattr(speaker, "respond", interrupted)
        typed("One?", KeyboardInterrupt, "Two?", "Three?")
        done = command("chat", "starter")
        assert done.code == 0
        assert "Half an  (stopped)" in done.out and "(/exit or Ctrl-D leaves)" in done.out and "Whole." in done.out
        assert [turn.text for turn in turns_seen[2]] == ["One?", "Half an ", "Three?"], "an empty answer is forgotten"

    def test_an_error_is_told_and_the_chat_goes_on(
        self, command: Callable[..., Any], speaker: Speaker, typed: Callable[..., None], picture: Path
    ) -> None:
        typed(f"/image {picture}", "/image absent.png", "What?")
        done = command("chat", "starter")
        assert "error: absent.png: no such image." in done.err and "hint: " in done.err
        assert speaker.asked[0][0] == picture, "the old picture stays"
