"""AMBER's discriminative part: yes-or-no questions, where "no" is the positive class (Wang et al., 2023).

The official scorer reads an answer only when it is exactly "Yes" or "No", rounds every rate to one decimal of a percent, and
takes F1 from the rounded precision and recall. Its figures are these rounded ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from edgereverie.evaluation.benchmarks._amber_files import DIMENSIONS, QUESTIONS, SPLITS, START, AmberItem
from edgereverie.evaluation.benchmarks.base import Counted, Mark, Tally, per_unit
from edgereverie.evaluation.statistics import Metric, d_prime, ratio

COLUMNS = ("right", "asked", "rightly_no", "truly_no", "said_no", "said_yes")
ASKED = tuple(name for name, kinds in SPLITS.items() if set(kinds) <= set(QUESTIONS))

Reader = Callable[[str], bool | None]
"""An answer -> whether it says yes; None where the rule reads neither."""


def exactly(text: str) -> bool | None:
    """The official reading.

    >>> [exactly(text) for text in ("Yes", "No", "yes", "No.", "")]
    [True, False, None, None, None]
    """
    return {"Yes": True, "No": False}.get(text)


def official_metrics(split: str) -> tuple[Metric, ...]:
    """The official figures of one split: each attribute's counters start of their own, and existence weakens its F1 more."""
    start = START * len(SPLITS[split]) if split == "attribute" else START
    softening = 0.001 if split == "existence" else 0.0001

    def share(top: int, bottom: int) -> Callable[[np.ndarray], np.ndarray]:
        return lambda counts: percent(counts[..., top], counts[..., bottom] + start) / 100

    precision, recall = share(2, 4), share(2, 3)

    def f1(counts: np.ndarray) -> np.ndarray:
        p, r = precision(counts), recall(counts)
        return rounded(2 * p * r / (p + r + softening) * 100) / 100

    beside = () if split == "existence" else (Metric("d_prime", "d'", _d_prime, share=False),)  # all its answers are no
    return (
        Metric("accuracy", "Accuracy", share(0, 1)),
        Metric("precision", "Precision", precision),
        Metric("recall", "Recall", recall),
        Metric("f1", "F1", f1),
        Metric("yes_ratio", "Yes ratio", lambda counts: ratio(counts[..., 5], counts[..., 1]), better=None),
        *beside,
    )


def _d_prime(counts: np.ndarray) -> np.ndarray:
    """With yes as the positive class, as everywhere else; an answer that is neither is no yes."""
    right, asked, rightly_no, truly_no, _, said_yes = np.moveaxis(np.asarray(counts), -1, 0)
    tp = right - rightly_no
    fp = said_yes - tp
    return d_prime(np.stack([tp, fp, truly_no - fp, asked - truly_no - tp], axis=-1))


def _accuracy(counts: np.ndarray) -> np.ndarray:
    return ratio(counts[..., 0], counts[..., 1])


def _mean_accuracy(counts: np.ndarray) -> np.ndarray:
    """Of a right-and-asked pair of columns for each dimension; one that was not asked takes no part."""
    shares = ratio(counts[..., 0::2], counts[..., 1::2])
    return ratio(np.nansum(shares, axis=-1), np.isfinite(shares).sum(axis=-1))


OFFICIAL = {split: official_metrics(split) for split in ASKED}
ACCURACY = (Metric("accuracy", "Accuracy", _accuracy),)
MEAN_ACCURACY = (Metric("mean_accuracy", "Mean accuracy", _mean_accuracy),)


def count_official(items: Sequence[AmberItem], texts: Mapping[str, str]) -> Counted:
    """Counts of every split whose kinds of question were all asked."""
    said = {item.id: exactly(texts[item.id]) for item in items}
    rows = np.array([_row(item.label, said[item.id]) for item in items], np.int64).reshape(-1, len(COLUMNS))
    kinds, tallies = {item.kind for item in items}, []
    for split in ASKED:
        if set(SPLITS[split]) <= kinds:
            where = [n for n, item in enumerate(items) if item.kind in SPLITS[split]]
            units, counts = per_unit([items[n].unit for n in where], rows[where], len(COLUMNS))
            tallies.append(Tally(split, units, COLUMNS, counts, len(where)))
    return Counted(tuple(tallies), tuple(_mark(item, said[item.id]) for item in items))


def count_by_dimension(items: Sequence[AmberItem], texts: Mapping[str, str], read: Reader) -> Counted:
    """Right answers of each dimension, and all in columns side by side, for their mean."""
    said = {item.id: read(texts[item.id]) for item in items}
    right = {item.id: said[item.id] == item.label for item in items}
    present = [name for name in DIMENSIONS if any(item.split == name for item in items)]
    tallies = []
    for name in present:
        asked = [item for item in items if item.split == name]
        units, counts = per_unit([item.unit for item in asked], [(int(right[item.id]), 1) for item in asked], 2)
        tallies.append(Tally(name, units, ("right", "asked"), counts, len(asked)))
    if len(present) > 1:
        columns = tuple(f"{name}_{what}" for name in present for what in ("right", "asked"))
        rows = [[int(item.split == name) * n for name in present for n in (right[item.id], 1)] for item in items]
        units, counts = per_unit([item.unit for item in items], rows, len(columns))
        tallies.append(Tally("discriminative", units, columns, counts, len(items)))
    return Counted(tuple(tallies), tuple(_mark(item, said[item.id]) for item in items))


def _row(label: bool, yes: bool | None) -> tuple[int, ...]:
    no = yes is False
    return (int(yes == label), 1, int(no and not label), int(not label), int(no), int(yes is True))


def _mark(item: AmberItem, yes: bool | None) -> Mark:
    right = yes == item.label
    if yes is None:
        return Mark(item.id, "unread", 0.0, 1.0, "neither yes nor no")
    note = "" if right else ("said yes to what is not so" if yes else "said no to what is so")
    return Mark(item.id, "yes" if yes else "no", float(right), float(not right), note)


def percent(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    return rounded(np.asarray(top, np.float64) / bottom * 100)


def rounded(values: np.ndarray) -> np.ndarray:
    """One decimal, as Python rounds: of the number as it is, where numpy scales it first.

    >>> rounded(np.array([66.35, 66.25])).tolist(), np.round(66.35, 1).item()
    ([66.3, 66.2], 66.4)
    """
    values = np.asarray(values, np.float64)
    return np.array([round(value, 1) for value in values.ravel().tolist()]).reshape(values.shape)
