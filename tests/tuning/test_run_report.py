"""The page, the curves and the card of a run."""

from __future__ import annotations

import json
import struct
from html.parser import HTMLParser
from pathlib import Path

import pytest

from edgereverie.records import PreferencePair, Sample, Turn
from edgereverie.tuning import card, curves, run_report


class Page(HTMLParser):
    """Counts elements, keeps text and anything that would be fetched."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.fetched += [value for name, value in attrs if name in ("src", "href") and value]

    def handle_data(self, data):
        self.text += data


LINES = [
    {"step": 1, "loss": 2.0, "learning_rate": 0.1, "grad_norm": 1.0, "tokens_per_second": 100.0, "peak_bytes": 2**30},
    {"step": 2, "loss": float("nan"), "learning_rate": 0.1, "grad_norm": None, "tokens_per_second": 300.0,
     "peak_bytes": 2**31, "notices": [{"kind": "divergence", "text": "<b>the loss</b>"}]},
]  # fmt: skip


def test_a_trained_folder_has_a_page_that_needs_nothing_else(trained: Path) -> None:
    page = Page((trained / "report.html").read_text(encoding="utf-8"))
    assert page.fetched == [] and "script" not in page.tags
    assert page.tags.count("svg") == 4  # loss, gradient, rate, speed
    assert "Nothing: no divergence" in page.text and "Method reflective" in page.text
    assert "learning_rate: 0.0002" in page.text


def test_the_curves_are_png_where_matplotlib_is(trained: Path) -> None:
    pytest.importorskip("matplotlib")
    found = sorted((trained / "curves").iterdir())
    assert [path.name for path in found] == ["gradient.png", "loss.png", "rate.png", "speed.png"]
    for path in found:
        data = path.read_bytes()
        assert data[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">II", data[16:24]) == (960, 540)


def test_without_matplotlib_the_page_says_so(recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    (tmp_path / "log.jsonl").write_text(json.dumps(LINES[0]) + "\n", encoding="utf-8")
    page = Page(run_report.write(tmp_path, recipe(), [], {}).read_text(encoding="utf-8"))
    assert "not written as PNG" in page.text and "matplotlib" in page.text
    assert not (tmp_path / "curves").exists()


def test_notices_plan_and_measurement_stand_on_the_page_escaped(recipe, tmp_path: Path) -> None:
    """Measured: the largest of 1 and 2 GiB, the mean of 100 and 300 tokens per second; planned 3 GiB: half too much."""
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES), encoding="utf-8")
    estimate = {"peak_bytes": 3 * 2**30, "parts": {"weights": 3 * 2**30}, "tokens_per_second": 150.0}
    plan = {"steps": 7, "machines": [{"name": "this CPU", "estimate": estimate}]}
    (tmp_path / run_report.PLAN).write_text(json.dumps(plan), encoding="utf-8")
    page = Page(run_report.write(tmp_path, recipe(), [("a<b", "MIT", 3)], {"total": 3}).read_text(encoding="utf-8"))
    assert "2.000 (+50 % planned)" in page.text and "200" in page.text
    assert "divergence, step 2: <b>the loss</b>" in page.text and "a<b" in page.text


def test_values_that_are_no_numbers_leave_the_curves() -> None:
    (loss, *_) = curves.charts(LINES)
    assert loss.curves == {"loss": [(1, 2.0)]}
    assert "circle" in curves.svg(loss)


def test_a_curve_stands_where_its_values_say() -> None:
    """From 0 to 4 on an axis from 0 to 4: the first point at the bottom left, the last at the top right, 2 half way up."""
    chart = curves.Chart("loss", "Loss", {"loss": [(0, 0.0), (5, 2.0), (10, 4.0)]})
    assert 'points="44.0,180.0 228.0,95.0 412.0,10.0"' in curves.svg(chart)


def test_long_curves_are_averaged() -> None:
    assert curves.averaged([(float(i), float(i)) for i in range(480)])[:2] == [(0.5, 0.5), (2.5, 2.5)]


def test_the_card_names_sources_and_licences() -> None:
    turns = (Turn("user", "?"), Turn("assistant", "!"))
    found = card.sources(
        [Sample("1", None, turns, source="coco", licence="CC-BY-4.0")] * 2 + [Sample("2", None, turns)]
    )
    assert found == [("coco", "CC-BY-4.0", 2), ("not stated", "not stated", 1)]
    assert card.sources([PreferencePair("1", None, turns[:1], "a", "b", source="s", licence="l")]) == [("s", "l", 1)]
    assert card.base_licence("starter") == "Apache-2.0"
    assert "MIT" in card.base_licence("xtuner/llava-phi-3-mini-hf")
    assert "see the base's own card" in card.base_licence("./mine")


def test_the_written_card_holds_them(trained: Path) -> None:
    text = (trained / "adapter" / "README.md").read_text(encoding="utf-8")
    assert "| source | licence | records |" in text and "## Licences" in text and "Recipe `sha256:" in text
