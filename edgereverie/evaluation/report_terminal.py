"""A report in the terminal: a table for each scorer, with runs as columns where they fit and as rows where they do not."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from edgereverie.evaluation.report import Report
from edgereverie.evaluation.report_words import (
    NOT_AVAILABLE,
    figure,
    interval,
    metric_of,
    p_of,
    probability,
    scorer_of,
    split_of,
)
from edgereverie.records import Score
from edgereverie.told.text import printable

_UNBOUNDED = 100_000
_ON_THE_PAGE = frozenset({"aurc", "coverage_5", "coverage_10", "ece_adaptive", "brier"})
_COLOURS = {"better": "green", "worse": "red", "unclear": "yellow", "": ""}


@dataclass(frozen=True, slots=True)
class ScoreTables:
    """Everything that a report scores, as wide as the terminal that it is printed on."""

    report: Report

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(printable(self.report.title), style="bold")
        yield Text(
            "95 % intervals, resampled by picture; changes from the first run, on the same questions", style="dim"
        )
        for scorer, names in by_scorer(self.report).items():
            table = _columns(self.report, scorer, names)
            if Measurement.get(console, options.update(max_width=_UNBOUNDED), table).maximum > options.max_width:
                table = _rows(self.report, scorer, names)
            yield Text()
            yield table


def by_scorer(report: Report) -> dict[str, list[str]]:
    """The metrics' names under the scorer that counted them, without what only the page has room for."""
    found: dict[str, list[str]] = {}
    for name in report.metrics():
        if name.rpartition("/")[2] not in _ON_THE_PAGE:
            found.setdefault(scorer_of(name), []).append(name)
    return found


def _columns(report: Report, scorer: str, names: list[str]) -> Table:
    table = _table(report, scorer)
    table.add_column("", no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True)
    for run in report.runs:
        table.add_column(Text(printable(run.label)), justify="right")
    for name, first in _marked(names):
        if first and split_of(name):
            table.add_row(Text(split_of(name), style="bold"))
        cells = []
        for run in report.runs:
            told = _value(run.score(name), name)
            change = _change(report, run.label, name)
            cells.append(Text.assemble(told, *(["\n", change] if change else [])))
        table.add_row(Text(metric_of(name).title), Text(_asked(report, name), style="dim"), *cells)
    return table


def _rows(report: Report, scorer: str, names: list[str]) -> Table:
    table = _table(report, scorer)
    table.add_column("", overflow="fold")
    table.add_column("", justify="right", no_wrap=True)
    for name, _ in _marked(names):
        heading = " ".join(filter(None, (split_of(name), metric_of(name).title)))
        table.add_row(Text(heading, style="bold"), Text(f"n {_asked(report, name)}", style="dim"))
        for run in report.runs:
            told = _value(run.score(name), name)
            change = _change(report, run.label, name)
            table.add_row(Text(f"  {printable(run.label)}"), Text.assemble(told, *(["\n", change] if change else [])))
    return table


def _table(report: Report, scorer: str) -> Table:
    judges = dict.fromkeys(run.judges[scorer] for run in report.runs if scorer in run.judges)
    title = Text(scorer, style="bold")
    if judges:
        title.append(f"  judge: {printable(', '.join(judges))}", style="dim")
    return Table(title=title, title_justify="left", title_style="", box=None, pad_edge=False, header_style="dim")


def _marked(names: list[str]) -> Iterator[tuple[str, bool]]:
    """Each name, and whether it is the first of its split."""
    before = None
    for name in names:
        yield name, split_of(name) != before
        before = split_of(name)


def _asked(report: Report, name: str) -> str:
    return "/".join(dict.fromkeys(f"{score.n:,}" for run in report.runs if (score := run.score(name))))


def _value(score: Score | None, name: str) -> Text:
    if score is None or math.isnan(score.value):
        return Text(NOT_AVAILABLE, style="dim")
    metric = metric_of(name)
    return Text.assemble((figure(score.value, metric), "bold"), (f" [{interval(score, metric)}]", "dim"))


def _change(report: Report, label: str, name: str, between: str = " ") -> Text | None:
    """between: what stands before the p-value."""
    found, metric = report.change(label, name), metric_of(name)
    if found is None or math.isnan(found.difference.value):
        return None
    told = " ".join(filter(None, (figure(found.difference.value, metric, signed=True), found.verdict)))
    return Text(between.join(filter(None, (told, probability(p_of(found))))), style=_COLOURS[found.verdict])
