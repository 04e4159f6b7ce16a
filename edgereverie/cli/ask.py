"""``edgereverie ask``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgereverie.cli.choices import Backend, Device, Guard, GuardProfile, guarding, sampled
from edgereverie.cli.console import complain, console, print_json
from edgereverie.records import Options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgereverie.records import Answer
    from edgereverie.runtime.model import Model
    from edgereverie.stages.answering import Named

ABSTAINED = 3


@sampled
def ask(
    model: Annotated[str, typer.Argument(help="A bundle, a merged model folder, or: starter.")],
    question: Annotated[str, typer.Argument(help="The question, in quotes; - reads it from standard input.")],
    image: Annotated[
        list[Path] | None,
        typer.Option(help="A picture, a folder of pictures, or - for one on standard input. Repeat it for more."),
    ] = None,
    guard: Guard = None,
    guard_profile: GuardProfile = None,
    backend: Backend = "auto",
    device: Device = "auto",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print answers, claims and tokens as JSON, a line for each picture.")
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Write the answers with their claims explained to this page, too."),
    ] = None,
    *,
    options: Options,
) -> None:
    """Answer a question about a picture, or about each of several, and mark what the picture does not support.

    The exit code is 3 when an answer says that the model does not know, and 1 when a picture could not be answered about.

    Example: edgereverie ask starter --image scene.png 'Is there a ring?'
    """
    from edgereverie import stages
    from edgereverie.stages.answering import STDIN, pictures

    if question == "-":
        if STDIN in (image or []):
            raise typer.BadParameter("the question and a picture cannot both come on standard input.")
        question = sys.stdin.read()
    question = question.strip()
    if not question:
        raise typer.BadParameter("the question is empty.", param_hint="question")
    guards = guarding(guard, guard_profile)
    if html is not None and not html.absolute().parent.is_dir():
        raise typer.BadParameter(f"{html.parent} is no folder.", param_hint="--html")
    named, passed = pictures(image or [])
    if passed:
        complain(f"passed over, no pictures: {', '.join(passed)}")
    with stages.open_model(model, backend=backend, device=device) as loaded:
        answers = _each(loaded, named, question, options, guards, as_json)
    if html is not None:
        _write_page(html, loaded.name, question, answers)
    if len(answers) < len(named):
        raise typer.Exit(1)
    if any(answer.abstained for _, answer in answers):
        raise typer.Exit(ABSTAINED)


def _each(
    model: Model, named: Sequence[Named], question: str, options: Options, guards: str, as_json: bool
) -> list[tuple[Named, Answer]]:
    """An answer for each picture. Of several, one that cannot be read after all is told, and the others still come."""
    from edgereverie.errors import DataError

    answers = []
    for picture in named:
        try:
            answer = _one(model, picture, question, options, guards, as_json, label=len(named) > 1)
        except DataError as error:
            if len(named) == 1:
                raise
            complain(f"error: {error}", f"hint: {error.hint}" if error.hint else "")
            if as_json:
                print_json({"image": picture.name, "question": question, "error": str(error)}, line=True)
            continue
        answers.append((picture, answer))
    return answers


def _one(
    model: Model, picture: Named, question: str, options: Options, guards: str, as_json: bool, *, label: bool
) -> Answer:
    from edgereverie.records import Turn

    turns = [Turn("user", question)]
    if as_json:
        from edgereverie.runtime.evidence import why
        from edgereverie.told.values import json_of

        answer = model.answer(picture.picture, turns, options, guards)
        print_json(
            {"image": picture.name or None, "question": question, "answer": json_of(answer, why, record=True)},
            line=True,
        )
        return answer
    from edgereverie.cli.showing import shown

    answer = shown(model.events(picture.picture, turns, options, guards), picture.name if label else "")
    if answer.claims and sys.stdout.isatty():
        from edgereverie.cli.claims import table

        screen = console()
        screen.print()
        screen.print(table(answer))
    return answer


def _write_page(path: Path, name: str, question: str, answers: Sequence[tuple[Named, Answer]]) -> None:
    from edgereverie.bundle import write_text
    from edgereverie.runtime.evidence import why
    from edgereverie.told.markup import page

    said = [(picture.picture, question, answer) for picture, answer in answers]
    write_text(path, page(f"{name}: {question}", said, why))
    complain(f"wrote {path}")
