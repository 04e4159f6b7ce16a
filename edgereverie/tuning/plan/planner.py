"""Memory and time of a run before it starts: from its recipe and the real lengths of its data, no weights loaded.

The largest batches of the first epoch are gone through on tensors without values (``trace``), so what is counted is what
the run's own code does. Where that does not fit, the mildest change that does is looked for: first what changes no result
(checkpointing, smaller batches gathered to the same step, smaller trees), then a lower rank.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgereverie.backbones.base import ModelFolder
from edgereverie.errors import DataError
from edgereverie.recipe import Recipe
from edgereverie.tuning.methods.base import Method
from edgereverie.tuning.plan import batches, model
from edgereverie.tuning.plan.batches import Shape
from edgereverie.tuning.plan.cards import Machine
from edgereverie.tuning.plan.trace import Trace, trace

MOST = 4000  # records that are encoded; of larger data a sample is
FIXED, LOST = "interpreter, libraries or driver", "allocator"
FEATURES, FILES = "pictures' features", "weight files, mapped"
_LOWEST_RANK = 8


@dataclass(frozen=True, slots=True)
class Estimate:
    """One way to run on one machine. parts: bytes when they are most. rows, tokens: of the largest batch after packing."""

    parts: Mapping[str, int]
    seconds: float
    step_seconds: float
    tokens_per_second: float
    rows: int
    tokens: int

    @property
    def peak(self) -> int:
        return sum(self.parts.values())


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the recipe fits a machine. changes: settings that would make it fit, and proposed, what it takes then."""

    machine: Machine
    estimate: Estimate
    changes: Mapping[str, Any] | None = None
    proposed: Estimate | None = None

    @property
    def fits(self) -> bool:
        return self.machine.room == 0 or self.estimate.peak <= self.machine.room


@dataclass(frozen=True, slots=True)
class Plan:
    """records: in the data; looked_at: how many of them lengths were taken from. steps: of the whole run."""

    recipe: Recipe
    records: int
    looked_at: int
    longest: int
    steps: int
    verdicts: tuple[Verdict, ...]


class Planner:
    """Plans of one recipe on one data set. Raises DataError where there is nothing to learn from."""

    def __init__(
        self, recipe: Recipe, method: Method, folder: ModelFolder, records: Sequence[Any], images: Path | None
    ) -> None:
        if not records:
            raise DataError("The recipe's data hold no records.", hint="Check data.train and its shares.")
        self.recipe, self.method, self.folder = recipe, method, folder
        self.records = len(records)
        self._drawn = len({record.image for record in records if record.image}) / len(records)
        looked = batches.sample_of(records, MOST, recipe.train.seed)
        self.looked_at = len(looked)
        self.dataset = method.dataset(looked, folder, images, recipe)
        if recipe.train.preference.reference == "kept" and hasattr(self.dataset, "keep"):
            # Computed before the first step, not in each of them.
            self.dataset.keep(np.zeros((len(self.dataset), len(method.kept(recipe).names))))
        self.longest = batches.longest(self.dataset)
        self._shapes: dict[tuple[int, int, int], list[Shape]] = {}
        self._traces: dict[tuple[Any, ...], Trace] = {}
        self._files: int | None = None

    def plan(self, machines: Sequence[Machine]) -> Plan:
        """A verdict for each machine."""
        verdicts = tuple(map(self.verdict, machines))
        steps = batches.steps(self.recipe, self.records)
        return Plan(self.recipe, self.records, self.looked_at, self.longest, steps, verdicts)

    def verdict(self, machine: Machine) -> Verdict:
        """The recipe as it is, and where that does not fit, the first of the changes that does."""
        asked = Verdict(machine, self.estimate(self.recipe, machine))
        if asked.fits:
            return asked
        for changes in self._milder():
            estimate = self.estimate(changed(self.recipe, changes), machine)
            if estimate.peak <= machine.room:
                return Verdict(machine, asked.estimate, changes, estimate)
        return asked

    def estimate(self, recipe: Recipe, machine: Machine) -> Estimate:
        """Memory of the largest batch and time of all of them on ``machine``."""
        shapes = self._batches(recipe)
        traced = [(shape, self._trace(recipe, shape, machine)) for shape in batches.largest(shapes)]
        shape, largest = max(traced, key=lambda pair: pair[1].peak)
        usual = batches.usual(shapes)
        middle = self._trace(recipe, usual, machine)
        mean = sum(one.size for one in shapes) / len(shapes)
        # Time grows with the tokens of a batch; calls of kernels do not.
        one_batch = max(middle.flops * mean / usual.size / machine.rate, middle.calls * machine.call)
        step = recipe.train.accumulation * one_batch
        parts = dict(largest.parts) | self._beside(recipe, largest, machine)
        return Estimate(
            parts={part: size for part, size in parts.items() if size} | {FIXED: machine.without_model()},
            seconds=step * batches.steps(recipe, self.records),
            step_seconds=step,
            tokens_per_second=mean / one_batch,
            rows=shape.rows,
            tokens=shape.tokens,
        )

    def _beside(self, recipe: Recipe, largest: Trace, machine: Machine) -> dict[str, int]:
        """Bytes that no step makes. Features are kept in the computer's memory, and files mapped in it, not in a card's."""
        again = recipe.train.gradient_checkpointing
        lost = {LOST: machine.lost(largest.peak, largest.small, recomputed=again)}
        if machine.cuda:
            return lost
        if self._files is None:
            self._files = model.replaced_bytes(self.folder) if recipe.backbone.quantization == "nf4" else 0
        return lost | {FILES: self._files, FEATURES: self._kept_features(recipe, largest.seen)}

    def _kept_features(self, recipe: Recipe, one: int) -> int:
        train = recipe.train
        if train.features != "memory":
            return 0
        seen = min(self.records, batches.steps(recipe, self.records) * train.accumulation * train.batch_size)
        return min(int(train.features_gb * 1e9), round(self._drawn * seen) * one)

    def _batches(self, recipe: Recipe) -> list[Shape]:
        key = recipe.train.batch_size, recipe.train.per_picture, recipe.train.max_length
        if key not in self._shapes:
            self._shapes[key] = batches.shapes(self.dataset, recipe)
        return self._shapes[key]

    def _trace(self, recipe: Recipe, shape: Shape, machine: Machine) -> Trace:
        train = recipe.train
        key = (shape.members, train.max_length, train.gradient_checkpointing, train.lora.rank, train.accumulation > 1,
               machine.cuda, machine.precision)  # fmt: skip
        if key not in self._traces:
            batch = self.method.collate(self.folder, recipe)([self.dataset[index] for index in shape.members])
            self._traces[key] = trace(
                recipe, self.method, self.folder, batch, precision=machine.precision, cuda=machine.cuda
            )
        return self._traces[key]

    def _milder(self) -> Iterator[dict[str, Any]]:
        """Changes to the train section, from those that change no result to those that change it most."""
        train = self.recipe.train
        changes: dict[str, Any] = {}
        if not train.gradient_checkpointing:
            changes = {"gradient_checkpointing": True}
            yield changes
        size, gathered = train.batch_size, train.accumulation
        while size > 1:
            # A step stays as large as it was, or becomes a little larger.
            gathered, size = -(-gathered * size // max(1, size // 2)), size // 2
            changes = changes | {"batch_size": size, "accumulation": gathered}
            yield changes
        shorter = -(-self.longest // 64) * 64
        if self.longest and shorter < train.max_length:
            changes = changes | {"max_length": shorter}
            yield changes
        rank = train.lora.rank
        while rank // 2 >= _LOWEST_RANK:
            rank //= 2
            changes = changes | {"lora": {"rank": rank, "alpha": train.lora.alpha * rank / train.lora.rank}}
            yield changes


def changed(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """The recipe with other values in its train section."""
    train = recipe.train
    changes = dict(changes)
    if "lora" in changes:
        changes["lora"] = train.lora.model_copy(update=changes["lora"])
    return recipe.model_copy(update={"train": train.model_copy(update=changes)})


def settings(changes: Mapping[str, Any]) -> list[str]:
    """Changes as the words behind ``--set``.

    >>> settings({"batch_size": 4, "lora": {"rank": 64, "alpha": 128.0}})
    ['train.batch_size=4', 'train.lora.rank=64', 'train.lora.alpha=128']
    """
    found = []
    for key, value in changes.items():
        for name, one in value.items() if isinstance(value, Mapping) else [("", value)]:
            text = str(one).lower() if isinstance(one, bool) else f"{one:g}" if isinstance(one, float) else str(one)
            found.append(f"train.{key}{'.' + name if name else ''}={text}")
    return found
