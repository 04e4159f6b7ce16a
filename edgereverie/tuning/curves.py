"""A run's curves, from its log: as inline SVG for the report, and as PNG where matplotlib is installed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO
from typing import Any

from edgereverie.errors import MissingPackage

Points = list[tuple[float, float]]
COLOURS = ("#4a46d8", "#c2527f", "#0e8ba3")  # of the style sheet: --run-0 to --run-2
_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 420.0, 44.0, 412.0, 10.0, 180.0
_POINTS = 240
_CHARTS = {
    "loss": ("Loss", ("loss",)),
    "rewards": ("Rewards", ("reward_chosen", "reward_rejected")),
    "reward-accuracy": ("Share of pairs whose chosen answer is rewarded more", ("reward_accuracy",)),
    "gradient": ("Norm of the gradient", ("grad_norm",)),
    "rate": ("Learning rate", ("learning_rate",)),
    "speed": ("Tokens per second", ("tokens_per_second",)),
}


@dataclass(frozen=True, slots=True)
class Chart:
    """name: of its file. curves: points (step, value) by the name of a figure."""

    name: str
    title: str
    curves: Mapping[str, Points]


def charts(entries: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """What the lines of a log.jsonl can show; values that are no numbers are left out of the curves."""
    found = []
    for name, (title, keys) in _CHARTS.items():
        curves = {key: _points(entries, key) for key in keys}
        if curves := {key: points for key, points in curves.items() if points}:
            found.append(Chart(name, title, curves))
    return found


def _points(entries: Sequence[Mapping[str, Any]], key: str) -> Points:
    values = ((entry["step"], entry.get(key)) for entry in entries)
    return [(step, value) for step, value in values if isinstance(value, (int, float)) and math.isfinite(value)]


def averaged(points: Points) -> Points:
    """Long curves as means of blocks, some 240 of them at most."""
    size = max(1, math.ceil(len(points) / _POINTS))
    blocks = [points[i : i + size] for i in range(0, len(points), size)]
    return [(sum(x for x, _ in block) / len(block), sum(y for _, y in block) / len(block)) for block in blocks]


def svg(chart: Chart) -> str:
    """The chart as inline SVG, coloured by the page's style sheet, told in words for those who do not see it."""
    drawn = {key: averaged(points) for key, points in chart.curves.items()}
    xs = [x for points in drawn.values() for x, _ in points]
    ys = [y for points in drawn.values() for _, y in points]
    first, last = min(xs), max(xs)
    low, high = axis(min(ys), max(ys))

    def place(x: float, y: float) -> str:
        across = (x - first) / ((last - first) or 1.0)
        up = (y - low) / (high - low)
        return f"{_LEFT + (_RIGHT - _LEFT) * across:.1f},{_BOTTOM - (_BOTTOM - _TOP) * up:.1f}"

    parts = []
    for i in range(5):
        value = low + (high - low) * i / 4
        y = place(first, value).partition(",")[2]
        parts.append(f'<line class="grid" x1="{_LEFT:.0f}" x2="{_RIGHT:.0f}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="tick end" x="{_LEFT - 6:.0f}" y="{float(y) + 4:.1f}">{_figure(value)}</text>')
    for x, side, anchor in ((first, _LEFT, "start"), (last, _RIGHT, "end")):
        parts.append(f'<text class="tick {anchor}" x="{side:.0f}" y="{_BOTTOM + 16:.0f}">{_figure(x)}</text>')
    parts.append(f'<text class="tick" x="{(_LEFT + _RIGHT) / 2:.0f}" y="{_BOTTOM + 16:.0f}">step</text>')
    for number, (key, points) in enumerate(drawn.items()):
        if len(points) == 1:
            x, _, y = place(*points[0]).partition(",")
            parts.append(f'<circle class="run-{number}" cx="{x}" cy="{y}" r="3"><title>{escape(key)}</title></circle>')
            continue
        path = " ".join(place(x, y) for x, y in points)
        parts.append(f'<polyline class="curve run-{number}" points="{path}"><title>{escape(key)}</title></polyline>')
    told = "; ".join(f"{key} from {_figure(points[0][1])} to {_figure(points[-1][1])}" for key, points in drawn.items())
    label = escape(f"{chart.title} over the steps: {told}.")
    return f'<svg viewBox="0 0 {_WIDTH:.0f} {_BOTTOM + 24:.0f}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _figure(value: float) -> str:
    """
    >>> _figure(2000.0), _figure(0.25), _figure(1e-7)
    ('2,000', '0.25', '1e-07')
    """
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def axis(low: float, high: float) -> tuple[float, float]:
    """Ends of an axis with 0 and both values on it, in round quarters.

    >>> axis(0.3, 6.2), axis(-0.5, 1.5), axis(-3.0, -1.0)
    ((0.0, 8.0), (-0.5, 1.5), (-3.2, 0.0))
    """
    low, high = min(low, 0.0), max(high, 0.0)
    if high - low < 1e-300:
        return 0.0, 1.0
    quarter = _rounded(high - low) / 4
    while (below := math.ceil(-low / quarter - 1e-9)) + math.ceil(high / quarter - 1e-9) > 4:
        quarter = _rounded(4.01 * quarter) / 4
    return 0.0 - below * quarter, (4 - below) * quarter


def _rounded(value: float) -> float:
    """The next figure whose quarters are round."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * step for step in (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10) if value <= power * step * (1 + 1e-9))


def png(chart: Chart) -> bytes:
    """The chart as a PNG of 960 x 540. Raises MissingPackage without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingPackage("matplotlib", "Curves as PNG", "train") from None
    figure = Figure(figsize=(9.6, 5.4), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    for colour, (key, points) in zip(COLOURS, chart.curves.items(), strict=False):
        marker = "o" if len(points) == 1 else None
        axes.plot(*zip(*points, strict=True), label=key, color=colour, linewidth=1.6, marker=marker)
    axes.set_title(chart.title)
    axes.set_xlabel("step")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if len(chart.curves) > 1:
        axes.legend(frameon=False)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": "edgereverie"})
    return buffer.getvalue()
