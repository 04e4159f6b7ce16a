"""A file of JSON lines that only grows, so that work that was killed goes on where it stopped.

The first line says what the file is and by its fingerprint what it belongs to. Lines that belong together are written in one
piece and flushed to disk. A line that a crash cut short is removed when the file is opened again; damage anywhere else is
an error.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from edgereverie.errors import DataError

_START_OVER = "Delete it to start over."


class AppendOnly:
    """rows: (where, object) of the lines that were there, without the first."""

    def __init__(self, path: Path, header: Mapping[str, Any], other: str) -> None:
        """header: with ``edgereverie``, ``version`` and ``fingerprint``. other: what a wrong fingerprint means, in words.

        Raises DataError for a file of another kind, of other work, or a damaged one, and leaves it as it is.
        """
        self.path, self._synced = path, 0.0
        path.parent.mkdir(parents=True, exist_ok=True)
        content = path.read_bytes() if path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        lines = _lines(whole, path)
        if lines:
            _check_header(_parsed(lines[0], f"{path}:1"), header, path, other)
        elif not _line(header).startswith(content):
            raise _of_another_kind(path, header)
        self.rows = [
            (f"{path}:{number}", _parsed(line, f"{path}:{number}")) for number, line in enumerate(lines[1:], 2)
        ]
        if len(whole) < len(content):
            os.truncate(path, len(whole))
        if not lines:
            self.append([header])

    def append(self, rows: Iterable[Mapping[str, Any]], *, every: float = 0.0) -> None:
        """Write the rows down, all at once, before anything else happens.

        every: seconds between two waits for the disk. No kill of this process loses a row in between, a power cut does.
        """
        with self.path.open("ab") as stream:
            stream.write(b"".join(map(_line, rows)))
            stream.flush()
            if time.monotonic() - self._synced >= every:
                os.fsync(stream.fileno())
                self._synced = time.monotonic()


def _line(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row).encode() + b"\n"


def _check_header(found: Mapping[str, Any], header: Mapping[str, Any], path: Path, other: str) -> None:
    if any(found.get(key) != header[key] for key in ("edgereverie", "version")):
        raise _of_another_kind(path, header)
    if found.get("fingerprint") != header["fingerprint"]:
        raise DataError(f"{path}: {other}", hint="Choose another journal, or delete this one to start over.")


def _of_another_kind(path: Path, header: Mapping[str, Any]) -> DataError:
    told = f"{path}: not a version {header['version']} journal of {header['edgereverie']}."
    return DataError(told, hint="Choose another file.")


def _lines(whole: bytes, path: Path) -> list[str]:
    try:
        return whole.decode("utf-8").split("\n")[:-1]
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: the journal is damaged ({error}).", hint=_START_OVER) from None


def _parsed(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: the journal is damaged ({error.msg}).", hint=_START_OVER) from None
    if not isinstance(row, dict):
        raise DataError(f"{where}: the journal is damaged (not an object).", hint=_START_OVER)
    return row
