"""A hallucination card as Markdown. Texts of models and of files stand in it as text, whatever they hold."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from edgereverie.evaluation.report_words import (
    NOT_AVAILABLE,
    benchmark_title,
    figure,
    headline,
    metric_of,
    split_of,
)
from edgereverie.told.text import printable

_SPECIAL = re.compile(r"([\\`*_\[\]|~$])")  # what means something inside a line
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def markdown(card: Mapping[str, Any]) -> str:
    """The whole card; what ``card.card_of`` gave."""
    artefact = card["artefact"]
    lines = [f"# Hallucination card: {_text(artefact.get('name') or artefact['label'])}", "", *_opening(card), ""]
    lines += ["## In short", "", *_short(card), ""]
    lines += ["## What it gets wrong", "", *_wrong(card)]
    lines += ["## Thresholds", "", *_thresholds(card["thresholds"]), ""]
    lines += ["## How it was measured", "", *_how(card), ""]
    lines += ["## What was not measured", "", *(f"- {_text(told)}" for told in card["not_measured"]), ""]
    lines += ["## Every figure", "", *_figures(card)]
    return "\n".join(lines)


def _opening(card: Mapping[str, Any]) -> list[str]:
    artefact = card["artefact"]
    what = [_text(artefact[key]) for key in ("target", "quantization") if artefact.get(key)]
    what += [f"backend {_text(artefact['backend']) or 'not known'}", f"guard {_text(artefact['guard'])}"]
    what += [f"artefact `{artefact['fingerprint'][:12]}`"] if artefact["fingerprint"] else []
    made = f"Measured as “{_text(artefact['label'])}” with {_text(card['made_by'])}, told on {card['date']}."
    return [f"{', '.join(what)}. {made} Intervals are of 95 %, over pictures."]


def _short(card: Mapping[str, Any]) -> list[str]:
    lines = []
    for one in card["measured"]:
        scores = {score["metric"]: score for score in one["scores"]}
        if scores and one["scorer"] in {told["scorer"] for told in card["mistakes"]}:
            for name in headline({name: score["n"] for name, score in scores.items()}):
                score = scores[name]
                truth = f"; {_value(score['truth'], name)} would be true" if "truth" in score else ""
                told = f"{_value(score['value'], name)} ({_ends(score, name)}){truth}"
                lines.append(
                    f"- **{_text(score['title'])}**: {told}; n = {score['n']:,}, `{one['scorer']}`{_judged(one)}"
                )
    return lines or ["- No benchmark was run."]


def _wrong(card: Mapping[str, Any]) -> list[str]:
    lines = []
    for one in card["mistakes"]:
        lines += [f"### {benchmark_title(one['scorer'].split('/')[0])}, read by `{one['scorer']}`{_judged(one)}", ""]
        lines += [f"{one['wrong']:,} of {one['n']:,} answers are wrong, in whole or in part: {_percent(one)}.", ""]
        if one["parts"]:
            rows = [(part["part"], part["n"], part["wrong"], _percent(part)) for part in one["parts"]]
            lines += [*table(("part", "answers", "wrong", "share"), rows), ""]
        if one["kinds"]:
            rows = [(kind["kind"], kind["wrong"], _percent(kind)) for kind in one["kinds"]]
            lines += [*table(("mistake", "answers", "share of all answers"), rows), ""]
        for kind in one["kinds"]:
            lines += _examples(kind)
    return lines


def _examples(kind: Mapping[str, Any]) -> list[str]:
    lines = []
    if kind["things"]:
        often = ", ".join(f"{_text(thing)} ({times:,})" for thing, times in kind["things"].items())
        lines += [f"{_text(kind['kind']).capitalize()}, most often: {often}.", ""]
    for one in kind["examples"]:
        why = f": {_text(one['note'].rstrip('.'))}" if one["note"] else f": read as “{_text(one['read'])}”"
        truth = f" Truth: {_text(one['truth'])}." if one["truth"] else ""
        lines.append(
            f"- Asked “{_text(one['question'])}” it said “{_text(one['answer'])}”{why}.{truth} (`{_code(one['id'])}`)"
        )
    return [*lines, ""] if lines else []


def _thresholds(told: Mapping[str, Any] | None) -> list[str]:
    if told is None:
        return ["None: what answered was not calibrated, so no error rate is promised."]
    lines = [f"Calibrated on {_text(told['data'])}, backend {_text(told['backend'])}.", ""]
    rows = [
        (
            f"{rule['name']}, {rule['answers']} answers",
            f"{rule['threshold']:.4f}",
            f"{rule['alpha']:g}" + (f", delta {rule['delta']:g}" if rule.get("delta") is not None else ""),
            rule["n"],
            ", ".join(f"{name} {value:.4g}" for name, value in rule["measured"].items()) or NOT_AVAILABLE,
        )
        for rule in told["rules"] or ()
    ]
    lines += table(("rule", "threshold", "alpha", "pictures", "measured on others"), rows) if rows else []
    return lines + [f"- No rule: {_text(why)}" for why in told["lacking"] or ()]


def _figures(card: Mapping[str, Any]) -> list[str]:
    lines = []
    for one in card["measured"]:
        rows = [
            (
                " ".join(filter(None, (split_of(score["metric"]), metric_of(score["metric"]).title))),
                _value(score["value"], score["metric"]),
                _ends(score, score["metric"]),
                score["n"],
            )
            for score in one["scores"]
        ]
        lines += [f"### `{one['scorer']}`{_judged(one)}", "", *table(("figure", "value", "interval", "n"), rows), ""]
    return lines


def _how(card: Mapping[str, Any]) -> list[str]:
    rows = [
        (
            one["scorer"],
            one["rule"],
            one["judge"] or "none",
            one["answers"],
            one["questions_sha256"][:16],
            (one["pictures_sha256"] or NOT_AVAILABLE)[:16],
        )
        for one in card["measured"]
    ]
    head = ("scorer", "whose rule", "judge", "questions", "questions' SHA-256", "pictures' SHA-256")
    versions = ", ".join(f"{name} {version}" for name, version in card["artefact"]["versions"].items())
    told = [f"- Seed {card['artefact']['seed']}", f"- Versions: {_text(versions) or 'not known'}"]
    if card["artefact"]["fingerprint"]:
        told.append(f"- Artefact: SHA-256 `{card['artefact']['fingerprint']}`")
    return [*table(head, rows), "", *told]


def _judged(one: Mapping[str, Any]) -> str:
    return f", judged by {_text(one['judge'])}" if one["judge"] else ""


def _percent(told: Mapping[str, Any]) -> str:
    return f"{100 * told['value']:.1f} % ({100 * told['low']:.1f} to {100 * told['high']:.1f})"


def _value(value: float | None, name: str) -> str:
    return figure(float("nan") if value is None else value, metric_of(name))


def _ends(score: Mapping[str, Any], name: str) -> str:
    if score["low"] is None or score["high"] is None:
        return NOT_AVAILABLE
    ends = (_value(score[end], name).removesuffix(" %") for end in ("low", "high"))
    return " to ".join(ends)


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in rows:
        cells = (f"{cell:,}" if isinstance(cell, int) else _text(str(cell)) for cell in row)
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _text(text: str) -> str:
    r"""A text on one line that Markdown leaves as it is.

    >>> print(_text("a|b <i>"))
    a\|b &lt;i&gt;
    """
    plain = printable(" ".join(text.split()))
    return _SPECIAL.sub(r"\\\1", plain).translate(_ENTITIES)


def _code(text: str) -> str:
    return printable(" ".join(text.replace("`", "'").split()))
