"""One section for each benchmark: its charts, its scorers side by side, and every figure with the change from the first run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from edgereverie.evaluation.report import Report
from edgereverie.evaluation.report_charts import BarGroup, Curve, bar_chart, line_chart
from edgereverie.evaluation.report_parts import MISSING, changed, dot, group, row, table, value
from edgereverie.evaluation.report_words import (
    benchmark_title,
    headline,
    lowered,
    metric_of,
    scorer_of,
    split_of,
    title_of,
)

FEW = 2  # benchmarks whose tables stand open; with more a page of them is a list to choose from
_HINT = {"higher": "higher is better", "lower": "lower is better"}


def by_benchmark(names: Iterable[str]) -> dict[str, dict[str, list[str]]]:
    """Scores' names by benchmark, then by scorer, in the order in which they come."""
    found: dict[str, dict[str, list[str]]] = {}
    for name in names:
        found.setdefault(name.split("/")[0], {}).setdefault(scorer_of(name), []).append(name)
    return found


def benchmarks(report: Report) -> str:
    found = by_benchmark(report.metrics())
    return "".join(_benchmark(report, name, scorers, len(found) <= FEW) for name, scorers in found.items())


def _benchmark(report: Report, name: str, scorers: dict[str, list[str]], opened: bool) -> str:
    first, names = next(iter(scorers.items()))
    charts = [
        _bars(report, first, metric)
        for metric in dict.fromkeys(name.rpartition("/")[2] for name in headline(asked(report, names)))
    ]
    charts += [_kinds(report, first), _sureness(report, first)]
    charts += [_bars(report, first, "ece")] if any(name.endswith("/ece") for name in names) else []
    state = " open" if opened else ""
    figures = "".join(_figures(report, scorer, names) for scorer, names in scorers.items())
    count, anchor = sum(map(len, scorers.values())), escape(f"bench-{name}")
    return (
        f'<section class="benchmark" aria-labelledby="{anchor}"><h2 id="{anchor}">{escape(benchmark_title(name))}</h2>'
        f"{_how(report, scorers)}"
        f'<div class="panels">{"".join(charts)}</div>{_side_by_side(report, scorers)}'
        f"<details{state}><summary>All {count} figures</summary>{figures}</details></section>"
    )


def _how(report: Report, scorers: dict[str, list[str]]) -> str:
    """Whose rules count, who judged, and how much was asked."""
    rules = {scorer: run.scorers[scorer] for run in report.runs for scorer in scorers if scorer in run.scorers}
    told = [f"<b>{escape(scorer)}</b> {escape(rule)}" for scorer, rule in rules.items()]
    judges = dict.fromkeys(run.judges[scorer] for run in report.runs for scorer in scorers if scorer in run.judges)
    told += [f"judge <b>{escape(judge)}</b>" for judge in judges]
    return f'<p class="how">{" · ".join(told)}</p>{_turned(report, next(iter(scorers)))}' if told else ""


def _turned(report: Report, scorer: str) -> str:
    """How many answers turned right and how many wrong, of the whole benchmark."""
    told = []
    for number, one in enumerate(report.comparisons, start=1):
        found = [turned for name, turned in one.right.items() if scorer_of(f"{name}/") == scorer]
        gained, lost = sum(turned.gained for turned in found), sum(turned.lost for turned in found)
        told.append(
            f"<li>{dot(number)}{escape(one.after)}: <b>{gained:,}</b> turned right, <b>{lost:,}</b> turned wrong</li>"
        )
    first = escape(report.runs[0].label)
    return f'<p class="turned">Answers against {first}</p><ul class="turned">{"".join(told)}</ul>' if told else ""


def asked(report: Report, names: Sequence[str]) -> dict[str, int]:
    """How many answers each score is of; most, where the runs were asked different numbers."""
    return {name: max(score.n for run in report.runs if (score := run.score(name))) for name in names}


def _bars(report: Report, scorer: str, metric_name: str) -> str:
    names = [n for n in report.metrics() if scorer_of(n) == scorer and n.rpartition("/")[2] == metric_name]
    metric = metric_of(names[0])
    yes = metric_name == "yes_ratio"
    groups = [_group(report, name, yes) for name in names]
    whole = metric.better != "lower"
    hint = "line: share of true yes" if yes else _HINT.get(metric.better or "", "")
    return _panel(metric.title, scorer, hint, bar_chart(metric, groups, whole=whole))


def _group(report: Report, name: str, yes: bool) -> BarGroup:
    split = name.rpartition("/")[0]
    bars = [(i, run.label, score) for i, run in enumerate(report.runs) if (score := run.score(name))]
    truth = next((run.truths[split] for run in report.runs if split in run.truths), None) if yes else None
    return BarGroup(split_of(name) or "all", tuple(bars), truth)


def _kinds(report: Report, scorer: str) -> str:
    names = list(dict.fromkeys(s.metric for run in report.runs for s in run.kinds if scorer_of(s.metric) == scorer))
    if not names:
        return ""
    found = [{score.metric: score for score in run.kinds} for run in report.runs]
    groups = [
        BarGroup(
            split_of(name),
            tuple((i, run.label, found[i][name]) for i, run in enumerate(report.runs) if name in found[i]),
        )
        for name in names
    ]
    metric = metric_of(names[0])
    return _panel("Right answers by kind of question", scorer, _HINT["higher"], bar_chart(metric, groups, whole=True))


def _sureness(report: Report, scorer: str) -> str:
    curves = [Curve(i, run.label, run.risks[scorer]) for i, run in enumerate(report.runs) if run.risks.get(scorer)]
    if not curves:
        return ""
    chart = line_chart(curves, across="answers given, surest first", up="wrong among them", share=True)
    return _panel("Risk and coverage", scorer, "lower is better", chart)


def _panel(title: str, scorer: str, hint: str, chart: str) -> str:
    return (
        f'<figure class="panel"><figcaption>{escape(title)} <small>{escape(scorer)}'
        f"{' · ' + escape(hint) if hint else ''}</small></figcaption>{chart}</figure>"
    )


def _side_by_side(report: Report, scorers: dict[str, list[str]]) -> str:
    """The same answers under each way of scoring, where there are several."""
    if len(scorers) < 2:
        return ""
    shared: dict[str, dict[str, str]] = {}
    for scorer, names in scorers.items():
        for name in names:
            shared.setdefault(name.removeprefix(scorer + "/"), {})[scorer] = name
    wanted = {
        name.removeprefix(scorer + "/")
        for scorer, names in scorers.items()
        for name in headline(asked(report, names))[:1]
    }
    kept = {
        tail: names
        for tail, names in shared.items()
        if tail.rpartition("/")[2] in {t.rpartition("/")[2] for t in wanted}
    }
    rows = []
    for tail, names in kept.items():
        if len(names) < 2:
            continue
        metric = metric_of(next(iter(names.values())))
        rows.append(
            group(escape(" ".join(filter(None, (split_of(f"//{tail}"), lowered(metric.title))))), len(scorers) + 1)
        )
        for i, run in enumerate(report.runs):
            cells = [value(run.score(names[scorer])) if scorer in names else MISSING for scorer in scorers]
            rows.append(row(dot(i) + escape(run.label), cells))
    if not rows:
        return ""
    head = ["Run", *(escape(scorer) for scorer in scorers)]
    return table("The same answers under each way of scoring.", head, rows, kind="scores")


def _figures(report: Report, scorer: str, names: Sequence[str]) -> str:
    first = report.runs[0].label
    head = [escape(scorer), "n", *(dot(i) + escape(run.label) for i, run in enumerate(report.runs))]
    rows, split = [], ""
    for name in names:
        if split_of(name) != split:
            split = split_of(name)
            rows.append(group(escape(split), len(head)))
        numbers = dict.fromkeys(f"{score.n:,}" for run in report.runs if (score := run.score(name)))
        cells = ["/".join(numbers)]
        for run in report.runs:
            found = report.change(run.label, name)
            told = changed(found) if found else ""
            cells.append(value(run.score(name)) + (f'<span class="change">{told}</span>' if told else ""))
        rows.append(row(escape(metric_of(name).title), cells))
    caption = f"{scorer}: 95 % intervals, resampled by picture or set of questions."
    if report.comparisons:
        caption += (
            f" Changes from {first} on the same questions; p by permutation, adjusted for all that this scorer counted."
        )
    return table(caption, head, rows, kind="scores")


def titled(name: str) -> str:
    """A score's whole name with its scorer, as HTML."""
    return f"{escape(title_of(name))} <small>{escape(scorer_of(name))}</small>"
