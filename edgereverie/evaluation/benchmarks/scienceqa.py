"""ScienceQA: multiple choice from school science, with and without pictures (Lu et al., NeurIPS 2022).

    scienceqa/problems.json  pid_splits.json  images/        as published, or the questions as LLaVA asks them

Answers are wrong where a scorer reads no letter, or one beyond the choices. A question counts for IMG when it has a picture;
LLaVA's scorer looks for ``<image>`` in the prompts that stand in the file of answers. VLMEvalKit asks only the questions with a
picture, and is followed without its judge; what its table makes of choices that are numbers is not followed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from edgereverie.evaluation.benchmarks import _scienceqa_files as files
from edgereverie.evaluation.benchmarks._scienceqa_files import LETTERS, ScienceQaItem
from edgereverie.evaluation.benchmarks.base import Benchmark, Counted, Mark, Tally, Variant, per_unit
from edgereverie.evaluation.source import Source
from edgereverie.evaluation.statistics import Metric, ratio
from edgereverie.text import can_infer, choices

COLUMNS = ("questions", "right", "image_questions", "image_right", "unread")
PARTS = ("image", "text")
GROUPS = ("NAT", "SOC", "LAN", "TXT", "IMG", "NO", "G1-6", "G7-12")
ACCURACY = Metric("accuracy", "Accuracy", lambda counts: ratio(counts[..., 1], counts[..., 0]))
UNREAD = Metric("unread", "Unread", lambda counts: ratio(counts[..., 4], counts[..., 0]), better="lower")
METRICS = (
    ACCURACY,
    Metric("image_accuracy", "IMG-Accuracy", lambda counts: ratio(counts[..., 3], counts[..., 2])),
    UNREAD,
)


class ScienceQa(Benchmark):
    """The test split."""

    name = "scienceqa"
    max_tokens = 16

    def __init__(self) -> None:
        llava, lmms = "haotian-liu/LLaVA eval_science_qa.py", "EvolvingLMMs-Lab/lmms-eval tasks/scienceqa/utils.py"
        kit = "open-compass/VLMEvalKit dataset/utils/multiple_choice.py, exact matching"
        parts = {group: (ACCURACY, UNREAD) for group in GROUPS}
        self.variants = {
            "llava": Variant(llava, METRICS, _counting(_llava), splits=parts),
            "lmms": Variant(lmms, METRICS, _counting(_lmms), splits=parts),
            "vlmevalkit": Variant(kit, (ACCURACY, UNREAD), _count_vlmevalkit),
        }

    def items(self, source: Source, limit: int | None = None) -> list[ScienceQaItem]:
        """A question each, ids as published. Splits: those with a picture and those without. limit: the first so many."""
        parts = source.chosen(PARTS)
        return [item for item in files.items_of(source) if PARTS[not item.pictured] in parts][:limit]

    def answers(self, path: Path, items: Sequence[ScienceQaItem]) -> dict[str, str]:
        """Rows with ``question_id`` and ``text``, or what LLaVA's scorer wrote."""
        return files.answers(path, items)


Rule = Callable[[str, ScienceQaItem], str | None]


def _llava(text: str, item: ScienceQaItem) -> str | None:
    return choices.scienceqa_llava(text)


def _lmms(text: str, item: ScienceQaItem) -> str | None:
    return choices.scienceqa_lmms(text)


def _vlmevalkit(text: str, item: ScienceQaItem) -> str | None:
    return can_infer.vlmevalkit(text, dict(zip(LETTERS, item.choices, strict=False))) or None


def _counting(rule: Rule) -> Callable[[Sequence[ScienceQaItem], Mapping[str, str]], Counted]:
    """All questions, then the columns of ScienceQA's own table where the questions tell them."""

    def count(items: Sequence[ScienceQaItem], texts: Mapping[str, str]) -> Counted:
        read = [rule(texts[item.id], item) for item in items]
        rows = np.array([_row(item, letter) for item, letter in zip(items, read, strict=True)], np.int64)
        tallies = [_tally("", items, rows)]
        for group in GROUPS:
            here = [place for place, item in enumerate(items) if group in item.groups]
            if here:
                tallies.append(_tally(group, [items[place] for place in here], rows[here]))
        return Counted(tuple(tallies), tuple(map(_mark, items, read)))

    return count


def _count_vlmevalkit(items: Sequence[ScienceQaItem], texts: Mapping[str, str]) -> Counted:
    pictured = [item for item in items if item.pictured]
    read = [_vlmevalkit(texts[item.id], item) for item in pictured]
    rows = np.array([_row(item, letter) for item, letter in zip(pictured, read, strict=True)], np.int64)
    return Counted((_tally("", pictured, rows),), tuple(map(_mark, pictured, read)))


def _row(item: ScienceQaItem, letter: str | None) -> tuple[int, ...]:
    right = letter == LETTERS[item.answer]
    return 1, right, item.pictured, item.pictured and right, not _is_choice(letter, item)


def _is_choice(letter: str | None, item: ScienceQaItem) -> bool:
    return letter is not None and letter in LETTERS[: len(item.choices)]


def _tally(name: str, items: Sequence[ScienceQaItem], rows: np.ndarray) -> Tally:
    units, counts = per_unit([item.unit for item in items], rows, len(COLUMNS))
    return Tally(name, units, COLUMNS, counts, len(items))


def _mark(item: ScienceQaItem, letter: str | None) -> Mark:
    right = letter == LETTERS[item.answer]
    if letter is None:
        note = "names no choice"
    elif not _is_choice(letter, item):
        note = f"{letter} is no choice of {len(item.choices)}"
    else:
        note = "" if right else f"chose {letter}, {item.choices[LETTERS.index(letter)]}"
    return Mark(item.id, letter or "unread", float(right), float(not right), note)


BENCHMARK = ScienceQa()
