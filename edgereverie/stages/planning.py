"""What a run would take, before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from edgereverie.errors import MissingPackage, RecipeError
from edgereverie.records import PreferencePair
from edgereverie.registry import METHODS
from edgereverie.stages._console import console
from edgereverie.stages.data import training_records

if TYPE_CHECKING:
    from edgereverie.recipe import Recipe
    from edgereverie.tuning.plan import Plan

_SCENES = 200  # drawn scenes that a plan looks at; they are all of one kind
_SENTENCES = ("There is one of them. ", "Here are two of them. ")  # for answers that are not there yet; about English


def plan(recipe: Recipe, cards: Sequence[int] = ()) -> Plan:
    """Memory by part and time of a recipe's run, on this machine or on cards of so many GB, each with a verdict.

    The data are read and encoded; of drawn scenes a few hundred are drawn into a folder that is thrown away. Of rounds
    (method csr) the training of one is planned, with answers as long as they may become; its search is not.
    """
    try:
        from edgereverie.tuning import plan as planning
        from edgereverie.tuning import processor, trainer
    except ImportError as error:
        raise MissingPackage(error.name or "torch", "Planning", "train") from None
    unknown = sorted(set(cards) - set(planning.CARDS))
    if unknown:
        raise RecipeError(
            f"No card of {unknown[0]} GB is known.", hint=f"Name one of {', '.join(map(str, planning.CARDS))}."
        )
    from edgereverie.stages.tuning import base_folder

    trainer.quiet()
    processor.spare()
    method = METHODS.get(recipe.train.method)
    with ExitStack() as stack:
        out = Path(stack.enter_context(TemporaryDirectory(prefix="edgereverie-plan-")))
        fewer, times = _fewer_scenes(recipe)
        records, images = _records(fewer, out)
        folder = base_folder(recipe, out)
        stack.enter_context(console.status(f"plan {recipe.name}"))
        planner = planning.Planner(recipe, method, folder, records, images)
        planner.records = _all_of(recipe, round(len(records) * times))
        precision = trainer.precision_of(recipe)
        if cards:
            machines = [planning.named_card(card, recipe.train.precision) for card in cards]
        else:
            machines = [planning.this_machine(precision, folder.config["text_config"]["hidden_size"])]
        return planner.plan(machines)


def _records(recipe: Recipe, out: Path) -> tuple[list[Any], Path | None]:
    """What is learned from, with its image root; of rounds, a pair for each prompt with answers of the most characters."""
    if recipe.train.method != "csr":
        records, images, _ = training_records(recipe, METHODS.get(recipe.train.method).kind, out)
        return records, images
    from edgereverie.stages.rounds import asked

    _, images, items = asked(recipe, out)
    most = recipe.train.csr.characters
    best, worst = (text * -(-most // len(text)) for text in _SENTENCES)
    return [PreferencePair(str(at), item.image, item.turns, best, worst) for at, item in enumerate(items)], images


def _all_of(recipe: Recipe, records: int) -> int:
    """Of so many records, how many a run learns from: rounds may ask for fewer prompts than there are pictures."""
    most = recipe.train.csr.prompts if recipe.train.method == "csr" else None
    return records if most is None else min(records, most)


def _fewer_scenes(recipe: Recipe) -> tuple[Recipe, float]:
    """The recipe with at most a few hundred scenes, and how many times as many it asks for."""
    scenes = recipe.data.scenes
    if scenes is None or scenes.count <= _SCENES:
        return recipe, 1.0
    few = recipe.data.model_copy(update={"scenes": scenes.model_copy(update={"count": _SCENES})})
    return recipe.model_copy(update={"data": few}), scenes.count / _SCENES


def said(found: Plan) -> str:
    """The first machine's verdict in a sentence."""
    verdict = found.verdicts[0]
    peak, room = verdict.estimate.peak / 2**30, verdict.machine.room / 2**30
    fits = f"planned: {peak:.2f} GB at the peak on {verdict.machine.name}"
    if verdict.fits:
        return f"{fits}."
    from edgereverie.tuning.plan import settings

    change = " ".join(f"--set {one}" for one in settings(verdict.changes or {}))
    return f"{fits}, where {room:.2f} GB are left. " + (
        f"It would fit with {change}" if change else "Nothing known fits."
    )


def told(found: Plan) -> dict[str, Any]:
    """The plan as plain values, in bytes and seconds."""
    from edgereverie.tuning.plan import settings

    def estimate(one: Any) -> dict[str, Any] | None:
        if one is None:
            return None
        return {
            "peak_bytes": one.peak, "parts": dict(one.parts), "seconds": round(one.seconds, 1),
            "step_seconds": round(one.step_seconds, 4), "tokens_per_second": round(one.tokens_per_second, 1),
            "largest_batch": {"rows": one.rows, "tokens": one.tokens},
        }  # fmt: skip

    return {
        "recipe": found.recipe.name,
        "records": found.records,
        "looked_at": found.looked_at,
        "longest": found.longest,
        "steps": found.steps,
        "machines": [
            {
                "name": verdict.machine.name,
                "room_bytes": verdict.machine.room,
                "precision": verdict.machine.precision,
                "fits": verdict.fits,
                "estimate": estimate(verdict.estimate),
                "set": settings(verdict.changes or {}),
                "proposed": estimate(verdict.proposed),
            }
            for verdict in found.verdicts
        ],
    }
