"""Charts of a report as inline SVG, coloured by the page's style sheet so that they follow its light and dark mode."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from edgereverie.evaluation.report import figure, interval
from edgereverie.evaluation.statistics import Metric
from edgereverie.records import Score

WIDTH = 420  # of every chart, in its own units; the page scales it
COLOURS = 6  # run colours of the style sheet: --run-0 to --run-5
_LEFT, _RIGHT, _BAR, _GAP = 118, 352, 13, 7
_POINTS = 240


@dataclass(frozen=True, slots=True)
class BarGroup:
    """Bars under one heading. bars: (run number, run label, its score). reference: a value to mark, the truth say."""

    heading: str
    bars: tuple[tuple[int, str, Score], ...]
    reference: float | None = None


def bar_chart(metric: Metric, groups: Sequence[BarGroup], *, whole: bool = False) -> str:
    """Horizontal bars with 95 % error bars. whole: let the axis of a share run to 100 % whatever the values are."""
    scores = [score for group in groups for _, _, score in group.bars]
    top = 1.0 if whole and metric.share else _nice_top(max((_finite(s.high, s.value) for s in scores), default=1.0))
    parts, y = [], 6.0
    for group in groups:
        if group.heading:
            parts.append(f'<text class="heading" x="0" y="{y + 10:.0f}">{escape(group.heading)}</text>')
            y += 18
        start = y
        for run, label, score in group.bars:
            parts.append(_bar(metric, run, label, score, top, y))
            y += _BAR + _GAP
        if group.reference is not None:
            x = _x(group.reference, top)
            parts.append(f'<line class="reference" x1="{x:.1f}" x2="{x:.1f}" y1="{start - 4:.0f}" y2="{y - 2:.0f}"/>')
        y += 6
    ticks = "".join(_tick(metric, top * i / 4, top, y - 4) for i in range(5))
    return _svg(y + 18, _spoken(metric, groups), ticks + "".join(parts))


def _bar(metric: Metric, run: int, label: str, score: Score, top: float, y: float) -> str:
    middle = y + _BAR / 2
    text = [f'<text class="label" x="{_LEFT - 8}" y="{middle + 4:.1f}">{escape(_short(label))}</text>']
    value = figure(score.value, metric)
    if not math.isnan(score.value):
        width = max(1.0, _x(score.value, top) - _LEFT)
        size = f'x="{_LEFT}" y="{y:.1f}" width="{width:.1f}" height="{_BAR}"'
        text.append(f'<rect class="run-{run % COLOURS}" {size} rx="2.5"/>')
    if not (math.isnan(score.low) or math.isnan(score.high)):
        low, high = _x(score.low, top), _x(score.high, top)
        shape = f"M{low:.1f} {middle - 4:.1f}v8M{low:.1f} {middle:.1f}H{high:.1f}M{high:.1f} {middle - 4:.1f}v8"
        text += [f'<path class="halo" d="{shape}"/>', f'<path class="error" d="{shape}"/>']
    text.append(f'<text class="value" x="{WIDTH}" y="{middle + 4:.1f}">{value}</text>')
    title = escape(f"{label}: {value}, 95 % interval {interval(score, metric)}")
    return f"<g><title>{title}</title>{''.join(text)}</g>"


def _tick(metric: Metric, value: float, top: float, bottom: float) -> str:
    x = _x(value, top)
    text = f"{100 * value:.3g}" if metric.share else f"{value:.3g}"
    return (f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="2" y2="{bottom:.0f}"/>'
            f'<text class="tick" x="{x:.1f}" y="{bottom + 14:.0f}">{text}</text>')  # fmt: skip


def _x(value: float, top: float) -> float:
    return _LEFT + (_RIGHT - _LEFT) * min(max(value / top, 0.0), 1.0)


def _nice_top(value: float) -> float:
    """The next figure whose quarters are round: the end of an axis."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * step for step in (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10) if value <= power * step * (1 + 1e-9))


def _finite(*values: float) -> float:
    return max((value for value in values if not math.isnan(value)), default=0.0)


def _short(label: str, most: int = 17) -> str:
    return label if len(label) <= most else label[: most - 1].rstrip() + "…"


def _spoken(metric: Metric, groups: Sequence[BarGroup]) -> str:
    """The chart in words, for screen readers."""
    told = []
    for group in groups:
        bars = ", ".join(f"{label} {figure(score.value, metric)}" for _, label, score in group.bars)
        told.append(f"{group.heading}: {bars}" if group.heading else bars)
    return f"Bar chart of {metric.title}. " + "; ".join(told) + "."


def line_chart(curves: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Curves over steps, such as the training loss; long ones are averaged down to some 240 points."""
    drawn = {label: _averaged(points) for label, points in curves.items()}
    drawn = {label: points for label, points in drawn.items() if points}
    if not drawn:
        return ""
    xs = [x for points in curves.values() for x, y in points if math.isfinite(x) and math.isfinite(y)]
    top = _nice_top(max(y for points in drawn.values() for _, y in points))
    left, right, upper, lower = 34.0, WIDTH - 8.0, 10.0, 180.0
    first, span = min(xs), (max(xs) - min(xs)) or 1.0

    def place(x: float, y: float) -> str:
        return f"{left + (right - left) * (x - first) / span:.1f},{lower - (lower - upper) * max(0.0, y) / top:.1f}"

    parts = []
    for i in range(5):
        y = lower - (lower - upper) * i / 4
        parts.append(f'<line class="grid" x1="{left:.0f}" x2="{right:.0f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick end" x="{left - 6:.0f}" y="{y + 4:.1f}">{top * i / 4:.3g}</text>')
    for x, anchor in ((first, "start"), (first + span, "end")):
        parts.append(
            f'<text class="tick {anchor}" x="{place(x, 0).partition(",")[0]}" y="{lower + 16:.0f}">{x:g}</text>'
        )
    parts.append(f'<text class="tick" x="{(left + right) / 2:.0f}" y="{lower + 16:.0f}">step</text>')
    for number, (label, points) in enumerate(drawn.items(), start=1):
        path = " ".join(place(x, y) for x, y in points)
        parts.append(
            f'<polyline class="curve run-{number % COLOURS}" points="{path}"><title>{escape(label)}</title></polyline>'
        )
    told = "; ".join(f"{label} from {points[0][1]:.3g} to {points[-1][1]:.3g}" for label, points in drawn.items())
    return _svg(lower + 24, f"Line chart over training steps: {told}.", "".join(parts))


def _averaged(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    finite = [(float(x), float(y)) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    size = max(1, math.ceil(len(finite) / _POINTS))
    blocks = [finite[i : i + size] for i in range(0, len(finite), size)]
    return [(sum(x for x, _ in block) / len(block), sum(y for _, y in block) / len(block)) for block in blocks]


def _svg(height: float, spoken: str, body: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(spoken)}">{body}</svg>'
