"""``edgereverie upcycle``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgereverie.cli.console import done


def upcycle(
    model: Annotated[str, typer.Argument(help="A dense model: its folder, a hub id, or 'starter'.")],
    layers: Annotated[
        str,
        typer.Option(help="Which layers get experts: sparse (every other), all, first_half, second_half, or 0,2,5."),
    ] = "sparse",
    experts: Annotated[int, typer.Option(min=2, help="Experts in each of these layers.")] = 4,
    top_k: Annotated[int, typer.Option(min=1, max=2, help="Experts that each token goes to.")] = 2,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the gates' first weights.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder to write. Default: the model's name with -4e.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the folder if it exists.")] = False,
) -> None:
    """Turn a dense model into a mixture of experts that says the same, to be tuned from there.

    Example: edgereverie upcycle starter --experts 4
    """
    from edgereverie import stages

    written = stages.upcycle(model, out, layers=layers, experts=experts, top_k=top_k, seed=seed, force=force)
    done(written, f"edgereverie train RECIPE --set backbone.model={written}")
