"""``edgereverie bundle``: look at an exported bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgereverie.cli.console import console, print_json

app = typer.Typer(help="Check or show an exported bundle.", no_args_is_help=True)
Folder = Annotated[Path, typer.Argument(help="The bundle's folder.")]


@app.command()
def check(folder: Folder) -> None:
    """Compare every file with its length and SHA-256 in the manifest.

    Example: edgereverie bundle check runs/starter-reverie/gguf-q8-0
    """
    from edgereverie.bundle import Bundle

    bundle = Bundle.load(folder)
    bundle.check()
    print(f"{folder}: whole, {len(bundle.files)} files agree with the manifest.")


@app.command()
def show(folder: Folder, as_json: Annotated[bool, typer.Option("--json", help="Print the manifest.")] = False) -> None:
    """Show what a bundle is, what it was made from, and how close it stayed.

    Example: edgereverie bundle show runs/starter-reverie/gguf-q8-0
    """
    from edgereverie.bundle import Bundle
    from edgereverie.records import as_json as plain

    bundle = Bundle.load(folder)
    if as_json:
        print_json({key: value for key, value in plain(bundle).items() if key != "folder"})
        return
    from rich.table import Table
    from rich.text import Text

    facts = {
        "name": bundle.name,
        "target": f"{bundle.target}, {bundle.quantization}",
        "chat format": bundle.chat,
        "image": f"{bundle.image.size} x {bundle.image.size}, {bundle.image.tokens} tokens, {bundle.image.fit}",
        "context": f"{bundle.context:,} tokens",
        **{f"made from: {key}": str(value) for key, value in bundle.made_from.items()},
        **{f"parity: {key}": str(value) for key, value in bundle.parity.items()},
        "calibration": "yes" if bundle.calibration else "none",
        **{f"file: {role}": f"{file.path}, {file.bytes / 1e6:,.1f} MB" for role, file in bundle.files.items()},
    }
    rows = Table(box=None, pad_edge=False, show_header=False)
    for key, value in facts.items():
        rows.add_row(Text(key, style="dim"), Text(value, overflow="fold"))
    console().print(rows)
