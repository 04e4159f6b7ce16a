"""The report: honest JSON, and a page that is self-contained, escapes what it shows and says what it means."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from edgereverie import __version__
from edgereverie.errors import DataError
from edgereverie.evaluation.benchmarks.base import Mark
from edgereverie.evaluation.exhibits import Exhibit, Reading, Said
from edgereverie.evaluation.kept import KeptRun
from edgereverie.evaluation.report import (
    Report,
    ReportRun,
    figure,
    interval,
    metric_of,
    report_of,
    terminal_table,
    write_report,
)
from edgereverie.evaluation.report_charts import BarGroup, Curve, bar_chart, line_chart
from edgereverie.evaluation.report_gallery import gallery
from edgereverie.evaluation.report_html import policy, render
from edgereverie.evaluation.report_words import headline
from edgereverie.evaluation.run import run_benchmark
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


def kept(folder: Path, label: str, word: str, **told: Any) -> KeptRun:
    runs = [run_benchmark(BENCHMARKS.get(name), Source(folder), answer_with(word)) for name in ("pope", "chair")]
    values = {"backend": "torch", "artefact": "", "guard": "none", "seed": 0, "versions": {}} | told
    return KeptRun(label, **values, runs=tuple(runs))


@pytest.fixture
def report(folder: Path) -> Report:
    claim = Claim("ring", 7, 11, "ring", 0.1, "contradicted", {"grounding": -0.5})
    reading = Reading("pope/official", Mark("random/1", HOSTILE, 0.0, 2.0, HOSTILE + ": " + HOSTILE))
    exhibit = Exhibit(
        folder / "images" / "a.png",
        "What is there? " + HOSTILE,
        "ring " + HOSTILE,
        (
            Said(HOSTILE, Answer("Yes, a ring. " + HOSTILE, (claim,), confidence=0.9), (reading,)),
            Said("tuned", Answer("", abstained=True)),
        ),
        HOSTILE,
        HOSTILE,
        HOSTILE,
    )
    told = report_of(
        [
            kept(folder, HOSTILE, "Yes", artefact="ab" * 32, seed=3, guard=HOSTILE, versions={"edgereverie": HOSTILE}),
            kept(folder, "tuned", "No", backend=HOSTILE),
        ],
        title="Report " + HOSTILE,
        loss={HOSTILE: [(1, 2.0), (2, 1.0), (3, math.nan)]},
        parity={HOSTILE: {"agreement": 0.5, HOSTILE: HOSTILE, "inner": {"passed": True}}},
        spread=(spread("chair/table/recall", [0.5, 0.7]),),
        notes=(HOSTILE,),
    )
    return replace(told, exhibits=(exhibit, *told.exhibits))


def test_the_page_is_well_formed_and_reaches_for_nothing_outside(report: Report, tmp_path: Path) -> None:
    _, path = write_report(tmp_path / "out", report)
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert not page.all("link") and not page.all("iframe") and not page.all("base") and not page.all("object")
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "xlink:href", "action", "srcset", "formaction"):
                assert value and value.startswith("data:image/"), (tag, value)
            if name == "href":
                assert value and value.startswith("#"), (tag, value)
    style = text[text.index("<style>") : text.index("</style>")]
    assert not re.search(r"@import|url\(|https?:", style)
    assert "default-src 'none'" in text
    assert text.count("evil.example") == text.count("&lt;img src=https://evil.example/x onerror=a()&gt;") > 5


def test_a_report_of_plain_texts_holds_no_address_at_all(folder: Path) -> None:
    text = render(report_of([kept(folder, "starter", "Yes")], title="Plain"))
    assert not re.search(r"https?:|//[a-z]", text)


def test_hostile_texts_do_not_become_elements(report: Report) -> None:
    text = render(report)
    assert text.count("<script") == 1 and "<img src=https" not in text
    assert len(Page(text).all("img")) == len(report.exhibits)


def test_the_policy_lets_the_one_script_run_and_nothing_else(report: Report) -> None:
    text = render(report)
    script = text[text.index("<script>") + len("<script>") : text.index("</script>")]
    sha256 = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy(script) in text
    assert f"script-src 'sha256-{sha256}'" in policy(script) and "default-src 'none'" in policy(script)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval|fetch|XMLHttp|https?:", script)


def test_the_page_is_usable_without_eyes_colours_or_a_mouse(report: Report) -> None:
    text = render(report)
    page = Page(text)
    assert all(attributes.get("alt") for attributes in page.all("img"))
    assert all(a.get("aria-hidden") == "true" for a in page.all("svg"))
    plots = [a for a in page.all("div") if (a.get("class") or "").startswith("plot")]
    assert plots and all(a.get("role") == "img" and a.get("aria-label") for a in plots)
    assert len(page.all("caption")) == len(page.all("table")) >= 5
    for form in ("select", "input"):
        assert page.all(form)
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
    assert (data["edgereverie"], data["version"]) == ("report", 2)
    assert data["made_by"] == f"edgereverie {__version__}"
    assert (data["statistics"]["resamples"], data["statistics"]["permutations"], data["statistics"]["seed"]) == (
        1000,
        9999,
        0,
    )
    before, after = data["runs"]
    assert before["counts"]["pope/official/random"] == {"TP": 3, "FP": 6, "TN": 0, "FN": 0}
    sources = {
        name: BENCHMARKS.get(name.split("/")[0]).variants[name.split("/")[1]].source for name in before["scorers"]
    }
    assert before["scorers"] == sources and list(sources) == ["pope/official", "chair/table"]
    for hashes in ("data", "pictures"):
        assert before[hashes] == after[hashes] and len(before[hashes]["pope"]) == 64
    assert (before["seed"], before["n"], before["backend"], before["guard"]) == (3, 30, "torch", HOSTILE)
    assert before["truths"]["pope/official/random"] == pytest.approx(3 / 9)
    (comparison,) = data["comparisons"]
    assert (comparison["before"], comparison["after"]) == (HOSTILE, "tuned")
    change = next(c for c in comparison["changes"] if c["difference"]["metric"] == "pope/official/random/accuracy")
    # Three pictures with 2, 1 and 0 of 3 things there: against "yes", "no" has -1, +1 and +3 more right, +3 in all. Of the 8
    # sums of +-1, +-1 and +-3, those of at least 3 either way are 5, 3, 3, -3, -3 and -5.
    assert change["chance"]["p"] == pytest.approx(6 / 8) and change["adjusted"] == 1 and change["verdict"] == "unclear"
    # Of 9 questions 3 have a true yes, which turned wrong; the other 6 turned right.
    turned = comparison["right"]["pope/official/random"]
    assert (turned["gained"], turned["lost"]) == (6, 3) and 0 < turned["p"] < 1
    precision = next(score for score in after["scores"] if score["metric"] == "pope/official/random/precision")
    assert precision == {"metric": "pope/official/random/precision", "value": None, "low": None, "high": None, "n": 9}
    assert data["exhibits"][0]["image"] == "a.png"
    assert data["loss"][HOSTILE][2] == [3, None]


def test_a_broken_picture_leaves_no_half_written_report(report: Report, folder: Path, tmp_path: Path) -> None:
    (folder / "images" / "a.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="image"):
        write_report(tmp_path / "out", report)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_picture_that_is_not_here_is_told(report: Report, folder: Path) -> None:
    (folder / "images" / "a.png").unlink()
    assert "a.png is not here" in render(report)


def test_the_smallest_report_renders(tmp_path: Path) -> None:
    empty = Report("Nothing yet", (ReportRun("starter", ()),))
    write_report(tmp_path, empty)
    Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    alone = Report("Unknown", (ReportRun("x", (Score("foo/own/bar_baz", 1.5, 1.0, math.nan, 3),)),))
    Page(render(alone))
    assert "Bar baz" in render(alone) and "n/a" in render(alone)
    assert "x" in rendered(terminal_table(alone))


def rendered(table: object, width: int = 220) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    return console.file.getvalue()


def test_terminal_table_shows_values_intervals_and_the_paired_change(report: Report) -> None:
    text = rendered(terminal_table(report))
    lines = text.splitlines()
    place = next(i for i, line in enumerate(lines) if line.startswith("Accuracy"))
    # "Yes" to all nine: 3 right of 9. "No" to all: 6 of 9. Images hold 2, 1 and 0 true objects of 3.
    assert "33.3 % [" in lines[place] and "66.7 % [" in lines[place] and lines[place - 1].strip() == "random"
    assert "+33.3 pp" in lines[place + 1] and "p = 1.000" in lines[place + 1]
    assert "n/a" in next(line for line in lines if line.startswith("Precision"))
    assert lines.index("pope/official".ljust(len(lines[place]))) < place
    assert "<script>" in text  # a terminal shows the label as it is


def test_terminal_table_of_many_runs_fits_narrow_terminals(folder: Path) -> None:
    runs = [kept(folder, f"a run with a long name, {i}", "Yes" if i % 2 else "No") for i in range(7)]
    table = terminal_table(report_of(runs, title="Many"))
    for width in (36, 60, 100, 400):
        lines = rendered(table, width).splitlines()
        assert max(map(len, lines)) <= width
        text = " ".join(" ".join(lines).split())
        # The three splits' accuracies: four runs of "no", three of "yes", each in one piece, with its interval.
        assert text.count("66.7 % [33.3 to 100.0]") >= 3 * 4, width
        assert text.count("33.3 % [0.0 to 66.7]") >= 3 * 3, width


def test_a_terminal_is_not_steered_by_labels() -> None:
    run = ReportRun("\x1b[2Jx", (Score("chair/table/chair_i", 0.1, 0.0, 0.2, 5),))
    assert "\x1b" not in rendered(terminal_table(Report("\x1b]0;t", (run,))))


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


def test_figures() -> None:
    share, plain = metric_of("chair/table/recall"), metric_of("chair/table/words")
    assert figure(0.12345, share) == "12.3 %" and figure(12.345, plain) == "12.3" and figure(0.0812, plain) == "0.08"
    assert figure(-0.05, share, signed=True) == "\u22125.0 pp" and figure(math.nan, share) == "n/a"
    assert interval(Score("m", -0.1, -0.2, 0.05, 4), share, signed=True) == "\u221220.0 to +5.0"


def test_bars_are_drawn_to_scale() -> None:
    metric = metric_of("pope/official/random/accuracy")
    scores = (Score("m", 0.5, 0.25, 0.75, 9), Score("m", 1.0, 1.0, 1.0, 9), Score("m", math.nan, math.nan, math.nan, 9))
    html = bar_chart(
        metric, [BarGroup("random", tuple((i, f"run {i}", s) for i, s in enumerate(scores)), 0.5)], whole=True
    )
    drawn = [(a["class"], a["style"]) for a in Page(html).all("i") if "style" in a]
    bars = [style for name, style in drawn if (name or "").startswith("bar")]
    assert bars == ["--to:0.5000", "--to:1.0000"]
    assert [style for name, style in drawn if name == "whisker"] == [
        "--from:0.2500;--to:0.7500",
        "--from:1.0000;--to:1.0000",
    ]
    assert [style for name, style in drawn if name == "truth"] == ["--to:0.5000"] * 3
    assert re.search(r"run 2.*?<b>n/a</b>", html)


def test_long_curves_are_thinned_and_empty_ones_left_out() -> None:
    told = {"across": "step", "up": "loss"}
    svg = line_chart([Curve(1, "loss", [(step, 1.0) for step in range(10_000)]), Curve(2, "none", [])], **told)
    curves = Page(svg).all("polyline")
    assert len(curves) == 1 and len((curves[0]["points"] or "").split()) <= 240
    assert ">9,999</span>" in svg
    assert line_chart([Curve(1, "none", [])], **told) == "" and line_chart([], **told) == ""


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


def test_headlines_are_of_the_largest_split_and_of_every_kind_of_figure() -> None:
    asked = {
        "amber/official/generative/chair": 1004, "amber/official/generative/cover": 1004,
        "amber/official/discriminative/accuracy": 14216, "amber/official/discriminative/yes_ratio": 14216,
        "amber/official/relation/accuracy": 1664, "amber/official/relation/yes_ratio": 1664,
    }  # fmt: skip
    assert headline(asked) == list(asked)[:4]
    assert headline({}) == []
    assert headline({"mmvet/official/all/score": 9, "mmvet/official/run-1/score": 9}) == ["mmvet/official/all/score"]


def test_every_kind_of_question_has_its_share_with_an_interval(folder: Path) -> None:
    before = kept(folder, "starter", "Yes")
    (pope, chair) = before.runs
    items = tuple(replace(item, kind="ring" if "ring" in item.question else "other") for item in pope.items)
    report = report_of([replace(before, runs=(replace(pope, items=items), chair))], title="Kinds")
    (run,) = report.runs
    # A ring is in one picture of three; star and cross are in one each: 2 of 6.
    assert [(score.metric, score.n) for score in run.kinds] == [
        ("pope/official/ring/right", 9), ("pope/official/other/right", 18),
    ]  # fmt: skip
    assert [score.value for score in run.kinds] == pytest.approx([1 / 3, 1 / 3])
    assert all(0 <= score.low <= score.value <= score.high <= 1 for score in run.kinds)
    assert "Right answers by kind of question" in render(report)


def test_confidences_become_curves_and_figures(folder: Path) -> None:
    def sure(image: Path | None, questions: list[str], room: int) -> list[Answer]:
        return [Answer("Yes.", confidence=0.9 if "ring" in question else 0.6) for question in questions]

    run = run_benchmark(BENCHMARKS.get("pope"), Source(folder), sure)
    report = report_of([KeptRun("sure", "", "", "none", 0, {}, (run,))], title="Sure")
    curve = report.runs[0].risks["pope/official"]
    # 27 answers; the 9 about rings come first and 3 of them are right, as are 9 of all.
    assert len(curve) == 27 and curve[8] == pytest.approx((9 / 27, 6 / 9)) and curve[-1] == pytest.approx((1, 18 / 27))
    score = report.runs[0].score("pope/official/random/ece")
    # In each split rings are 0.9 sure and right in 1 of 3, the 6 others 0.6 sure and right in 2.
    assert score is not None and score.value == pytest.approx((3 * abs(0.9 - 1 / 3) + 6 * abs(0.6 - 1 / 3)) / 9)
    page = render(report)
    assert "Risk and coverage" in page and "ECE" in page


def test_several_scorers_stand_side_by_side_and_judges_are_named(folder: Path) -> None:
    run = run_benchmark(BENCHMARKS.get("pope"), Source(folder), answer_with("No,"), variants=("official", "vcd"))
    judged = replace(run, results=tuple(replace(result, judge="judge <7B>") for result in run.results))
    report = report_of([KeptRun("one", "", "", "none", 0, {}, (judged,))], title="Two")
    page, text = render(report), rendered(terminal_table(report))
    assert (
        "The same answers under each way of scoring." in page
        and "judge &lt;7B&gt;" in page
        and "judge <7B>" not in page
    )
    for told in (page, text):
        assert "pope/official" in told and "pope/vcd" in told
    assert "judge: judge <7B>" in text
    assert report.runs[0].judges == {"pope/official": "judge <7B>", "pope/vcd": "judge <7B>"}


def test_words_that_a_scorer_names_are_marked_in_the_text() -> None:
    def page(text: str, note: str, right: float = 0.0) -> str:
        said = Said("one", Answer(text), (Reading("chair/table", Mark("1", "x", right, 1 - right, note)),))
        return render(Report("t", (ReportRun("one", ()),), exhibits=(Exhibit(None, "q", "t", (said,), "chair"),)))

    marked = page("Two Crosses, a cross-bow <b> and a crossing.", "not in the picture: cross, <b>")
    assert "Two <mark>Crosses</mark>, a <mark>cross</mark>-bow &lt;b&gt; and a crossing." in marked
    assert "<mark>cross</mark>" not in page("a cross", "said yes to what is not there")
    assert "<mark>cross</mark>" not in page("a cross", "not in the picture: cross", right=1.0)


@given(st.text(), st.text())
def test_any_text_of_a_model_is_shown_as_it_is(text: str, note: str) -> None:
    mark = Mark("1", text, 0.0, 1.0, f"not there: {note}")
    said = Said(text, Answer(text or "x"), (Reading("chair/table", mark),))
    shown = Exhibit(None, text, note, (said,), "chair", note, text)
    page = Shown(f"<main>{gallery([shown], [text])}</main>")
    assert page.paragraphs[:1] == [text or "x"] and page.open == []


class Shown(Page):
    """Also what stands in the paragraphs of answers."""

    def __init__(self, text: str) -> None:
        self.paragraphs: list[str] = []
        super().__init__(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        super().handle_starttag(tag, attrs)
        if tag == "p" and not attrs and "section" in self.open:
            self.paragraphs.append("")

    def handle_data(self, data: str) -> None:
        if self.paragraphs and "section" in self.open and {"p", "ul"} & set(self.open) == {"p"}:
            self.paragraphs[-1] += data
