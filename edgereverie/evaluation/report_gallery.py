"""The report's gallery: pictures, what each run said about them, and which of its claims the picture supports."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

from PIL import Image

from edgereverie.evaluation.report import MINUS, Exhibit
from edgereverie.image import open_image
from edgereverie.records import Answer, Claim

SIDE = 480  # longest side of an embedded picture; keeps a gallery of photographs small enough to mail
VERDICTS = {
    "supported": ("✓", "supported by the picture"),
    "contradicted": ("✗", "contradicted by the picture"),
    "unverified": ("?", "not verified either way"),
}


def gallery(exhibits: Sequence[Exhibit], labels: Sequence[str]) -> str:
    """The legend and one card for each exhibit. labels: of all runs in order, which gives each its colour."""
    cards = "".join(_card(number, exhibit, labels) for number, exhibit in enumerate(exhibits, start=1))
    return f"{_legend()}<div class='gallery'>{cards}</div>"


def _legend() -> str:
    entries = "".join(
        f'<li><span class="claim {verdict}">claim{_sign(sign)}</span> {meaning}</li>'
        for verdict, (sign, meaning) in VERDICTS.items()
    )
    return f'<ul class="legend" aria-label="How claims are marked">{entries}</ul>'


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
        f"<p>{marked(answer)}</p></section>"
    )


def marked(answer: Answer) -> str:
    """The answer as HTML with its claims marked. Claims that overlap an earlier one, or miss the text, follow it.

    >>> marked(Answer("A <ring>."))
    'A &lt;ring&gt;.'
    """
    parts, after, end = [], [], 0
    for claim in sorted(answer.claims, key=lambda claim: (claim.start, -claim.end)):
        if not end <= claim.start < claim.end <= len(answer.text):
            after.append(_claim(claim, claim.text))
            continue
        parts += [escape(answer.text[end : claim.start]), _claim(claim, answer.text[claim.start : claim.end])]
        end = claim.end
    parts.append(escape(answer.text[end:]) if answer.text else '<em class="empty">(empty answer)</em>')
    return "".join(parts) + (f'<span class="also">Also: {" ".join(after)}</span>' if after else "")


def _claim(claim: Claim, text: str) -> str:
    sign, meaning = VERDICTS[claim.verdict]
    figures = [f"support {100 * claim.support:.0f} %"]
    figures += [f"{name} {value:+.2f}".replace("-", MINUS) for name, value in claim.evidence.items()]
    detail = escape(f"{claim.subject}: {meaning} · " + " · ".join(figures))
    return (
        f'<span class="claim {claim.verdict}" tabindex="0">{escape(text)}{_sign(sign)}'
        f'<span class="tip" role="note"> ({detail}) </span></span>'
    )


def _sign(sign: str) -> str:
    return f'<span class="sign" aria-hidden="true">{sign}</span>'


def data_uri(path: Path) -> str:
    """The picture as a data URI, at most SIDE pixels a side. Raises DataError when it cannot be read."""
    picture = open_image(path)
    photograph = max(picture.size) > SIDE
    if photograph:
        picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    stream, kind = io.BytesIO(), "jpeg" if photograph else "png"
    picture.save(stream, kind, **({"quality": 85} if photograph else {"optimize": True}))
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
