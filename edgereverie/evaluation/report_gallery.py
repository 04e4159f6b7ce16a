"""The report's gallery: pictures, what each run said about them, and which of its claims the picture supports."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from edgereverie.evaluation.report import Exhibit
from edgereverie.records import Answer
from edgereverie.told.markup import data_uri, legend, marked_html


def gallery(exhibits: Sequence[Exhibit], labels: Sequence[str]) -> str:
    """The legend and one card for each exhibit. labels: of all runs in order, which gives each its colour."""
    cards = "".join(_card(number, exhibit, labels) for number, exhibit in enumerate(exhibits, start=1))
    return f"{legend()}<div class='gallery'>{cards}</div>"


def _card(number: int, exhibit: Exhibit, labels: Sequence[str]) -> str:
    answers = "".join(_answer(label, answer, labels) for label, answer in exhibit.answers)
    alt = escape(f"Picture {number}. In truth: {exhibit.truth}")
    return (
        f'<article class="exhibit"><figure><img src="{data_uri(exhibit.image)}" alt="{alt}"></figure><div class="told">'
        f'<h3>{escape(exhibit.question)}</h3><p class="truth"><span>Truth</span> {escape(exhibit.truth)}</p>'
        f'<div class="answers" style="--columns:{_columns(len(exhibit.answers))}">{answers}</div></div></article>'
    )


def _columns(answers: int) -> int:
    """Answers side by side, in rows of equal length: four stand two by two."""
    return answers if answers < 4 else 2 if answers == 4 else 3


def _answer(label: str, answer: Answer, labels: Sequence[str]) -> str:
    colour = list(labels).index(label) % 6 if label in labels else 0
    extra = '<span class="badge">abstained</span>' if answer.abstained else ""
    if answer.confidence is not None:
        extra += f'<span class="confidence">confidence {100 * answer.confidence:.0f} %</span>'
    return (
        f'<section class="answer"><h4><i class="dot run-{colour}"></i>{escape(label)}{extra}</h4>'
        f"<p>{marked_html(answer)}</p></section>"
    )
