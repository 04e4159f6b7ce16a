"""What several verbs need to print."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


class Stopped(Exception):
    """Ctrl-C ended a verb that has something to say about going on. The text says it."""


def console() -> Console:
    """A rich console on standard output; colours only where a terminal shows them."""
    from rich.console import Console

    return Console(highlight=False)


def complain(*lines: str) -> None:
    """Lines on standard error; empty ones are left out."""
    for line in lines:
        if line:
            print(line, file=sys.stderr)


def write_what_can_be_written() -> None:
    """From now on, question marks stand for characters that the terminal or the pipe has no code for."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def print_json(value: Any, *, line: bool = False) -> None:
    """The value as JSON, over several lines or on one; escaped where standard output cannot write all characters."""
    whole = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    print(json.dumps(value, indent=None if line else 2, ensure_ascii=not whole, allow_nan=not line), flush=line)


def done(path: Path | str, next_step: str = "") -> None:
    """Say where the result lies and which command takes it on."""
    print(f"wrote {path}")
    if next_step:
        print(f"next: {next_step}")
