"""``edgereverie models``."""

from __future__ import annotations

from typing import Annotated

import typer

from edgereverie.cli.console import print_json


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
    for row in rows:
        count = f"{_large(row['parameters'])} parameters"
        if row["active"] < row["parameters"]:
            count += f", {_large(row['active'])} of them for each token"
        licence = row["licence"] + (f", under it {row['base_licence']}" if row["base_licence"] else "")
        run = ", ".join(f"{name} {_gigabytes(size)}" for name, size in row["run_bytes"].items())
        print(row["id"])
        print(f"    {count}; licence: {licence}")
        print(
            f"    tune {_gigabytes(row['tune_bytes'])} GB; run {run} GB; leaves as {', '.join(row['exports']) or '-'}"
        )
    print(
        "\nMemory is computed from the models' configs, with one conversation at a time. Name a model where a recipe or a"
    )
    print("command wants one: it is read from the hub, or from its folder.")


def _large(count: int) -> str:
    return f"{count / 1e9:.2f} B" if count >= 1e8 else f"{count / 1e6:.1f} M"


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f}" if size >= 1e9 else f"{size / 1e9:.2f}"
