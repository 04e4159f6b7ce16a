"""Ways of scoring side by side, and runs against each other, as tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from edgereverie.evaluation.comparing import Change, Comparison
from edgereverie.evaluation.report_words import (
    NOT_AVAILABLE,
    benchmark_title,
    figure,
    interval,
    metric_of,
    probability,
    split_of,
)
from edgereverie.evaluation.run import Run
from edgereverie.evaluation.scoring import Disagreement, Reading, differ
from edgereverie.records import Score
from edgereverie.told.text import printable

_COLOURS = {"better": "green", "worse": "red", "unclear": "yellow", "": ""}
_UNBOUNDED = 100_000
_LONGEST = 160  # characters of an answer that is shown


@dataclass(frozen=True, slots=True)
class SideBySide:
    """A row for each metric of each split, a column for each way of scoring; intervals where the terminal has room for them."""

    run: Run

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = _ways(self.run, intervals=True)
        if Measurement.get(console, options.update(max_width=_UNBOUNDED), table).maximum > options.max_width:
            table = _ways(self.run, intervals=False)
        yield table


def _ways(run: Run, *, intervals: bool) -> Table:
    scores = {result.scorer: {_place(score.metric): score for score in result.scores} for result in run.results}
    places = list(dict.fromkeys(place for by_place in scores.values() for place in by_place))
    title = f"{benchmark_title(run.benchmark)}, {len(run.items):,} answers"
    table = _table(title + ("; 95 % intervals, resampled by picture" if intervals else ""), "", *_short(scores))
    for before, place in pairwise([("", ""), *sorted(places, key=lambda one: _rank(places, one))]):
        if place[0] and place[0] != before[0]:
            table.add_row(Text(printable(place[0]), style="bold"))
        found = [by_place.get(place) for by_place in scores.values()]
        title = next(metric_of(score.metric).title for score in found if score)
        table.add_row(Text(title), *(_told(score, intervals) for score in found))
    return table


def differing(run: Run, found: Sequence[Disagreement], most: int) -> Iterator[RenderableType]:
    """How many answers are read differently, by which ways, and the most frequent of them with their texts."""
    scorers = [result.scorer for result in run.results]
    answers = sum(len(one.ids) for one in found)
    yield Text(
        f"\n{answers:,} of {len(run.items):,} answers are read differently, {len(found):,} different ones.", "bold"
    )
    if not found:
        return
    yield Text("Answers that two scorers read differently", "bold")
    pairs = _table("", "", *_short(scorers))
    for one in scorers:
        counts = (sum(len(d.ids) for d in found if differ((d.readings[one], d.readings[other]))) for other in scorers)
        pairs.add_row(one.partition("/")[2], *(f"{count:,}" if count else "" for count in counts))
    yield pairs
    yield Text(f"The {min(most, len(found))} most frequent", "bold")
    shown = _table("", "answer", "times", "truth",
                   *(name.partition("/")[2] for name in scorers))  # fmt: skip
    for one in found[:most]:
        text = printable(one.text[:_LONGEST]) + ("…" if len(one.text) > _LONGEST else "")
        readings = (one.readings[scorer] for scorer in scorers)
        shown.add_row(Text(repr(text)[1:-1] or "(empty)"), f"{len(one.ids):,}", printable(one.truth[:40]),
                      *(_reading(reading) for reading in readings))  # fmt: skip
    yield shown


def comparison_tables(found: Comparison) -> Iterator[RenderableType]:
    """The changes of one run against another, a table for each split, with its questions one by one below."""
    yield Text(f"{printable(found.after)} against {printable(found.before)}", style="bold")
    for head, changes in groupby(found.changes, key=lambda change: change.metric.rpartition("/")[0]):
        rows = list(changes)
        title = f"\n{head}, {rows[0].difference.n:,} answers"
        table = _table(printable(title), "", "before", "after", "change", "95 %", "p", "p (Holm)", "")
        for change in rows:
            table.add_row(*_cells(change), Text(change.verdict, style=_COLOURS[change.verdict]))
        yield table
        if right := found.right.get(head):
            told = f"{right.gained:,} answers gained, {right.lost:,} lost; McNemar {probability(right.p)}"
            yield Text(told, style="dim")


def _cells(change: Change) -> Iterator[Text | str]:
    metric = metric_of(change.metric)
    yield Text(metric.title)
    yield figure(change.before.value, metric)
    yield figure(change.after.value, metric)
    yield figure(change.difference.value, metric, signed=True)
    yield interval(change.difference, metric, signed=True)
    yield _bare(probability(change.chance.p)) or NOT_AVAILABLE
    yield _bare(probability(change.adjusted))


def _bare(told: str) -> str:
    """A p-value without its letter, under a heading that has it."""
    return told.removeprefix("p ").removeprefix("= ")


def _table(title: str, *columns: str) -> Table:
    table = Table(
        title=Text(title, style="bold") if title else None,
        title_justify="left",
        box=None,
        pad_edge=False,
        header_style="dim",
    )
    for number, name in enumerate(columns):
        table.add_column(name, justify="left" if number == 0 else "right", overflow="fold")
    return table


def _place(metric: str) -> tuple[str, str]:
    return split_of(metric), metric.rpartition("/")[2]


def _rank(places: Sequence[tuple[str, str]], place: tuple[str, str]) -> tuple[int, int]:
    """Splits in first-seen order, and in each its metrics in theirs."""
    splits = list(dict.fromkeys(split for split, _ in places))
    return splits.index(place[0]), places.index(place)


def _short(scorers: Iterable[str]) -> list[str]:
    return [scorer.partition("/")[2] for scorer in scorers]


def _told(score: Score | None, intervals: bool) -> Text:
    if score is None:
        return Text(NOT_AVAILABLE, style="dim")
    metric = metric_of(score.metric)
    value = (figure(score.value, metric), "bold")
    return Text.assemble(value, (f" [{interval(score, metric)}]", "dim")) if intervals else Text.assemble(value)


def _reading(reading: Reading | None) -> Text:
    if reading is None:
        return Text("not asked", style="dim")
    read, right = reading
    return Text(printable(read[:40]) or "nothing", style="green" if right >= 0.5 else "red")
