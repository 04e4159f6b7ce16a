"""``edgereverie batch``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgereverie.cli.choices import Backend, Device, Guard, GuardProfile, guarding, sampled
from edgereverie.cli.console import Stopped, done
from edgereverie.records import Options


@sampled
def batch(
    model: Annotated[str, typer.Argument(help="A bundle, a merged model folder, or: starter.")],
    questions: Annotated[Path, typer.Argument(help="JSONL: id, image, and question or turns, in each line.")],
    out: Annotated[Path, typer.Argument(help="JSONL to write: the same with the answer, in the same order.")],
    images: Annotated[
        Path | None, typer.Option(help="The folder that image paths are relative to. Default: that of the questions.")
    ] = None,
    guard: Guard = None,
    guard_profile: GuardProfile = None,
    backend: Backend = "auto",
    device: Device = "auto",
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out lines that cannot be asked, and say how many and why.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Begin anew: replace OUT, and what an unfinished run left.")
    ] = False,
    *,
    options: Options,
) -> None:
    """Answer a file of questions about pictures.

    Each picture is looked at once, whatever the order of its questions. A batch that was stopped or killed goes on where
    it was when the same command is given again; until it is whole, its answers are in OUT.journal.

    Example: edgereverie batch starter questions.jsonl answers.jsonl --images photos
    """
    from edgereverie import stages

    guards = guarding(guard, guard_profile)
    try:
        written = stages.batch(
            model, questions, out, images=images, guard=guards, backend=backend, device=device, options=options,
            skip_bad=skip_bad, force=force,
        )  # fmt: skip
    except KeyboardInterrupt:
        raise Stopped("Run the same command again: it goes on where it was.") from None
    done(written)
