"""``edgereverie eval``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgereverie.cli.choices import Backend, benchmarks, guards_named
from edgereverie.cli.console import done


def evaluate(
    models: Annotated[list[str], typer.Argument(help="Bundles or model folders; several are compared.")],
    bench: Annotated[str, typer.Option(help="Benchmarks, with commas between them.")] = "pope,chair",
    data: Annotated[Path | None, typer.Option(help="The benchmarks' folder. Default: drawn scenes.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many items of each benchmark.")] = None,
    guard: Annotated[
        str, typer.Option(callback=guards_named, metavar="NAMES", help="The guards to answer with.")
    ] = "none",
    out: Annotated[Path | None, typer.Option(help="Report folder. Default: report.")] = None,
    backend: Backend = "auto",
) -> None:
    """Measure hallucination, and write report.json and report.html.

    Example: edgereverie eval starter runs/starter-reverie/merged --bench pope,chair
    """
    from edgereverie import stages

    report = stages.evaluate(
        models, benchmarks=benchmarks(bench), data=data, limit=limit, guard=guard, out=out, backend=backend
    )
    done(report / "report.html")
