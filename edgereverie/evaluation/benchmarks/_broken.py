"""Files of questions that hold faults: all of them are told, not the first alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgereverie.errors import DataError

SHOWN = 20  # faults that are spelt out; a file with a systematic fault has thousands of the same kind


class Broken:
    """Collects what is wrong with one file of questions, and raises it as one DataError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._found: list[str] = []

    def add(self, fault: str) -> None:
        """fault: one sentence that begins with its place."""
        self._found.append(fault)

    @contextmanager
    def row(self) -> Iterator[None]:
        """Notes the DataError of one row, so that the rows behind it are still read."""
        try:
            yield
        except DataError as error:
            self.add(str(error))

    def check(self, hint: str) -> None:
        """Raise DataError with all faults, if there are any."""
        if not self._found:
            return
        lines = self._found[:SHOWN]
        if len(self._found) > 1:
            lines.insert(0, f"{self.path}: {len(self._found):,} faults.")
        if len(self._found) > SHOWN:
            lines.append(f"... and {len(self._found) - SHOWN:,} more.")
        raise DataError("\n".join(lines), hint=hint)
