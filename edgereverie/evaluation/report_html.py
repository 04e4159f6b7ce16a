"""The report as one self-contained page: no script, no network, inline style, inline SVG, pictures as data URIs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from edgereverie.evaluation.report import NOT_AVAILABLE, Report, figure, interval, judgement, metric_of, title_of
from edgereverie.evaluation.report_charts import BarGroup, bar_chart, line_chart
from edgereverie.evaluation.report_gallery import gallery
from edgereverie.evaluation.statistics import ratio
from edgereverie.records import Score
from edgereverie.told.markup import POLICY, claims_css

HEADLINE = (
    "pope/official/adversarial/accuracy",
    "chair/table/chair_i",
    "chair/table/recall",
    "pope/official/adversarial/yes_ratio",
)
CHARTS = (("pope", "accuracy"), ("pope", "yes_ratio"), ("chair", "chair_i"), ("chair", "recall"))
MEANING = {
    "pope/official/adversarial/accuracy": "of answers are right where the question names the usual companion of what is there",
    "chair/table/chair_i": "of the objects named in captions are not in the picture; lower is better",
    "chair/table/recall": "of the objects in the picture are named in captions",
    "pope/official/adversarial/yes_ratio": "of the same questions are answered with yes",
}
_MARK = {"better": "✓ better", "worse": "✗ worse", "unclear": "≈ within noise", "": ""}


def render(report: Report) -> str:
    """The whole page. Every text from outside is escaped. Raises DataError for a picture that cannot be read."""
    style = files("edgereverie.evaluation").joinpath("report.css").read_text(encoding="utf-8") + claims_css()
    sections = [
        _section("At a glance", "glance", _charts(report)),
        _section("Scores", "scores", _scores(report)),
        _section("Gallery", "gallery", gallery(report.exhibits, _labels(report)) if report.exhibits else ""),
        _section("Training loss", "loss", _loss(report)),
        _section("Parity of the exported models", "parity", _parity(report)),
        _section("Spread over training seeds", "spread", _spread(report)),
        _section("Provenance", "provenance", _provenance(report)),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(report.title)}</title>\n<style>\n{style}</style></head>\n<body><main>\n"
        f"{_header(report)}\n" + "\n".join(filter(None, sections)) + "\n</main></body></html>\n"
    )


def _labels(report: Report) -> list[str]:
    return [run.label for run in report.runs]


def _section(title: str, name: str, body: str) -> str:
    return f'<section aria-labelledby="{name}"><h2 id="{name}">{title}</h2>{body}</section>' if body else ""


def _header(report: Report) -> str:
    notes = "".join(f"<p class='note'>{escape(note)}</p>" for note in report.notes)
    wanted = [name for name in HEADLINE if name in report.metrics()] or report.metrics()[:4]
    cards = "".join(_card(report, name) for name in wanted)
    if len(report.runs) > 1:
        cards_title = f"{escape(report.runs[0].label)} <span aria-hidden='true'>→</span> {escape(report.runs[1].label)}"
    else:
        cards_title = escape("".join(run.label for run in report.runs))
    return (
        f"<header><p class='brand'>edgereverie <span>evaluation report</span></p><h1>{escape(report.title)}</h1>{notes}"
        f"<p class='versus'>{cards_title}</p><div class='cards'>{cards}</div></header>"
    )


def _card(report: Report, name: str) -> str:
    metric = metric_of(name)
    values = [score for run in report.runs[:2] if (score := run.score(name))]
    if not values:
        return ""
    shown = f"<b>{figure(values[-1].value, metric)}</b>"
    change = ""
    if len(values) == 2:
        shown = f"<span class='was'>{figure(values[0].value, metric)}</span> <span aria-label='to'>→</span> {shown}"
        paired = report.difference(report.runs[0].label, report.runs[1].label, name)
        change = _change(paired, name) if paired else ""
    meaning = f"<p class='meaning'>{MEANING[name]}</p>" if name in MEANING else ""
    return (
        f"<article class='card'><h3>{escape(title_of(name))}</h3><p class='big'>{shown}</p>"
        f"<p class='change'>{change}</p>{meaning}</article>"
    )


def _change(score: Score, name: str) -> str:
    metric = metric_of(name)
    verdict = judgement(score, metric)
    tag = f" <span class='verdict {verdict}'>{_MARK[verdict]}</span>" if verdict else ""
    ends = f"<small>{interval(score, metric, signed=True)}</small>"
    return f"<span class='delta'>{figure(score.value, metric, signed=True)}{tag}</span> {ends}"


def _table(caption: str, head: Sequence[str], rows: Iterable[str], *, kind: str = "") -> str:
    """A table that scrolls sideways on a phone and can be reached by keyboard. head: HTML; rows: whole <tr>s."""
    columns = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    return (
        f'<div class="scroll" role="region" aria-label="{escape(caption)}" tabindex="0"><table class="{kind}">'
        f"<caption><span>{escape(caption)}</span></caption><thead><tr>{columns}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _row(head: str, cells: Iterable[str]) -> str:
    return f'<tr><th scope="row">{head}</th>' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _scores(report: Report) -> str:
    labels = _labels(report)
    paired = len(labels) > 1 and any((d.before, d.after) == (labels[0], labels[1]) for d in report.differences)
    head = ["Metric", *(f'<i class="dot run-{i % 6}"></i>{escape(label)}' for i, label in enumerate(labels))]
    head += [f"Change<small>{escape(labels[1])} minus {escape(labels[0])}</small>"] if paired else []
    rows, split = [], None
    for name in report.metrics():
        if (here := name.rpartition("/")[0]) != split:
            split = here
            words = split.upper().replace("CHAIR", "CHAIR, captions").split("/")
            title = " ".join([words[0], *(word.lower() for word in words[1:])])
            rows.append(
                f'<tr class="split"><th colspan="{len(head)}" scope="rowgroup"><span>{escape(title)}</span></th></tr>'
            )
        cells = [_cell(run.score(name), name) for run in report.runs]
        if paired:
            change = report.difference(labels[0], labels[1], name)
            cells.append(f'<span class="stack">{_change(change, name)}</span>' if change else NOT_AVAILABLE)
        rows.append(_row(escape(metric_of(name).title), cells))
    caption = (
        "Every score with its 95 % interval, found by resampling images. Changes are paired: same images in both runs."
    )
    return _table(caption, head, rows, kind="scores")


def _cell(score: Score | None, name: str) -> str:
    if score is None:
        return f'<span class="missing">{NOT_AVAILABLE}</span>'
    metric = metric_of(name)
    return f"<b>{figure(score.value, metric)}</b><small>{interval(score, metric)}</small>"


def _charts(report: Report) -> str:
    panels = []
    for benchmark, last in CHARTS:
        names = [n for n in report.metrics() if n.split("/")[0] == benchmark and n.rpartition("/")[2] == last]
        if not names:
            continue
        metric = metric_of(names[0])
        groups = [_group(report, name, last) for name in names]
        chart = bar_chart(metric, groups, whole=last != "chair_i")
        hint = {"higher": "higher is better", "lower": "lower is better"}.get(
            metric.better or "", "dashed: the share of true yes"
        )
        title = (
            metric.title
            if metric.title.startswith(benchmark.upper())
            else f"{benchmark.upper()} {metric.title.lower()}"
        )
        panels.append(
            f"<figure class='panel'><figcaption>{escape(title)} <small>{hint}</small></figcaption>{chart}</figure>"
        )
    return f"<div class='panels'>{''.join(panels)}</div>" if panels else ""


def _group(report: Report, name: str, last: str) -> BarGroup:
    split = name.rpartition("/")[0]
    bars = [(i, run.label, score) for i, run in enumerate(report.runs) if (score := run.score(name))]
    counts = next((run.counts[split] for run in report.runs if split in run.counts), None)
    reference = None
    if last == "yes_ratio" and counts is not None:
        share = float(ratio(counts["TP"] + counts["FN"], sum(counts.values())))
        reference = None if math.isnan(share) else share
    return BarGroup(split.partition("/")[2], tuple(bars), reference)


def _loss(report: Report) -> str:
    chart = line_chart(report.loss)
    if not chart:
        return ""
    keys = "".join(
        f'<li><i class="dot run-{i % 6}"></i>{escape(label)}</li>' for i, label in enumerate(report.loss, start=1)
    )
    return f"<figure class='panel wide'>{chart}<ul class='keys'>{keys}</ul></figure>"


def _parity(report: Report) -> str:
    if not report.parity:
        return ""
    columns = list(dict.fromkeys(key for figures in report.parity.values() for key in figures))
    rows = [
        _row(escape(label), [_plain(figures[key]) if key in figures else NOT_AVAILABLE for key in columns])
        for label, figures in report.parity.items()
    ]
    head = ["Artefact", *(escape(column.replace("_", " ")) for column in columns)]
    return _table("Each exported model against the model it was made from, on the same inputs.", head, rows)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else NOT_AVAILABLE
    if isinstance(value, Mapping):
        return "<br>".join(f"{escape(str(key))}: {_plain(inner)}" for key, inner in value.items())
    return escape(str(value))


def _spread(report: Report) -> str:
    if not report.spread:
        return ""
    rows = []
    for found in report.spread:
        metric = metric_of(found.metric)
        values = ", ".join(figure(value, metric) for value in found.values)
        deviation = figure(found.deviation, metric, signed=True).removeprefix("+")
        rows.append(
            _row(escape(title_of(found.metric)), [f"<b>{figure(found.mean, metric)}</b>", f"± {deviation}", values])
        )
    caption = "Mean and sample deviation over training runs that differ in their seed alone."
    return _table(caption, ["Metric", "Mean", "Deviation", "Each seed"], rows)


def _provenance(report: Report) -> str:
    rows = [
        _row(
            f'<i class="dot run-{i % 6}"></i>{escape(run.label)}',
            [
                escape(run.backend) or NOT_AVAILABLE,
                _hash(run.artefact),
                str(run.seed),
                f"{run.n:,}",
                f"{run.seconds:,.1f} s" if run.seconds else NOT_AVAILABLE,
            ],
        )
        for i, run in enumerate(report.runs)
    ]
    head = ["Run", "Backend", "Artefact (SHA-256)", "Seed", "Questions", "Time answering"]
    parts = [_table("What answered.", head, rows)]
    data = {(name, run.scorers.get(name, ""), digest) for run in report.runs for name, digest in run.data.items()}
    if data:
        rows = [_row(escape(name.upper()), [escape(scorer), _hash(digest)]) for name, scorer, digest in sorted(data)]
        parts.append(
            _table("What was asked, and whose rules scored it.", ["Benchmark", "Scorer", "Data (SHA-256)"], rows)
        )
    parts.append(_counts(report))
    if report.versions:
        told = " · ".join(f"{escape(name)} {escape(version)}" for name, version in report.versions.items())
        parts.append(f"<p class='versions'>{told}</p>")
    return "".join(parts)


def _counts(report: Report) -> str:
    rows = [
        _row(
            f"{escape(run.label)}, {escape(split)}",
            [escape(", ".join(f"{k.replace('_', ' ')} {v:,}" for k, v in counts.items()))],
        )
        for run in report.runs
        for split, counts in run.counts.items()
    ]
    if not rows:
        return ""
    table = _table("Raw counts behind every score.", ["Run and split", "Counts"], rows, kind="text")
    return f"<details><summary>Raw counts</summary>{table}</details>"


def _hash(digest: str) -> str:
    return f'<code title="{escape(digest)}">{escape(digest[:12])}</code>' if digest else NOT_AVAILABLE
