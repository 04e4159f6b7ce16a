"""``edgereverie recipes``: the runs that ship with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgereverie.cli.console import done
from edgereverie.errors import RecipeError

app = typer.Typer(help="List or copy the recipes that ship with edgereverie.", no_args_is_help=True)


@app.command("list")
def list_() -> None:
    """List the shipped recipes with their first line.

    Example: edgereverie recipes list
    """
    from edgereverie.shipped import shipped, shipped_recipes

    names = shipped_recipes()
    width = max(map(len, names), default=0)
    for name in names:
        first = (shipped("recipes") / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[:1]
        about = first[0].lstrip("# ") if first and first[0].startswith("#") else ""
        print(f"{name:<{width}}  {about}".rstrip())


@app.command()
def copy(
    name: Annotated[str, typer.Argument(help="A name from: edgereverie recipes list.")],
    dest: Annotated[Path, typer.Argument(help="File to write, or a folder to write it into.")],
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Copy a shipped recipe, to change it.

    Example: edgereverie recipes copy starter/reverie mine.yaml
    """
    from edgereverie.bundle import write_text
    from edgereverie.registry import did_you_mean
    from edgereverie.shipped import shipped, shipped_recipes

    if name not in shipped_recipes():
        raise RecipeError(f"No shipped recipe is called {name!r}.", hint=did_you_mean(name, shipped_recipes()))
    source = shipped("recipes") / f"{name}.yaml"
    target = dest / source.name if dest.is_dir() else dest
    if target.exists() and not force:
        raise RecipeError(f"{target} exists already.", hint="Choose another name, or pass --force to replace it.")
    target.parent.mkdir(parents=True, exist_ok=True)
    write_text(target, source.read_text(encoding="utf-8"))
    done(target, f"edgereverie train {target}")
