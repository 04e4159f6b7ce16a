"""``edgereverie score``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgereverie.cli.choices import JUDGES, Judge, JudgeKey, JudgeModel, benchmarks
from edgereverie.cli.console import Stopped, console, done, print_json
from edgereverie.cli.evaluate import judge_at

if TYPE_CHECKING:
    from edgereverie.stages.scoring import Scored


def score(
    bench: Annotated[
        str,
        typer.Argument(
            metavar="BENCH[/VARIANT,...]", help="The benchmark; behind a slash, ways of scoring: pope/vcd,opera."
        ),
    ],
    answers: Annotated[
        Path, typer.Argument(help="Answers in a published form, an evaluation's journal, or what batch wrote.")
    ],
    data: Annotated[Path, typer.Option(help="The folder with the benchmarks' files.")] = Path("data"),
    images: Annotated[Path | None, typer.Option(help="The pictures, for the report; they need not be there.")] = None,
    split: Annotated[str, typer.Option(metavar="NAMES", help="Only these parts, with commas between them.")] = "",
    limit: Annotated[
        int | None, typer.Option(min=1, help="The first so many pictures, as the answers were made.")
    ] = None,
    all_variants: Annotated[
        bool, typer.Option("--all-variants", help="Every way of scoring side by side, and what they read differently.")
    ] = False,
    label: Annotated[str, typer.Option(help="What the answers are called. Default: their file's name.")] = "",
    out: Annotated[Path | None, typer.Option(help="Folder for the kept run, and a report over all kept there.")] = None,
    show: Annotated[int, typer.Option(min=0, help="How many answers that are read differently are shown.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    judge: Judge = None,
    judge_model: JudgeModel = None,
    judge_key_env: JudgeKey = None,
    judgements: Annotated[
        Path | None, typer.Option(help="What a judge said of these answers before.", rich_help_panel=JUDGES)
    ] = None,
    jobs: Annotated[
        int, typer.Option(min=1, max=256, help="Requests to a judge's server at a time.", rich_help_panel=JUDGES)
    ] = 1,
) -> None:
    """Score answers that something else produced, by the rules of the benchmark's own scorer or of others.

    A file with answers that are missing, doubled, unknown or broken is refused, and all that is wrong is listed.

    Example: edgereverie score pope answers.jsonl --data data --all-variants
    """
    from edgereverie import stages

    name, _, ways = bench.partition("/")
    variants = [benchmarks(f"{name}/{way}")[0].partition("/")[2] for way in _listed(ways)] if ways else []
    benchmarks(name)
    if variants and all_variants:
        raise typer.BadParameter("name ways of scoring or take all of them, not both.", param_hint="--all-variants")
    asked = judge_at(judge, judgements, judge_model, judge_key_env, jobs)
    try:
        found = stages.score(
            name, answers, variants=variants, all_variants=all_variants, data=data, images=images, splits=_listed(split),
            limit=limit, judge=asked, label=label, out=out,
        )  # fmt: skip
    except KeyboardInterrupt:
        raise Stopped("Run the same command again: the judge goes on where it was.") from None
    if as_json:
        print_json(_values(found))
        return
    _show(found, show)


def _listed(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def _show(found: Scored, most: int) -> None:
    from edgereverie.evaluation.scoring_terminal import SideBySide, differing

    terminal = console()
    terminal.print(SideBySide(found.run, found.kept.label))
    if len(found.run.results) > 1:
        for part in differing(found.run, found.differing, most):
            terminal.print(part)
    if found.report:
        done(found.report)


def _values(found: Scored) -> dict[str, Any]:
    from edgereverie.records import as_json
    from edgereverie.registry import BENCHMARKS
    from edgereverie.told.values import finite

    run = found.run
    ways = BENCHMARKS.get(run.benchmark).variants
    return finite({
        "edgereverie": "scores",
        "label": found.kept.label,
        "benchmark": run.benchmark,
        "answers": len(run.items),
        "data": run.data,
        "pictures": run.pictures,
        "versions": dict(found.kept.versions),
        "scorers": [
            {
                "scorer": result.scorer,
                "source": ways[result.variant].source,
                "judge": result.judge,
                "scores": as_json(result.scores),
                "counts": result.counts(),
            }
            for result in run.results
        ],
        "differing": as_json(found.differing),
    })  # fmt: skip
