"""What judges said, on disk: the journal of a judge that is being asked, and files that were made before.

    {"edgereverie": "judgements", "version": 1, "fingerprint": "...", "judge": "..."}
    {"id": "71d35c01", "asked": "4be1...", "reply": "Rating: 4", "tries": 1, "read": true, "declined": ""}

The fingerprint is of everything that a reply hangs on: the judge, the way of scoring, each request with its words and
picture, the room for a reply, and how a request is asked again. Another judge, other answers or other words are refused.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgereverie.bundle import sha256_of
from edgereverie.errors import DataError
from edgereverie.evaluation.answer_files import Faults
from edgereverie.evaluation.append_only import AppendOnly
from edgereverie.evaluation.benchmarks.base import Judge, JudgeRequest
from edgereverie.evaluation.prompts import prompt
from edgereverie.evaluation.rows import json_lines, parsed, text_of, value_of
from edgereverie.records import as_json

KIND, VERSION = "judgements", 1
_THOUGHT = re.compile(r"\A\s*<(think|thinking|reasoning)>.*?(?:</\1>|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Judgement:
    """A judge's last reply to one request. asked: the request's SHA-256. tries: how often it was asked. read: whether a rule
    could read the reply. declined: why it would not reply, in its words."""

    id: str
    asked: str
    reply: str
    tries: int
    read: bool
    declined: str = ""


class Judgements:
    """found: judgements by request id, those of an earlier run first. path: None keeps them in memory alone."""

    def __init__(self, path: Path | None, mark: str, judge: str, requests: Sequence[str]) -> None:
        self.found: dict[str, Judgement] = {}
        self._file: AppendOnly | None = None
        if path is None:
            return
        header = {"edgereverie": KIND, "version": VERSION, "fingerprint": mark, "judge": judge}
        other = "the journal belongs to another judgement: judge, answers, words or settings differ."
        self._file = AppendOnly(path, header, other)
        known = set(requests)
        for where, row in self._file.rows:
            judgement = _judgement(row, where)
            if judgement.id in self.found or judgement.id not in known:
                told = "was judged before" if judgement.id in self.found else "is no request of this judgement"
                raise DataError(f"{where}: {judgement.id!r} {told}.", hint="Delete the journal to start over.")
            self.found[judgement.id] = judgement

    def add(self, judgement: Judgement) -> None:
        """Write it down before the next request is asked."""
        if self._file is not None:
            self._file.append([as_json(judgement)])
        self.found[judgement.id] = judgement


def fingerprint(scorer: str, way: Judge, requests: Sequence[JudgeRequest], identity: str, retries: int) -> str:
    """SHA-256 of all that the replies hang on. Raises DataError for a request that stands twice."""
    digest = hashlib.sha256()
    again = [prompt("again").sha256, way.form, retries]
    digest.update(_line([scorer, identity, way.max_tokens, again]))
    seen: set[str] = set()
    for request in requests:
        if request.id in seen:
            raise DataError(
                f"{scorer} asks its judge {request.id!r} twice.", hint="Give each request an id of its own."
            )
        seen.add(request.id)
        digest.update(asked(request).encode())
    return digest.hexdigest()


def asked(request: JudgeRequest) -> str:
    """SHA-256 of a request's id, words and picture."""
    picture = sha256_of(request.image) if request.image is not None else ""
    return hashlib.sha256(_line([request.id, as_json(request.turns), picture])).hexdigest()


def without_thoughts(reply: str) -> str:
    """What a judge says after thinking aloud, as reasoning models do; a reply that never ends its thoughts is empty.

    >>> without_thoughts("<think>Rating: 3? No.</think>\\nRating: 4")
    'Rating: 4'
    """
    return _THOUGHT.sub("", reply).strip()


def is_one(path: Path) -> bool:
    """Is the file a journal of judgements?"""
    if path.is_dir():  # some benchmarks keep a file for each of their parts
        return False
    first = text_of(path).partition("\n")[0]
    try:
        row = json.loads(first)
    except json.JSONDecodeError:
        return False
    return isinstance(row, dict) and row.get("edgereverie") == KIND


def read_kept(path: Path, requests: Sequence[JudgeRequest], *, same: bool) -> tuple[str, dict[str, str]]:
    """(judge's name, replies by request id) of a whole journal. same: it must be these very requests that were asked.

    Raises DataError that lists missing, doubled and unknown ids, and those of which something else was asked.
    """
    faults, found = Faults(), {}
    known = {request.id: asked(request) if same else "" for request in requests}
    (number, header), *rows = json_lines(path)
    if header.get("version") != VERSION:
        raise DataError(f"{path}:{number}: not a version {VERSION} journal of {KIND}.", hint="Judge the answers again.")
    for number, row in rows:
        judgement = _judgement(row, f"{path}:{number}")
        if judgement.id not in known:
            faults.add("replies that belong to no request", f"{judgement.id} ({path}:{number})")
        elif judgement.id in found:
            faults.add("requests replied to more than once", f"{judgement.id} ({path}:{number})")
        elif same and judgement.asked != known[judgement.id]:
            faults.add("requests about other answers, or in other words", f"{judgement.id} ({path}:{number})")
            found[judgement.id] = ""
        else:
            found[judgement.id] = judgement.reply
    for id in known:
        if id not in found:
            faults.add("requests without a reply", id)
    faults.check("The judge was asked about something else, or stopped in the middle; ask it about these answers.")
    return str(header.get("judge", "")), {id: found[id] for id in known}


def judge_named_in(path: Path) -> str:
    """What a file in a published form, or those of a folder, call their judge under ``model``; empty where they do not."""
    files = sorted(path.glob("*.json*")) if path.is_dir() else [path]
    return ", ".join(dict.fromkeys(name for file in files for name in _models(_values(file))))


def _values(path: Path) -> list[Any]:
    text = text_of(path)
    try:
        return [json.loads(text)]
    except json.JSONDecodeError:
        return [parsed(line, str(path)) for line in text.split("\n") if line.strip()]


def _models(value: Any) -> Iterator[str]:
    """Strings, or lists of them, under the key ``model`` of objects, as deep as published forms have them."""
    if isinstance(value, str) and value.startswith("{"):  # MMHal-Bench's logs of a newer client: objects as strings
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            return
    if isinstance(value, list):
        for one in value:
            yield from _models(one)
    elif isinstance(value, dict):
        named = value.get("model")
        yield from [named] if isinstance(named, str) else [n for n in named or () if isinstance(n, str)]
        if named is None:
            for one in value.values():
                if isinstance(one, (dict, list)):
                    yield from _models(one)


def _judgement(row: dict[str, Any], where: str) -> Judgement:
    kinds: tuple[tuple[str, type], ...] = (
        ("id", str),
        ("asked", str),
        ("reply", str),
        ("tries", int),
        ("declined", str),
    )
    values = {key: value_of(row, key, kind, where) for key, kind in kinds}
    if not isinstance(row.get("read"), bool):
        raise DataError(f"{where}: 'read' should be true or false, found {row.get('read')!r}.")
    return Judgement(**values, read=row["read"])


def _line(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=True).encode() + b"\n"
