"""An append-only record of answers, so that a killed evaluation goes on where it stopped.

    {"edgereverie": "journal", "version": 1, "fingerprint": "..."}
    {"id": "random/1", "answer": {...}}

The answers to one image are written in one piece and flushed to disk. A line that a crash cut short is removed when
the journal is opened again; damage anywhere else is an error.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from edgereverie.errors import DataError
from edgereverie.records import Answer, Claim, Prediction, Token, as_json

VERSION = 1


class Journal:
    """Answers on disk, by question id. fingerprint: what was asked of what; another one is refused."""

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path = path
        self.answers: dict[str, Answer] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = _whole_lines(path)
        if lines:
            self._check_header(lines[0], fingerprint)
            for number, line in enumerate(lines[1:], start=2):
                self._read(line, f"{path}:{number}")
        else:
            self._append([{"edgereverie": "journal", "version": VERSION, "fingerprint": fingerprint}])

    def add(self, predictions: Iterable[Prediction]) -> None:
        """Write the answers to one image down, all at once, before anything else is asked."""
        predictions = list(predictions)
        self._append([as_json(prediction) for prediction in predictions])
        self.answers.update((prediction.id, prediction.answer) for prediction in predictions)

    def _append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        with self.path.open("a", encoding="utf-8", newline="\n") as stream:
            stream.write("".join(json.dumps(row) + "\n" for row in rows))
            stream.flush()
            os.fsync(stream.fileno())

    def _check_header(self, line: str, fingerprint: str) -> None:
        header = _parsed(line, f"{self.path}:1")
        if header.get("edgereverie") != "journal" or header.get("version") != VERSION:
            raise DataError(f"{self.path}: not a version {VERSION} journal of answers.", hint="Choose another file.")
        if header.get("fingerprint") != fingerprint:
            raise DataError(
                f"{self.path}: the journal belongs to another run: model, questions or settings differ.",
                hint="Choose another journal, or delete this one to start over.",
            )

    def _read(self, line: str, where: str) -> None:
        row = _parsed(line, where)
        try:
            id, answer = str(row["id"]), answer_from_json(row["answer"])
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{where}: not an answer of this journal ({error}).", hint="Delete it to start over."
            ) from None
        if id in self.answers:
            raise DataError(f"{where}: {id!r} was answered before.", hint="Delete the journal to start over.")
        self.answers[id] = answer


def answer_from_json(row: Mapping[str, Any]) -> Answer:
    """The Answer that as_json wrote. Raises KeyError or TypeError when it is not one."""
    claims = tuple(Claim(**claim) for claim in row["claims"])
    record = tuple(Token(**token) for token in row["record"])
    return Answer(**{**row, "claims": claims, "record": record, "guards": tuple(row["guards"])})


def _whole_lines(path: Path) -> list[str]:
    """The complete lines of a journal; what follows the last line end is cut off the file."""
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        os.truncate(path, len(whole))
    try:
        return whole.decode("utf-8").split("\n")[:-1]
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: the journal is damaged ({error}).", hint="Delete it to start over.") from None


def _parsed(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: the journal is damaged ({error.msg}).", hint="Delete it to start over.") from None
    if not isinstance(row, dict):
        raise DataError(f"{where}: the journal is damaged (not an object).", hint="Delete it to start over.")
    return row
