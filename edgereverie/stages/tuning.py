"""Samples to an adapter, and the adapter into its base."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgereverie.bundle import new_folder, write_text
from edgereverie.errors import EdgeReverieError, MissingPackage, TrainError
from edgereverie.records import as_json
from edgereverie.registry import METHODS
from edgereverie.stages._console import console
from edgereverie.stages._probes import probe_batches
from edgereverie.stages.backbones import model_folder
from edgereverie.stages.data import training_records

if TYPE_CHECKING:
    from edgereverie.backbones.base import ModelFolder
    from edgereverie.recipe import Recipe


def train(
    recipe: Recipe, out: Path | None = None, *, resume: bool = True, force: bool = False, anyway: bool = False
) -> Path:
    """Run a recipe's training; the folder of its result: ``adapter``, or ``model`` when no adapter was trained or, in
    rounds (method csr), each round's was merged.

    A stopped run goes on; a finished one is returned as it is. force: throw away what is there and start again. anyway:
    begin also where the plan says that the card's memory is too small; else that is a TrainError with what would fit.
    """
    out = out or Path("runs") / recipe.name
    if force and out.exists():
        shutil.rmtree(out)
    if not resume and (out / "run.json").exists():
        raise TrainError(f"{out} holds a run already.", hint="Give --out, or --force to throw it away.")
    if recipe.train.method == "csr":
        from edgereverie.stages.rounds import csr

        return csr(recipe, out, anyway=anyway)
    try:
        from edgereverie.tuning import distributed, processor, run_folder, trainer
    except ImportError as error:
        raise MissingPackage(error.name or "torch", "Training", "train") from None
    trainer.quiet()
    processor.spare()
    method = METHODS.get(recipe.train.method)
    out.mkdir(parents=True, exist_ok=True)
    with distributed.main_first():
        with run_folder.written(out / "data") if recipe.data.scenes else nullcontext():
            records, images, counted = training_records(recipe, method.kind, out)
        folder = base_folder(recipe, out)
    for name in ("adapter", "model"):
        if (out / name).is_dir():
            run_folder.require_same_run(out, recipe, records)
            return out / name
    told = f"{len(records):,} {method.kind}, {recipe.backbone.model}, {recipe.train.method}"
    console.print(f"train {recipe.name}: {told}")
    if distributed.is_main() and not (out / "checkpoints").is_dir():
        _plan(out, recipe, folder, records, images, anyway=anyway)
    return trainer.run(recipe, method, folder, records, images, out, console=console, counts=as_json(counted))


def _plan(
    out: Path, recipe: Recipe, folder: ModelFolder, records: Sequence[Any], images: Path | None, *, anyway: bool
) -> None:
    """Write what the run will take into plan.json, and say so. Without a plan the run begins all the same."""
    from edgereverie.stages.planning import said, told
    from edgereverie.tuning.plan import Planner, this_machine
    from edgereverie.tuning.trainer import precision_of

    method = METHODS.get(recipe.train.method)
    try:
        with console.status("plan"):
            machine = this_machine(precision_of(recipe), folder.config["text_config"]["hidden_size"])
            found = Planner(recipe, method, folder, records, images).plan([machine])
    except EdgeReverieError:
        raise  # broken data are not the plan's matter
    except Exception as error:
        console.print(f"  no plan: {type(error).__name__}: {error}")
        return
    try:
        write_text(out / "plan.json", json.dumps(told(found), indent=2) + "\n")
    except OSError as error:
        console.print(f"  plan.json cannot be written ({error})")
    # A computer short of memory swaps and gets there; a card does not.
    if machine.cuda and not found.verdicts[0].fits and not anyway:
        raise TrainError(said(found), hint="Change the recipe so, or begin all the same with --anyway.")
    console.print(f"  {said(found)}")


def base_folder(recipe: Recipe, out: Path) -> ModelFolder:
    """The folder of the model that a recipe tunes; an untrained starter is made in ``out``."""
    if recipe.backbone.model != "starter:untrained":
        return model_folder(recipe.backbone.model, revision=recipe.backbone.revision)
    from edgereverie.backbones import starter
    from edgereverie.backbones.base import open_folder
    from edgereverie.data.scenes.talk import corpus

    base = out / "base"
    if not base.is_dir():
        with new_folder(base) as beside:
            starter.build(beside, corpus(), recipe.train.seed)
    return open_folder(base)


def merge(adapter: Path, out: Path | None = None, *, base: str | None = None, force: bool = False) -> Path:
    """Merge an adapter into its 16-bit base; the new model folder, with the parity figures in ``merge.json``."""
    adapter = adapter / "adapter" if (adapter / "adapter" / "adapter_config.json").is_file() else adapter
    out = out or adapter.parent / "merged"
    try:
        from edgereverie.tuning import merge as merging
        from edgereverie.tuning import trainer
    except ImportError as error:
        raise MissingPackage(error.name or "torch", "Merging", "train") from None
    trainer.quiet()
    folder = model_folder(base or merging.base_of_adapter(adapter))
    prompts = probe_batches(folder)
    console.print(f"merge {adapter} into {folder.path.name}")
    parity = merging.merge(folder, adapter, out, prompts, force=force)
    console.print(
        f"  parity: largest logit difference {parity.max_logit_diff:.2e} (the adapter moves logits by "
        f"{parity.adapter_effect:.2f}), same top token at {parity.top1:.1%} of {parity.positions} positions"
    )
    return out
