"""``edgereverie compare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgereverie.cli.console import console, done, print_json

if TYPE_CHECKING:
    from edgereverie.stages.scoring import Compared


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Report folders, or files of their runs; the first is the starting point."),
    ],
    common: Annotated[
        bool, typer.Option("--common", help="Compare what all were asked, instead of refusing different questions.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of what is drawn for intervals and p-values.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for the runs and their report.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare two or more runs over the same questions: differences, 95 % intervals, p-values, verdicts.

    Pictures are resampled and swapped whole, since questions about one picture hang together. The verdict is that of p by Holm
    over everything compared here, at 5 %.

    Example: edgereverie compare report-before report-after
    """
    from edgereverie import stages

    found = stages.compare(runs, common=common, out=out, seed=seed)
    if as_json:
        print_json(_values(found))
        return
    _show(found)


def _show(found: Compared) -> None:
    from edgereverie.evaluation.scoring_terminal import comparison_tables

    terminal = console()
    for part in found.parts:
        terminal.print(f"Only {part.told()}", markup=False)
    for one in found.comparisons:
        for table in comparison_tables(one):
            terminal.print(table)
    tests = sum(bool(change.verdict) for one in found.comparisons for change in one.changes)
    draws = {change.chance.resolution for one in found.comparisons for change in one.changes if not change.chance.exact}
    terminal.print(
        f"Intervals and p by picture; p (Holm) over {tests} comparisons, verdicts at 5 %."
        + (f" No p can be under {max(draws):.4f}: so many swaps are drawn." if draws else ""),
        style="dim",
    )
    versions = dict.fromkeys(one.versions.get("edgereverie", "unknown") for one in found.kept)
    if len(versions) > 1:
        terminal.print(
            f"Scored by different versions of edgereverie: {', '.join(versions)}.", style="yellow", markup=False
        )
    if found.report:
        done(found.report)


def _values(found: Compared) -> dict[str, Any]:
    from edgereverie.records import as_json
    from edgereverie.told.values import finite

    return finite({
        "edgereverie": "comparison",
        "runs": [
            {
                "label": one.label,
                "artefact": one.artefact,
                "versions": dict(one.versions),
                "data": {run.benchmark: run.data for run in one.runs},
            }
            for one in found.kept
        ],
        "common": as_json(found.parts),
        "comparisons": [
            {
                "before": one.before,
                "after": one.after,
                "changes": [{"metric": change.metric, **as_json(change)} for change in one.changes],
                "mcnemar": as_json(one.right),
            }
            for one in found.comparisons
        ],
    })  # fmt: skip
