"""MMBench: multiple choice, each question asked with its options in every order (Liu et al., ECCV 2024).

    mmbench/MMBench_DEV_EN.tsv      as published: index, question, hint, A to D, answer, category, l2-category, split, and image
                                    (base64, or the index of the row that has it) or image_path
    mmbench/images/                 where the pictures inside the table are written, and those of image_path lie

A question counts when it is right in every order (CircularEval); what is resampled is the question. Where the harnesses would ask
a judge for a letter that they cannot read, the answer is wrong here: VLMEvalKit's "exact matching".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgereverie.errors import DataError
from edgereverie.evaluation.answer_files import by_id
from edgereverie.evaluation.benchmarks._broken import Broken
from edgereverie.evaluation.benchmarks._mmbench_rows import MmbenchItem, items_of, table_rows
from edgereverie.evaluation.benchmarks.base import Benchmark, Counted, Mark, Tally, Variant, per_unit
from edgereverie.evaluation.source import Source
from edgereverie.evaluation.statistics import Metric, ratio
from edgereverie.text import can_infer

COLUMNS = ("questions", "circular", "first_pass", "orders", "orders_right")
METRICS = (
    Metric("accuracy", "Accuracy in every order (CircularEval)", lambda counts: ratio(counts[..., 1], counts[..., 0])),
    Metric("first_pass", "Accuracy in the first order", lambda counts: ratio(counts[..., 2], counts[..., 0])),
    Metric("each_order", "Accuracy over all orders", lambda counts: ratio(counts[..., 4], counts[..., 3])),
)
Rule = Callable[[str, Mapping[str, str]], str | None]


class Mmbench(Benchmark):
    """Whatever edition lies in the folder."""

    name = "mmbench"
    max_tokens = 128

    def __init__(self) -> None:
        kit = "open-compass/VLMEvalKit dataset/utils/multiple_choice.py, exact matching"
        lmms = "EvolvingLMMs-Lab/lmms-eval tasks/mmbench/mmbench_evals.py, without its judge"
        self.variants = {
            "vlmevalkit": Variant(kit, METRICS, _counting(can_infer.vlmevalkit)),
            "lmms": Variant(lmms, METRICS, _counting(_lmms)),
        }

    def items(self, source: Source, limit: int | None = None) -> list[MmbenchItem]:
        """A row each, ids as ``241`` and ``1000241``. limit: the first so many questions."""
        return items_of(source, limit)

    def answers(self, path: Path, items: Sequence[MmbenchItem]) -> dict[str, str]:
        """Rows with ``index`` and ``prediction``, or ``question_id`` and ``text``: tab-separated, JSON lines or a JSON list."""
        if path.suffix.lower() in (".xlsx", ".xls"):
            raise DataError(
                f"{path}: a spreadsheet cannot be read.",
                hint="Save it as tab-separated text (.tsv) or JSON lines with the columns index and prediction.",
            )
        broken = Broken(path)
        rows = list(table_rows(path, broken))
        broken.check("Every row is one answer.")
        return by_id(rows, items, _id_of, ("prediction", "text", "response"))


def _id_of(row: Mapping[str, Any]) -> str | None:
    id = row.get("index", row.get("question_id"))
    return str(id) if isinstance(id, (int, str)) and not isinstance(id, bool) else None


def _lmms(answer: str, options: Mapping[str, str]) -> str | None:
    """Where a question has no C or D, lmms-eval's data hold the text "nan", and an answer such as "banana" names them."""
    return can_infer.lmms(answer, {letter: options.get(letter, "nan") for letter in "ABCD"})


def _counting(rule: Rule) -> Callable[[Sequence[MmbenchItem], Mapping[str, str]], Counted]:
    """Counts under one reading of answers."""

    def count(items: Sequence[MmbenchItem], texts: Mapping[str, str]) -> Counted:
        read = {item.id: rule(texts[item.id], item.options) for item in items}
        missed = {item.unit for item in items if read[item.id] != item.answer}
        tallies = tuple(_tally(name, part, read, missed) for name, part in _parts(items))
        return Counted(tallies, tuple(_mark(item, read[item.id], item.unit in missed) for item in items))

    return count


def _parts(items: Sequence[MmbenchItem]) -> Iterator[tuple[str, list[MmbenchItem]]]:
    """Each split, then its kinds of question."""
    splits = list(dict.fromkeys(item.split for item in items))
    kinds = {item.unit: (item.l2_category, item.category) for item in items if item.first}
    for split in splits:
        part = [item for item in items if item.split == split]
        yield split, part
        for place, column in enumerate(("l2-category", "category")):
            for kind in sorted({kinds[item.unit][place] for item in part} - {""}):
                of_kind = [item for item in part if kinds[item.unit][place] == kind]
                yield "/".join(filter(None, (split, column, kind))), of_kind


def _tally(name: str, items: Sequence[MmbenchItem], read: Mapping[str, str | None], missed: set[str]) -> Tally:
    rows = []
    for item in items:
        right = read[item.id] == item.answer
        rows.append((item.first, item.first and item.unit not in missed, item.first and right, True, right))
    units, counts = per_unit([item.unit for item in items], np.asarray(rows, dtype=np.int64), len(COLUMNS))
    return Tally(name, units, COLUMNS, counts, len(items))


def _mark(item: MmbenchItem, read: str | None, missed: bool) -> Mark:
    right = read == item.answer
    if right:
        note = "right in this order, not in all" if missed else ""
    else:
        note = {None: "names no option", can_infer.REFUSED: "refused"}.get(read, f"wrong option: {read}")
    return Mark(item.id, read or "unread", float(right), float(not right), note)


BENCHMARK = Mmbench()
