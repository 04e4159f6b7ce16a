"""``edgereverie demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgereverie.cli.console import done


def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything that the demo makes.")] = Path("edgereverie-demo"),
    seed: Annotated[int, typer.Option(help="Seed of scenes and training.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer scenes and steps; the figures are rougher.")] = False,
) -> None:
    """Tune, export and measure the starter model from end to end, offline, on a CPU.

    Example: edgereverie demo --quick
    """
    from edgereverie import stages

    done(stages.demo(out, seed=seed, quick=quick))
