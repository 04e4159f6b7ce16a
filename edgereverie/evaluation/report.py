"""The report of an evaluation: runs side by side, as report.json for programs and report.html for people.

The first run is the starting point, the second what was made of it, the others its quantized or guarded forms. Scores
come with 95 % intervals; differences are paired over the same images.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgereverie.bundle import write_text
from edgereverie.evaluation.benchmarks.base import compare
from edgereverie.evaluation.run import Run
from edgereverie.evaluation.statistics import Metric, SeedSpread
from edgereverie.records import Answer, Score, as_json
from edgereverie.registry import BENCHMARKS

if TYPE_CHECKING:
    from rich.table import Table

VERSION = 1
NOT_AVAILABLE = "n/a"
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True, slots=True)
class ReportRun:
    """One column of the report.

    label: what people call it ("starter", "Q8_0 GGUF"). artefact: fingerprint of what answered. counts: raw counts by
    split. scorers, data: by benchmark, whose rules counted and the hash of what was asked. n: questions answered.
    """

    label: str
    scores: tuple[Score, ...]
    backend: str = ""
    artefact: str = ""
    seed: int = 0
    n: int = 0
    seconds: float = 0.0
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    scorers: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)

    def score(self, metric: str) -> Score | None:
        return next((score for score in self.scores if score.metric == metric), None)


@dataclass(frozen=True, slots=True)
class Difference:
    """``after`` minus ``before``, two labels, over the same images."""

    before: str
    after: str
    scores: tuple[Score, ...]


@dataclass(frozen=True, slots=True)
class Exhibit:
    """A picture for the gallery: what was asked, what is true, and what each run (by label) said."""

    image: Path
    question: str
    truth: str
    answers: tuple[tuple[str, Answer], ...]


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that a report shows.

    loss: training curves by label, (step, loss) points. parity: by artefact, the figures of its comparison with the
    model it was made from. spread: scores over training seeds. versions: of the packages that took part. notes: lines
    of plain text under the headline.
    """

    title: str
    runs: tuple[ReportRun, ...]
    differences: tuple[Difference, ...] = ()
    exhibits: tuple[Exhibit, ...] = ()
    loss: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)
    parity: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    spread: tuple[SeedSpread, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def metrics(self) -> list[str]:
        """Names of all metrics, in the order in which the runs bring them."""
        return list(dict.fromkeys(score.metric for run in self.runs for score in run.scores))

    def difference(self, before: str, after: str, metric: str) -> Score | None:
        for difference in self.differences:
            if (difference.before, difference.after) == (before, after):
                return next((score for score in difference.scores if score.metric == metric), None)
        return None


def report_run(label: str, runs: Sequence[Run], *, backend: str = "", artefact: str = "", seed: int = 0) -> ReportRun:
    """One column from the benchmarks that a model went through. backend: by default, what the answers say."""
    told = {prediction.answer.backend for run in runs for prediction in run.predictions} - {""}
    return ReportRun(
        label=label,
        scores=tuple(score for run in runs for result in run.results for score in result.scores),
        backend=backend or ", ".join(sorted(told)),
        artefact=artefact,
        seed=seed,
        n=sum(len(run.items) for run in runs),
        seconds=sum(run.seconds for run in runs),
        counts={split: counts for run in runs for result in run.results for split, counts in result.counts().items()},
        scorers={run.benchmark: ", ".join(result.scorer for result in run.results) for run in runs},
        data={run.benchmark: run.data for run in runs},
    )


def difference(before: tuple[str, Sequence[Run]], after: tuple[str, Sequence[Run]]) -> Difference:
    """Paired differences over every benchmark that both (label, runs) went through."""
    earlier = {result.scorer: result for run in before[1] for result in run.results}
    scores = [
        score
        for run in after[1]
        for result in run.results
        if result.scorer in earlier
        for score in compare(BENCHMARKS.get(run.benchmark), earlier[result.scorer], result)
    ]
    return Difference(before[0], after[0], tuple(scores))


def write_report(folder: Path, report: Report) -> tuple[Path, Path]:
    """Write ``report.json`` and ``report.html`` into the folder; returns both. Raises DataError for a bad image."""
    from edgereverie.evaluation.report_html import render

    folder.mkdir(parents=True, exist_ok=True)
    data, page = folder / "report.json", folder / "report.html"
    html = render(report)
    write_text(data, json.dumps(report_json(report), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    write_text(page, html)
    return data, page


def report_json(report: Report) -> dict[str, Any]:
    """The report as plain JSON values; figures that are undefined become null, image paths their names."""
    values = as_json(report)
    for exhibit, written in zip(report.exhibits, values["exhibits"], strict=True):
        written["image"] = exhibit.image.name
    return {"edgereverie": "report", "version": VERSION, **_without_nan(values)}


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@cache
def metric_of(name: str) -> Metric:
    """How people read a score's name: ``pope/official/random/accuracy`` is an accuracy of the benchmark ``pope``.

    >>> metric_of("chair/table/chair_i").better
    'lower'
    """
    benchmark, variant, last = *name.split("/")[:2], name.rpartition("/")[2]
    ways = BENCHMARKS.get(benchmark).variants if benchmark in BENCHMARKS.names() else {}
    for metric in ways[variant].metrics if variant in ways else ():
        if metric.name == last:
            return metric
    return Metric(last, last.replace("_", " ").capitalize(), lambda counts: counts[..., 0], better=None, share=False)


def title_of(name: str) -> str:
    """The whole name for people.

    >>> title_of("pope/official/adversarial/yes_ratio"), title_of("chair/table/chair_i")
    ('POPE adversarial yes ratio', 'CHAIR_i')
    """
    benchmark, _, *split, _ = name.split("/")
    title = metric_of(name).title
    if title.upper().startswith(benchmark.upper()):
        return title
    lowered = title if title.isupper() or any(ch.isdigit() for ch in title) else title[0].lower() + title[1:]
    return " ".join([benchmark.upper(), *split, lowered])


def figure(value: float, metric: Metric, *, signed: bool = False) -> str:
    """A value as people read it; shares in percent, differences of shares in percentage points.

    >>> accuracy = metric_of("pope/official/random/accuracy")
    >>> figure(0.8342, accuracy), figure(0.05, accuracy, signed=True), figure(float("nan"), accuracy)
    ('83.4 %', '+5.0 pp', 'n/a')
    """
    if math.isnan(value):
        return NOT_AVAILABLE
    number = f"{100 * value if metric.share else value:{'+' if signed else ''}.1f}".replace("-", MINUS)
    return number + ((" pp" if signed else " %") if metric.share else "")


def interval(score: Score, metric: Metric, *, signed: bool = False) -> str:
    """The interval's two ends without unit, such as ``81.0 to 85.9``.

    >>> interval(Score("", 0.83, 0.81, 0.859, 3000), metric_of("pope/official/random/accuracy"))
    '81.0 to 85.9'
    """
    if math.isnan(score.low) or math.isnan(score.high):
        return NOT_AVAILABLE
    ends = (figure(end, metric, signed=signed) for end in (score.low, score.high))
    return " to ".join(end.removesuffix(" %").removesuffix(" pp") for end in ends)


def judgement(score: Score | None, metric: Metric) -> str:
    """What a paired difference shows: ``better``, ``worse``, ``unclear`` (the interval holds zero), or nothing.

    >>> judgement(Score("", -0.2, -0.3, -0.1, 100), metric_of("chair/table/chair_i"))
    'better'
    """
    if score is None or metric.better is None or math.isnan(score.value):
        return ""
    if score.low <= 0 <= score.high:
        return "unclear"
    return "better" if (score.value > 0) == (metric.better == "higher") else "worse"


def terminal_table(report: Report) -> Table:
    """The scores as a table for the terminal: a row for each metric, a column for each run, then the paired change."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(report.title), caption="95 % intervals in brackets, resampled by image")
    table.add_column("metric", no_wrap=True)
    for run in report.runs:
        table.add_column(escape(run.label), justify="right")
    paired = len(report.runs) > 1 and bool(report.differences)
    if paired:
        table.add_column(escape(f"{report.runs[1].label} {MINUS} {report.runs[0].label}"), justify="right")
    colours = {"better": "green", "worse": "red", "unclear": "yellow"}
    for name in report.metrics():
        metric = metric_of(name)
        cells = [title_of(name)]
        for run in report.runs:
            score = run.score(name)
            cells.append(
                escape(f"{figure(score.value, metric)} [{interval(score, metric)}]") if score else NOT_AVAILABLE
            )
        if paired:
            change = report.difference(report.runs[0].label, report.runs[1].label, name)
            verdict = judgement(change, metric)
            text = f"{figure(change.value, metric, signed=True)} {verdict}".strip() if change else NOT_AVAILABLE
            cells.append(f"[{colours[verdict]}]{text}[/]" if verdict else text)
        table.add_row(*cells)
    return table
