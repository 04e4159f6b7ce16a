"""Run command lines as a shell would, but in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from edgereverie import stages
from edgereverie.cli.app import main
from edgereverie.records import Answer, Claim, Options, Turn
from edgereverie.runtime.request import Done as Finished
from edgereverie.runtime.request import Event, Piece, Retraction

TEXT = "There is a red ring, a [bold]heart[/bold] and a star."


def claim(text: str, verdict: Any, support: float, **evidence: float) -> Claim:
    start = TEXT.index(text)
    return Claim(text, start, start + len(text), text.split()[-1], support, verdict, evidence)


CLAIMS = (
    claim("a red ring", "supported", 0.97, grounding_sum=4.2),
    claim("a [bold]heart[/bold]", "contradicted", 0.04, grounding_sum=-1.5),
    claim("a star", "unverified", 0.5),
)
MENDED = "There is a red ring and a star."


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """``command("recipes", "list")`` runs it; the exit code and what it printed come back."""
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("NO_COLOR", "1")

    def run(*words: str) -> Done:
        capsys.readouterr()
        with pytest.raises(SystemExit) as leaving:
            main(words)
        printed = capsys.readouterr()
        return Done(int(leaving.value.code or 0), printed.out, printed.err)

    return run


class Speaker:
    """A model that answers every question with the same words, and remembers what it was asked.

    With guard ``verify`` it takes the contradicted claim back. fails: raised instead of an answer, for the picture whose
    name is ``fails_on`` or for every one. abstains: it says that it does not know.
    """

    name = "speaker"
    engine = SimpleNamespace(backend="stand-in")

    def __init__(self) -> None:
        self.asked: list[tuple[Any, list[Turn], Options, str]] = []
        self.looked: list[Path] = []
        self.closed = False
        self.fails: Exception | None = None
        self.fails_on: str | None = None
        self.abstains = False

    def events(self, image: Any, turns: Sequence[Turn], options: Options, guards: str = "none") -> Iterator[Event]:
        self.asked.append((image, list(turns), options, guards))
        if self.fails and (self.fails_on is None or getattr(image, "name", "") == self.fails_on):
            raise self.fails
        return self._events(guards)

    def _events(self, guards: str) -> Iterator[Event]:
        yield from (Piece(TEXT[:5]), Piece(TEXT[5:6]), Piece(TEXT[6:]))
        answer = Answer(TEXT, CLAIMS if guards != "none" else (), self.abstains, backend="stand-in", tokens=12,
                        seconds=0.5, guards=() if guards == "none" else tuple(guards.split(",")))  # fmt: skip
        if guards == "verify":
            at = TEXT.index(", a [bold]")
            yield Retraction(at, "the picture has no heart")
            yield Piece(MENDED[at:])
            star = Claim("a star", MENDED.index("a star"), len(MENDED) - 1, "star", 0.5, "unverified")
            answer = Answer(
                MENDED, (CLAIMS[0], star), draft=TEXT, reason="the picture has no heart", guards=("verify",)
            )
        yield Finished(answer)

    def answer(self, image: Any, turns: Sequence[Turn], options: Options, guards: str = "none") -> Answer:
        *_, last = self.events(image, turns, options, guards)
        return last.answer

    def look(self, image: Path) -> None:
        from edgereverie.image import open_image

        open_image(image)
        self.looked.append(image)

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> Speaker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@pytest.fixture
def speaker(monkeypatch: pytest.MonkeyPatch) -> Speaker:
    model = Speaker()
    monkeypatch.setattr(stages, "open_model", lambda path, *, backend="auto", precise=False, device="auto": model)
    return model


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading a model fails the test."""
    monkeypatch.setattr(stages, "open_model", lambda *_, **__: pytest.fail("loaded"))


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    return tmp_path / "x.png"
