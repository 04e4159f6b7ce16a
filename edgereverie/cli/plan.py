"""``edgereverie plan``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from edgereverie.cli.console import print_json

if TYPE_CHECKING:
    from edgereverie.recipe import Recipe
    from edgereverie.tuning.plan import Estimate, Plan, Verdict

DOES_NOT_FIT = 1
_KEPT = 10  # lines of parts in the table


def plan(
    recipe: Annotated[str, typer.Argument(help="A YAML file, or a shipped recipe (see: edgereverie recipes list).")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one value of the recipe. Repeatable.")
    ] = None,
    card: Annotated[
        list[int] | None,
        typer.Option(metavar="GB", help="A card of 8, 12, 16 or 24 GB instead of this machine. Repeatable."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON, in bytes and seconds.")] = False,
) -> None:
    """Say what memory and time a recipe's training takes, and what would make it fit. No weights are loaded.

    Leaves with 1 when it does not fit everywhere that was asked.

    Example: edgereverie plan starter/reverie --card 8 --card 24
    """
    from edgereverie.recipe import load_recipe

    if not show(load_recipe(recipe, settings or ()), tuple(card or ()), as_json=as_json):
        raise typer.Exit(DOES_NOT_FIT)


def show(recipe: Recipe, cards: tuple[int, ...] = (), *, as_json: bool = False) -> bool:
    """Print the plan; whether the recipe fits everywhere."""
    from edgereverie import stages
    from edgereverie.stages.planning import told

    found = stages.plan(recipe, cards)
    if as_json:
        print_json(told(found))
    else:
        print("\n".join(lines(found)))
    return all(verdict.fits for verdict in found.verdicts)


def lines(found: Plan) -> list[str]:
    """The plan for people: what was looked at, a table of parts by machine, and what to change."""
    train = found.recipe.train
    looked = "" if found.looked_at == found.records else f" (lengths of {found.looked_at:,} of them)"
    largest = found.verdicts[0].estimate
    told = [
        f"plan {found.recipe.name}: {found.records:,} records{looked}, the longest of {found.longest:,} tokens; "
        f"{found.steps:,} steps of {train.accumulation} x {train.batch_size}",
        f"largest batch: {largest.rows} x {largest.tokens:,} tokens in one pass",
        "",
        *_table(found),
        "",
    ]
    for verdict in found.verdicts:
        told += _judged(verdict)
    return told


def _table(found: Plan) -> list[str]:
    """Parts by machine in GB, the largest first."""
    from edgereverie.stages._console import duration

    estimates = [verdict.estimate for verdict in found.verdicts]
    names = list(dict.fromkeys(name for one in estimates for name in one.parts))
    names.sort(key=lambda name: -max(one.parts.get(name, 0) for one in estimates))
    rows = [["GB at the peak", *(verdict.machine.name for verdict in found.verdicts)]]
    rows += [[name, *(_gigabytes(one.parts.get(name, 0)) for one in estimates)] for name in names[:_KEPT]]
    rows.append(["together", *(_gigabytes(one.peak) for one in estimates)])
    rows.append(["there is", *(_gigabytes(v.machine.room) if v.machine.room else "?" for v in found.verdicts)])
    rows.append(["time, roughly", *(duration(one.seconds) for one in estimates)])
    rows.append(["tokens per second", *(f"{one.tokens_per_second:,.0f}" for one in estimates)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]


def _judged(verdict: Verdict) -> list[str]:
    from edgereverie.tuning.plan import settings

    name = verdict.machine.name
    if verdict.fits:
        return [f"{name}: fits."]
    if verdict.proposed is None:
        return [f"{name}: does not fit, nor with any change that is known here. Take a smaller model."]
    change = " ".join(f"--set {one}" for one in settings(verdict.changes or {}))
    return [f"{name}: does not fit. {_would(verdict.proposed)}:", f"    {change}"]


def _would(proposed: Estimate) -> str:
    from edgereverie.stages._console import duration

    return f"With these it would take {_gigabytes(proposed.peak)} GB and {duration(proposed.seconds)}"


def _gigabytes(size: int) -> str:
    """Of 2^30 bytes, as cards are sold.

    >>> _gigabytes(3 * 2**29)
    '1.50'
    """
    return f"{size / 2**30:.2f}"
