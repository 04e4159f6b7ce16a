"""``edgereverie ask``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgereverie.cli.choices import Backend, Guard, MaxTokens
from edgereverie.cli.console import console, print_json


def ask(
    model: Annotated[str, typer.Argument(help="A bundle, a merged model folder, or: starter.")],
    question: Annotated[str, typer.Argument(help="The question, in quotes.")],
    image: Annotated[Path | None, typer.Option(help="The picture that the question is about.")] = None,
    guard: Guard = "flag",
    backend: Backend = "auto",
    max_tokens: MaxTokens = 160,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer and its claims as JSON.")] = False,
) -> None:
    """Answer one question about a picture, and mark what the picture does not support.

    Example: edgereverie ask starter --image scene.png 'Is there a ring?'
    """
    from edgereverie import stages
    from edgereverie.image import open_image
    from edgereverie.records import Options, Turn
    from edgereverie.records import as_json as plain

    if image is not None:
        open_image(image)  # a picture that cannot be read is told before the model is loaded
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
