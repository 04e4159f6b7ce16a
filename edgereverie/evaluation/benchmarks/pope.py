"""POPE: yes-or-no questions about objects, half of them about objects that are not there (Li et al., EMNLP 2023).

    folder/pope/random.jsonl  popular.jsonl  adversarial.jsonl      {"question_id", "image", "text", "label"} per line
    folder/images/

The files have the official form, the figures are those of the official ``evaluate.py``. Where that script would stop
with a division by zero (precision without a single yes, say), the figure is nan instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgereverie.errors import DataError
from edgereverie.evaluation import statistics
from edgereverie.evaluation.benchmarks.base import (
    BenchmarkResult,
    Item,
    Tally,
    check_ids,
    image_file,
    json_lines,
    per_image,
    score_tallies,
    value_of,
)
from edgereverie.evaluation.statistics import Metric
from edgereverie.text.yes_no import pope_official

SPLITS = ("random", "popular", "adversarial")


@dataclass(frozen=True, slots=True)
class PopeItem(Item):
    """picture: the image's name in the file. split: how absent objects were chosen. label: is yes the right answer?"""

    picture: str
    split: str
    label: bool


class Pope:
    """The three splits, scored by the official rule."""

    name = "pope"
    scorer = "pope/official"
    max_tokens = 32  # the rule reads the first sentence only
    metrics = (
        Metric("accuracy", "Accuracy", statistics.accuracy),
        Metric("precision", "Precision", statistics.precision),
        Metric("recall", "Recall", statistics.recall),
        Metric("f1", "F1", statistics.f1),
        Metric("yes_ratio", "Yes ratio", statistics.yes_ratio, better=None),
    )

    def items(self, folder: Path, limit: int | None = None) -> list[PopeItem]:
        """All splits' questions, ids as ``adversarial/17``. limit: the first so many images of each split."""
        return [item for split in SPLITS for item in self._split(folder, split, limit)]

    def _split(self, folder: Path, split: str, limit: int | None) -> list[PopeItem]:
        path = folder / "pope" / f"{split}.jsonl"
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
            image = image_file(folder / "images", picture, where)
            items.append(PopeItem(f"{split}/{question_id}", image, question, label, picture, split, label == "yes"))
        if not items:
            raise DataError(f"{path}: the file holds no questions.")
        kept = set(list(dict.fromkeys(item.picture for item in items))[:limit])
        return [item for item in items if item.picture in kept]

    def score(self, items: Sequence[PopeItem], predictions: Mapping[str, str]) -> BenchmarkResult:
        """TP, FP, TN, FN (yes is positive), accuracy, precision, recall, F1 and yes ratio of each split."""
        check_ids(items, predictions)
        tallies = []
        for split in dict.fromkeys(item.split for item in items):
            asked = [item for item in items if item.split == split]
            rows = [_row(item.label, pope_official(predictions[item.id])) for item in asked]
            images, counts = per_image([item.picture for item in asked], rows, 4)
            tallies.append(Tally(f"pope/{split}", images, statistics.YES_NO_COLUMNS, counts, len(asked)))
        return score_tallies(self, tallies)


def _row(label: bool, answer: bool) -> tuple[int, int, int, int]:
    return (int(label and answer), int(not label and answer), int(not label and not answer), int(label and not answer))


BENCHMARK = Pope()
