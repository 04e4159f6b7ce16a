"""Run command lines as a shell would, but in this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from edgereverie.cli.app import main


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
