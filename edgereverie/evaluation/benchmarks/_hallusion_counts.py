"""HallusionBench's counts: questions, pairs, figures, and which mistakes are language's and which the eye's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import numpy as np

from edgereverie.evaluation.benchmarks._hallusion_items import CATEGORIES, HallusionItem, grouped
from edgereverie.evaluation.benchmarks._judged import unread
from edgereverie.evaluation.benchmarks.base import Tally
from edgereverie.evaluation.statistics import Formula, Metric, ratio

CORRECT, INCORRECT, UNCLEAR = "correct", "incorrect", "unclear"

GROUP_COLUMNS = ("questions", "right", "pairs", "pairs_right", "figures", "figures_right")
JUDGED_COLUMNS = (
    *GROUP_COLUMNS,
    *("figures_wrong", "figures_inconsistent", "figures_share"),
    *("easy_questions", "easy_pairs", "easy_right", "hard_questions", "hard_pairs", "hard_right"),
    *("language", "vision", "mixed", "language_pairs", "vision_pairs", "mixed_pairs"),
    *("said_yes", "true_yes", "wrong", "wrong_no", "unread"),
)


def share(columns: Sequence[str], top: str, *bottom: str) -> Formula:
    """One column in relation to the sum of others."""
    above, below = columns.index(top), [columns.index(name) for name in bottom]
    return lambda counts: ratio(counts[..., above], counts[..., below].sum(axis=-1))


def group_metrics(columns: Sequence[str]) -> tuple[Metric, ...]:
    """The three accuracies that every scorer gives."""
    return (
        Metric("aAcc", "Accuracy per question (aAcc)", share(columns, "right", "questions")),
        Metric("qAcc", "Accuracy per question pair (qAcc)", share(columns, "pairs_right", "pairs")),
        Metric("fAcc", "Accuracy per figure (fAcc)", share(columns, "figures_right", "figures")),
    )


def judged_metrics() -> tuple[Metric, ...]:
    """Everything that the official script prints, nan where it would divide by zero."""
    of = JUDGED_COLUMNS
    blamed = ("language", "vision", "mixed")

    def bias(counts: np.ndarray) -> np.ndarray:
        said, true = (share(of, name, "questions")(counts) for name in ("said_yes", "true_yes"))
        return said - true

    return (
        *group_metrics(of),
        Metric("easy_aAcc", "Pairs right on easy questions (easy aAcc)", share(of, "easy_right", "easy_pairs")),
        Metric("hard_aAcc", "Pairs right on hard questions (hard aAcc)", share(of, "hard_right", "hard_pairs")),
        Metric("yes_bias", "Yes said more often than true", bias, better=None),
        Metric("fp_ratio", "Mistakes where no is right", share(of, "wrong_no", "wrong"), better=None),
        Metric("figures_inconsistent", "Figures partly right", share(of, "figures_inconsistent", "figures"), better=None),
        Metric("figures_wrong", "Figures all wrong", share(of, "figures_wrong", "figures"), better="lower"),
        Metric("figures_share", "Mean share right per figure", share(of, "figures_share", "figures")),
        Metric("language", "Mistakes by language hallucination", share(of, "language", *blamed), better=None),
        Metric("vision", "Mistakes by visual illusion", share(of, "vision", *blamed), better=None),
        Metric("mixed", "Mistakes by either or both", share(of, "mixed", *blamed), better=None),
        unread(share(of, "unread", "questions")),
    )  # fmt: skip


class Sheet:
    """Counts by unit while they are being made."""

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = tuple(columns)
        self._cells: dict[str, Counter[str]] = {}

    def add(self, unit: str, **amounts: float) -> None:
        self._cells.setdefault(unit, Counter()).update(amounts)

    def tally(self, split: str, items: int) -> Tally:
        rows = [[cells[column] for column in self.columns] for cells in self._cells.values()]
        return Tally(split, tuple(self._cells), self.columns, np.asarray(rows).reshape(-1, len(self.columns)), items)


def by_category(items: Sequence[HallusionItem]) -> list[tuple[str, list[HallusionItem]]]:
    """All items under no name, and those of each category that is there under its own."""
    parts = [(name, [item for item in items if item.split == name]) for name in CATEGORIES]
    return [("", list(items)), *((name, part) for name, part in parts if part)]


Key = Callable[[HallusionItem], tuple[str, ...]]


def group_tally(
    split: str,
    items: Sequence[HallusionItem],
    right: Mapping[str, bool],
    pair: Key = lambda item: item.pair,
    figure: Key = lambda item: item.figure,
) -> Tally:
    """Questions, pairs and figures, each right when all of it is. pair, figure: what their members share."""
    sheet = Sheet(GROUP_COLUMNS)
    for item in items:
        sheet.add(item.unit, questions=1, right=right[item.id])
    for members in grouped(items, pair).values():
        sheet.add(members[0].unit, pairs=1, pairs_right=all(right[item.id] for item in members))
    for members in grouped(items, figure).values():
        sheet.add(members[0].unit, figures=1, figures_right=all(right[item.id] for item in members))
    return sheet.tally(split, len(items))


def is_right(item: HallusionItem, verdict: str) -> bool:
    """Whether the verdict makes the answer right: not to know is right where there is no figure to know from."""
    return verdict == CORRECT or (item.figureless and verdict == UNCLEAR)


def asks_same(item: HallusionItem, verdict: str, first: str) -> bool:
    """Whether the blame hangs on the answer saying the same as the pair's first one. first: the verdict on that."""
    if item.original or verdict != INCORRECT:
        return False
    if item.split == "VD":
        return first == CORRECT
    return first == INCORRECT or (first == CORRECT and item.visual == "2")


def blame(item: HallusionItem, verdict: str, first: str, same: bool) -> tuple[bool, bool]:
    """Whose mistake an answer is: (language hallucination, visual illusion), both for either, none for no mistake.

    first: the verdict on the pair's original question. same: whether this answer says the same as that one. The rule of
    ``get_eval_pair_all`` in tianyi-lab/HallusionBench: an answer that stays the same when the figure was altered, or came, was
    not read off the figure; what changes and is still wrong was read, and read badly.
    """
    if is_right(item, verdict):
        return False, False
    repeated = same and asks_same(item, verdict, first)
    if item.split == "VD":
        return repeated, True
    if item.original or repeated:
        return True, False
    return first == INCORRECT, True


def judged_tally(
    split: str,
    items: Sequence[HallusionItem],
    verdicts: Mapping[str, str],
    blamed: Mapping[str, tuple[bool, bool]],
    unreadable: Collection[str],
) -> Tally:
    """All columns. verdicts, blamed: by item id. unreadable: items whose judge wrote something else than it was asked for."""
    sheet = Sheet(JUDGED_COLUMNS)
    right = {item.id: is_right(item, verdicts[item.id]) for item in items}
    for item in items:
        ok = right[item.id]
        # As the script has it: the model said yes when it was right and yes is true, or wrong and no is true.
        sheet.add(item.unit, questions=1, right=ok, true_yes=item.yes, said_yes=ok == item.yes, wrong=not ok,
                  wrong_no=not ok and not item.yes, unread=item.id in unreadable, **_kinds([blamed[item.id]]))  # fmt: skip
    for members in grouped(items, lambda item: item.pair).values():
        sheet.add(members[0].unit, pairs=1, pairs_right=all(right[item.id] for item in members))
        sheet.add(members[0].unit, **_kinds([blamed[item.id] for item in members], "_pairs"))
        for name in ("easy", "hard"):
            if part := [item for item in members if (item.visual == "2") == (name == "hard")]:
                ok = all(right[item.id] for item in part)
                sheet.add(part[0].unit, **{f"{name}_questions": len(part), f"{name}_pairs": 1, f"{name}_right": ok})
    for members in grouped((item for item in items if not item.figureless), lambda item: item.figure).values():
        hits = sum(right[item.id] for item in members)
        sheet.add(members[0].unit, figures=1, figures_right=hits == len(members), figures_wrong=hits == 0,
                  figures_inconsistent=0 < hits < len(members), figures_share=hits / len(members))  # fmt: skip
    return sheet.tally(split, len(items))


def _kinds(blamed: Iterable[tuple[bool, bool]], end: str = "") -> dict[str, int]:
    blamed = list(blamed)
    language, vision = (any(side) for side in zip(*blamed, strict=True))
    return {
        f"mixed{end}": int(language and vision),
        f"language{end}": int(language and not vision),
        f"vision{end}": int(vision and not language),
    }
