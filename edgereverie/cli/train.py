"""``edgereverie train``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgereverie.cli.console import Stopped, done

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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved recipe and count its data.")] = False,
) -> None:
    """Tune an adapter as a recipe says.

    Example: edgereverie train starter/reverie --set train.steps=50
    """
    from edgereverie.recipe import load_recipe

    loaded = load_recipe(recipe, settings or ())
    if dry_run:
        print(loaded.text(), end="")
        print("\n".join(f"# {line}" for line in _counts(loaded)))
        return
    from edgereverie import stages

    try:
        result = stages.train(loaded, out, resume=resume, force=force)
    except KeyboardInterrupt:
        raise Stopped("Run the same command again: training goes on from the last checkpoint.") from None
    trained_in_full = result.name == "model"
    done(
        result, f"edgereverie export {result} --profile gguf-q8-0" if trained_in_full else f"edgereverie merge {result}"
    )


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
