"""``edgereverie export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgereverie.cli.console import Stopped, done


def export(
    model: Annotated[str, typer.Argument(help="A model folder, a run or adapter folder, or: starter.")],
    profiles: Annotated[
        list[str] | None,
        typer.Option("--profile", help="An export profile, such as gguf-q8-0, or a YAML file of one. Repeatable."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the bundles. Default: bundles/ beside the model.")
    ] = None,
    prompts: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Prompts to compare on, instead of the profile's number.")
    ] = None,
    scores: Annotated[
        int,
        typer.Option(
            min=0,
            max=10_000,
            metavar="SCENES",
            help="Count hallucinations of model and bundle on so many held-out scenes.",
        ),
    ] = 0,
    lora_gguf: Annotated[
        bool, typer.Option("--lora-gguf", help="Write the adapter alone, for a base's GGUF, instead of bundles.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would take.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace bundles that exist.")] = False,
    allow_parity_failure: Annotated[
        bool, typer.Option("--allow-parity-failure", help="Keep a bundle whose answers differ from the model's.")
    ] = False,
) -> None:
    """Turn a model, or an adapter that is merged first, into bundles that run without torch.

    Each is compared with the model it was made from. Stopped at any moment, the same command goes on.

    Example: edgereverie export runs/starter-reverie --profile gguf-q8-0 --profile onnx-int8
    """
    from edgereverie import stages

    if lora_gguf == bool(profiles):
        raise typer.BadParameter("Name either profiles or --lora-gguf.", param_hint="--profile")
    if lora_gguf:
        done(stages.export_adapter(Path(model), out, force=force))
        return
    try:
        bundles = stages.export(
            model, profiles or [], out, prompts=prompts, scores=scores, dry_run=dry_run, force=force,
            allow_parity_failure=allow_parity_failure,
        )  # fmt: skip
    except KeyboardInterrupt:
        raise Stopped("Run the same command again: bundles that are whole are not made again.") from None
    for bundle in bundles:
        done(bundle)
    if bundles:
        print(f"next: edgereverie ask {bundles[0]} --image PICTURE 'What is in the picture?'")
