"""MMBench's questions: tables of rows, four for each question, with pictures inside."""

from __future__ import annotations

import base64
import binascii
import csv
import gzip
import string
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgereverie.data.pictures import PictureFolder, inline_bytes, suffix_of
from edgereverie.errors import DataError
from edgereverie.evaluation.benchmarks._broken import Broken
from edgereverie.evaluation.benchmarks.base import Item
from edgereverie.evaluation.rows import rows_of, value_of
from edgereverie.evaluation.source import Source

_LETTERS = tuple(string.ascii_uppercase)
OFFSET = 1_000_000  # the index of a question's next order of options is so much higher
TABLES = (".tsv", ".tsv.gz", ".jsonl", ".jsonl.gz")
_LONGEST = 1 << 26  # characters of one cell; a picture in base64 is the longest
_REFERENCE = 64  # a shorter ``image`` is the index of the row that has the picture
_INSTRUCTION = "Answer with the option's letter from the given choices directly."  # as LLaVA was trained to be asked

# What pandas takes for an empty cell, and with it VLMEvalKit: an option "None" is neither shown nor read.
_ABSENT = frozenset(
    ("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL",
     "NaN", "None", "n/a", "nan", "null")
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class MmbenchItem(Item):
    """One question with its options in one order.

    unit: the question's index in its first order, which all its orders share. first: is it the first order? options: texts by
    letter. answer: the right letter. category, l2_category: of question, empty where the file tells none.
    """

    first: bool
    options: Mapping[str, str]
    answer: str
    category: str = ""
    l2_category: str = ""


@dataclass(slots=True)
class _Draft:
    """A row that was read, and where its picture is: a path, or the index of the row that has it."""

    where: str
    index: int
    group: int
    row: Mapping[str, Any]
    picture: Path | int | None = None


def items_of(source: Source, limit: int | None) -> list[MmbenchItem]:
    """The rows of the chosen splits. limit: the first so many questions, each in all orders.

    Pictures inside the table are written beside it, or into the source's folder of images, as far as they are asked about.
    Raises DataError that lists what is wrong with the file.
    """
    path = _table(source)
    broken = Broken(path)
    reader = _Reader(source, path, limit)
    for where, row in table_rows(path, broken):
        with broken.row():
            reader.read(where, row)
    for draft in reader.rest():
        with broken.row():
            reader.settle(draft)
    broken.check(
        "Every row is one question in one order of its options, as MMBench_DEV_EN.tsv has them. The answers of test editions are "
        "not published: their owners' server scores them."
    )
    source.chosen(list(dict.fromkeys(reader.splits)))
    if not reader.items:
        raise DataError(f"{path}: the file holds no questions.")
    return reader.items


class _Reader:
    """Turns rows into items. Rows that are not wanted are checked, and their pictures left where they are."""

    def __init__(self, source: Source, path: Path, limit: int | None) -> None:
        self.source = source
        self.pictures = PictureFolder(source.images or path.parent / "images")
        self.items: list[MmbenchItem] = []
        self.splits: list[str] = []
        self._limit = limit
        self._drafts: dict[int, _Draft] = {}
        self._wanted: dict[int, None] = {}

    def read(self, where: str, row: Mapping[str, Any]) -> None:
        row = {key if key in _LETTERS else key.lower(): value for key, value in row.items()}
        index = whole(row, "index", where)
        if index in self._drafts:
            raise DataError(f"{where}: the index {index} stands at {self._drafts[index].where} already.")
        group = whole(row, "g_index", where) if "g_index" in row else index % OFFSET
        draft = self._drafts[index] = _Draft(where, index, group, row)
        if group not in self._wanted and (self._limit is None or len(self._wanted) < self._limit) and self._chosen(row):
            self._wanted[group] = None
        if group in self._wanted and self.source.pictures:
            draft.picture = self._picture(draft)
        self.splits.append(str(row.get("split") or ""))
        draft.row = {key: value for key, value in row.items() if key != "image"}

    def rest(self) -> list[_Draft]:
        return list(self._drafts.values())

    def settle(self, draft: _Draft) -> None:
        if draft.group not in self._drafts:
            raise DataError(f"{draft.where}: the question {draft.group} is not there in its first order.")
        item = self._item(draft)
        if draft.group in self._wanted and self._chosen(draft.row):
            self.items.append(item)

    def _chosen(self, row: Mapping[str, Any]) -> bool:
        return not self.source.splits or str(row.get("split") or "") in self.source.splits

    def _item(self, draft: _Draft) -> MmbenchItem:
        row, where = draft.row, draft.where
        question, answer = value_of(row, "question", str, where), value_of(row, "answer", str, where)
        options = {letter: str(row[letter]) for letter in _LETTERS if not _absent(row.get(letter))}
        if answer not in _LETTERS or row.get(answer) in (None, ""):
            known = ", ".join(options) or "none"
            raise DataError(f"{where}: the answer is {answer!r}, expected one of the options ({known}).")
        category, finer = (_told(row, key) for key in ("category", "l2-category"))
        return MmbenchItem(
            str(draft.index), self._resolved(draft), _asked(row, question, options), f"{answer}. {row[answer]}",
            str(draft.group), split=str(row.get("split") or ""), kind="/".join(filter(None, (finer, category))),
            first=draft.index == draft.group, options=options, answer=answer, category=category, l2_category=finer,
        )  # fmt: skip

    def _resolved(self, draft: _Draft) -> Path | None:
        if not isinstance(draft.picture, int):
            return draft.picture
        other = self._drafts.get(draft.picture)
        if other is None or not isinstance(other.picture, Path):
            raise DataError(f"{draft.where}: the picture is said to be that of {draft.picture}, which has none.")
        return other.picture

    def _picture(self, draft: _Draft) -> Path | int:
        cell, name, where = draft.row.get("image"), draft.row.get("image_path"), draft.where
        if not _absent(name):
            return self.source.picture("mmbench", str(name), where)
        if _absent(cell):
            raise DataError(f"{where}: the row has no picture in 'image' or 'image_path'.")
        text = str(cell)
        if len(text) <= _REFERENCE:
            return whole({"image": text}, "image", where)
        try:
            content = inline_bytes(text) or base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise DataError(f"{where}: 'image' is no base64 text ({len(text):,} characters).") from None
        try:
            suffix = suffix_of(content)
        except DataError as error:
            raise DataError(f"{where}: {error}", hint=error.hint) from None
        return self.pictures.folder / self.pictures.keep(content, suffix)


def table_rows(path: Path, broken: Broken) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where it stands, row) of each row of a table: tab-separated with a header, JSON lines or a JSON list, packed or not.

    What a tab-separated cell holds is text. Rows that do not fit the header are noted. Raises DataError for what is no table.
    """
    if not path.name.lower().endswith((".tsv", ".tsv.gz")):
        yield from rows_of(path)
        return
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST))
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, delimiter="\t", strict=True)
            header = next(reader, [])
            if len(set(header)) < max(2, len(header)):
                raise DataError(f"{path}:1: expected different columns with tabs between them, found {header!r:.200}.")
            line = reader.line_num + 1
            for cells in reader:
                where, line = f"{path}:{line}", reader.line_num + 1
                if len(cells) == len(header):
                    yield where, dict(zip(header, cells, strict=True))
                else:
                    broken.add(f"{where}: {len(cells)} cells stand under {len(header)} columns.")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file.", hint="Check the name.") from None
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: not a tab-separated table ({error}).") from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text ({error}).") from None


def whole(row: Mapping[str, Any], key: str, where: str) -> int:
    """A whole number, or its digits. Raises DataError that starts with ``where``."""
    value = value_of(row, key, (int, str), where)
    if isinstance(value, str) and not (value.isascii() and value.isdigit()):
        raise DataError(f"{where}: {key!r} should be a whole number, found {value!r:.80}.")
    return int(value)


def _table(source: Source) -> Path:
    """The one table in the folder ``mmbench``, or whose name begins so. Editions have many names, and none stands out."""
    inside = source.folder / "mmbench"
    places = [*(inside.iterdir() if inside.is_dir() else ())]
    if source.folder.is_dir():
        places += [place for place in source.folder.iterdir() if place.name.lower().startswith("mmbench")]
    found = sorted(place for place in places if place.name.lower().endswith(TABLES) and place.is_file())
    if len(found) > 1:
        raise DataError(
            f"{source.folder}: {len(found)} tables could be MMBench's questions: {', '.join(place.name for place in found)}.",
            hint="Keep one edition in a folder, and answers elsewhere.",
        )
    return found[0] if found else source.file("mmbench", "MMBench_DEV_EN.tsv")


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value in _ABSENT)


def _told(row: Mapping[str, Any], key: str) -> str:
    return "" if _absent(row.get(key)) else str(row[key])


def _asked(row: Mapping[str, Any], question: str, options: Mapping[str, str]) -> str:
    lines = [_told(row, "hint"), question, *(f"{letter}. {text}" for letter, text in options.items()), _INSTRUCTION]
    return "\n".join(line for line in lines if line)
