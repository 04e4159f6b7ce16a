"""``edgereverie merge``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgereverie.cli.console import done


def merge(
    adapter: Annotated[Path, typer.Argument(help="The adapter folder, or the run folder that holds it.")],
    base: Annotated[
        str | None, typer.Option(help="Base model, where the adapter's own note of it is out of date.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write. Default: merged/ beside the adapter.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the folder if it exists.")] = False,
) -> None:
    """Fold an adapter into its 16-bit base.

    Example: edgereverie merge runs/starter-reverie/adapter
    """
    from edgereverie import stages

    merged = stages.merge(adapter, out, base=base, force=force)
    done(merged, f"edgereverie export {merged} --profile gguf-q8-0")
