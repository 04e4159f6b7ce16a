"""``edgereverie bench``: measurements of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgereverie.cli.choices import Backend
from edgereverie.cli.console import console, print_json

app = typer.Typer(help="Measure how fast this machine does something.", no_args_is_help=True)


@app.command("train")
def train(
    recipe: Annotated[str, typer.Argument(help="A YAML file, or a shipped recipe.")] = "starter/reverie",
    model: Annotated[str | None, typer.Option(help="Measure with this model instead of the recipe's.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one value of the recipe. Repeatable.")
    ] = None,
    steps: Annotated[int, typer.Option(min=2, help="Steps in each epoch; the very first only warms up.")] = 6,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Train a recipe for a few steps, plainly and with all that is shared; samples per second and peak memory.

    Example: edgereverie bench train starter/reverie --set train.batch_size=8
    """
    from dataclasses import asdict

    from edgereverie import stages
    from edgereverie.recipe import load_recipe

    changes = [*(settings or ()), *([f"backbone.model={model}"] if model else [])]
    found = stages.bench_train(load_recipe(recipe, changes), steps=steps)
    if as_json:
        print_json([asdict(speed) for speed in found])
        return
    from rich.table import Table

    plain = found[0]
    table = Table(*("way", "samples/s", "against plain", "later epochs", "tokens/s", "peak memory"), box=None)
    for speed in found:
        table.add_row(
            speed.way,
            f"{speed.samples_per_second:.2f}",
            f"{speed.samples_per_second / plain.samples_per_second:.2f}x",
            f"{speed.later / plain.later:.2f}x",
            f"{speed.tokens_per_second:,.0f}",
            f"{speed.peak_bytes / 1e9:.2f} GB",
        )
    console().print(table)


@app.command("run")
def run(
    model: Annotated[str, typer.Argument(help="A bundle, a merged model folder, or: starter.")],
    image: Annotated[Path | None, typer.Option(help="Measure with this picture instead of a drawn one.")] = None,
    guards: Annotated[
        str, typer.Option("--guards", help="Guards to measure against plain answers, with commas between them.")
    ] = "flag,verify",
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest description, in tokens.")] = 60,
    rounds: Annotated[int, typer.Option(min=1, help="How often everything is measured in turn.")] = 5,
    backend: Backend = "auto",
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto for the first that works.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Answer in every way in turn: seconds, tokens a second, what each guard costs, what one look at a picture saves.

    Example: edgereverie bench run starter --rounds 2
    """
    from edgereverie import stages
    from edgereverie.cli.choices import known
    from edgereverie.image import open_image
    from edgereverie.records import as_json as plain

    names = [known("GUARDS")(name.strip()) for name in guards.split(",") if name.strip() not in ("", "none")]
    if image is not None:
        open_image(image)  # a picture that cannot be read is told before the model is loaded
    found = stages.bench_run(
        model, image, guards=names, max_tokens=max_tokens, rounds=rounds, backend=backend, device=device
    )
    if as_json:
        print_json(plain(found))
        return
    from rich.table import Table

    table = Table(*("way", "seconds", "against plain", "with the first look", "tokens/s"), box=None)
    for way in found.ways:
        speed, ratios = f"{way.tokens / way.seconds:.1f}", (f"{way.ratio:.2f}x", f"{way.first_ratio:.2f}x")
        table.add_row(way.name, f"{way.seconds:.2f}", *ratios, speed)
    screen = console()
    screen.print(table)
    screen.print(f"A look at a picture takes {found.look:.2f} s.")
    screen.print(
        f"Six questions about one picture: {found.once:.2f} s with one look, {found.apart:.2f} s with six, {found.gain:.1f}x."
    )
