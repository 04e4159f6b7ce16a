"""An answer as HTML: claims underlined, signed and explained; colour is never the only mark, and nothing is loaded."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from edgereverie.records import Answer, Claim, Verdict
from edgereverie.told.parts import Part, Why, figures, parts
from edgereverie.told.text import remarks

if TYPE_CHECKING:
    from PIL import Image

SIDE = 480  # longest side of an embedded picture; keeps a page of photographs small enough to mail
VERDICTS: dict[Verdict, tuple[str, str]] = {
    "supported": ("✓", "supported by the picture"),
    "contradicted": ("✗", "contradicted by the picture"),
    "unverified": ("?", "not verified either way"),
}
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def marked_html(answer: Answer, why: Why = figures) -> str:
    """The answer's text with its claims marked, to stand inside a paragraph; ``claims_css`` is its style.

    Claims that overlap are one marked stretch with an explanation of each. Claims that miss the text follow it.

    >>> marked_html(Answer("A <ring>."))
    'A &lt;ring&gt;.'
    """
    found, astray = parts(answer)
    body = "".join(_part(part, why) for part in found) or '<em class="empty">(empty answer)</em>'
    also = " ".join(_stretch(escape(claim.text), (claim,), claim.verdict, why) for claim in astray)
    return body + (f'<span class="also">Also: {also}</span>' if also else "")


def _part(part: Part, why: Why) -> str:
    if not part.claims or part.verdict is None:
        return escape(part.text)
    if len(part.pieces) == 1:
        return _stretch(escape(part.text), part.claims, part.verdict, why)
    inner = "".join(
        f'<span class="piece {piece.verdict}">{escape(piece.text)}</span>'
        + (_sign(piece.ends) if piece.ends and index + 1 < len(part.pieces) else "")
        for index, piece in enumerate(part.pieces)
    )
    return _stretch(inner, part.claims, part.pieces[-1].ends or part.verdict, why, worst=part.verdict)


def _stretch(inner: str, claims: Iterable[Claim], ends: Verdict, why: Why, worst: Verdict | None = None) -> str:
    """inner: HTML. ends: the verdict whose sign stands behind it. worst: of all its claims, which gives it its colour."""
    told = "<br>".join(escape(explanation(claim, why)) for claim in claims)
    return (
        f'<span class="claim {worst or ends}" tabindex="0">{inner}{_sign(ends)}'
        f'<span class="tip" role="note"> ({told}) </span></span>'
    )


def _sign(verdict: Verdict) -> str:
    return f'<span class="sign {verdict}" aria-hidden="true">{VERDICTS[verdict][0]}</span>'


def explanation(claim: Claim, why: Why) -> str:
    """One claim in a sentence: what is claimed, the verdict, the support and what speaks for it."""
    about = claim.statement or claim.subject
    return f"{about}: {VERDICTS[claim.verdict][1]} · support {100 * claim.support:.0f} % · {why(claim)}"


def legend() -> str:
    """What the marks mean, as a list."""
    entries = "".join(
        f'<li><span class="claim {verdict}">claim{_sign(verdict)}</span> {meaning}</li>'
        for verdict, (_, meaning) in VERDICTS.items()
    )
    return f'<ul class="legend" aria-label="How claims are marked">{entries}</ul>'


def fragment(answer: Answer, why: Why = figures, *, question: str = "") -> str:
    """A piece of HTML for any page: style, marked text, and every claim with its explanation. Its style reaches nothing
    outside it."""
    told = "".join(
        f"<li>{_sign(claim.verdict)} <b>{escape(claim.statement or claim.text)}</b> {VERDICTS[claim.verdict][1]}, "
        f'support {100 * claim.support:.0f} % <span class="why">· {escape(why(claim))}</span></li>'
        for claim in answer.claims
    )
    said = [f"in the model's own words: {answer.draft}"] if answer.draft is not None else []
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in said + remarks(answer))
    return (
        f'<section class="edgereverie"><style>.edgereverie {{\n{_style("page.css")}{claims_css()}}}</style>'
        + (f"<h2>{escape(question)}</h2>" if question else "")
        + f'<div class="answer"><p>{marked_html(answer, why)}</p></div>'
        + (f'<ul class="told" aria-label="Claims">{told}</ul>' if told else "")
        + f"{notes}</section>"
    )


def page(title: str, shown: Iterable[tuple[Path | Image.Image | None, str, Answer]], why: Why = figures) -> str:
    """A whole page of answers: picture (once where several in a row are about it), question, answer. It loads nothing.

    Raises DataError for a picture that cannot be read.
    """
    body, before = [], None
    for image, question, answer in shown:
        if image is not None and image != before:
            body.append(f'<img src="{data_uri(image)}" alt="The picture that the next questions are about">')
        before = image
        body.append(fragment(answer, why, question=question))
    style = (
        "body { margin: 0 auto; padding: 24px 16px; max-width: 760px; display: grid; gap: 16px;"
        " background: light-dark(#f6f6f8, #0f1115); color-scheme: light dark; font-family: system-ui, sans-serif; }"
        " img { max-width: 100%; border-radius: 10px; justify-self: start; } h1 { font-size: 1.2rem; margin: 0; }"
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><title>{escape(title)}</title>'
        f"<style>{style}</style></head>\n<body><h1>{escape(title)}</h1>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def data_uri(picture: Path | Image.Image) -> str:
    """The picture as a data URI, at most SIDE pixels a side. Raises DataError when it cannot be read."""
    from PIL import Image

    from edgereverie.image import open_image

    picture = open_image(picture) if isinstance(picture, Path) else picture.convert("RGB")
    photograph = max(picture.size) > SIDE
    if photograph:
        picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    stream, kind = io.BytesIO(), "jpeg" if photograph else "png"
    picture.save(stream, kind, **({"quality": 85} if photograph else {"optimize": True}))
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"


def claims_css() -> str:
    """The style of ``marked_html``. It reads --good, --bad, --doubt, their -wash, --ink, --sheet and --soft."""
    return _style("claims.css")


@cache
def _style(name: str) -> str:
    return files("edgereverie.told").joinpath(name).read_text(encoding="utf-8")
