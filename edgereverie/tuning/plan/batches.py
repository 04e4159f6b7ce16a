"""The batches that a run would make, without opening a picture: which is the largest, and what a usual one is."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgereverie.recipe import Recipe
from edgereverie.records import PreferencePair, Sample
from edgereverie.tuning.batch import Example
from edgereverie.tuning.order import BatchOrder
from edgereverie.tuning.pairs import Pair
from edgereverie.tuning.tree import pack

_LONGEST = 200  # records by their characters that any sample of large data has


@dataclass(frozen=True, slots=True)
class Shape:
    """One batch: its members in the data set, rows x tokens after packing, and how many tokens are learned."""

    members: tuple[int, ...]
    rows: int
    tokens: int
    learned: int

    @property
    def size(self) -> int:
        return self.rows * self.tokens


def sample_of(records: Sequence[Any], most: int, seed: int) -> list[Any]:
    """At most about ``most`` of the records: whole pictures, drawn by seed, and the longest ones; all where they are few."""
    if len(records) <= most:
        return list(records)
    groups: dict[Any, list[int]] = {}
    for index, record in enumerate(records):
        groups.setdefault(record.image or index, []).append(index)
    order = list(groups.values())
    random.Random(seed).shuffle(order)
    kept = set(sorted(range(len(records)), key=lambda index: -_characters(records[index]))[:_LONGEST])
    for group in order:
        if len(kept) >= most:
            break
        kept.update(group)
    return [records[index] for index in sorted(kept)]


def _characters(record: Sample | PreferencePair) -> int:
    prompt = sum(len(turn.text) for turn in record.turns)
    return prompt + (len(record.chosen) + len(record.rejected) if isinstance(record, PreferencePair) else 0)


def shapes(dataset: Any, recipe: Recipe) -> list[Shape]:
    """The batches of the first epoch, in their order."""
    train = recipe.train
    order = list(
        BatchOrder(dataset.groups(), dataset.lengths(), train.batch_size, train.seed, together=train.per_picture)
    )
    batches = [order[i : i + train.batch_size] for i in range(0, len(order), train.batch_size)]
    return [_shape(dataset, batch, train.max_length) for batch in batches]


def _shape(dataset: Any, members: Sequence[int], longest: int) -> Shape:
    examples = [example for index in members for example in conversations(dataset[index])]
    if not examples:
        return Shape(tuple(members), len(members), 1, 0)
    rows = pack([example.ids for example in examples], [example.root for example in examples], longest)
    learned = sum(int(example.learned.sum()) for example in examples)
    return Shape(tuple(members), len(rows), max(map(len, rows)), learned)


def conversations(item: Any) -> list[Example]:
    """The conversations that an item of a data set brings into a batch; none where it is no conversation."""
    if isinstance(item, Pair):
        return [item.chosen, item.rejected]
    return [item] if isinstance(item, Example) else []


def longest(dataset: Any) -> int:
    """Tokens of the longest single conversation."""
    return max((len(one) for index in range(len(dataset)) for one in conversations(dataset[index])), default=0)


def largest(found: Sequence[Shape]) -> list[Shape]:
    """The batches that may need the most memory: of most tokens, of most scores of attention, of most labels."""
    measures = (lambda s: s.size, lambda s: s.size * s.tokens, lambda s: s.learned)
    return list({max(found, key=measure).members: max(found, key=measure) for measure in measures}.values())


def usual(found: Sequence[Shape]) -> Shape:
    """The batch whose size is the median."""
    return sorted(found, key=lambda shape: shape.size)[len(found) // 2]


def steps(recipe: Recipe, records: int) -> int:
    """Steps of the whole run on one device."""
    train = recipe.train
    if train.steps is not None:
        return train.steps
    batches = math.ceil(records / train.batch_size)
    return math.ceil(max(1, batches // train.accumulation) * (train.epochs or 1))
