"""As much of a terminal as an answer needs: it wraps, moves its cursor up, clears to the end, and knows what is struck."""

from __future__ import annotations

import re
import unicodedata

_STEP = re.compile(r"\x1b\[\?2004[hl]|\x1b\[([0-9;?]*)([A-Za-z])|\x1b.|(.)", re.DOTALL)


class Terminal:
    """Rows of cells; rows that left the screen at its top cannot be reached any more."""

    def __init__(self, columns: int = 40, lines: int = 12) -> None:
        self.columns, self.lines = columns, lines
        self.rows: list[list[tuple[str, bool]]] = [[]]
        self.row = self.column = self.top = 0
        self.struck = False

    def write(self, text: str) -> int:
        for steps, letter, character in _STEP.findall(text):
            if letter == "A":
                self.row = max(self.top, self.row - int(steps or 1))
            elif letter == "J":
                del self.rows[self.row + 1 :]
                del self.rows[self.row][self.column :]
            elif letter == "m":
                codes = steps.split(";")
                self.struck = (self.struck or "9" in codes) and not ({"0", "", "29"} & set(codes))
            elif character:
                self._put(character)
        return len(text)

    encoding = "utf-8"

    def flush(self) -> None: ...

    def isatty(self) -> bool:
        return True

    def _put(self, character: str) -> None:
        if character == "\n":
            self._down()
            self.column = 0
        elif character == "\r":
            self.column = 0
        else:
            width = 2 if unicodedata.east_asian_width(character) in "WF" else 1
            if self.column + width > self.columns:
                self._down()
                self.column = 0
            row = self.rows[self.row]
            row += [(" ", False)] * (self.column - len(row))
            row[self.column : self.column + width] = [(character, self.struck)] + [("", self.struck)] * (width - 1)
            self.column += width

    def _down(self) -> None:
        self.row += 1
        if self.row == len(self.rows):
            self.rows.append([])
        self.top = max(self.top, self.row - self.lines + 1)

    @property
    def text(self) -> str:
        """Everything that can be read, wrapped rows as rows, blanks at their ends left out."""
        return "\n".join("".join(character for character, _ in row).rstrip() for row in self.rows).rstrip("\n")

    @property
    def struck_text(self) -> str:
        return "".join(character for row in self.rows for character, struck in row if struck)
