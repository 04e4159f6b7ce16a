"""Lines typed at a prompt: with history, completion by Tab and pasted paragraphs where the terminal has readline."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType

from edgereverie.cli.showing import can_mend

Complete = Callable[[str], Iterator[str]]
"""From a line as far as it is typed to whole lines that begin with it."""
_KEPT = 1000


class Lines:
    """What is typed, line by line. A line that ends with a backslash goes on in the next; a pasted paragraph is one line.

    history: a file that earlier lines are read from and new ones are added to; None for none. One that cannot be read or
    written is done without. Not at a terminal, lines are read as they come and no prompt is shown.
    """

    def __init__(self, complete: Complete, history: Path | None) -> None:
        self.typed = sys.stdin.isatty() and sys.stdout.isatty()
        self._history = history if self.typed else None
        self._readline = _readline() if self.typed else None
        self._known = 0
        if self._readline is not None:
            self._set_up(self._readline, complete)

    def read(self, prompt: str = "> ") -> str | None:
        """The next line; None at the end of input. Raises KeyboardInterrupt for Ctrl-C, which forgets what was typed."""
        lines = []
        while True:
            line = self._line(prompt if not lines else "... ")
            if line is None:
                return "\n".join(lines) if lines else None
            if not line.endswith("\\"):
                return "\n".join([*lines, line])
            lines.append(line[:-1])

    def close(self) -> None:
        """Add what was typed to the history."""
        if self._readline is None or self._history is None:
            return
        with suppress(OSError):
            self._history.parent.mkdir(parents=True, exist_ok=True)
            self._history.touch(mode=0o600)
            new = self._readline.get_current_history_length() - self._known
            if hasattr(self._readline, "append_history_file"):
                self._readline.append_history_file(new, self._history)
            else:
                self._readline.write_history_file(self._history)

    def _line(self, prompt: str) -> str | None:
        if not self.typed:
            line = sys.stdin.readline()
            return line.rstrip("\r\n") if line else None
        try:
            return input(prompt)
        except EOFError:
            print()
            return None

    def _set_up(self, readline: ModuleType, complete: Complete) -> None:
        readline.set_history_length(_KEPT)
        if self._history is not None:
            with suppress(OSError):
                readline.read_history_file(self._history)
        self._known = readline.get_current_history_length()
        found: list[str] = []

        def candidate(word: str, state: int) -> str | None:
            """readline asks for the word that the cursor stands behind; we answer from the whole line."""
            nonlocal found
            if state == 0:
                line = readline.get_line_buffer()[: readline.get_endidx()]
                found = [whole[len(line) - len(word) :] for whole in complete(line)]
            return found[state] if state < len(found) else None

        readline.set_completer(candidate)
        readline.set_completer_delims(" \t\n")
        libedit = "libedit" in (readline.__doc__ or "")
        readline.parse_and_bind("bind ^I rl_complete" if libedit else "tab: complete")
        if not libedit and can_mend():
            readline.parse_and_bind("set enable-bracketed-paste on")


def _readline() -> ModuleType | None:
    try:
        import readline
    except ImportError:  # Windows; its console edits lines by itself
        return None
    return readline


def state_folder() -> Path | None:
    """Where programs keep what they remember between runs for this person; None where there is no home."""
    given = os.environ.get("LOCALAPPDATA" if os.name == "nt" else "XDG_STATE_HOME")
    if given and Path(given).is_absolute():
        return Path(given) / "edgereverie"
    try:
        return Path.home() / ".local" / "state" / "edgereverie"
    except RuntimeError:
        return None


def paths(typed: str) -> Iterator[str]:
    """Paths that begin as typed; folders end with a separator.

    >>> list(paths("/no such folder/x"))
    []
    """
    head, name = os.path.split(typed)
    try:
        entries = sorted(os.scandir(os.path.expanduser(head) or "."), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith(name) and (name or not entry.name.startswith(".")):
            yield os.path.join(head, entry.name) + (os.sep if entry.is_dir() else "")
