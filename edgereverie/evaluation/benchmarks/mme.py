"""MME: two yes-or-no questions about each picture, in 14 tasks (Fu et al., 2023).

    mme/existence.txt ... (as in eval_tool/Your_Results)     picture, question, Yes or No, with tabs between
    mme/MME_Benchmark_release_version/                       the pictures as released, or their questions too

A task's score is 100 times the share of questions that are right plus 100 times the share of pictures with both right. The
tasks existence, count, position and color are the hallucination subset, of 800 points at most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgereverie.errors import DataError
from edgereverie.evaluation import statistics
from edgereverie.evaluation.benchmarks import _mme_files as files
from edgereverie.evaluation.benchmarks.base import Benchmark, Counted, Item, Mark, Tally, Variant, per_unit
from edgereverie.evaluation.source import Source
from edgereverie.evaluation.statistics import Formula, Metric, ratio
from edgereverie.text import yes_no

HALLUCINATION = ("existence", "count", "position", "color")
GROUPS = {
    "perception": (*HALLUCINATION, "posters", "celebrity", "scene", "landmark", "artwork", "OCR"),
    "cognition": ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning"),
    "hallucination": HALLUCINATION,
}
TASKS = (*GROUPS["perception"], *GROUPS["cognition"])
COLUMNS = (*statistics.YES_NO_COLUMNS, "other", "pictures", "both_right")


@dataclass(frozen=True, slots=True)
class MmeItem(Item):
    """label: is yes the right answer? split: the task. unit: the task and the picture, whose two questions belong together."""

    label: bool


class Mme(Benchmark):
    """All tasks, or those of a group."""

    name = "mme"
    max_tokens = 16  # the rules read four characters

    def __init__(self) -> None:
        self.variants = {
            "official": Variant(
                "BradyFU/Awesome-Multimodal-Large-Language-Models tools/eval_tool.zip calculation.py",
                _metrics(_official),
                _counting(yes_no.mme_official),
            ),
            "lmms": Variant(
                "EvolvingLMMs-Lab/lmms-eval tasks/mme/utils.py", _metrics(_lmms), _counting(yes_no.mme_lmms)
            ),
        }

    def items(self, source: Source, limit: int | None = None) -> list[MmeItem]:
        """The questions, ids as ``existence/000000006040/0``. Splits are tasks, or groups of them. limit: pictures per task."""
        chosen = source.chosen((*TASKS, *GROUPS))
        wanted = {task for name in chosen for task in GROUPS.get(name, (name,))}
        return _paired(files.questions(source, [task for task in TASKS if task in wanted]), source, limit)

    def answers(self, path: Path, items: Sequence[MmeItem]) -> dict[str, str]:
        """A folder of MME's 14 files with a fourth column, or rows with ``question_id`` (``existence/NAME.jpg``) and ``text``."""
        return files.answers(path, items)


def _paired(questions: Iterable[files.Question], source: Source, limit: int | None) -> list[MmeItem]:
    """Items from the two questions of each picture. Raises DataError where they are not two that follow each other."""
    items: list[MmeItem] = []
    done: set[str] = set()
    pictures: dict[str, int] = {}
    turn = iter(questions)
    for first in turn:
        second = next(turn, None)
        unit = files.item_id(first.task, first.name, 0).rpartition("/")[0]
        if second is None or (first.task, first.name) != (second.task, second.name) or unit in done:
            raise DataError(
                f"{first.where}: {first.name!r} has not two questions that follow each other.",
                hint="The official scorer takes the questions two by two, as they come.",
            )
        done.add(unit)
        pictures[first.task] = pictures.get(first.task, 0) + 1
        if limit is None or pictures[first.task] <= limit:
            image = _picture(source, first)
            items += [_item(question, number, unit, image) for number, question in enumerate((first, second))]
    if not items:
        raise DataError(f"{source.folder}: there are no questions of MME.")
    return items


def _item(question: files.Question, number: int, unit: str, image: Path | None) -> MmeItem:
    truth = question.truth.lower()
    if truth not in ("yes", "no"):
        raise DataError(f"{question.where}: the right answer is {question.truth!r}, expected Yes or No.")
    id = files.item_id(question.task, question.name, number)
    return MmeItem(id, image, question.text, truth, unit, truth == "yes", split=question.task)


def _picture(source: Source, question: files.Question) -> Path | None:
    if question.folder is None:
        return None
    beside = question.folder / "images" / question.name
    folder = beside.parent if beside.is_file() else question.folder
    return Source(source.folder, folder, source.pictures).picture("mme", question.name, question.where)


def _counting(reading: Callable[[str], bool | None]) -> Callable[[Sequence[MmeItem], Mapping[str, str]], Counted]:
    """The groups that are whole, then each task."""

    def count(items: Sequence[MmeItem], texts: Mapping[str, str]) -> Counted:
        said = {item.id: reading(texts[item.id]) for item in items}
        tasks = dict.fromkeys(item.split for item in items)
        tallies = {task: _tally(task, [item for item in items if item.split == task], said) for task in tasks}
        groups = [_joined(name, [tallies[task] for task in of]) for name, of in GROUPS.items() if set(of) <= set(tasks)]
        return Counted((*groups, *tallies.values()), tuple(_mark(item, said[item.id]) for item in items))

    return count


# Place among COLUMNS by (truth, what was read).
_PLACE = {(True, True): 0, (False, True): 1, (False, False): 2, (True, False): 3, (True, None): 4, (False, None): 4}


def _tally(task: str, items: Sequence[MmeItem], said: Mapping[str, bool | None]) -> Tally:
    read = np.eye(5, dtype=np.int64)[[_PLACE[item.label, said[item.id]] for item in items]]
    units, counts = per_unit([item.unit for item in items], read, 5)
    both = counts[:, 0] + counts[:, 2] == 2
    return Tally(task, units, COLUMNS, np.column_stack([counts, np.ones(len(units), np.int64), both]), len(items))


def _joined(name: str, tallies: Sequence[Tally]) -> Tally:
    """The tasks of a group, each with columns of its own, since their scores are summed and their sizes differ."""
    units = tuple(unit for tally in tallies for unit in tally.units)
    columns = tuple(f"{tally.split}/{column}" for tally in tallies for column in COLUMNS)
    counts, row = np.zeros((len(units), len(columns)), np.int64), 0
    for place, tally in enumerate(tallies):
        counts[row : row + len(tally.units), place * len(COLUMNS) : (place + 1) * len(COLUMNS)] = tally.counts
        row += len(tally.units)
    return Tally(name, units, columns, counts, sum(tally.items for tally in tallies))


def _mark(item: MmeItem, yes: bool | None) -> Mark:
    right = yes == item.label
    read = {True: "yes", False: "no", None: "unread"}[yes]
    note = "" if right else "neither yes nor no was read" if yes is None else f"said {read}, it is {item.truth}"
    return Mark(item.id, read, float(right), float(not right), note)


def _official(counts: np.ndarray) -> np.ndarray:
    """100 acc + 100 acc_plus of one task."""
    return ratio(_right(counts), counts[..., :5].sum(axis=-1)) * 100 + ratio(counts[..., 6], counts[..., 5]) * 100


def _lmms(counts: np.ndarray) -> np.ndarray:
    """The same figure, as the mean of the pictures' points."""
    return ratio(50 * _right(counts) + 100 * counts[..., 6], counts[..., 5])


def _right(counts: np.ndarray) -> np.ndarray:
    return counts[..., 0] + counts[..., 2]


def _summed(formula: Formula) -> Formula:
    """The sum of a figure over the tasks of a group, one by one as the scorers add; of a task alone, the figure."""

    def total(counts: np.ndarray) -> np.ndarray:
        tasks = counts.reshape(*counts.shape[:-1], -1, len(COLUMNS))
        return sum(formula(tasks[..., task, :]) for task in range(tasks.shape[-2]))

    return total


def _pooled(formula: Formula) -> Formula:
    """A share over all questions of a group."""
    return lambda counts: formula(counts.reshape(*counts.shape[:-1], -1, len(COLUMNS)).sum(axis=-2))


def _metrics(score: Formula) -> tuple[Metric, ...]:
    return (
        Metric("score", "Score", _summed(score), share=False),
        Metric("accuracy", "Accuracy", _pooled(lambda counts: ratio(_right(counts), counts[..., :5].sum(axis=-1)))),
        Metric("accuracy_plus", "Accuracy+", _pooled(lambda counts: ratio(counts[..., 6], counts[..., 5]))),
        Metric("yes_ratio", "Yes ratio", _pooled(_yes_ratio), better=None),
        Metric(
            "other", "Neither", _pooled(lambda counts: ratio(counts[..., 4], counts[..., :5].sum(axis=-1))), "lower"
        ),
        Metric("d_prime", "d'", _pooled(statistics.d_prime), share=False),
    )


def _yes_ratio(counts: np.ndarray) -> np.ndarray:
    return ratio(counts[..., 0] + counts[..., 1], counts[..., :5].sum(axis=-1))


BENCHMARK = Mme()
