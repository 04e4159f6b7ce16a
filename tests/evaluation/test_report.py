"""The report: honest JSON, and a page that is self-contained, escapes what it shows and says what it means."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from edgereverie.errors import DataError
from edgereverie.evaluation.report import (
    Exhibit,
    Report,
    ReportRun,
    difference,
    figure,
    interval,
    judgement,
    metric_of,
    report_run,
    terminal_table,
    write_report,
)
from edgereverie.evaluation.report_charts import BarGroup, bar_chart, line_chart
from edgereverie.evaluation.report_html import render
from edgereverie.evaluation.run import Run, run_benchmark
from edgereverie.evaluation.source import Source
from edgereverie.evaluation.statistics import spread
from edgereverie.records import Answer, Claim, Score
from edgereverie.registry import BENCHMARKS
from edgereverie.told.markup import data_uri, marked_html

HOSTILE = "<script>alert('x')</script>\"'&<img src=https://evil.example/x onerror=a()>"
VOID = {"meta", "img", "br", "link", "input", "hr", "line", "rect", "path"}


class Page(HTMLParser):
    """Collects elements and attributes, and checks that every element is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def answer_with(word: str):
    return lambda image, questions, room: [Answer(f"{word}, a ring.", backend="torch", seconds=0.1) for _ in questions]


def measured(folder: Path, word: str) -> list[Run]:
    return [run_benchmark(BENCHMARKS.get(name), Source(folder), answer_with(word)) for name in ("pope", "chair")]


@pytest.fixture
def report(folder: Path) -> Report:
    before, after = measured(folder, "Yes"), measured(folder, "No")
    claim = Claim("ring", 7, 11, "ring", 0.1, "contradicted", {"grounding": -0.5})
    exhibit = Exhibit(
        folder / "images" / "a.png",
        "What is there? " + HOSTILE,
        "ring " + HOSTILE,
        ((HOSTILE, Answer("Yes, a ring. " + HOSTILE, (claim,), confidence=0.9)), ("tuned", Answer("", abstained=True))),
    )
    return Report(
        title="Report " + HOSTILE,
        runs=(report_run(HOSTILE, before, artefact="ab" * 32, seed=3), report_run("tuned", after, backend=HOSTILE)),
        differences=(difference((HOSTILE, before), ("tuned", after)),),
        exhibits=(exhibit,),
        loss={HOSTILE: [(1, 2.0), (2, 1.0), (3, math.nan)]},
        parity={HOSTILE: {"agreement": 0.5, HOSTILE: HOSTILE, "inner": {"passed": True}}},
        spread=(spread("chair/table/recall", [0.5, 0.7]),),
        versions={"edgereverie": HOSTILE},
        notes=(HOSTILE,),
    )


def test_the_page_is_well_formed_and_reaches_for_nothing_outside(report: Report, tmp_path: Path) -> None:
    _, path = write_report(tmp_path / "out", report)
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert not page.all("script") and not page.all("link") and not page.all("iframe")
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "href", "xlink:href", "action", "srcset"):
                assert value and value.startswith("data:image/"), (tag, value)
    style = text[text.index("<style>") : text.index("</style>")]
    assert not re.search(r"@import|url\(|https?:", style)
    assert "default-src 'none'" in text
    assert text.count("evil.example") == text.count("&lt;img src=https://evil.example/x onerror=a()&gt;") > 5


def test_a_report_of_plain_texts_holds_no_address_at_all(folder: Path) -> None:
    text = render(Report("Plain", (report_run("starter", measured(folder, "Yes")),)))
    assert not re.search(r"https?:|//[a-z]", text)


def test_hostile_texts_do_not_become_elements(report: Report) -> None:
    text = render(report)
    assert "<script" not in text and "<img src=https" not in text
    assert len(Page(text).all("img")) == 1


def test_the_page_is_usable_without_eyes_colours_or_a_mouse(report: Report) -> None:
    text = render(report)
    page = Page(text)
    assert all(attributes.get("alt") for attributes in page.all("img"))
    assert page.all("svg") and all(a.get("role") == "img" and a.get("aria-label") for a in page.all("svg"))
    assert len(page.all("caption")) == len(page.all("table")) >= 5
    assert all(attributes.get("scope") for attributes in page.all("th"))
    assert len(page.all("h1")) == 1 and page.all("html")[0]["lang"] == "en"
    claims = [a for a in page.all("span") if (a.get("class") or "").startswith("claim") and "tabindex" in a]
    assert len(claims) == 1
    assert "contradicted by the picture · support 10 % · grounding -0.50" in text
    assert "prefers-color-scheme: dark" in text and "max-width: 640px" in text


def test_json_is_strict_and_complete(report: Report, tmp_path: Path) -> None:
    path, _ = write_report(tmp_path / "out", report)

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    data = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    assert (data["edgereverie"], data["version"]) == ("report", 1)
    before, after = data["runs"]
    assert before["counts"]["pope/official/random"] == {"TP": 3, "FP": 6, "TN": 0, "FN": 0}
    assert before["scorers"] == {"pope": "pope/official", "chair": "chair/table"}
    assert before["data"] == after["data"] and len(before["data"]["pope"]) == 64
    assert (before["seed"], before["n"], before["backend"]) == (3, 30, "torch")
    precision = next(score for score in after["scores"] if score["metric"] == "pope/official/random/precision")
    assert precision == {"metric": "pope/official/random/precision", "value": None, "low": None, "high": None, "n": 9}
    assert data["exhibits"][0]["image"] == "a.png"
    assert data["loss"][HOSTILE][2] == [3, None]


def test_a_missing_picture_leaves_no_half_written_report(report: Report, folder: Path, tmp_path: Path) -> None:
    (folder / "images" / "a.png").unlink()
    with pytest.raises(DataError, match="no such image"):
        write_report(tmp_path / "out", report)
    assert list((tmp_path / "out").iterdir()) == []


def test_the_smallest_report_renders(tmp_path: Path) -> None:
    empty = Report("Nothing yet", (ReportRun("starter", ()),))
    write_report(tmp_path, empty)
    Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    alone = Report("Unknown", (ReportRun("x", (Score("foo/own/bar_baz", 1.5, 1.0, math.nan, 3),)),))
    assert "Bar baz" in render(alone) and "n/a" in render(alone)
    assert "x" in rendered(terminal_table(alone))


def rendered(table: object) -> str:
    console = Console(file=io.StringIO(), width=220)
    console.print(table)
    return console.file.getvalue()


def test_terminal_table_shows_values_intervals_and_the_paired_change(report: Report) -> None:
    text = rendered(terminal_table(report))
    line = next(line for line in text.splitlines() if "POPE random accuracy" in line)
    # "Yes" to all nine: 3 right of 9. "No" to all: 6 of 9. Images hold 2, 1 and 0 true objects of 3.
    assert "33.3 % [" in line and "66.7 % [" in line and "+33.3 pp" in line
    assert "n/a" in next(line for line in text.splitlines() if "POPE random precision" in line)
    assert "<script>" in text  # a terminal shows the label as it is


def test_labels_are_not_read_as_terminal_markup() -> None:
    run = ReportRun("[bold red]x[/]", (Score("chair/table/chair_i", 0.1, 0.0, 0.2, 5),))
    assert "[bold red]x[/]" in rendered(terminal_table(Report("[b]t", (run,))))


def test_overlapping_and_misplaced_claims_are_still_told() -> None:
    def claim(start: int, end: int, text: str) -> Claim:
        return Claim(text, start, end, "star", 0.9, "supported")

    html = marked_html(
        Answer("two blue stars", (claim(4, 14, "blue stars"), claim(9, 14, "stars"), claim(50, 60, "lost")))
    )
    Page(f"<p>{html}</p>")
    assert html.count('class="claim supported"') == 2, "those that overlap are one stretch"
    assert html.count("supported by the picture") == 3, "and each is explained"
    assert html.startswith('two <span class="claim supported"')
    assert "Also:" in html and ">lost<" in html
    hostile = marked_html(Answer(HOSTILE, (Claim("<script>", 0, 8, HOSTILE, 0.9, "supported", {HOSTILE: 1.0}),)))
    assert [tag for tag, _ in Page(f"<p>{hostile}</p>").elements] == ["p", "span", "span", "span"]


def test_judgement_follows_the_direction_and_the_interval() -> None:
    chair, accuracy, ratio = (
        metric_of(name)
        for name in ("chair/table/chair_i", "pope/official/random/accuracy", "pope/official/random/yes_ratio")
    )
    down, up, vague = (Score("m", *values, 9) for values in ((-0.2, -0.3, -0.1), (0.2, 0.1, 0.3), (0.1, -0.1, 0.3)))
    assert [judgement(score, chair) for score in (down, up, vague)] == ["better", "worse", "unclear"]
    assert [judgement(score, accuracy) for score in (down, up, vague)] == ["worse", "better", "unclear"]
    assert judgement(down, ratio) == "" and judgement(None, chair) == ""


def test_figures() -> None:
    share, plain = metric_of("chair/table/recall"), metric_of("chair/table/words")
    assert figure(0.12345, share) == "12.3 %" and figure(12.345, plain) == "12.3"
    assert figure(-0.05, share, signed=True) == "\u22125.0 pp" and figure(math.nan, share) == "n/a"
    assert interval(Score("m", -0.1, -0.2, 0.05, 4), share, signed=True) == "\u221220.0 to +5.0"


def test_bars_are_drawn_to_scale() -> None:
    metric = metric_of("pope/official/random/accuracy")
    scores = (Score("m", 0.5, 0.25, 0.75, 9), Score("m", 1.0, 1.0, 1.0, 9), Score("m", math.nan, math.nan, math.nan, 9))
    svg = bar_chart(
        metric, [BarGroup("random", tuple((i, f"run {i}", s) for i, s in enumerate(scores)), 0.5)], whole=True
    )
    widths = [float(a["width"] or 0) for a in Page(svg).all("rect")]
    assert len(widths) == 2 and widths[0] == pytest.approx(widths[1] / 2)
    assert "run 2 n/a" in svg and 'class="reference"' in svg


def test_long_curves_are_thinned_and_empty_ones_left_out() -> None:
    svg = line_chart({"loss": [(step, 1.0) for step in range(10_000)], "none": []})
    curves = Page(svg).all("polyline")
    assert len(curves) == 1 and len((curves[0]["points"] or "").split()) <= 240
    assert ">9999</text>" in svg
    assert line_chart({"none": []}) == "" and line_chart({}) == ""


def test_photographs_are_scaled_down_and_scenes_kept_exact(tmp_path: Path) -> None:
    Image.new("RGB", (1600, 800), "teal").save(tmp_path / "photo.jpg")
    Image.new("RGB", (96, 96), (1, 2, 3)).save(tmp_path / "scene.png")
    kinds = {}
    for name in ("photo.jpg", "scene.png"):
        head, _, body = data_uri(tmp_path / name).partition(",")
        with Image.open(io.BytesIO(base64.b64decode(body))) as picture:
            kinds[head] = (picture.size, picture.convert("RGB").getpixel((0, 0)))
    assert kinds["data:image/jpeg;base64"][0] == (480, 240)
    assert kinds["data:image/png;base64"] == ((96, 96), (1, 2, 3))
