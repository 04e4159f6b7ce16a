"""How fast a recipe trains on this machine, with what is shared and without it.

Each way runs in a process of its own, so that its peak of memory is its own, over the same samples: once through, then once
more, as in a later epoch, when kept pictures are found. A run's very first step is left out: it warms up.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgereverie.errors import MissingPackage, TrainError
from edgereverie.records import PreferencePair, Sample
from edgereverie.registry import METHODS
from edgereverie.stages._console import console
from edgereverie.stages.backbones import model_folder
from edgereverie.stages.data import training_records

if TYPE_CHECKING:
    from edgereverie.recipe import Recipe

# From the plain way, which computes every conversation and every picture anew, to what training does.
WAYS = {
    "plain": {"shared": False, "features": "off"},
    "shared": {"shared": True, "features": "off"},
    "shared, kept": {"shared": True, "features": "memory"},
}


@dataclass(frozen=True, slots=True)
class Speed:
    """samples_per_second: in the first epoch. later: in any other. tokens_per_second: of the samples, each in full, so that
    ways compare. peak_bytes: of the card's memory, or of the process where there is none.
    """

    way: str
    samples_per_second: float
    later: float
    tokens_per_second: float
    peak_bytes: int


def bench_train(recipe: Recipe, *, steps: int = 6) -> list[Speed]:
    """The recipe's speed in each of WAYS, on as much of its data as ``steps`` steps take."""
    if steps < 2:
        raise TrainError("One step only warms up.", hint="Measure at least two.")
    if recipe.backbone.model == "starter:untrained":
        raise TrainError(
            "An untrained starter has no weights yet to measure with.", hint="--set backbone.model=starter"
        )
    with tempfile.TemporaryDirectory(prefix="edgereverie-bench-") as place:
        out = Path(place)
        method = METHODS.get(recipe.train.method)
        records, images, _ = training_records(recipe, method.kind, out / "data")
        some = some_of(records, steps * recipe.train.batch_size * recipe.train.accumulation)
        found = []
        for way in WAYS:
            console.print(f"bench {recipe.name}: {way}")
            found.append(alone(measure, recipe, some, images, out / "run", way))
    return found


def some_of(records: Sequence[Any], count: int) -> list[Any]:
    """``count`` records, all about a picture together, as training brings them."""
    groups: dict[object, list[Any]] = {}
    for index, record in enumerate(records):
        groups.setdefault(record.image or index, []).append(record)
    return [record for group in groups.values() for record in group][:count]


def alone(work: Callable[..., Any], *arguments: Any) -> Any:
    """What ``work`` returns in a fresh process of its own."""
    with get_context("spawn").Pool(1) as process:
        return process.apply(work, arguments)


def measure(
    recipe: Recipe, records: Sequence[Sample | PreferencePair], images: Path | None, out: Path, way: str
) -> Speed:
    """Train two epochs on these records in a new folder ``out``, which is removed again. For a process of its own."""
    try:
        from rich.console import Console

        from edgereverie.tuning import trainer, watch
    except ImportError as error:
        raise MissingPackage(error.name or "torch", "Training", "train") from None
    trainer.quiet()
    settings = WAYS[way]
    train = recipe.train.model_copy(update={
        "steps": None, "epochs": 2.0, "save_every": 10**9, "log_every": 1, "features": settings["features"],
    })  # fmt: skip
    recipe = recipe.model_copy(update={"train": train})
    method, folder = METHODS.get(train.method), model_folder(recipe.backbone.model, revision=recipe.backbone.revision)
    dataset = method.dataset(records, folder, images, recipe)
    times = watch.Stopwatch()
    trainer.run(
        recipe, method if settings["shared"] else _Apart(method), folder, records, images, out,
        console=Console(quiet=True), counts={}, callbacks=[times],
    )  # fmt: skip
    shutil.rmtree(out)
    step = train.batch_size * train.accumulation
    steps = math.ceil(len(records) / step)
    if steps < 2:
        raise TrainError(
            f"{len(records)} samples are one step of {step}, which only warms up.",
            hint="Give more data, or smaller batches.",
        )
    first, later = times.ends[steps - 1] - times.ends[0], times.ends[-1] - times.ends[steps - 1]
    speed = (len(records) - step) / first
    return Speed(way, speed, len(records) / later, speed * _tokens(dataset) / len(records), watch.peak_bytes())


def _tokens(dataset: Any) -> int:
    """Of all conversations in full; a pair has two."""
    parts = ([item.chosen, item.rejected] if hasattr(item, "chosen") else [item] for item in dataset)
    return sum(len(part) for both in parts for part in both)


class _Apart:
    """A method whose conversations share nothing: no tree may hold two of them."""

    def __init__(self, method: Any) -> None:
        self.method = method

    def __getattr__(self, name: str) -> Any:
        return getattr(self.method, name)

    def collate(self, folder: Any, recipe: Recipe) -> Any:
        train = recipe.train.model_copy(update={"max_length": 1})
        return self.method.collate(folder, recipe.model_copy(update={"train": train}))
