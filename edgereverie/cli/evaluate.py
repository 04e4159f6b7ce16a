"""``edgereverie eval``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgereverie.cli.choices import (
    JUDGES,
    Backend,
    GuardProfile,
    Judge,
    JudgeKey,
    JudgeModel,
    benchmarks,
    guarding,
    guards_named,
)
from edgereverie.cli.console import Stopped, done, print_json

if TYPE_CHECKING:
    from edgereverie.stages import JudgeAt

_SERVERS = "Servers"


def evaluate(
    models: Annotated[
        list[str], typer.Argument(help="Bundles, model folders, starter, or servers (http://127.0.0.1:8080/v1).")
    ],
    bench: Annotated[
        str, typer.Option(help="Benchmarks, with commas between them; a way of scoring behind a slash: chair/opera.")
    ] = "pope,chair",
    data: Annotated[Path | None, typer.Option(help="The benchmarks' folder. Default: drawn scenes.")] = None,
    images: Annotated[Path | None, typer.Option(help="Their pictures, where they lie elsewhere.")] = None,
    split: Annotated[str, typer.Option(help="Only these parts, with commas between them: adversarial.")] = "",
    limit: Annotated[int | None, typer.Option(min=1, help="The first so many pictures of each benchmark.")] = None,
    append: Annotated[
        str, typer.Option(metavar="TEXT", help="Words behind every question: 'Answer using a single word.'")
    ] = "",
    guard: Annotated[
        str | None,
        typer.Option(callback=guards_named, metavar="NAMES", show_default="none", help="The guards to answer with."),
    ] = None,
    guard_profile: GuardProfile = None,
    backend: Backend = "auto",
    jobs: Annotated[
        int, typer.Option(min=1, max=256, help="Processes of each model, or requests to a server at a time.")
    ] = 1,
    label: Annotated[
        list[str] | None, typer.Option(help="What reports call a model. Repeat it, in the models' order.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Report folder. Default: report.")] = None,
    card: Annotated[
        bool, typer.Option("--card", help="Write each model's hallucination card, into its bundle where it is one.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    served_model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The model, where the server has several.", rich_help_panel=_SERVERS),
    ] = None,
    key_env: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The environment variable that holds the server's key.", rich_help_panel=_SERVERS
        ),
    ] = None,
    judge: Judge = None,
    judge_model: JudgeModel = None,
    judge_key_env: JudgeKey = None,
    judgements: Annotated[
        Path | None, typer.Option(help="What a judge said before, in place of one.", rich_help_panel=JUDGES)
    ] = None,
) -> None:
    """Measure hallucination, and write report.json and report.html.

    Each picture is looked at once for all its questions. A run that was stopped or killed goes on where it was when the same
    command is given again. Pictures leave this machine only for a server that is named here.

    Example: edgereverie eval starter runs/starter-reverie/merged --bench pope,chair
    """
    from edgereverie import stages

    guards = guarding(guard, guard_profile) if guard or guard_profile else "none"
    asked = stages.Asked(guards, append.strip(), backend, jobs, served_model, key_env)
    idle = {"--served-model": served_model, "--key-env": key_env}
    if given := [option for option, value in idle.items() if value and not any("://" in place for place in models)]:
        raise typer.BadParameter(f"{', '.join(given)} go with a server, and none is named.")
    try:
        report = stages.evaluate(
            models, benchmarks=benchmarks(bench), data=data, images=images, splits=_names(split), limit=limit, asked=asked,
            judge=judge_at(judge, judgements, judge_model, judge_key_env, jobs), labels=label or (), out=out, card=card,
        )  # fmt: skip
    except KeyboardInterrupt:
        raise Stopped("Run the same command again: it goes on where it was.") from None
    if as_json:
        print_json(json.loads((report / "report.json").read_text(encoding="utf-8")))
    else:
        done(report / "report.html")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def judge_at(place: str | None, said: Path | None, model: str | None, key: str | None, at_once: int) -> JudgeAt | None:
    """The judge that the options of a command line name, None where they name none."""
    from edgereverie import stages

    if place is None and said is None:
        if model or key:
            raise typer.BadParameter("--judge-model and --judge-key-env go with --judge, which is missing.")
        return None
    return stages.JudgeAt(place or "", said, model, key, at_once)
