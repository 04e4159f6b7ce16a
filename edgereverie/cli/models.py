"""``edgereverie models``."""

from __future__ import annotations

from typing import Annotated

import typer

from edgereverie.cli.console import console, print_json


def models(as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON, in bytes.")] = False) -> None:
    """List the published models that load by their names, with what they weigh and take.

    Memory is computed from their configs: to tune, QLoRA at rank 128 with one conversation at a time and gradient
    checkpointing; to run, weights and cache of up to 4,096 tokens.

    Example: edgereverie models
    """
    from edgereverie import stages

    rows = stages.models()
    if as_json:
        print_json(rows)
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading, side in (
        ("model", "left"), ("parameters", "right"), ("tune", "right"), ("run", "left"), ("leaves as", "left"),
        ("licence", "left"),
    ):  # fmt: skip
        table.add_column(heading, overflow="fold", justify=side)
    for row in rows:
        count = _large(row["parameters"]) + (f" ({_large(row['active'])})" if row["active"] < row["parameters"] else "")
        run = ", ".join(f"{name} {_gigabytes(size)}" for name, size in row["run_bytes"].items())
        licence = row["licence"] + (f"; base: {row['base_licence']}" if row["base_licence"] else "")
        cells = (row["id"], count, _gigabytes(row["tune_bytes"]), run, ", ".join(row["exports"]) or "-", licence)
        table.add_row(*map(Text, cells))
    console().print(table)
    print("memory in GB, computed; in brackets: parameters that one token passes")


def _large(count: int) -> str:
    return f"{count / 1e9:.2f} B" if count >= 1e8 else f"{count / 1e6:.1f} M"


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f}" if size >= 1e9 else f"{size / 1e9:.2f}"
