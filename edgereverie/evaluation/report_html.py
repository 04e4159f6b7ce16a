"""The report as one self-contained page: no network, inline style and SVG, pictures as data URIs, one script that filters.

The page's policy names that script by its hash, so that nothing else on it can ever run; without it the page is whole.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from html import escape
from importlib.resources import files
from typing import Any

from edgereverie.evaluation.report import STATISTICS, Report, ReportRun
from edgereverie.evaluation.report_benchmarks import asked, benchmarks, by_benchmark, titled
from edgereverie.evaluation.report_charts import Curve, line_chart
from edgereverie.evaluation.report_gallery import gallery
from edgereverie.evaluation.report_parts import MISSING, changed, digest, dot, plain, row, section, table
from edgereverie.evaluation.report_words import (
    NOT_AVAILABLE,
    benchmark_title,
    figure,
    headline,
    metric_of,
)
from edgereverie.told.markup import POLICY, claims_css

_CARDS = 8
_METHOD = (
    f"Intervals: the middle 95 % of {STATISTICS['resamples']:,} resamples (seed {STATISTICS['seed']}) of whole units: pictures, "
    "or sets of questions that stand or fall together; fewer resamples for what confidences are worth "
    f"({STATISTICS['confidence_resamples']}). p-values: up to {STATISTICS['permutations']:,} permutations, the two runs swapped "
    "unit by unit; adjusted by Holm over what one scorer counted of all runs. Verdicts go by the adjusted ones, at 5 %."
)
MEANING = {
    ("pope", "accuracy"): "of the questions whether something is there are answered right",
    ("pope", "yes_ratio"): "of the same questions are answered with yes",
    ("chair", "chair_i"): "of the objects named in captions are not in the picture; lower is better",
    ("chair", "recall"): "of the objects in the picture are named in captions",
}


def render(report: Report) -> str:
    """The whole page. Every text from outside is escaped. Raises DataError for a picture that cannot be read."""
    style, script = _file("report.css") + claims_css(), _file("report.js")
    labels = [run.label for run in report.runs]
    sections = {
        "gallery": section("Gallery", "gallery", gallery(report.exhibits, labels) if report.exhibits else ""),
        "loss": section("Training loss", "loss", _loss(report)),
        "parity": section("Parity of the exported models", "parity", _parity(report)),
        "spread": section("Spread over training seeds", "spread", _spread(report)),
        "provenance": section("Provenance", "provenance", _provenance(report)),
    }
    body = [_header(report, [name for name, text in sections.items() if text]), benchmarks(report), *sections.values()]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy(script)}">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(report.title)}</title>\n<style>\n{style}</style></head>\n<body><main>\n"
        + "\n".join(filter(None, body))
        + f"\n</main><script>{script}</script></body></html>\n"
    )


def policy(script: str) -> str:
    """A policy under which this script runs and nothing else does."""
    sha256 = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return f"{POLICY}; script-src 'sha256-{sha256}'; base-uri 'none'; form-action 'none'"


def _file(name: str) -> str:
    return files("edgereverie.evaluation").joinpath(name).read_text(encoding="utf-8")


def _header(report: Report, sections: list[str]) -> str:
    notes = "".join(f"<p class='note'>{escape(note)}</p>" for note in report.notes)
    runs = "".join(_run(i, run) for i, run in enumerate(report.runs))
    links = {f"bench-{name}": benchmark_title(name) for name in by_benchmark(report.metrics())}
    links |= {name: name.capitalize() for name in sections}
    linked = "".join(f'<li><a href="#{escape(name)}">{escape(title)}</a></li>' for name, title in links.items())
    return (
        f"<header><p class='brand'>edgereverie <span>evaluation report</span></p><h1>{escape(report.title)}</h1>{notes}"
        f'<ol class="runs" aria-label="Runs">{runs}</ol><nav aria-label="On this page"><ul>{linked}</ul></nav>'
        f"{_cards(report)}</header>"
    )


def _run(number: int, run: ReportRun) -> str:
    guard = "" if run.guard in ("", "none") else f"guard {run.guard}"
    beside = escape(" · ".join(filter(None, (run.backend, guard))))
    return f"<li>{dot(number)}<b>{escape(run.label)}</b> <small>{beside}</small></li>"


def _cards(report: Report) -> str:
    scorers = [next(iter(found.values())) for found in by_benchmark(report.metrics()).values()]
    known = [headline(asked(report, names)) for names in scorers]
    few = len(known) <= 3
    wanted = [name for names in known for name in (names if few else names[:1])][:_CARDS]
    cards = "".join(_card(report, name) for name in wanted)
    return f"<h2 class='glance'>At a glance</h2><div class='cards'>{cards}</div>" if wanted else ""


def _card(report: Report, name: str) -> str:
    metric = metric_of(name)
    scored = [(run, score) for run in report.runs if (score := run.score(name))]
    if not scored:
        return ""
    (first, was), (last, now) = scored[0], scored[min(1, len(scored) - 1)]
    shown, told = f"<b>{figure(now.value, metric)}</b>", ""
    if last is not first:
        shown = f"<span class='was'>{figure(was.value, metric)}</span> <span class='arrow'>→</span> {shown}"
        found = report.change(last.label, name)
        told = changed(found) if found else ""
    rest = "".join(
        f"<li>{dot(report.runs.index(run))}{escape(run.label)} <b>{figure(score.value, metric)}</b></li>"
        for run, score in scored[2:]
    )
    meaning = MEANING.get((name.split("/")[0], metric.name), "")
    return (
        f"<article class='card'><h3>{titled(name)}</h3><p class='big'>{shown}</p>"
        + (f"<p class='change'>{told}</p>" if told else "")
        + (f"<p class='meaning'>{meaning}</p>" if meaning else "")
        + (f"<ul class='rest'>{rest}</ul>" if rest else "")
        + "</article>"
    )


def _loss(report: Report) -> str:
    curves = [Curve(i, label, points) for i, (label, points) in enumerate(report.loss.items(), start=1)]
    chart = line_chart(curves, across="step", up="loss")
    return f"<figure class='panel wide'>{chart}</figure>" if chart else ""


def _parity(report: Report) -> str:
    """A column for each artefact; what a figure consists of stands under it."""
    told = [dict(_flat("", figures)) for figures in report.parity.values()]
    keys = sorted(dict.fromkeys(key for figures in told for key in figures), key=lambda key: ":" in key)
    rows = [row(escape(key), [plain(figures[key]) if key in figures else MISSING for figures in told]) for key in keys]
    head = ["", *(escape(label) for label in report.parity)]
    return (
        table("Each exported model against the model it was made from, on the same inputs.", head, rows) if rows else ""
    )


def _flat(name: str, told: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in told.items():
        words = f"{name}: {key}" if name else key
        if isinstance(value, Mapping):
            yield from _flat(words.replace("_", " "), value)
        elif value not in (None, [], ()):
            yield words.replace("_", " "), value


def _spread(report: Report) -> str:
    rows = []
    for found in report.spread:
        metric = metric_of(found.metric)
        values = ", ".join(figure(value, metric) for value in found.values)
        deviation = figure(found.deviation, metric, signed=True).removeprefix("+")
        rows.append(row(titled(found.metric), [f"<b>{figure(found.mean, metric)}</b>", f"± {deviation}", values]))
    caption = "Mean and sample deviation over training runs that differ in their seed alone."
    return table(caption, ["Metric", "Mean", "Deviation", "Each seed"], rows) if rows else ""


def _provenance(report: Report) -> str:
    answered = [
        row(
            dot(i) + escape(run.label),
            [
                escape(run.backend) or NOT_AVAILABLE,
                escape(run.guard) or NOT_AVAILABLE,
                digest(run.artefact),
                plain(run.seed),
                f"{run.n:,}",
                f"{run.seconds:,.1f} s" if run.seconds else NOT_AVAILABLE,
                escape(" · ".join(f"{name} {version}" for name, version in run.versions.items())) or NOT_AVAILABLE,
            ],
        )
        for i, run in enumerate(report.runs)
    ]
    head = ["Run", "Backend", "Guard", "Artefact (SHA-256)", "Seed", "Questions", "Time answering", "Versions"]
    return (
        table("What answered.", head, answered, kind="answered")
        + _asked(report)
        + f"<p class='versions'>{_METHOD}</p>"
        + _counts(report)
    )


def _asked(report: Report) -> str:
    found = {
        (scorer, rule, run.judges.get(scorer, ""), run.data.get(bench, ""), run.pictures.get(bench, "")): None
        for run in report.runs
        for scorer, rule in run.scorers.items()
        for bench in [scorer.split("/")[0]]
    }
    rows = [
        row(escape(scorer), [escape(rule), escape(judge) or "none", digest(data), digest(pictures)])
        for scorer, rule, judge, data, pictures in found
    ]
    head = ["Scorer", "Whose rule", "Judge", "Questions (SHA-256)", "Pictures (SHA-256)"]
    return table("What was asked, and whose rules scored it.", head, rows) if rows else ""


def _counts(report: Report) -> str:
    rows = [
        row(
            f"{escape(run.label)}, {escape(split)}",
            [escape(", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in counts.items()))],
        )
        for run in report.runs
        for split, counts in run.counts.items()
    ]
    if not rows:
        return ""
    told = table("Raw counts behind every score.", ["Run and split", "Counts"], rows, kind="text")
    return f"<details><summary>Raw counts</summary>{told}</details>"
