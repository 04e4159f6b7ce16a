"""Pieces of HTML that every section of a report's page is made of. Arguments called head, body or cells are HTML already."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from edgereverie.evaluation.comparing import Change
from edgereverie.evaluation.report_words import (
    NOT_AVAILABLE,
    figure,
    interval,
    metric_of,
    p_of,
    probability,
)
from edgereverie.records import Score

COLOURS = 6  # of runs in the style sheet: --run-0 to --run-5; with more runs they come round again, beside the label
MISSING = f'<span class="missing">{NOT_AVAILABLE}</span>'
_MARK = {"better": "✓ better", "worse": "✗ worse", "unclear": "≈ within noise", "": ""}


def section(title: str, name: str, body: str) -> str:
    return f'<section aria-labelledby="{name}"><h2 id="{name}">{escape(title)}</h2>{body}</section>' if body else ""


def table(caption: str, head: Sequence[str], rows: Iterable[str], *, kind: str = "") -> str:
    """A table that scrolls sideways on a phone and can be reached by keyboard. head: HTML; rows: whole <tr>s."""
    columns = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    return (
        f'<div class="scroll" role="region" aria-label="{escape(caption)}" tabindex="0"><table class="{kind}">'
        f"<caption><span>{escape(caption)}</span></caption><thead><tr>{columns}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def row(head: str, cells: Iterable[str]) -> str:
    return f'<tr><th scope="row">{head}</th>' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def group(head: str, columns: int) -> str:
    """A row that stands over those that follow it; its words stay in sight when the table is scrolled sideways."""
    return f'<tr class="split"><th colspan="{columns}" scope="rowgroup"><span>{head}</span></th></tr>'


def dot(number: int) -> str:
    return f'<i class="dot run-{number % COLOURS}" aria-hidden="true"></i>'


def value(score: Score | None) -> str:
    """A score in a table, with its interval beside it."""
    if score is None or math.isnan(score.value):
        return MISSING
    metric = metric_of(score.metric)
    return f"<b>{figure(score.value, metric)}</b> <small>{interval(score, metric)}</small>"


def changed(change: Change) -> str:
    """A paired difference: how much, whether that is more than chance, its interval and its p-value."""
    score, metric = change.difference, metric_of(change.metric)
    if math.isnan(score.value):
        return MISSING
    tag = f' <span class="verdict {change.verdict}">{_MARK[change.verdict]}</span>' if change.verdict else ""
    told = filter(None, (interval(score, metric, signed=True), probability(p_of(change))))
    return f'<span class="delta">{figure(score.value, metric, signed=True)}{tag}</span><small>{escape(", ".join(told))}</small>'


def digest(sha256: str) -> str:
    return f'<code title="{escape(sha256)}">{escape(sha256[:12])}</code>' if sha256 else NOT_AVAILABLE


def plain(told: Any) -> str:
    """A figure of any kind, as people read it."""
    if isinstance(told, bool):
        return "yes" if told else "no"
    if isinstance(told, float):
        return f"{told:.4g}" if math.isfinite(told) else NOT_AVAILABLE
    if isinstance(told, (list, tuple)):
        texts = any(isinstance(inner, str) for inner in told)
        return f"{len(told)} listed in report.json" if texts else ", ".join(map(plain, told)) or NOT_AVAILABLE
    return NOT_AVAILABLE if told is None else escape(str(told))
