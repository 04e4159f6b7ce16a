"""``edgereverie doctor``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgereverie.cli.console import console, print_json

_STYLE = {"ok": "green", "missing": "yellow", "problem": "red"}


def doctor(
    bundle: Annotated[Path | None, typer.Argument(help="A bundle to look at too, with its own probe picture.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Say what this machine can do, and what to install for the rest.

    Example: edgereverie doctor
    """
    from edgereverie.doctor import examine
    from edgereverie.records import as_json as plain

    findings = examine(bundle)
    if as_json:
        print_json(plain(findings))
        return
    from rich.table import Table
    from rich.text import Text

    rows = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("what", "state", "found", "advice"):
        rows.add_column(heading, overflow="fold")
    for finding in findings:
        state = Text(finding.state, style=_STYLE[finding.state])
        rows.add_row(Text(finding.subject), state, Text(finding.detail), Text(finding.advice))
    console().print(rows)
