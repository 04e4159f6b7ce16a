"""Answers that exist, scored; runs that are done, compared. No model is needed for either."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgereverie.errors import DataError
from edgereverie.registry import BENCHMARKS
from edgereverie.stages._judges import JudgeAt, judging
from edgereverie.stages.evaluation import versions

if TYPE_CHECKING:
    from edgereverie.evaluation.common import Part
    from edgereverie.evaluation.comparing import Comparison
    from edgereverie.evaluation.kept import KeptRun
    from edgereverie.evaluation.run import Run
    from edgereverie.evaluation.scoring import Disagreement

_NAMED = re.compile(r"(\.(jsonl?|tsv|txt|csv|xlsx|gz))+$")
DATA = Path("data")  # where `edgereverie data get` puts what it fetches


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """What became of a file of answers. differing: answers that the ways of scoring read differently. report: the page, where
    one was asked for."""

    kept: KeptRun
    differing: list[Disagreement]
    report: Path | None = None

    @property
    def run(self) -> Run:
        return self.kept.runs[0]


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """Runs against the first. parts: what is left of each benchmark, where only the common part was compared."""

    kept: list[KeptRun]
    comparisons: list[Comparison]
    parts: list[Part]
    report: Path | None = None


def score(
    benchmark: str,
    answers: Path,
    *,
    variants: Sequence[str] = (),
    all_variants: bool = False,
    data: Path = DATA,
    images: Path | None = None,
    splits: Sequence[str] = (),
    limit: int | None = None,
    judge: JudgeAt | None = None,
    label: str = "",
    out: Path | None = None,
) -> Scored:
    """Score a file of answers to ``benchmark`` in its own way, in those named, or in all that fit, with a judge or without.

    data: a folder with the benchmark's files; pictures need not be there. judge: for ways of scoring that need one; its replies
    are kept in ``out``/judgements, or beside the answers, so that a killed run goes on. label: what the answers are called, by
    default their file's name. out: a folder for the kept run and a report over all that are kept there. Raises DataError that
    lists all that does not fit.
    """
    from edgereverie.evaluation.kept import KeptRun
    from edgereverie.evaluation.scoring import disagreements, score_file
    from edgereverie.evaluation.source import Source

    label = label or _NAMED.sub("", answers.name) or answers.name
    source = Source(data, images, pictures=False, splits=tuple(splits))
    ways = None if all_variants else list(variants)
    replies = out / "judgements" if out else answers.with_name(f"{answers.name}.judgements")
    with judging(judge, replies, label) if judge else nullcontext() as said:
        run = score_file(BENCHMARKS.get(benchmark), source, answers, variants=ways, limit=limit, judging=said)
    backends = dict.fromkeys(one.answer.backend for one in run.predictions if one.answer.backend)
    guards = dict.fromkeys(name for one in run.predictions for name in one.answer.guards)
    kept = KeptRun(
        label, ", ".join(backends), "", ",".join(guards) or "none", 0,
        versions(), (run,),
    )  # fmt: skip
    page = _gathered(out, kept) if out else None
    return Scored(kept, disagreements(run), page)


def compare(paths: Sequence[Path], *, common: bool = False, out: Path | None = None, seed: int = 0) -> Compared:
    """The runs of two or more report folders, reports or kept runs, each against the first.

    common: compare the part that all were asked, instead of refusing runs that were asked different questions. out: a folder for
    the runs and their report. Raises DataError where runs do not fit together.
    """
    from edgereverie.evaluation.common import common_part
    from edgereverie.evaluation.comparing import comparisons
    from edgereverie.evaluation.kept import keep
    from edgereverie.evaluation.report import report_of, write_report

    kept = _named_apart([one for path in paths for one in _load(path)])
    if len(kept) < 2:
        raise DataError(
            f"{paths[0]} holds one run, and it takes two to compare.", hint="Name a second folder or file behind it."
        )
    parts: list[Part] = []
    if common:
        kept, parts = common_part(kept)
    found = comparisons(kept, seed=seed)
    page = None
    if out:
        for one in kept:
            keep(out, one)
        notes = tuple(part.told() for part in parts)
        _, page = write_report(out, report_of(kept, title="Comparison", notes=notes))
    return Compared(kept, found, parts, page)


def _gathered(out: Path, kept: KeptRun) -> Path:
    """The page over all runs of a folder and this one, which is kept there; one of the same label gives way.

    Raises DataError, and leaves the folder as it was, where they were asked different questions.
    """
    from edgereverie.evaluation.kept import keep, load
    from edgereverie.evaluation.report import report_of, write_report

    runs = {one.label: one for one in (load(out) if (out / "runs").is_dir() else [])}
    try:
        report = report_of([*(runs | {kept.label: kept}).values()], title="Scores")
    except DataError as error:
        raise DataError(
            f"{out} holds runs that {kept.label} does not go with. {error}", hint="Name another folder with --out."
        ) from None
    keep(out, kept)
    return write_report(out, report)[1]


def _load(path: Path) -> list[KeptRun]:
    from edgereverie.evaluation.kept import load

    if not path.exists():
        raise DataError(f"{path}: no such file or folder.", hint="Name a report folder, or a file of its runs/.")
    return load(path.parent if path.name in ("report.json", "report.html") else path)


def _named_apart(kept: Sequence[KeptRun]) -> list[KeptRun]:
    """Equal labels get numbers."""
    named: list[KeptRun] = []
    for one in kept:
        label, number = one.label, 2
        while label in {other.label for other in named}:
            label, number = f"{one.label} ({number})", number + 1
        named.append(replace(one, label=label))
    return named
