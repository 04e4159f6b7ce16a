"""Rows of a benchmark's files and of files of answers: JSON lines or one JSON list, packed by gzip or not, read strictly."""

from __future__ import annotations

import codecs
import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgereverie.errors import DataError
from edgereverie.evaluation.answer_files import some


def rows_of(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where it stands, row) of each object of a file: of a JSON list when the file begins with one, else of its lines.

    Raises DataError that lists, with file and line or the number in the list, all that is something else than an object.
    """
    text = text_of(path)
    if text.lstrip().startswith("["):
        rows = parsed(text, str(path))
        faults = [
            f"{path}, entry {number}: {told}" for number, row in enumerate(rows, 1) if (told := _not_an_object(row))
        ]
        _raise(path, faults)
        yield from ((f"{path}, entry {number}", row) for number, row in enumerate(rows, start=1))
        return
    name = str(path)
    for number, row in _lines(text, path):
        yield f"{name}:{number}", row


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) for each line. Raises DataError that lists, with file and line, all that are no JSON objects."""
    return _lines(text_of(path), path)


def text_of(path: Path) -> str:
    """The whole file, unpacked when it is a ``.gz``, without a byte order mark. Raises DataError when it is not there, cut short,
    or not UTF-8, with the lines that are not."""
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such file.", hint="Check the name; `edgereverie data get` fetches benchmarks."
        ) from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}).") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_utf8(path, content, error) from None


def _not_utf8(path: Path, content: bytes, error: UnicodeDecodeError) -> DataError:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in content[:4]:
        told, hint = "it looks like UTF-16", "Write it as UTF-8; PowerShell does with `-Encoding utf8`."
    else:
        lines = [str(n) for n, line in enumerate(content.split(b"\n"), start=1) if _is_not_utf8(line)]
        told, hint = f"{error.reason} on {len(lines)} lines: {some(lines)}", "Write it as UTF-8, as JSON is."
    return DataError(f"{path}: cannot be read as UTF-8 text ({told}).", hint=hint)


def _is_not_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return True
    return False


def parsed(text: str, where: str) -> Any:
    """A whole JSON document. Raises DataError with the line."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}:{error.lineno}: not JSON ({error.msg} at column {error.colno}).") from None
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, nests a thousand deep
        raise DataError(f"{where}: not JSON that can be read ({error}).") from None


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
    return enumerate(_one_by_one(lines, path) if rows is None else rows, start=1)


def _all_at_once(lines: list[str]) -> list[dict[str, Any]] | None:
    """The object of every line, in a third of the time that they take one by one; None unless each is just that.

    Zeros between the lines tell an object from one that goes on in the next line.
    """
    try:
        found = json.loads(f"[{',0,'.join(lines)}]")
    except (ValueError, RecursionError):
        return None
    rows, between = found[::2], found[1::2]
    return rows if len(rows) == len(lines) and not any(between) and all(type(row) is dict for row in rows) else None


def _one_by_one(lines: list[str], path: Path) -> list[dict[str, Any]]:
    rows, faults = [], []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            told = _not_an_object(row)
        except (ValueError, RecursionError) as error:
            row, told = None, _told(line, error, last=number == len(lines))
        rows.append(row)
        if told:
            faults.append(f"{path}:{number}: {told}")
    _raise(path, faults)
    return rows


def _told(line: str, error: Exception, *, last: bool) -> str:
    if not line.strip():
        return "the line is empty; every line is one row."
    reason = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
    return f"not JSON ({reason})" + ("; the file seems to be cut short." if last else ".")


def _not_an_object(row: Any) -> str:
    return "" if isinstance(row, dict) else f"expected a JSON object, found {type(row).__name__}."


def _raise(path: Path, faults: list[str], most: int = 20) -> None:
    if faults:
        rest = len(faults) - most
        told = "\n".join(faults[:most]) + (f"\nand {rest:,} more such lines" if rest > 0 else "")
        raise DataError(told, hint=f"Mend {path.name}, or make it anew; each line is to be one JSON object.")
