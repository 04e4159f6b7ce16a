"""``edgereverie ask``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from edgereverie.cli.console import console, print_json

Backend = Literal["auto", "hf", "llamacpp", "onnxrt"]
Guard = Literal["flag", "verify", "none"]


def ask(
    model: Annotated[str, typer.Argument(help="A bundle, a merged model folder, or: starter.")],
    question: Annotated[str, typer.Argument(help="The question, in quotes.")],
    image: Annotated[Path | None, typer.Option(help="The picture that the question is about.")] = None,
    guard: Annotated[
        Guard, typer.Option(help="flag: mark claims. verify: ask back and mend the answer. none: neither.")
    ] = "flag",
    backend: Annotated[Backend, typer.Option(help="Runtime; auto takes the one that the bundle is made for.")] = "auto",
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 160,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer and its claims as JSON.")] = False,
) -> None:
    """Answer one question about a picture, and mark what the picture does not support.

    Example: edgereverie ask starter --image scene.png 'Is there a ring?'
    """
    from edgereverie import stages
    from edgereverie.records import Options, Turn
    from edgereverie.records import as_json as plain

    loaded = stages.open_model(model, backend=backend)
    try:
        answer = loaded.answer(image, [Turn("user", question)], Options(max_tokens=max_tokens), guard)
    finally:
        loaded.close()
    if as_json:
        print_json(plain(answer))
        return
    from edgereverie.cli.claims import marked, table

    screen = console()
    screen.print(marked(answer), soft_wrap=True)
    if answer.claims:
        screen.print()
        screen.print(table(answer))
