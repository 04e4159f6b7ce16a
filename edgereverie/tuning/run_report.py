"""A run on one page that needs nothing else: its curves, what was noticed, memory as planned and as measured, data, recipe."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from edgereverie import __version__
from edgereverie.bundle import new_folder, write_text
from edgereverie.errors import MissingPackage
from edgereverie.recipe import Recipe
from edgereverie.tuning.card import base_licence
from edgereverie.tuning.curves import Chart, charts, png, svg
from edgereverie.tuning.watch import ADVICE, entries

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
PLAN = "plan.json"  # of the run folder: what was planned for this machine before the first step
_GB = 2**30


def write(out: Path, recipe: Recipe, sources: Sequence[tuple[str, str, int]], counts: Mapping[str, Any]) -> Path:
    """Write report.html, and curves/*.png where matplotlib is installed, into the run folder; the page's path.

    sources: (source, licence, records) of the data; counts: of its records, by kind. The rest is read from the folder.
    """
    lines = entries(out / "log.jsonl")
    drawn = charts(lines)
    kept = _pictures(out / "curves", drawn)
    plan = json.loads((out / PLAN).read_text(encoding="utf-8")) if (out / PLAN).is_file() else None
    write_text(out / "report.html", _page(recipe, lines, drawn, plan, sources, counts, kept))
    return out / "report.html"


def _pictures(folder: Path, drawn: Sequence[Chart]) -> str:
    """Write the curves as PNG; what to say about that on the page."""
    try:
        images = {f"{chart.name}.png": png(chart) for chart in drawn}
    except MissingPackage as missing:
        return f"The curves were not written as PNG: {missing}"
    if not images:
        return ""
    with new_folder(folder, replace=True) as beside:
        for name, data in images.items():
            (beside / name).write_bytes(data)
    return f"The same curves are PNG files in {folder.name}/."


def _page(
    recipe: Recipe,
    lines: Sequence[Mapping[str, Any]],
    drawn: Sequence[Chart],
    plan: Mapping[str, Any] | None,
    sources: Sequence[tuple[str, str, int]],
    counts: Mapping[str, Any],
    kept: str,
) -> str:
    style = files("edgereverie.tuning").joinpath("run_report.css").read_text(encoding="utf-8")
    sections = [
        _header(recipe, lines, plan),
        _section("What was noticed", _notices(lines)),
        _section("Curves", _curves(drawn, kept)),
        _section("Planned and measured", _planned(lines, plan)),
        _section("Data", _data(sources, counts)),
        _section("Recipe", _recipe(recipe)),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(recipe.name)}</title>\n<style>\n{style}</style></head>\n<body><main>\n"
        + "\n".join(filter(None, sections))
        + "\n</main></body></html>\n"
    )


def _section(title: str, body: str) -> str:
    return f"<section><h2>{title}</h2>{body}</section>" if body else ""


def _header(recipe: Recipe, lines: Sequence[Mapping[str, Any]], plan: Mapping[str, Any] | None) -> str:
    train = recipe.train
    cards = []
    if lines:
        first, last = lines[0], lines[-1]
        cards.append(("Loss", f"{last['loss']:.3g}", f"{first['loss']:.3g} at step {first['step']:,}"))
        wanted = f"of {plan['steps']:,} planned" if plan else f"{train.batch_size * train.accumulation} records each"
        cards.append(("Steps", f"{last['step']:,}", wanted))
        if "reward_accuracy" in last:
            cards.append(
                ("Reward accuracy", f"{100 * last['reward_accuracy']:.0f} %", "of pairs, at the last logged step")
            )
        if speed := _mean(lines, "tokens_per_second"):
            cards.append(("Tokens per second", f"{speed:,.0f}", "mean over the logged steps, padding included"))
        if peak := _peak(lines):
            cards.append(("Memory", f"{peak / _GB:.2f} GB", "the most that the run has had"))
    shown = "".join(
        f"<div class='card'><h3>{escape(title)}</h3><p class='big'>{escape(value)}</p>"
        f"<p class='small'>{escape(meaning)}</p></div>"
        for title, value, meaning in cards
    )
    what = f"Method {train.method} on {recipe.backbone.model}, seed {train.seed}. Made by edgereverie {__version__}."
    return (
        f"<header><p class='brand'>edgereverie <span>training run</span></p><h1>{escape(recipe.name)}</h1>"
        f"<p class='note'>{escape(what)}</p><div class='cards'>{shown}</div></header>"
    )


def _notices(lines: Sequence[Mapping[str, Any]]) -> str:
    found = [(line["step"], notice) for line in lines for notice in line.get("notices", ())]
    if not lines:
        return ""
    if not found:
        return "<p class='quiet'>Nothing: no divergence, no frozen adapter, no batch without labels, no pull of length.</p>"
    items = (
        f"<li><b>{escape(notice['kind'])}</b>, step {step:,}: {escape(notice['text'])}. {escape(ADVICE[notice['kind']])}</li>"
        for step, notice in found
    )
    return f"<ul class='notices'>{''.join(items)}</ul>"


def _curves(drawn: Sequence[Chart], kept: str) -> str:
    panels = []
    for chart in drawn:
        keys = "".join(
            f"<li><span class='dot run-{number}'></span>{escape(key)}</li>" for number, key in enumerate(chart.curves)
        )
        keys = f"<ul class='keys'>{keys}</ul>" if len(chart.curves) > 1 else ""
        panels.append(
            f"<figure class='panel'><figcaption>{escape(chart.title)}</figcaption>{svg(chart)}{keys}</figure>"
        )
    note = f"<p class='note'>{escape(kept)}</p>" if kept else ""
    return f"<div class='panels'>{''.join(panels)}</div>{note}" if panels else ""


def _planned(lines: Sequence[Mapping[str, Any]], plan: Mapping[str, Any] | None) -> str:
    if plan is None:
        return ""
    machine = plan["machines"][0]
    estimate = machine["estimate"]
    rows = [(part, f"{size / _GB:.3f}", "") for part, size in estimate["parts"].items()]
    peak, speed = _peak(lines), _mean(lines, "tokens_per_second")
    measured = f"{peak / _GB:.3f} ({100 * (estimate['peak_bytes'] / peak - 1):+.0f} % planned)" if peak else ""
    rows.append(("together, GB", f"{estimate['peak_bytes'] / _GB:.3f}", measured))
    rows.append(("tokens per second", f"{estimate['tokens_per_second']:,.0f}", f"{speed:,.0f}" if speed else ""))
    return _table((machine["name"], "planned", "measured"), rows, numbers=2)


def _data(sources: Sequence[tuple[str, str, int]], counts: Mapping[str, Any]) -> str:
    rows = [(source, licence, f"{count:,}") for source, licence, count in sources]
    told = escape(json.dumps(counts, indent=2, ensure_ascii=False))
    return _table(("source", "licence", "records"), rows, numbers=1) + (
        f"<details><summary>Counts</summary><div class='scroll'><pre>{told}</pre></div></details>" if counts else ""
    )


def _recipe(recipe: Recipe) -> str:
    licence = f"Licence of the base model: {base_licence(recipe.backbone.model)}."
    return (
        f"<div class='scroll'><pre>{escape(recipe.text())}</pre></div><p class='note'>{escape(licence)}</p>"
        f"<p class='note'>sha256:{recipe.fingerprint()}</p>"
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: int) -> str:
    """numbers: how many columns, from the right, hold figures."""
    first = len(head) - numbers

    def line(cells: Sequence[str], tag: str) -> str:
        marked = (
            f"<{tag}{' class=number' if i >= first else ''}>{escape(cell)}</{tag}>" for i, cell in enumerate(cells)
        )
        return f"<tr>{''.join(marked)}</tr>"

    body = "".join(line(row, "td") for row in rows)
    return f"<div class='scroll'><table><thead>{line(head, 'th')}</thead><tbody>{body}</tbody></table></div>"


def _mean(lines: Sequence[Mapping[str, Any]], key: str) -> float:
    values = [line[key] for line in lines if line.get(key)]
    return sum(values) / len(values) if values else 0.0


def _peak(lines: Sequence[Mapping[str, Any]]) -> int:
    return max((line.get("peak_bytes") or 0 for line in lines), default=0)
