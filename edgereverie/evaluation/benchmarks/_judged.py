"""What judged benchmarks have in common: a count of what could not be read, and pictures that go by several names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgereverie.evaluation.benchmarks.base import Item
from edgereverie.evaluation.source import Source
from edgereverie.evaluation.statistics import Formula, Metric, ratio

OWN_WORDS = "; judges are asked in words of edgereverie"
_SHOWN = 300  # characters of a reply that a mark quotes


def share_of(column: int, total: int = 0) -> Formula:
    """One summed column over another, by default over the first, which counts the items."""

    def formula(counts: np.ndarray) -> np.ndarray:
        return ratio(counts[..., column], counts[..., total])

    return formula


def unread(formula: Formula) -> Metric:
    """The share of replies that no rule could read: how far the other figures are the judge's. It is no merit of a model's."""
    return Metric("unread", "Unread", formula, better=None)


def picture_of(source: Source, benchmark: str, names: Sequence[str], where: str) -> Path:
    """The first of the names that is there. Raises DataError that tells of the first one where it must be and is not."""
    anywhere = replace(source, pictures=False)
    found = (anywhere.picture(benchmark, name, where) for name in names)
    return next((path for path in found if path.is_file()), None) or source.picture(benchmark, names[0], where)


def first_units(items: Sequence[Item], limit: int | None) -> list[Item]:
    """The items of the first so many pictures."""
    kept = set(list(dict.fromkeys(item.unit for item in items))[:limit])
    return [item for item in items if item.unit in kept]


def quoted(reply: str) -> str:
    """A reply for a mark's note: one line, not too long."""
    said = " ".join(reply.split())
    return said if len(said) <= _SHOWN else f"{said[:_SHOWN]}…"
