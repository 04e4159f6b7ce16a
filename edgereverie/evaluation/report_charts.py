"""Charts of a report: bars as lists that read well without seeing them, curves as SVG with their words in the page's own type.

Text is HTML throughout, so that it keeps its size on a phone; the style sheet colours both, light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from edgereverie.evaluation.report_parts import COLOURS, dot
from edgereverie.evaluation.report_words import NOT_AVAILABLE, figure, interval
from edgereverie.evaluation.statistics import Metric
from edgereverie.records import Score

_POINTS = 240


@dataclass(frozen=True, slots=True)
class BarGroup:
    """Bars under one heading. bars: (run number, run label, its score). reference: a value to mark, and what it is."""

    heading: str
    bars: tuple[tuple[int, str, Score], ...]
    reference: float | None = None


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a chart. number: of its run, which gives it colour and dashes. points: (x, y)."""

    number: int
    label: str
    points: Sequence[tuple[float, float]]


def bar_chart(metric: Metric, groups: Sequence[BarGroup], *, whole: bool = False) -> str:
    """Horizontal bars with 95 % intervals. whole: let the axis of a share run to 100 % whatever the values are."""
    scores = [score for group in groups for _, _, score in group.bars]
    top = 1.0 if whole and metric.share else nice_top(max((_finite(s.high, s.value) for s in scores), default=1.0))
    body = "".join(_group(metric, group, top) for group in groups)
    ticks = "".join(f'<span style="--x:{i / 4:g}">{_tick(metric, top * i / 4)}</span>' for i in range(5))
    return f'<div class="bars">{body}<div class="axis" aria-hidden="true"><div>{ticks}</div></div></div>'


def _group(metric: Metric, group: BarGroup, top: float) -> str:
    asked = sorted({score.n for _, _, score in group.bars})
    told = [f"n {'/'.join(f'{n:,}' for n in asked)}"] if asked else []
    if group.reference is not None:
        told.append(f"truth {figure(group.reference, metric)}")
    heading = f"<h3>{escape(group.heading)} <small>{', '.join(told)}</small></h3>"
    bars = "".join(_bar(metric, *bar, top, group.reference) for bar in group.bars)
    return f"{heading}<ul>{bars}</ul>"


def _bar(metric: Metric, run: int, label: str, score: Score, top: float, reference: float | None) -> str:
    drawn = []
    if not math.isnan(score.value):
        drawn.append(f'<i class="bar run-{run % COLOURS}" style="--to:{_place(score.value, top)}"></i>')
    if not (math.isnan(score.low) or math.isnan(score.high)):
        ends = f"--from:{_place(score.low, top)};--to:{_place(score.high, top)}"
        drawn.append(f'<i class="whisker" style="{ends}"></i>')
    if reference is not None:
        drawn.append(f'<i class="truth" style="--to:{_place(reference, top)}"></i>')
    ends = f"<small>{interval(score, metric)}</small>" if not math.isnan(score.value) else ""
    return (
        f'<li><span class="label">{dot(run)}{escape(label)}</span><span class="track" aria-hidden="true">{"".join(drawn)}</span>'
        f'<span class="value"><b>{figure(score.value, metric)}</b>{ends}</span></li>'
    )


def _place(value: float, top: float) -> str:
    return f"{min(max(value / top, 0.0), 1.0):.4f}"


def _tick(metric: Metric, value: float) -> str:
    return f"{100 * value:.3g}" if metric.share else f"{value:.3g}"


def nice_top(value: float) -> float:
    """The next figure whose quarters are round: the end of an axis.

    >>> nice_top(0.13), nice_top(3.0), nice_top(0)
    (0.16, 3.2, 1.0)
    """
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    steps = (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10)
    return next(round(power * step, 12) for step in steps if value <= power * step * (1 + 1e-9))


def _finite(*values: float) -> float:
    return max((value for value in values if not math.isnan(value)), default=0.0)


def line_chart(curves: Sequence[Curve], *, across: str, up: str, share: bool = False) -> str:
    """Curves over numbers, such as the training loss; long ones are averaged down to some 240 points. Empty without any.

    across, up: what the axes show. share: both axes are fractions of one, told in percent.
    """
    drawn = [Curve(curve.number, curve.label, _averaged(curve.points)) for curve in curves]
    drawn = [curve for curve in drawn if len({x for x, _ in curve.points}) > 1]  # a line takes two points
    if not drawn:
        return ""
    xs = [x for curve in curves for x, y in curve.points if math.isfinite(x) and math.isfinite(y)]
    first, last = (0.0, 1.0) if share else (min(xs), max(xs))
    top = nice_top(max(y for curve in drawn for _, y in curve.points))
    grid = "".join(f'<line class="grid" x1="0" x2="100" y1="{25 * i}" y2="{25 * i}"/>' for i in range(5))
    lines = "".join(_line(curve, first, (last - first) or 1.0, top) for curve in drawn)
    scale = 100 if share else 1
    rising = "".join(f"<span>{scale * top * i / 4:.3g}</span>" for i in (4, 3, 2, 1, 0))
    running = "".join(
        f"<span>{_rounded(scale * (first + (last - first) * i / 4), last - first)}</span>" for i in range(5)
    )
    spoken = "; ".join(f"{c.label} from {_at(c.points[0], share)} to {_at(c.points[-1], share)}" for c in drawn)
    keys = "".join(
        f'<li><svg class="key" viewBox="0 0 26 4" aria-hidden="true"><line class="curve run-{c.number % COLOURS}" '
        f'x1="1" x2="25" y1="2" y2="2"/></svg>{escape(c.label)}</li>'
        for c in drawn
    )
    unit, kind = " %" if share else "", "plot alone" if len(drawn) == 1 else "plot"
    told = escape(f"Line chart of {up} over {across}: {spoken}.")
    return (
        f'<div class="{kind}" role="img" aria-label="{told}">'
        f'<p class="up">{escape(up)}{unit}</p><div class="rising">{rising}</div>'
        f'<svg viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true">{grid}{lines}</svg>'
        f'<div class="running">{running}</div><p class="across">{escape(across)}{unit}</p></div><ul class="keys">{keys}</ul>'
    )


def _rounded(value: float, span: float) -> str:
    return f"{value:,.0f}" if span >= 8 else f"{value:.3g}"


def _line(curve: Curve, first: float, span: float, top: float) -> str:
    path = " ".join(f"{100 * (x - first) / span:.2f},{100 - 100 * max(0.0, y) / top:.2f}" for x, y in curve.points)
    title = escape(curve.label)
    return f'<polyline class="curve run-{curve.number % COLOURS}" points="{path}"><title>{title}</title></polyline>'


def _at(point: tuple[float, float], share: bool) -> str:
    if not all(map(math.isfinite, point)):
        return NOT_AVAILABLE
    return f"{100 * point[1]:.1f} % at {100 * point[0]:.0f} %" if share else f"{point[1]:.3g}"


def _averaged(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    finite = [(float(x), float(y)) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    size = max(1, math.ceil(len(finite) / _POINTS))
    blocks = [finite[i : i + size] for i in range(0, len(finite), size)]
    return [(sum(x for x, _ in block) / len(block), sum(y for _, y in block) / len(block)) for block in blocks]
