"""The report in a real browser: desktop and phone, light and dark, by mouse, by keyboard and for screen readers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from edgereverie.evaluation.kept import KeptRun
from edgereverie.evaluation.report import Report, report_of, write_report
from edgereverie.evaluation.run import run_benchmark
from edgereverie.evaluation.source import Source
from edgereverie.records import Answer, Claim
from edgereverie.registry import BENCHMARKS

from ..server._browser import PROGRAM, Browser
from .conftest import written

if PROGRAM is None:
    pytest.skip("no Chromium on this machine", allow_module_level=True)

HOSTILE = "<script>window.harmed = 1</script><img src=x onerror='window.harmed = 2'>\"'&"
LONG = "runs/starter-reverie/bundles/starter-reverie-gguf-q4_k_m-with-guard-verify"
SHOWN = "[...document.querySelectorAll('.exhibit')].filter((e) => !e.hidden)"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = Browser()
    yield found
    found.close()


def yes(image: Path | None, questions: Sequence[str], room: int) -> list[Answer]:
    return [Answer("Yes, a ring, a star and a cross. " + HOSTILE, confidence=0.9) for _ in questions]


def better(image: Path | None, questions: Sequence[str], room: int) -> list[Answer]:
    """Right about rings and stars; crosses are everywhere."""
    there = {"a.png": ("ring", "star"), "b.png": ("cross",), "c.png": ()}[image.name if image else ""]
    answers = []
    for number, question in enumerate(questions):
        if "Is there" in question:
            right = any(thing in question for thing in (*there, "cross"))
            answers.append(Answer("Yes." if right else "No.", confidence=0.5 + number / 20))
        else:
            claim = Claim("a cross", 0, 7, "cross", 0.2, "contradicted", {"grounding": -1.0})
            answers.append(Answer("a cross stands here", (claim,), confidence=0.4))
    return answers


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = written(tmp_path_factory.mktemp("bench"))

    def kept(label: str, answer: Callable[..., list[Answer]]) -> KeptRun:
        runs = [
            run_benchmark(BENCHMARKS.get("pope"), Source(folder), answer, variants=("official", "vcd", "opera")),
            run_benchmark(BENCHMARKS.get("chair"), Source(folder), answer),
        ]
        return KeptRun(label, "llamacpp", "ab" * 32, "none", 0, {"edgereverie": "1"}, tuple(runs))

    runs = [kept(label, answer) for label, answer in ((HOSTILE, yes), ("tuned", better), (LONG, better), ("last", yes))]
    told = report_of(
        runs,
        title="Before and after " + HOSTILE,
        notes=("A note that is long enough to be wrapped on a telephone, and not on a desk.", "x" * 300),
        loss={"reflective tuning": [(step, 2.0 / (step + 1)) for step in range(100)]},
        parity={LONG: {"top1": 0.9852, "passed": True, "reference": "hf", "bound": {"min_top1": 0.95}}},
    )
    alone = replace(told.exhibits[-1], said=told.exhibits[-1].said[:1], id="one run alone")
    return replace(told, exhibits=(*told.exhibits, alone))


Opened = Callable[..., Browser]


@pytest.fixture
def opened(browser: Browser, report: Report, tmp_path: Path) -> Iterator[Opened]:
    """The report's page. Afterwards: no complaint in the console, nothing harmed, and nothing asked for but the page."""
    pages = []

    def show(shown: Report = report, **view: object) -> Browser:
        _, page = write_report(tmp_path / "out", shown)
        pages.append(page)
        browser.open(page.as_uri(), ready="document.querySelector('main')", **view)
        return browser

    yield show
    assert browser.run("window.harmed ?? null") is None
    said = [*browser.told("Log.entryAdded"), *browser.told("Runtime.exceptionThrown", "Runtime.consoleAPICalled")]
    assert said == []
    asked = [request["request"]["url"] for request in browser.told("Network.requestWillBeSent")]
    assert all(url.startswith((pages[-1].as_uri(), "data:")) for url in asked), asked


# WCAG's relative luminance and contrast: of text against what it stands on (1.4.3), and of what is drawn in charts against
# the sheet (1.4.11).
_POOR = """(() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (c) => { const [r, g, b] = c.map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
                         return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ground = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
                          if (c.length < 4 || c[3] === 1) return c.slice(0, 3); } return [255, 255, 255]; };
  const ratio = (one, other) => { const [a, b] = [light(one.slice(0, 3)), light(other)];
                                  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05); };
  const poor = [];
  for (const e of document.querySelectorAll('body *')) {
    const style = getComputedStyle(e);
    if (e.closest('[hidden], script, option') || style.display === 'none') continue;
    if ([...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())) {
      const found = ratio(parse(style.color), ground(e));
      if (found < 4.5) poor.push(['text', e.className, e.textContent.slice(0, 20), found]);
      if (parseFloat(style.fontSize) < 11) poor.push(['small', e.className, e.textContent.slice(0, 20), style.fontSize]);
    }
    const drawn = e.matches('.bar, .dot') ? style.backgroundColor : e.matches('.curve') ? style.stroke : null;
    if (drawn && ratio(parse(drawn), ground(e.parentElement.closest('.card, .panel, .scroll, main, .answer'))) < 3)
      poor.push(['drawn', e.getAttribute('class'), drawn]);
  }
  return poor;
})()"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1200, 390])
def test_the_page_is_readable_on_every_screen(opened: Opened, width: int, dark: bool, tmp_path: Path) -> None:
    browser = opened(width=width, dark=dark)
    browser.run("document.querySelectorAll('details').forEach((e) => { e.open = true; })")
    assert browser.run("document.documentElement.scrollWidth") <= width
    ends = "[...document.querySelectorAll('main *')].filter((e) => !e.closest('.scroll, svg, .tip, .long'))"
    outside = (
        f"{ends}.filter((e) => e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML.slice(0, 80))"
    )
    assert browser.run(outside) == []
    assert browser.run(_POOR) == []
    assert browser.run("[...document.images].every((i) => i.complete && i.naturalWidth > 0)")
    folder = Path(os.environ.get("EDGEREVERIE_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    shot = folder / f"report-{width}-{'dark' if dark else 'light'}.png"
    browser.photograph(shot)
    assert shot.stat().st_size > 50_000


def chosen(browser: Browser, name: str, value: str) -> int:
    """Choose in a list as a person does; how many exhibits are left."""
    box = f"document.querySelector('select[name={name}]')"
    browser.run(f"{box}.value = {value!r}; {box}.dispatchEvent(new Event('input', {{bubbles: true}}))")
    return browser.run(f"{SHOWN}.length")


def test_filters_show_what_they_say(opened: Opened, report: Report) -> None:
    browser = opened()
    exhibits = report.exhibits
    assert browser.run(f"{SHOWN}.length") == len(exhibits) >= 5
    assert {one.benchmark for one in exhibits} == {"pope", "chair"}
    chairs = [one for one in exhibits if one.benchmark == "chair"]
    titles = browser.run("[...document.querySelectorAll('select[name=benchmark] option')].map((o) => o.textContent)")
    assert chosen(browser, "benchmark", str(titles.index("CHAIR") - 1)) == len(chairs)
    assert browser.run(f"{SHOWN}.every((e) => e.querySelector('.where').textContent.startsWith('CHAIR'))")
    assert browser.run("document.querySelector('#shown').textContent") == (
        f"{len(chairs)} of {len(chairs)} shown, {len(exhibits)} in all"
    )
    chosen(browser, "benchmark", "")
    wrong = [one for one in exhibits if any(said.wrong for said in one.said if said.label == "tuned")]
    assert 0 < len(wrong) < len(exhibits)
    assert chosen(browser, "wrong", "1") == len(wrong)
    chosen(browser, "wrong", "")
    kinds = browser.run("[...document.querySelectorAll('select[name=mistake] option')].map((o) => o.textContent)")
    for number, kind in enumerate(kinds[1:]):
        assert chosen(browser, "mistake", str(number)) == sum(kind in one.mistakes for one in exhibits) > 0
    chosen(browser, "mistake", "")
    assert "None is like that" in browser.run(
        "document.querySelectorAll('.exhibit').forEach((e) => { e.dataset.wrong = ''; });"
        "document.querySelector('select[name=wrong]').value = '0';"
        "document.querySelector('.filters').dispatchEvent(new Event('input')); document.querySelector('#shown').textContent"
    )


def test_filters_work_by_keyboard_alone(opened: Opened, report: Report) -> None:
    browser = opened()
    browser.run("document.querySelector('select[name=wrong]').focus()")
    browser.press("Tab")
    assert browser.run("document.activeElement.name") == "changed"
    browser.press(" ")
    changed = [one for one in report.exhibits if one.changed]
    assert 0 < len(changed) < len(report.exhibits)
    assert browser.run(f"{SHOWN}.length") == len(changed)
    browser.press("Tab")
    browser.press(" ")
    disputed = [one for one in report.exhibits if one.changed and one.disputed]
    assert browser.run(f"{SHOWN}.length") == len(disputed)
    browser.press("Tab")
    assert browser.run("document.activeElement.type") == "reset"
    browser.press("Enter")
    browser.until(f"{SHOWN}.length === {len(report.exhibits)}")


def test_one_run_alone_has_no_filters_between_runs(opened: Opened, report: Report) -> None:
    alone = tuple(replace(one, said=one.said[:1]) for one in report.exhibits if one.benchmark == "chair")
    browser = opened(replace(report, runs=report.runs[:1], comparisons=(), exhibits=alone))
    assert browser.run("[...document.querySelectorAll('.filters [name]')].map((e) => e.name)") == ["mistake"]
    assert chosen(browser, "mistake", "0") == len(alone) > 0


def test_a_long_gallery_comes_a_dozen_at_a_time(opened: Opened, report: Report) -> None:
    many = tuple(replace(one, id=f"{one.id}-{turn}") for turn in range(7) for one in report.exhibits)
    browser = opened(replace(report, exhibits=many))
    assert browser.run(f"{SHOWN}.length") == 12
    browser.run("document.querySelector('.more').focus()")
    browser.press("Enter")
    assert browser.run(f"{SHOWN}.length") == 24
    assert browser.run(f"{SHOWN}.indexOf(document.activeElement)") == 12, (
        "who reads on goes on where the new ones begin"
    )
    chosen(browser, "benchmark", "0")
    browser.run("while (!document.querySelector('.more').hidden) document.querySelector('.more').click()")
    assert browser.run(f"{SHOWN}.length") == sum(one.benchmark == many[0].benchmark for one in many)


def test_a_changed_script_does_not_run_and_the_page_is_whole_without_it(
    browser: Browser, report: Report, tmp_path: Path
) -> None:
    _, page = write_report(tmp_path, report)
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace('"use strict";', '"use strict"; window.harmed = 3;'), encoding="utf-8")
    browser.open(page.as_uri(), ready="document.querySelector('main')")
    assert browser.run("window.harmed ?? null") is None
    assert any("Content Security Policy" in str(entry) for entry in browser.told("Log.entryAdded"))
    assert browser.run("getComputedStyle(document.querySelector('.filters')).display") == "none"
    assert browser.run(f"{SHOWN}.length") == len(report.exhibits)


def test_screen_readers_meet_names_and_an_order(opened: Opened, report: Report) -> None:
    browser = opened()
    met = browser.tree()
    names = {(role, name) for role, name in met}
    for expected in (
        ("navigation", "On this page"), ("form", "Filter the gallery"), ("combobox", "Kind of mistake"),
        ("checkbox", "changed answers only"), ("button", "Show all"), ("heading", "POPE"), ("link", "CHAIR"),
    ):  # fmt: skip
        assert expected in names
    assert all(name for role, name in met if role in ("image", "img", "table", "region", "link", "button", "combobox"))
    levels = browser.run("[...document.querySelectorAll('h1, h2, h3, h4')].map((h) => Number(h.tagName[1]))")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels)), levels
    targets = browser.run("[...document.querySelectorAll('nav a')].every((a) => document.querySelector(a.hash))")
    assert targets
    assert browser.run(
        "[...document.querySelectorAll('.scroll')].every((e) => e.tabIndex === 0 && e.getAttribute('aria-label'))"
    )
