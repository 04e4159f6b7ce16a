"""The proof that a bundle says what its model says: parity by logits, and hallucination scores where truth is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from edgereverie.bundle import Bundle
from edgereverie.errors import ExportError
from edgereverie.records import Answer, Options, Score
from edgereverie.stages._console import passing
from edgereverie.stages._probes import Domain
from edgereverie.stages._reference import reference_engine
from edgereverie.stages.backbones import open_model

if TYPE_CHECKING:
    from edgereverie.backbones.base import ModelFolder
    from edgereverie.evaluation.benchmarks.base import Benchmark, BenchmarkResult, Item
    from edgereverie.export.base import Profile
    from edgereverie.export.parity import Observed
    from edgereverie.recipe import Recipe
    from edgereverie.runtime.model import Model

_ACTIVATIONS = 64  # conversations
_SPLIT = "adversarial"  # of POPE: what it asks for usually stands beside what is there
_SEED = 4071  # of the held-out scenes; no recipe and no demo draws with it
_TRAINING = 400  # scenes whose shapes tell which absent ones are tempting


class Proof:
    """Compares bundles with the model they were made from. The model is asked once, for all of them.

    prompts: the most that any profile wants. scores: held-out scenes to count hallucinations on; 0 counts none. Use it as a
    context manager: what the model said lies in a temporary folder.
    """

    def __init__(self, folder: ModelFolder, recipe: Recipe | None, *, prompts: int, scores: int, allow: bool) -> None:
        self._folder, self._domain, self._count = folder, Domain(recipe), prompts
        self._scores, self._allow = scores, allow
        self._owned = ExitStack()

    def __enter__(self) -> Proof:
        return self

    def __exit__(self, *_: object) -> None:
        self._owned.close()

    def prompts(self) -> Sequence[tuple[Sequence[int], Any]]:
        """What targets that look at activations are handed: none of what the comparison asks."""
        asked = self._domain.prompts(self._folder, _ACTIVATIONS, "activations")
        return [(prompt.ids, prompt.pixels) for prompt in asked]

    def judge(self, profile: Profile, bundle: Bundle) -> dict[str, Any]:
        """The verdict for a bundle's manifest. Raises ExportError when it fails and may not."""
        from edgereverie.export import parity

        observed = self._observed
        with open_model(str(bundle.folder), precise=True) as exported:
            with passing(f"compare {profile.name}") as progress:
                found = parity.judge(observed, exported.engine, profile.parity, most=profile.prompts, progress=progress)
            if not self._allow:
                found.require()
            scored = self._scored(exported) if self._scores else {}
        return found.as_json() | {"prompts": self._domain.name} | scored

    @cached_property
    def _temporary(self) -> Path:
        return Path(self._owned.enter_context(TemporaryDirectory(prefix="edgereverie-proof-")))

    @cached_property
    def _observed(self) -> Observed:
        from edgereverie.export import parity

        prompts = self._domain.prompts(self._folder, self._count)
        kept = self._temporary / "logits"
        kept.mkdir()
        with reference_engine(self._folder) as reference, passing("compare: the model itself") as progress:
            return parity.observe(reference, prompts, kept, progress)

    # Hallucinations

    @cached_property
    def _benchmarks(self) -> list[tuple[Benchmark, list[Item]]]:
        """POPE's hardest split and CHAIR on held-out scenes, drawn now."""
        from edgereverie.data.scenes.files import draw_dataset
        from edgereverie.evaluation.source import Source
        from edgereverie.registry import BENCHMARKS

        data = draw_dataset(
            self._temporary / "scenes", train=_TRAINING, heldout=self._scores, seed=_SEED, companion_share=0.7
        )
        pope, chair = BENCHMARKS.get("pope"), BENCHMARKS.get("chair")
        source = Source(data)
        return [(pope, [item for item in pope.items(source) if item.split == _SPLIT]), (chair, chair.items(source))]

    @cached_property
    def _reference_results(self) -> list[BenchmarkResult]:
        with open_model(str(self._folder.path)) as model:
            return self._results(model, "scores of the model itself")

    def _scored(self, exported: Model) -> dict[str, Any]:
        """``scores``: each metric of model and artefact with its 95 % interval, and their paired difference."""
        from edgereverie.evaluation.benchmarks.base import compare

        expected, found, told = self._reference_results, self._results(exported, "scores of the bundle"), {}
        for (benchmark, _), one, other in zip(self._benchmarks, expected, found, strict=True):
            changes = compare(benchmark, one, other)
            for model, bundle, change in zip(one.scores, other.scores, changes, strict=True):
                told[model.metric] = {"model": _plain(model), "bundle": _plain(bundle), "change": _plain(change)}
        return {"scores": {"scenes": self._scores, "metrics": told}}

    def _results(self, model: Model, title: str) -> list[BenchmarkResult]:
        from edgereverie.evaluation.benchmarks.base import score_answers

        found = []
        for benchmark, items in self._benchmarks:
            answers: dict[str, str] = {}
            with passing(f"{title}: {benchmark.name}") as progress:
                for number, item in enumerate(items):
                    answers[item.id] = _answer(model, item, benchmark.max_tokens).text
                    if progress:
                        progress(number + 1, len(items))
            found.append(score_answers(benchmark, benchmark.default(items), items, answers))
        return found


def _answer(model: Model, item: Item, most: int) -> Answer:
    return model.answer_many(item.image, [item.question], Options(max_tokens=most))[0]


def _plain(score: Score) -> dict[str, Any]:
    """Value and interval; an undefined one is None."""
    numbers = {name: getattr(score, name) for name in ("value", "low", "high")}
    return {name: value if math.isfinite(value) else None for name, value in numbers.items()} | {"n": score.n}


def require_scenes(scores: int, of_scenes: bool) -> None:
    """Raise ExportError when scores are asked for of a model whose domain has no benchmark here."""
    if scores and not of_scenes:
        raise ExportError(
            "Hallucinations can be counted at export only for models of drawn scenes, whose truth is known.",
            hint="Leave out --scores, and measure the bundle with: edgereverie eval BUNDLE --data FOLDER",
        )
