"""ScienceQA's questions and answers, in the forms in which they are published.

problems.json, pid_splits.json                 as the authors publish them; the split "test" is asked
test_llava_CQM-A.jsonl                         {"id", "prompt", "choices", "answer", "has_image"} per line, or a file of
                                               that form alone: the questions as LLaVA asks them
images/test/5/image.png, images/5/image.png    of question 5
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgereverie.errors import DataError
from edgereverie.evaluation.answer_files import Row, by_id
from edgereverie.evaluation.benchmarks._broken import Broken
from edgereverie.evaluation.benchmarks.base import Item
from edgereverie.evaluation.rows import parsed, rows_of, text_of, value_of
from edgereverie.evaluation.source import Source

LETTERS = "ABCDE"
INSTRUCTION = "Answer with the option's letter from the given choices directly."
_ROWS = ("test_llava_CQM-A.jsonl", "test_llava_CQM-A.jsonl.gz")
_SCORED = re.compile(r'\s*\{\s*"(acc|correct|incorrect)"\s*:')  # how the files begin that LLaVA's scorer writes
_SUBJECTS = {"natural science": "NAT", "social science": "SOC", "language science": "LAN"}


@dataclass(frozen=True, slots=True)
class ScienceQaItem(Item):
    """choices: the options' texts. answer: the place of the right one. pictured: whether a picture belongs to it. groups: the
    columns of ScienceQA's own table that it counts in, where its file tells them. kind: the topic."""

    choices: tuple[str, ...]
    answer: int
    pictured: bool
    groups: tuple[str, ...] = ()


def items_of(source: Source) -> list[ScienceQaItem]:
    """The test questions. Raises DataError that lists all faults of the file."""
    if source.folder.is_file():
        return _of_rows(source, source.folder)
    problems = source.find("scienceqa", "problems.json")
    rows = source.find("scienceqa", *_ROWS)
    if rows and not problems:
        return _of_rows(source, rows)
    return _of_problems(source, problems or source.file("scienceqa", "problems.json"))


def _of_problems(source: Source, path: Path) -> list[ScienceQaItem]:
    splits_path = source.file("scienceqa", "pid_splits.json")
    problems, splits = parsed(text_of(path), str(path)), parsed(text_of(splits_path), str(splits_path))
    if not isinstance(problems, dict) or not isinstance(splits, dict) or not isinstance(splits.get("test"), list):
        raise DataError(f"{path} and {splits_path}: expected problems by their number, and the list 'test' of numbers.")
    broken, items = Broken(path), []
    for id in splits["test"]:
        where = f"{path}, problem {id}"
        with broken.row():
            row = problems.get(str(id))
            if not isinstance(row, dict):
                raise DataError(f"{where}: it is not there.")
            items.append(_of_problem(source, str(id), row, where))
    broken.check("Get problems.json anew: it is larger than many mirrors keep, and comes cut short.")
    return items


def _of_problem(source: Source, id: str, row: Mapping[str, Any], where: str) -> ScienceQaItem:
    question, hint = value_of(row, "question", str, where), value_of(row, "hint", str, where)
    choices, answer = _choices(row, where)
    lines = [f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False)]
    prompt = "\n".join([*([f"Context: {hint}"] if hint else []), question, *lines])
    pictured = bool(row.get("image"))
    groups = [_SUBJECTS.get(str(row.get("subject")), "")]
    groups += ["TXT" if hint else "", "IMG" if pictured else "", "NO" if not hint and not pictured else ""]
    grade = str(row.get("grade", "")).removeprefix("grade")
    groups.append(("G1-6" if int(grade) <= 6 else "G7-12") if grade.isdecimal() else "")
    topic = str(row.get("topic", ""))
    return _item(source, id, prompt, choices, answer, pictured, where, tuple(filter(None, groups)), topic)


def _of_rows(source: Source, path: Path) -> list[ScienceQaItem]:
    broken, items, seen = Broken(path), [], set()
    for where, row in rows_of(path):
        with broken.row():
            id = str(value_of(row, "id", (str, int), where))
            if id in seen:
                raise DataError(f"{where}: question {id} was there before.")
            seen.add(id)
            prompt = value_of(row, "prompt", str, where).replace("<image>", "").strip()
            choices, answer = _choices(row, where)
            if not isinstance(row.get("has_image"), bool):
                raise DataError(f"{where}: 'has_image' should be true or false, found {row.get('has_image')!r}.")
            items.append(_item(source, id, prompt, choices, answer, row["has_image"], where))
    broken.check("Each row holds id, prompt, choices, answer and has_image.")
    if not items:
        raise DataError(f"{path}: the file holds no questions.")
    return items


def _choices(row: Mapping[str, Any], where: str) -> tuple[tuple[str, ...], int]:
    choices, answer = value_of(row, "choices", list, where), value_of(row, "answer", int, where)
    if not 2 <= len(choices) <= len(LETTERS) or not all(isinstance(choice, str) for choice in choices):
        raise DataError(f"{where}: the choices should be 2 to {len(LETTERS)} texts, found {choices!r}.")
    if not 0 <= answer < len(choices):
        raise DataError(f"{where}: the answer is {answer}, and there are {len(choices)} choices.")
    return tuple(choices), answer


def _item(
    source: Source, id: str, prompt: str, choices: tuple[str, ...], answer: int, pictured: bool, where: str,
    groups: tuple[str, ...] = (), topic: str = "",
) -> ScienceQaItem:  # fmt: skip
    image = _picture(source, id, where) if pictured else None
    question = f"{prompt}\n{INSTRUCTION}"
    return ScienceQaItem(id, image, question, LETTERS[answer], id, choices, answer, pictured, groups, kind=topic)


def _picture(source: Source, id: str, where: str) -> Path:
    unneeded = Source(source.folder, source.images, pictures=False)
    in_split = unneeded.picture("scienceqa", f"test/{id}/image.png", where)
    return in_split if in_split.is_file() else source.picture("scienceqa", f"{id}/image.png", where)


def answers(path: Path, items: Sequence[Item]) -> dict[str, str]:
    """Texts by item id: rows with ``question_id`` and ``text`` (LLaVA), or what LLaVA's scorer wrote of them.

    That is an object with ``outputs`` by question, or one with the lists ``correct`` and ``incorrect`` of ``question_id`` and
    ``pred``. Raises DataError that lists all that does not fit.
    """
    return by_id(_answer_rows(path), items, _id, ("text", "pred", "answer", "response"))


def _answer_rows(path: Path) -> Iterator[Row]:
    text = text_of(path)
    if not _SCORED.match(text):
        return rows_of(path)
    whole = parsed(text, str(path))
    if "outputs" in whole:
        said = value_of(whole, "outputs", dict, str(path))
        return ((f"{path}, output {id}", {"question_id": id, "text": text}) for id, text in said.items())
    lists = [(name, row) for name in ("correct", "incorrect") for row in value_of(whole, name, list, str(path))]
    return ((f"{path}, {name} {n}", row if isinstance(row, dict) else {}) for n, (name, row) in enumerate(lists, 1))


def _id(row: Mapping[str, Any]) -> str | None:
    id = row.get("question_id", row.get("id"))
    return str(id) if isinstance(id, (str, int)) and not isinstance(id, bool) else None
