"""``edgereverie export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgereverie.cli.console import done


def export(
    model: Annotated[str, typer.Argument(help="A model folder, a run folder, or: starter.")],
    profiles: Annotated[
        list[str] | None, typer.Option("--profile", help="An export profile, such as gguf-q8-0. Repeatable.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the bundles. Default: bundles/ beside the model.")
    ] = None,
    lora_gguf: Annotated[
        bool, typer.Option("--lora-gguf", help="Write the adapter alone, for a base's GGUF, instead of bundles.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace bundles that exist.")] = False,
    allow_parity_failure: Annotated[
        bool, typer.Option("--allow-parity-failure", help="Keep a bundle whose answers differ from the model's.")
    ] = False,
) -> None:
    """Turn a merged model into bundles that run without torch.

    Example: edgereverie export runs/starter-reverie/merged --profile gguf-q8-0
    """
    from edgereverie import stages

    if lora_gguf == bool(profiles):
        raise typer.BadParameter("Name either profiles or --lora-gguf.", param_hint="--profile")
    if lora_gguf:
        done(stages.export_adapter(Path(model), out, force=force))
        return
    bundles = stages.export(model, profiles or [], out, force=force, allow_parity_failure=allow_parity_failure)
    for bundle in bundles:
        done(bundle)
    if bundles:
        print(f"next: edgereverie ask {bundles[0]} --image PICTURE 'What is in the picture?'")
