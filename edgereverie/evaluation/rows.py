"""Rows of a benchmark's files and of files of answers: JSON lines or one JSON list, packed by gzip or not, read strictly."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgereverie.errors import DataError


def rows_of(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where it stands, row) of each object of a file: of a JSON list when the file begins with one, else of its lines.

    Raises DataError with file and line, or the number in the list, for anything else than objects.
    """
    text = text_of(path)
    if text.lstrip().startswith("["):
        for number, row in enumerate(parsed(text, str(path)), start=1):
            yield f"{path}, entry {number}", _an_object(row, f"{path}, entry {number}")
        return
    name = str(path)
    for number, row in _lines(text, path):
        yield f"{name}:{number}", row


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) for each line. Raises DataError with file and line for anything else than JSON objects."""
    return _lines(text_of(path), path)


def text_of(path: Path) -> str:
    """The whole file, unpacked when it is a ``.gz``. Raises DataError when it is not there or not UTF-8."""
    try:
        content = path.read_bytes()
        return (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such file.", hint="Check the name; `edgereverie data get` fetches benchmarks."
        ) from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text ({error}).") from None


def parsed(text: str, where: str) -> Any:
    """A whole JSON document. Raises DataError with the line."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}:{error.lineno}: not JSON ({error.msg} at column {error.colno}).") from None


def value_of(row: Mapping[str, Any], key: str, kind: type | tuple[type, ...], where: str) -> Any:
    """``row[key]`` of the right type. Raises DataError that starts with ``where`` (file:line)."""
    if key not in row:
        raise DataError(f"{where}: the key {key!r} is missing; found {', '.join(row) or 'none'}.")
    value = row[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        expected = " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
        raise DataError(f"{where}: {key!r} should be {expected}, found {value!r}.")
    return value


def _lines(text: str, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    lines = text.split("\n")  # not splitlines: U+2028 may stand inside a JSON string
    if not lines[-1].strip():
        lines.pop()
    rows = _all_at_once(lines)
    yield from enumerate(_one_by_one(lines, path) if rows is None else rows, start=1)


def _all_at_once(lines: list[str]) -> list[dict[str, Any]] | None:
    """The object of every line, in a third of the time that they take one by one; None unless each is just that.

    Zeros between the lines tell an object from one that goes on in the next line.
    """
    try:
        found = json.loads(f"[{',0,'.join(lines)}]")
    except ValueError:
        return None
    rows, between = found[::2], found[1::2]
    return rows if len(rows) == len(lines) and not any(between) and all(type(row) is dict for row in rows) else None


def _one_by_one(lines: list[str], path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            raise DataError(f"{path}:{number}: the line is empty.", hint="Remove it; every line is one question.")
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}:{number}: not JSON ({error.msg} at column {error.colno}).") from None
        yield _an_object(row, f"{path}:{number}")


def _an_object(row: Any, where: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected a JSON object, found {type(row).__name__}.")
    return row
