"""An answer on standard output while it comes.

On a terminal it streams. What a guard takes back is struck where it stands, and when the answer is finished its lines are
written anew with the claims marked. A terminal that cannot move its cursor, or whose screen the answer has outgrown, gets
the correction as text of its own. A pipe gets the finished answer and nothing else.
"""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING

from edgereverie.records import Answer
from edgereverie.told.parts import text_of
from edgereverie.told.text import printable, remarks

if TYPE_CHECKING:
    from rich.text import Text

    from edgereverie.runtime.request import Event

_BACK = "\x1b[{}A"
_CLEAR = "\r\x1b[J"


class Shown:
    """One answer. ``take`` each event, then ``finish``, or ``stop`` when it is not read to its end.

    label: what stands before the answer, where several are shown.
    """

    def __init__(self, label: str = "") -> None:
        self.live = sys.stdout.isatty()
        self.label = printable(label)
        self.mends = self.live and can_mend()
        self.text = ""
        self.taken: list[tuple[int, str, str]] = []  # where, what, why
        self._screen = ""  # what stands on the terminal since the answer began
        if self.live and self.label:
            _print(self.label, style="bold")

    def take(self, event: Event) -> None:
        from edgereverie.runtime.request import Piece, Retraction

        if isinstance(event, Piece):
            self.text += event.text
            if self.live:
                self._write(printable(event.text))
        elif isinstance(event, Retraction):
            self._retract(event.length, event.why)

    def finish(self, answer: Answer) -> None:
        """Write the finished answer, its claims marked."""
        if not self.live:
            print((f"{self.label}: " if self.label else "") + printable(text_of(answer)), flush=True)
            return
        if not (self.taken or answer.claims or answer.abstained):
            self._write("\n")
        elif self.mends and self._fits():
            self._erase()
            _print(final(answer))
        else:
            self._write("\n")
            if self.taken or text_of(answer) != answer.text:
                _print("corrected:" if self.taken else "checked:", style="bold")
                _print(final(answer))
        for line in self._notes(answer):
            _print(printable(line), style="dim")

    def stop(self, told: str = "") -> None:
        """End the line that the answer has come to."""
        if self.live and (told or not self._screen.endswith("\n")):
            self._write(f"{told}\n")

    def _retract(self, length: int, why: str) -> None:
        gone = self.text[length:]
        self.taken = [(min(place, length), words, reason) for place, words, reason in self.taken]
        self.taken.append((length, gone, why))
        self.text = self.text[:length]
        if not self.live:
            return
        if self.mends and self._fits():
            self._erase()
            self._print_struck()
        else:
            told = f"{gone.strip()}; {why}" if why else gone.strip()
            self._write(f"\n(taken back: {printable(told)})\n")

    def _print_struck(self) -> None:
        from rich.text import Text

        shown, done = Text(), 0
        for place, words, _ in sorted(self.taken, key=lambda taken: taken[0]):
            shown.append(printable(self.text[done:place]))
            shown.append(printable(words), style="strike dim red")
            done = place
        shown.append(printable(self.text[done:]))
        _print(shown, end="")
        self._screen = shown.plain

    def _notes(self, answer: Answer) -> list[str]:
        back = [
            f"taken back: {words.strip()}" + (f" ({why})" if why else "")
            for _, words, why in self.taken
            if words.strip()
        ]
        told = {why for _, _, why in self.taken}
        return back + [remark for remark in remarks(answer) if remark not in told]

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()
        self._screen += text

    def _fits(self) -> bool:
        """Whether the answer's first line is still on the screen."""
        size = terminal_size()
        return rows_up(self._screen, size.columns) < size.lines

    def _erase(self) -> None:
        up = rows_up(self._screen, terminal_size().columns)
        sys.stdout.write((_BACK.format(up) if up else "") + _CLEAR)
        self._screen = ""


def final(answer: Answer) -> Text:
    from edgereverie.cli.claims import marked

    text = marked(answer)
    if answer.abstained:
        text.stylize("italic")
    return text


def can_mend() -> bool:
    """Whether the terminal can go back and write over what it shows."""
    if os.environ.get("TERM", "").lower() in ("dumb", "unknown"):
        return False
    if os.name == "nt":
        from rich.console import detect_legacy_windows

        return not detect_legacy_windows()
    return bool(os.environ.get("TERM"))


def terminal_size() -> os.terminal_size:
    """Of the terminal that standard output is."""
    try:
        size = os.get_terminal_size(sys.stdout.fileno())
    except (OSError, ValueError):
        size = os.terminal_size((0, 0))
    return os.terminal_size((size.columns or 80, size.lines or 24))


def rows_up(text: str, columns: int) -> int:
    """How many rows the cursor stands below where it stood before ``text`` was written from the left edge.

    A terminal wraps when the next character has no room, not when the last one filled the row.

    >>> [rows_up(text, 4) for text in ("abcd", "abcde", "ab\\n", "abcd\\ne", "日本語")]
    [0, 1, 1, 1, 1]
    """
    row = column = 0
    for character in text:
        if character == "\n":
            row, column = row + 1, 0
            continue
        width = _width(character)
        if column + width > columns:
            row, column = row + 1, 0
        column += width
    return row


def _width(character: str) -> int:
    if character.isascii():
        return 1
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _print(text: Text | str, *, style: str = "", end: str = "\n") -> None:
    from edgereverie.cli.console import console

    console().print(text, style=style or None, markup=False, soft_wrap=True, end=end)


def shown(events: Iterable[Event], label: str = "") -> Answer:
    """Show an answer from its first piece to its end."""
    from edgereverie.runtime.request import Done

    screen = Shown(label)
    try:
        for event in events:
            if isinstance(event, Done):
                screen.finish(event.answer)
                return event.answer
            screen.take(event)
    except BaseException:
        screen.stop()
        raise
    raise AssertionError("an answer ends with Done")
