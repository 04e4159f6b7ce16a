"""MME's questions and answers, in the forms in which they are published.

    existence.txt ... (14 files)     picture, question, Yes or No, and the model's answer where there is one, with tabs between:
                                     the folders of MME's eval_tool. Two lines for each picture.
    existence/NAME.txt               question and Yes or No, beside NAME.jpg or NAME.png
    artwork/questions_answers_YN/NAME.txt, artwork/images/NAME.jpg
    FILE.json                        {"columns": ["task", "image_no", "question_no", "gt", "response"], "rows": [...]}

The last but one is how the pictures are released; its pictures are taken in the order of their names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any

from edgereverie.errors import DataError
from edgereverie.evaluation.answer_files import Row, by_id
from edgereverie.evaluation.benchmarks.base import Item
from edgereverie.evaluation.rows import parsed, rows_of, text_of
from edgereverie.evaluation.source import Source

_RELEASE = "MME_Benchmark_release_version"
_TABLE = ("task", "image_no", "question_no", "gt", "response")
_PICTURES = (".jpg", ".png", ".jpeg")
_INSTRUCTIONS = re.compile(r"please answer yes or no\.|answer the question using a single word or phrase\.")


@dataclass(frozen=True, slots=True)
class Question:
    """name: the picture's file name. folder: where it should lie, None where there is none to show. where: file:line."""

    task: str
    name: str
    folder: Path | None
    text: str
    truth: str
    where: str


def questions(source: Source, tasks: Sequence[str]) -> Iterator[Question]:
    """The questions of these tasks in the official order. Raises DataError."""
    if source.folder.is_file():
        yield from _of_table(source, tasks)
        return
    roots = (source.folder / "mme", source.folder)
    lists = [folder for root in roots for folder in (root, root / "Your_Results", root / "eval_tool" / "Your_Results")]
    releases = [root / part for root in roots for part in (_RELEASE, f"{_RELEASE}/MME_Benchmark", "MME_Benchmark", ".")]
    for task in tasks:
        path = next((folder / f"{task}.txt" for folder in lists if (folder / f"{task}.txt").is_file()), None)
        release = next((folder / task for folder in releases if (folder / task).is_dir()), None)
        if path:
            folder = (source.images / task) if source.images else (release or roots[-1] / _RELEASE / task)
            yield from _of_list(path, task, folder)
        elif release:
            yield from _of_release(release, task)
        else:
            raise DataError(
                f"{roots[0] / task}.txt: no such file, and no folder {task} of {_RELEASE}.",
                hint="Put the 14 files of eval_tool/Your_Results there, or the pictures with their questions as released.",
            )


def _of_list(path: Path, task: str, folder: Path) -> Iterator[Question]:
    for where, (name, question, truth, *_) in _columns(path, (3, 4)):
        yield Question(task, name, folder, question, truth, where)


def _of_release(folder: Path, task: str) -> Iterator[Question]:
    apart = (folder / "questions_answers_YN").is_dir()
    texts, pictures = (folder / "questions_answers_YN", folder / "images") if apart else (folder, folder)
    for path in sorted(texts.glob("*.txt")):
        name = next(
            (path.stem + end for end in _PICTURES if (pictures / (path.stem + end)).is_file()), f"{path.stem}.jpg"
        )
        for where, (question, truth) in _columns(path, (2,)):
            yield Question(task, name, pictures, question, truth.strip(), where)


def _columns(path: Path, wanted: tuple[int, ...]) -> Iterator[tuple[str, list[str]]]:
    """(where, fields) of each line that is not empty. Raises DataError that lists lines with other numbers of fields."""
    lines = text_of(path).removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    fields = [(number, line.split("\t")) for number, line in enumerate(lines, start=1) if line.strip()]
    if wrong := [number for number, found in fields if len(found) not in wanted]:
        raise DataError(
            f"{path}: lines {', '.join(map(str, wrong[:10]))}{' ...' if len(wrong) > 10 else ''} hold "
            f"another number of columns than {' or '.join(map(str, wanted))}.",
            hint="Columns stand apart by one tab; an answer holds neither tabs nor line ends.",
        )
    for number, found in fields:
        yield f"{path}:{number}", found


def _of_table(source: Source, tasks: Sequence[str]) -> Iterator[Question]:
    if source.pictures:
        raise DataError(f"{source.folder}: the file tells neither questions nor pictures, so it cannot be asked.")
    for where, row in _table(source.folder):
        if row["task"] in tasks:
            yield Question(row["task"], str(row["image_no"]), None, "", str(row["gt"]), where)


def _table(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    whole = parsed(text_of(path), str(path))
    rows = whole.get("rows") if isinstance(whole, dict) and whole.get("columns") == list(_TABLE) else None
    if not isinstance(rows, list):
        raise DataError(f"{path}: expected an object with the columns {', '.join(_TABLE)} and rows.")
    for number, row in enumerate(rows, start=1):
        where = f"{path}, row {number}"
        if not isinstance(row, list) or len(row) != len(_TABLE) or not isinstance(row[0], str):
            raise DataError(f"{where}: expected {len(_TABLE)} values that begin with the task, found {row!r}.")
        yield where, dict(zip(_TABLE, row, strict=True))


def item_id(task: str, name: str, number: int) -> str:
    """Which question: the picture's name without its ending, and 0 or 1.

    >>> item_id("OCR", "0001.jpg", 1)
    'OCR/0001/1'
    """
    return f"{task}/{PurePosixPath(name).stem}/{number}"


def answers(path: Path, items: Sequence[Item]) -> dict[str, str]:
    """Texts by item id: from a folder of MME's files, a table, or rows with ``question_id`` (``OCR/0001.jpg``) and ``text``.

    Rows are matched by the picture and the words of the question; where a row repeats no question, the first of a picture is its
    first question. Raises DataError that lists all that does not fit.
    """
    if path.is_dir():
        rows = _answer_lists(path, items)
    elif _is_table(path):
        rows = _answer_table(path, items)
    else:
        rows = _answer_rows(path, items)
    return by_id(rows, items, lambda row: row["id"], ("text", "answer", "response"))


def _is_table(path: Path) -> bool:
    """Whether the file is one object with columns, not a line for each answer."""
    return re.match(r'\s*\{\s*"columns"\s*:', text_of(path)) is not None


def _answer_lists(folder: Path, items: Sequence[Item]) -> Iterator[Row]:
    numbers, tasks = _numbers(items), dict.fromkeys(item.split for item in items)
    if missing := [f"{task}.txt" for task in tasks if not (folder / f"{task}.txt").is_file()]:
        raise DataError(f"{folder}: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not there.",
                        hint="Each task that was asked has its file; name the tasks where they are not all.")  # fmt: skip
    for task in tasks:
        for where, (name, question, _, answer) in _columns(folder / f"{task}.txt", (4,)):
            yield where, {"id": _named(numbers, task, name, question), "text": answer}


def _answer_table(path: Path, items: Sequence[Item]) -> Iterator[Row]:
    tasks = {item.split for item in items}
    for where, row in _table(path):
        if row["task"] in tasks:
            id = item_id(row["task"], str(row["image_no"]), row["question_no"])
            yield where, {"id": id, "text": row["response"]}


def _answer_rows(path: Path, items: Sequence[Item]) -> Iterator[Row]:
    numbers = _numbers(items)
    known, tasks = {item.id for item in items}, {item.split for item in items}
    turn: dict[str, count] = {}
    for where, row in rows_of(path):
        given = row.get("question_id", row.get("id"))
        question = row.get("prompt", row.get("question"))
        if not isinstance(given, str) or given in known:
            yield where, {**row, "id": given if isinstance(given, str) else None}
            continue
        task, _, name = given.partition("/")
        if task not in tasks:
            continue
        name = name.rpartition("/")[2]  # artwork/images/10002.jpg
        if isinstance(question, str):
            id = _named(numbers, task, name, question)
        else:
            id = item_id(task, name, next(turn.setdefault(given, count())))
        yield where, {**row, "id": id}


def _numbers(items: Sequence[Item]) -> dict[tuple[str, str], str]:
    """Item ids by picture and question."""
    return {(item.unit, _words(item.question)): item.id for item in items}


def _named(numbers: Mapping[tuple[str, str], str], task: str, name: str, question: str) -> str:
    unit = item_id(task, name, 0).rpartition("/")[0]
    return numbers.get((unit, _words(question)), f"{unit} {question[:60]!r}")


def _words(question: str) -> str:
    """A question without its instruction, so that harnesses' own instructions do not part it from itself.

    >>> _words("Is there a cat?  Please answer yes or no.") == _words("Is there a cat?")
    True
    """
    return " ".join(_INSTRUCTIONS.sub(" ", question.lower()).split())
