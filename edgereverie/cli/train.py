"""``edgereverie train``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgereverie.cli.console import Stopped, done
from edgereverie.cli.plan import DOES_NOT_FIT, lines
from edgereverie.errors import BackboneError, MissingPackage

if TYPE_CHECKING:
    from edgereverie.recipe import Recipe


def train(
    recipe: Annotated[str, typer.Argument(help="A YAML file, or a shipped recipe (see: edgereverie recipes list).")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one value of the recipe. Repeatable.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder. Default: runs/NAME.")] = None,
    resume: Annotated[bool, typer.Option("--resume/--no-resume", help="Go on from the last checkpoint.")] = True,
    force: Annotated[bool, typer.Option("--force", help="Replace a finished run.")] = False,
    anyway: Annotated[bool, typer.Option("--anyway", help="Begin also where the plan says it will not fit.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print recipe, counts of data and a plan.")] = False,
) -> None:
    """Tune an adapter as a recipe says.

    With --dry-run nothing is trained, and it leaves with 1 when the run would not fit this machine.

    Example: edgereverie train starter/reverie --set train.steps=50
    """
    from edgereverie.recipe import load_recipe

    loaded = load_recipe(recipe, settings or ())
    if dry_run:
        print(loaded.text(), end="")
        planned, fits = _planned(loaded)
        print("\n".join(f"# {line}".rstrip() for line in [*_counts(loaded), *planned]))
        if not fits:
            raise typer.Exit(DOES_NOT_FIT)
        return
    from edgereverie import stages

    try:
        result = stages.train(loaded, out, resume=resume, force=force, anyway=anyway)
    except KeyboardInterrupt:
        raise Stopped("Run the same command again: training goes on from the last checkpoint.") from None
    trained_in_full = result.name == "model"
    done(
        result, f"edgereverie export {result} --profile gguf-q8-0" if trained_in_full else f"edgereverie merge {result}"
    )


def _planned(recipe: Recipe) -> tuple[list[str], bool]:
    """The plan for this machine, and whether the run fits; why there is none where the model or a package is not here."""
    from edgereverie import stages

    try:
        found = stages.plan(recipe)
    except (BackboneError, MissingPackage) as error:
        return [f"no plan: {error}"], True
    return lines(found), all(verdict.fits for verdict in found.verdicts)


def _counts(recipe: Recipe) -> list[str]:
    """How many samples each source gives, one line each."""
    from edgereverie.data.load import load_samples

    lines = []
    for source in recipe.data.train:
        loaded = load_samples(source.path, format=source.format, images=recipe.data.images)
        lines.append(f"{source.path}: {loaded.counts.total:,} samples as {loaded.format}, share {source.share:g}")
    if scenes := recipe.data.scenes:
        lines.append(f"scenes: {scenes.count:,} pictures x {scenes.conversations} conversations, {scenes.diet} diet")
    return lines
