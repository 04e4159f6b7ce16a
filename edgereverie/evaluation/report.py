"""The report of an evaluation: runs side by side, as report.json for programs and report.html for people.

The first run is the starting point, the second what was made of it, the others its quantized or guarded forms. Scores
come with 95 % intervals; differences are paired over the same images.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgereverie import __version__
from edgereverie.bundle import write_text
from edgereverie.evaluation.benchmarks.base import BenchmarkResult, per_unit
from edgereverie.evaluation.comparing import LEVEL, Change, Comparison, comparisons
from edgereverie.evaluation.confidence import figures, pairs, risk_coverage
from edgereverie.evaluation.exhibits import Exhibit, exhibits
from edgereverie.evaluation.report_words import RIGHT, figure, interval, metric_of, split_of, title_of
from edgereverie.evaluation.significance import PERMUTATIONS
from edgereverie.evaluation.statistics import RESAMPLES, SeedSpread, bootstrap
from edgereverie.records import Score, as_json
from edgereverie.registry import BENCHMARKS
from edgereverie.told.values import finite

if TYPE_CHECKING:
    from rich.console import RenderableType

    from edgereverie.evaluation.kept import KeptRun
    from edgereverie.evaluation.run import Run

__all__ = [
    "Exhibit",
    "Report",
    "ReportRun",
    "figure",
    "interval",
    "metric_of",
    "report_json",
    "report_of",
    "terminal_table",
    "title_of",
    "write_report",
]
VERSION = 2
_POINTS = 200  # of a curve
_DRAWS = 200  # for the intervals of what confidences are worth, each of which sorts all answers anew
STATISTICS = {"interval": 0.95, "resamples": RESAMPLES, "confidence_resamples": _DRAWS, "seed": 0, "permutations": PERMUTATIONS,
              "level": LEVEL, "adjusted": "Holm, over what one scorer counted of all runs"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ReportRun:
    """One column of the report.

    label: what people call it ("starter", "Q8_0 GGUF"). artefact: fingerprint of what answered. counts, truths: by split, raw
    counts and the share of questions whose true answer is yes. scorers, judges: by scorer, whose rules counted and who judged.
    data, pictures: by benchmark, hashes of what was asked. kinds: share of right answers by kind of question. risks: by
    scorer, (coverage, risk) where answers have a confidence. n: questions answered.
    """

    label: str
    scores: tuple[Score, ...]
    backend: str = ""
    artefact: str = ""
    guard: str = ""
    seed: int | None = None
    n: int = 0
    seconds: float = 0.0
    counts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    truths: Mapping[str, float] = field(default_factory=dict)
    scorers: Mapping[str, str] = field(default_factory=dict)
    judges: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    pictures: Mapping[str, str] = field(default_factory=dict)
    kinds: tuple[Score, ...] = ()
    risks: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    def score(self, metric: str) -> Score | None:
        return next((score for score in self.scores if score.metric == metric), None)


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that a report shows.

    loss: training curves by label, (step, loss) points. parity: by artefact, the figures of its comparison with the
    model it was made from. spread: scores over training seeds. notes: lines of plain text under the headline.
    """

    title: str
    runs: tuple[ReportRun, ...]
    comparisons: tuple[Comparison, ...] = ()
    exhibits: tuple[Exhibit, ...] = ()
    loss: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)
    parity: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    spread: tuple[SeedSpread, ...] = ()
    notes: tuple[str, ...] = ()

    def metrics(self) -> list[str]:
        """Names of all metrics, in the order in which the runs bring them."""
        return list(dict.fromkeys(score.metric for run in self.runs for score in run.scores))

    def change(self, label: str, metric: str) -> Change | None:
        """What became of one metric from the first run to that one."""
        changes = (change for one in self.comparisons if one.after == label for change in one.changes)
        return next((change for change in changes if change.metric == metric), None)


def report_of(
    kept: Sequence[KeptRun],
    *,
    title: str,
    notes: Sequence[str] = (),
    loss: Mapping[str, Sequence[tuple[float, float]]] | None = None,
    parity: Mapping[str, Mapping[str, Any]] | None = None,
    spread: Sequence[SeedSpread] = (),
) -> Report:
    """The report of finished runs, the first of which is the starting point that the others are compared with.

    Raises DataError where one of the others was asked other questions than the first, or has no scorer in common with it.
    """
    return Report(
        title=title,
        runs=tuple(column(one) for one in kept),
        comparisons=tuple(comparisons(kept)),
        exhibits=exhibits(kept),
        loss=loss or {},
        parity=parity or {},
        spread=tuple(spread),
        notes=tuple(notes),
    )


def column(kept: KeptRun) -> ReportRun:
    """One run's scores, what confidences are worth, and where all of it came from."""
    results = [(run, result) for run in kept.runs for result in run.results]
    return ReportRun(
        label=kept.label,
        scores=tuple(score for run, result in results for score in _scores(run, result)),
        backend=kept.backend,
        artefact=kept.artefact,
        guard=kept.guard,
        seed=kept.seed,
        n=sum(len(run.items) for run in kept.runs),
        seconds=sum(run.seconds for run in kept.runs),
        counts={split: counts for _, result in results for split, counts in result.counts().items()},
        truths={split: share for run, result in results for split, share in _truths(run, result)},
        scorers={result.scorer: _source(result) for _, result in results},
        judges={result.scorer: result.judge for _, result in results if result.judge},
        data={run.benchmark: run.data for run in kept.runs},
        pictures={run.benchmark: run.pictures for run in kept.runs},
        kinds=tuple(score for run, result in results for score in _kinds(run, result)),
        risks={result.scorer: risks for run, result in results if (risks := _risks(run, result))},
        versions=kept.versions,
    )


def _scores(run: Run, result: BenchmarkResult) -> list[Score]:
    """What was counted, and what the confidences were worth, split by split."""
    scores = [*result.scores, *(figures(run, result, resamples=_DRAWS) if result is run.results[0] else ())]
    order = list(dict.fromkeys(split_of(score.metric) for score in scores))
    return sorted(scores, key=lambda score: order.index(split_of(score.metric)))


def _source(result: BenchmarkResult) -> str:
    return BENCHMARKS.get(result.benchmark).variants[result.variant].source


def _truths(run: Run, result: BenchmarkResult) -> Iterator[tuple[str, float]]:
    """The share of true yes of each split whose questions are all answered with yes or no."""
    for tally in result.tallies:
        split = split_of(f"{tally.split}/")
        parts = [item for item in run.items if split in (item.split, item.kind)]
        if not parts and tally.items == len(run.items):  # a split that holds them all
            parts = list(run.items)
        truths = [item.truth.strip().lower() for item in parts]
        if truths and {"yes", "no"} >= set(truths):
            yield tally.split, truths.count("yes") / len(truths)


def _kinds(run: Run, result: BenchmarkResult) -> Iterator[Score]:
    """Right answers by kind of question, where a benchmark tells kinds that are not its splits."""
    items = {item.id: item for item in run.items}
    marked: dict[str, list[tuple[str, float]]] = {}
    for mark in result.marks:
        if (item := items.get(mark.id)) is not None and item.kind and item.kind != item.split:
            marked.setdefault(item.kind, []).append((item.unit, mark.right))
    splits = {split_of(f"{tally.split}/") for tally in result.tallies}
    for kind, rows in marked.items() if len(marked) > 1 and not splits >= set(marked) else ():
        _, counts = per_unit([unit for unit, _ in rows], [(right, 1) for _, right in rows], 2)
        found = bootstrap(counts.astype(np.float64), [RIGHT.formula])[0]
        yield Score(f"{result.scorer}/{kind}/{RIGHT.name}", found.value, found.low, found.high, len(rows))


def _risks(run: Run, result: BenchmarkResult) -> list[tuple[float, float]]:
    """(coverage, risk), the surest answers first; empty where no answer has a confidence."""
    confidence, right = pairs(run, result)
    risks = risk_coverage(confidence, right) if len(confidence) else ()
    return [((k + 1) / len(risks), float(risks[k])) for k in _thinned(len(risks))]


def _thinned(length: int) -> list[int]:
    """At most some 200 places of a long list, first and last among them."""
    return sorted({round(place) for place in np.linspace(0, length - 1, min(length, _POINTS))})


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
        written["image"] = exhibit.image.name if exhibit.image else None
    told = {"made_by": f"edgereverie {__version__}", "statistics": STATISTICS}
    return {"edgereverie": "report", "version": VERSION, **told, **finite(values)}


def terminal_table(report: Report) -> RenderableType:
    """The scores for the terminal, grouped by scorer, as wide as the terminal is; each run with its change to the first."""
    from edgereverie.evaluation.report_terminal import ScoreTables

    return ScoreTables(report)
