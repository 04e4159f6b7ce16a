"""The journal of a generation: every reply that came, by what was asked. Nothing that is in it is asked again.

    {"edgereverie": "replies", "version": 1}
    {"key": "9f0c...", "step": "questions", "teacher": "...", "text": "...", "tokens": [310, 95], "requests": 1}
    {"key": "51ab...", ..., "rejected": "no JSON in the reply"}

A line is written in one piece and flushed to the disk before anything is made of it. The line that a kill cut short is
cut off when the journal is opened again; damage anywhere else is an error. A lock keeps a second run away.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from edgereverie.errors import DataError
from edgereverie.records import Options, Turn, as_json
from edgereverie.synthesis.teachers.base import Reply

VERSION = 1
_HEADER = {"edgereverie": "replies", "version": VERSION}
_START_OVER = "Delete it to start over; every reply in it will be asked for again."
_BLOCK = 1 << 20
_LOCKED_BYTE = 1 << 30  # for Windows, which locks bytes and not files: one that no reader looks at


def key_of(
    method: str, prompt: str, step: str, image: str, turns: Sequence[Turn], options: Options, teacher: str
) -> str:
    """What a reply is known by: SHA-256 over all that can change it. prompt, image: their own SHA-256."""
    parts = [method, prompt, step, image, as_json(turns), as_json(options), teacher]
    return hashlib.sha256(json.dumps(parts, ensure_ascii=True).encode()).hexdigest()


class Journal:
    """Replies on disk, by key. Only their places are kept in memory. For several threads, and one run at a time.

    used: (requests, tokens in, tokens out) of all replies in it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.used = (0, 0, 0)
        self._places: dict[bytes, int] = {}
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._written = self._flushed = 0  # bytes
        path.parent.mkdir(parents=True, exist_ok=True)
        new = not path.exists()
        self._stream = path.open("ab+", buffering=0)
        try:
            lock_file(self._stream, path)
            self._open()
        except BaseException:
            self._stream.close()
            raise
        if new:
            _flush_folder(path.parent)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._places)

    def close(self) -> None:
        """Give the file back to other runs. What arrives later is not written."""
        with self._lock, self._flushing:
            self._stream.close()

    def get(self, key: str) -> Reply | None:
        """The reply to what was asked, or None."""
        with self._lock:
            place = self._places.get(bytes.fromhex(key))
            if place is None or self._stream.closed:
                return None
            self._stream.seek(place)
            with open(self._stream.fileno(), "rb", closefd=False) as stream:
                line = stream.readline()
        return _reply(json.loads(line))

    def add(self, key: str, reply: Reply, *, step: str, teacher: str, rejected: str | None) -> None:
        """Write a reply down, with the reason why nothing was made of it, if so."""
        row: dict[str, Any] = {"key": key, "step": step, "teacher": teacher, "text": reply.text}
        row |= {"tokens": [reply.tokens_in, reply.tokens_out], "requests": reply.requests}
        row |= ({"cut": True} if reply.cut else {}) | ({"rejected": rejected} if rejected else {})
        line = json.dumps(row, ensure_ascii=True).encode() + b"\n"
        with self._lock:
            if self._stream.closed:
                return
            place = self._stream.seek(0, os.SEEK_END)
            try:
                _write_whole(self._stream, line)
            except OSError as error:
                _cut(self._stream, place)
                raise self._unwritten(error) from None
            self._note(key, place, row)
            self._written = place + len(line)
        self._flush(place + len(line))

    def _flush(self, size: int) -> None:
        """See to it that so many bytes are on the disk: what waits for one flush shares the next."""
        with self._flushing:
            if self._flushed >= size or self._stream.closed:
                return
            written = self._written
            try:
                os.fsync(self._stream.fileno())
            except OSError as error:
                raise self._unwritten(error) from None
            self._flushed = written

    def _unwritten(self, error: OSError) -> DataError:
        return DataError(
            f"{self.path}: cannot be written ({error.strerror}).",
            hint="Make room, and run the same command again: it goes on where it stopped.",
        )

    def _note(self, key: str, place: int, row: Mapping[str, Any]) -> None:
        self._places.setdefault(bytes.fromhex(key), place)
        tokens_in, tokens_out = row["tokens"]
        requests, used_in, used_out = self.used
        self.used = (requests + row["requests"], used_in + (tokens_in or 0), used_out + (tokens_out or 0))

    def _open(self) -> None:
        self._stream.seek(0)
        place, number = 0, 0
        with open(self._stream.fileno(), "rb", buffering=_BLOCK, closefd=False) as stream:
            for number, line in enumerate(stream, 1):
                if not line.endswith(b"\n"):
                    number -= 1
                    break
                self._read(line, number, place)
                place += len(line)
        _cut(self._stream, place)
        if not number:
            _write_whole(self._stream, json.dumps(_HEADER).encode() + b"\n")
            os.fsync(self._stream.fileno())

    def _read(self, line: bytes, number: int, place: int) -> None:
        try:
            row = json.loads(line)
            if number == 1:
                if row != _HEADER:
                    raise DataError(f"{self.path}: not a journal of replies.", hint="Choose another folder.")
                return
            _reply(row)
            self._note(row["key"], place, row)
        except (ValueError, KeyError, TypeError, RecursionError):
            raise DataError(f"{self.path}:{number}: the journal is damaged.", hint=_START_OVER) from None


def _reply(row: Mapping[str, Any]) -> Reply:
    tokens_in, tokens_out = row["tokens"]
    return Reply(row["text"], tokens_in, tokens_out, row.get("cut", False), row["requests"])


def _write_whole(stream: IO[bytes], line: bytes) -> None:
    """An unbuffered stream may take only the beginning, on a full disk for one."""
    while line:
        line = line[stream.write(line) :]


def _cut(stream: IO[bytes], size: int) -> None:
    if os.fstat(stream.fileno()).st_size > size:
        os.ftruncate(stream.fileno(), size)


def _flush_folder(folder: Path) -> None:
    """Make the new file's name last, too; Windows has no such call."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def lock_file(stream: IO[bytes], path: Path) -> None:
    """The system gives the lock back when the process ends, however it ends."""
    try:
        if os.name == "nt":
            import msvcrt

            stream.seek(_LOCKED_BYTE)
            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            import fcntl

            fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if isinstance(error, (BlockingIOError, PermissionError)):
            raise DataError(
                f"{path}: another run is writing this journal.", hint="Wait for it, or choose another --out."
            ) from None
        raise DataError(
            f"{path}: this file system cannot lock files ({error.strerror}).", hint="Choose an --out on another disk."
        ) from None
