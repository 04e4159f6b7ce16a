"""POPE: yes-or-no questions about objects, half of them about objects that are not there (Li et al., EMNLP 2023).

    pope/random.jsonl  popular.jsonl  adversarial.jsonl      {"question_id", "image", "text", "label"} per line
    (or coco_pope_random.json ..., as the authors name them)

Where the official ``evaluate.py`` would stop with a division by zero (precision without a single yes, say), the figure is
nan instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgereverie.errors import DataError
from edgereverie.evaluation import statistics
from edgereverie.evaluation.answer_files import by_id
from edgereverie.evaluation.benchmarks.base import Benchmark, Counted, Item, Mark, Tally, Variant, per_unit
from edgereverie.evaluation.rows import json_lines, rows_of, value_of
from edgereverie.evaluation.source import Source
from edgereverie.evaluation.statistics import Metric
from edgereverie.text.yes_no import pope_official

SPLITS = ("random", "popular", "adversarial")
METRICS = (
    Metric("accuracy", "Accuracy", statistics.accuracy),
    Metric("precision", "Precision", statistics.precision),
    Metric("recall", "Recall", statistics.recall),
    Metric("f1", "F1", statistics.f1),
    Metric("yes_ratio", "Yes ratio", statistics.yes_ratio, better=None),
)


@dataclass(frozen=True, slots=True)
class PopeItem(Item):
    """label: is yes the right answer? split: how absent objects were chosen."""

    label: bool


class Pope(Benchmark):
    """The three splits."""

    name = "pope"
    max_tokens = 32  # the rules read the first sentence only

    def __init__(self) -> None:
        self.variants = {"official": Variant("AoiDragon/POPE evaluate.py", METRICS, _counting(pope_official))}

    def items(self, source: Source, limit: int | None = None) -> list[PopeItem]:
        """All splits' questions, ids as ``adversarial/17``. limit: the first so many images of each split."""
        return [item for split in source.chosen(SPLITS) for item in _split(source, split, limit)]

    def answers(self, path: Path, items: Sequence[PopeItem]) -> dict[str, str]:
        """Rows with ``question_id`` (``17``, or ``adversarial/17``, or ``17`` with the split in ``category``) and a text."""
        splits = {item.split for item in items}
        only = next(iter(splits)) if len(splits) == 1 else ""

        def id_of(row: Mapping[str, object]) -> str | None:
            id, split = row.get("question_id", row.get("id")), row.get("category", only)
            if not isinstance(id, (int, str)) or "/" in str(id):
                return id if isinstance(id, str) else None
            return f"{split}/{id}"

        return by_id(rows_of(path), items, id_of, ("text", "answer", "response"))


def _split(source: Source, split: str, limit: int | None) -> list[PopeItem]:
    path = source.file("pope", f"{split}.jsonl", f"coco_pope_{split}.json")
    first_line: dict[str, int] = {}
    items = []
    for number, row in json_lines(path):
        where = f"{path}:{number}"
        question_id = str(value_of(row, "question_id", (int, str), where))
        if question_id in first_line:
            raise DataError(f"{where}: question_id {question_id} stands on line {first_line[question_id]} already.")
        first_line[question_id] = number
        label = value_of(row, "label", str, where)
        if label not in ("yes", "no"):
            raise DataError(f"{where}: the label is {label!r}, expected 'yes' or 'no'.")
        picture, question = value_of(row, "image", str, where), value_of(row, "text", str, where)
        image = source.picture("pope", picture, where)
        items.append(PopeItem(f"{split}/{question_id}", image, question, label, picture, label == "yes", split=split))
    if not items:
        raise DataError(f"{path}: the file holds no questions.")
    kept = set(list(dict.fromkeys(item.unit for item in items))[:limit])
    return [item for item in items if item.unit in kept]


def _counting(says_yes: Callable[[str], bool]) -> Callable[[Sequence[PopeItem], Mapping[str, str]], Counted]:
    """TP, FP, TN, FN of each split under one reading; yes is positive."""

    def count(items: Sequence[PopeItem], texts: Mapping[str, str]) -> Counted:
        said = {item.id: says_yes(texts[item.id]) for item in items}
        tallies = []
        for split in dict.fromkeys(item.split for item in items):
            asked = [item for item in items if item.split == split]
            rows = [_row(item.label, said[item.id]) for item in asked]
            units, counts = per_unit([item.unit for item in asked], rows, 4)
            tallies.append(Tally(split, units, statistics.YES_NO_COLUMNS, counts, len(asked)))
        return Counted(tuple(tallies), tuple(_mark(item, said[item.id]) for item in items))

    return count


def _mark(item: PopeItem, yes: bool) -> Mark:
    right = yes == item.label
    note = "" if right else ("said yes to what is not there" if yes else "said no to what is there")
    return Mark(item.id, "yes" if yes else "no", float(right), float(not right), note)


def _row(label: bool, answer: bool) -> tuple[int, int, int, int]:
    return (int(label and answer), int(not label and answer), int(not label and not answer), int(label and not answer))


BENCHMARK = Pope()
