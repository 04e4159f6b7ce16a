"""The command ``edgereverie``: one verb for each stage, each verb in a file of its own.

A verb parses, calls one stage and prints. Heavy packages load inside the stages, so help is instant everywhere.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from edgereverie import __version__
from edgereverie.cli import (
    ask,
    batch,
    bench,
    bundle,
    calibrate,
    chat,
    compare,
    data,
    demo,
    doctor,
    evaluate,
    export,
    merge,
    models,
    plan,
    recipes,
    score,
    serve,
    train,
    upcycle,
)
from edgereverie.cli.console import Stopped, complain, write_what_can_be_written
from edgereverie.errors import EdgeReverieError

STOPPED = 130  # what shells expect of a command that Ctrl-C ended

app = typer.Typer(
    name="edgereverie",
    help="Tune small vision-language models against hallucination, export them, run them with their claims checked.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"edgereverie {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error (anywhere on the line).")
    ] = False,
) -> None:
    """Options of every verb. ``main`` takes --debug off the line before typer sees it; it stands here for the help."""


app.add_typer(data.app, name="data")
app.command("plan")(plan.plan)
app.command("train")(train.train)
app.command("merge")(merge.merge)
app.command("upcycle")(upcycle.upcycle)
app.command("export")(export.export)
app.command("calibrate")(calibrate.calibrate)
app.command("ask")(ask.ask)
app.command("chat")(chat.chat)
app.command("batch")(batch.batch)
app.command("serve")(serve.serve)
app.command("eval")(evaluate.evaluate)
app.command("score")(score.score)
app.command("compare")(compare.compare)
app.add_typer(bundle.app, name="bundle")
app.add_typer(recipes.app, name="recipes")
app.add_typer(bench.app, name="bench")
app.command("models")(models.models)
app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run one command line and leave: 0 done, 1 an error, 2 a wrong command line, 130 stopped by Ctrl-C."""
    write_what_can_be_written()
    words = list(sys.argv[1:] if argv is None else argv)
    options = words[: words.index("--")] if "--" in words else words
    debug = "--debug" in options
    if debug:
        words.remove("--debug")
    sys.exit(_run(words, debug=debug))


def _run(words: list[str], *, debug: bool) -> int:
    try:
        code = app(args=words, prog_name="edgereverie", standalone_mode=False) or 0
        if code == STOPPED:  # typer turns Ctrl-C into this code
            complain("stopped")
        return code
    except Stopped as stop:
        complain("stopped", str(stop))
        return STOPPED
    except typer.TyperException as error:
        if debug:
            raise
        if message := error.format_message():  # empty where a bare group printed its help
            complain(f"error: {message}", "hint: " + _help_for(error))
        return error.exit_code
    except EdgeReverieError as error:
        if debug:
            raise
        complain(f"error: {error}", f"hint: {error.hint}" if error.hint else "")
        return 1
    except OSError as error:
        if debug:
            raise
        complain(f"error: {error.strerror or error}: {error.filename}" if error.filename else f"error: {error}")
        return 1
    except Exception as error:
        if debug:
            raise
        complain(
            f"error: {type(error).__name__}: {error}",
            "hint: this was not foreseen. Run it again with --debug and report the traceback.",
        )
        return 1


def _help_for(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    return f"{context.command_path if context else 'edgereverie'} --help shows what it takes."
