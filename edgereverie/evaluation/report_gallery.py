"""The report's gallery: pictures, what each run said about them, how each scorer read that, and filters over them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

from edgereverie.evaluation.exhibits import Exhibit, Reading, Said
from edgereverie.evaluation.report_parts import dot
from edgereverie.evaluation.report_words import benchmark_title
from edgereverie.told.markup import data_uri, legend, marked_html

_NAMED = '<p class="legend"><span><mark>word</mark> the scorer counts it as a mistake</span></p>'
_LONG = 900  # characters, from which on a text scrolls in a box of its own


def gallery(exhibits: Sequence[Exhibit], labels: Sequence[str]) -> str:
    """Filters, the legend and one card for each exhibit. labels: of all runs in order, which gives each its colour.

    Cards are matched by numbers, never by texts from outside. Without a script all are shown and no filter is.
    """
    benchmarks = list(dict.fromkeys(one.benchmark for one in exhibits if one.benchmark))
    mistakes = list(dict.fromkeys(kind for one in exhibits for kind in one.mistakes))
    claims = any(said.answer.claims for one in exhibits for said in one.said)
    cards = "".join(_card(i, one, labels, benchmarks, mistakes) for i, one in enumerate(exhibits, start=1))
    filters = _filters(benchmarks, mistakes, labels) if mistakes else ""
    more = '<button type="button" class="more" hidden>Show more</button>'
    marks = f"{legend() if claims else ''}{_NAMED if '<mark>' in cards else ''}"
    return f"{filters}{marks}<div class='gallery'>{cards}</div>{more if filters else ''}"


def _filters(benchmarks: Sequence[str], mistakes: Sequence[str], labels: Sequence[str]) -> str:
    def choice(name: str, title: str, every: str, options: Iterable[str]) -> str:
        told = "".join(f'<option value="{i}">{escape(option)}</option>' for i, option in enumerate(options))
        return f'<label>{title}<select name="{name}"><option value="">{every}</option>{told}</select></label>'

    ticks = "".join(
        f'<label class="tick"><input type="checkbox" name="{name}">{title}</label>'
        for name, title in (("changed", "changed answers only"), ("disputed", "wrong in one run, right in another"))
    )
    return (
        '<form class="filters" aria-label="Filter the gallery" hidden>'
        + (choice("benchmark", "Benchmark", "all", map(benchmark_title, benchmarks)) if len(benchmarks) > 1 else "")
        + choice("mistake", "Kind of mistake", "all", mistakes)
        + (choice("wrong", "Wrong in", "any run", labels) + ticks if len(labels) > 1 else "")
        + '<button type="reset">Show all</button><p id="shown" role="status"></p></form>'
    )


def _card(
    number: int, exhibit: Exhibit, labels: Sequence[str], benchmarks: Sequence[str], mistakes: Sequence[str]
) -> str:
    wrong = [str(labels.index(said.label)) for said in exhibit.said if said.wrong and said.label in labels]
    data = {
        "benchmark": str(benchmarks.index(exhibit.benchmark)) if exhibit.benchmark else "",
        "mistake": " ".join(str(mistakes.index(kind)) for kind in exhibit.mistakes),
        "wrong": " ".join(wrong),
    }
    matched = "".join(f' data-{name}="{told}"' for name, told in data.items())
    matched += (" data-changed" if exhibit.changed else "") + (" data-disputed" if exhibit.disputed else "")
    part = "" if exhibit.id.startswith(f"{exhibit.part}/") else exhibit.part
    where = " · ".join(escape(word) for word in (benchmark_title(exhibit.benchmark), part, exhibit.id) if word)
    answers = "".join(_answer(said, labels) for said in exhibit.said)
    return (
        f'<article class="exhibit"{matched}>{_picture(number, exhibit)}<div class="told">'
        + (f'<p class="where">{where}</p>' if exhibit.benchmark else "")
        + f"<h3>{_long(escape(exhibit.question), exhibit.question)}</h3>"
        + (
            f'<p class="truth"><span>Truth</span> {_long(escape(exhibit.truth), exhibit.truth)}</p>'
            if exhibit.truth
            else ""
        )
        + f'<div class="answers" style="--columns:{_columns(len(exhibit.said))}">{answers}</div></div></article>'
    )


def _picture(number: int, exhibit: Exhibit) -> str:
    if exhibit.image is None:
        return '<figure class="none">no picture</figure>'
    if not exhibit.image.is_file():
        return f'<figure class="none">{escape(exhibit.image.name)} is not here</figure>'
    alt = escape(f"Picture {number}. In truth: {exhibit.truth}" if exhibit.truth else f"Picture {number}")
    return f'<figure><img src="{data_uri(exhibit.image)}" alt="{alt}"></figure>'


def _columns(answers: int) -> int:
    """Answers side by side, in rows of equal length: four stand two by two."""
    return answers if answers < 4 else 2 if answers == 4 else 3


def _answer(said: Said, labels: Sequence[str]) -> str:
    colour = labels.index(said.label) if said.label in labels else 0
    extra = _verdict(said.readings[0]) if said.readings else ""
    extra += '<span class="badge">abstained</span>' if said.answer.abstained else ""
    if said.answer.confidence is not None:
        extra += f'<span class="confidence">confidence {100 * said.answer.confidence:.0f} %</span>'
    text = marked_html(said.answer) if said.answer.claims or not said.answer.text else _flagged(said)
    return (
        f'<section class="answer"><h4>{dot(colour)}<span>{escape(said.label)}</span>{extra}</h4>'
        f"<p>{_long(text, said.answer.text)}</p>{_readings(said.readings)}</section>"
    )


def _verdict(reading: Reading) -> str:
    if not reading.wrong:
        return '<span class="verdict better">✓ right</span>'
    right = reading.mark.right
    told = "✗ wrong" if right <= 0 else f"{100 * right:.0f} % right" if right < 1 else "✗ with faults"
    return f'<span class="verdict worse">{told}</span>'


def _readings(readings: Sequence[Reading]) -> str:
    """How the answer was read: by the first scorer, and by every other that read or judged it differently."""
    if not readings:
        return ""
    first = readings[0]
    told = [_reading(first)]
    told += [_reading(one) for one in readings[1:] if (one.mark.read, one.wrong) != (first.mark.read, first.wrong)]
    return f'<ul class="readings">{"".join(told)}</ul>'


def _reading(reading: Reading) -> str:
    mark = reading.mark
    why = mark.note if reading.wrong and mark.note else "wrong" if reading.wrong else "right"
    read = f"reads “{escape(mark.read)}”" if mark.read not in ("", "unread") else "cannot read it"
    return f"<li><b>{escape(reading.scorer)}</b> {read}: {escape(why)}</li>"


def _flagged(said: Said) -> str:
    """The text with the words marked that the scorer's note names behind its colon: what it says is not there."""
    if not said.wrong:
        return escape(said.answer.text)
    _, _, named = said.readings[0].mark.note.partition(":")
    words = [re.escape(word.strip()) for word in named.split(",") if word.strip()]
    if not words:
        return escape(said.answer.text)
    pattern = re.compile(rf"\b(?:{'|'.join(words)})(?:e?s)?\b", re.IGNORECASE)
    out, end = [], 0
    for found in pattern.finditer(said.answer.text):
        out += [escape(said.answer.text[end : found.start()]), f"<mark>{escape(found.group())}</mark>"]
        end = found.end()
    return "".join(out) + escape(said.answer.text[end:])


def _long(html: str, text: str) -> str:
    if len(text) <= _LONG:
        return html
    return f'<span class="long" tabindex="0" role="region" aria-label="long text">{html}</span>'
