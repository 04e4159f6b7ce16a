"""The page in a real browser: a picture in, a question, an answer with its claims marked and explained; nothing from outside."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ._browser import PROGRAM, Browser
from ._serving import Actor, Running, mended, played, png

if PROGRAM is None:
    pytest.skip("no Chromium on this machine", allow_module_level=True)

Serving = Callable[..., Running]
DONE = "document.querySelector('.notes')"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = Browser()
    yield found
    found.close()


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "scene.png"
    path.write_bytes(png((300, 200), "teal"))
    return path


@pytest.fixture
def page(browser: Browser, serving: Serving) -> Iterator[Callable[..., Browser]]:
    """The page of a server with this model. Afterwards: no complaint in the console, no request but to this server."""
    ports = []

    def open_page(model: Actor, *, settings: dict | None = None, **view: object) -> Browser:
        server = serving(model, **(settings or {}))
        ports.append(server.port)
        browser.open(f"http://localhost:{server.port}/", **view)
        return browser

    yield open_page
    said = [*browser.told("Log.entryAdded"), *browser.told("Runtime.exceptionThrown", "Runtime.consoleAPICalled")]
    expected = browser.run("window.expectedStatus ?? null")
    assert not [entry for entry in said if not (expected and f"status of {expected}" in str(entry))], said
    asked = [request["request"]["url"] for request in browser.told("Network.requestWillBeSent")]
    assert asked and all(url.startswith((f"http://localhost:{ports[-1]}/", "data:")) for url in asked), asked


def _ask(browser: Browser, question: str = "What is there?") -> None:
    browser.run("document.querySelector('#question').focus()")
    browser.type(question)
    browser.click("#ask")
    browser.until(DONE)


def test_a_picture_a_question_an_answer(page: Callable[..., Browser], picture: Path) -> None:
    actor = Actor(*mended(), pause=0.05)
    browser = page(actor)
    browser.choose(picture)
    assert browser.run("document.querySelector('#file-told').textContent") == "scene.png, 300 × 200"
    _ask(browser)
    assert (
        browser.run("document.querySelector('.answer').textContent")
        == "There is a red ring✓, a moon✕ and perhaps a square?."
    )
    marks = browser.run(
        "[...document.querySelectorAll('.answer .claim')].map(e => [e.className, e.getAttribute('aria-label')])"
    )
    assert marks == [
        ["claim supported", "red ring: supported by the picture"],
        ["claim contradicted", "moon: contradicted by the picture"],
        ["claim unverified", "square: left open by the picture"],
    ]
    image, (turn,), _, guards = actor.asked[0]
    assert (image.size, turn.text, guards) == ((actor.image.size,) * 2, "What is there?", "flag")
    notes = browser.run("document.querySelector('.notes').innerText")
    assert "Taken back: a star. The picture shows no star." in notes
    assert "At most 1 kept claim in 20 is wrong." in notes
    assert "confidence 8 %" in notes
    assert "3 claims: 1 supported, 1 unverified, 1 contradicted." in browser.run(
        "document.querySelector('#status').textContent"
    )


def test_what_is_taken_back_is_struck_before_it_is_replaced(page: Callable[..., Browser], picture: Path) -> None:
    browser = page(Actor(*mended(), pause=0.5))
    browser.choose(picture)
    browser.run("document.querySelector('#question').value = 'What is there?'")
    browser.click("#ask")
    browser.until("document.querySelector('.answer')?.textContent === 'There is a star.'")
    browser.until("document.querySelector('.answer del')")
    assert browser.run("document.querySelector('.answer del').textContent") == " a star."
    browser.until("document.querySelector('.answer').textContent.startsWith('There is a star.  a red ring')")
    browser.until(DONE)
    assert browser.run("document.querySelector('.answer del')") is None


def test_a_dropped_picture(page: Callable[..., Browser], picture: Path) -> None:
    browser = page(Actor(*played("Yes.")))
    browser.drop(picture)
    browser.until("document.querySelector('#file-told').textContent === 'scene.png, 300 × 200'")
    _ask(browser)


def test_a_claim_is_explained_to_the_mouse(page: Callable[..., Browser], picture: Path) -> None:
    browser = page(Actor(*mended()))
    browser.choose(picture)
    _ask(browser)
    browser.hover(".answer .contradicted")
    browser.until("!document.querySelector('#card').hidden")
    text = browser.run("document.querySelector('#card').innerText")
    assert "contradicted: There is a moon." in text and "support 8 %" in text
    browser.hover("h1")
    browser.until("document.querySelector('#card').hidden")


def test_the_keyboard_is_enough(page: Callable[..., Browser], picture: Path) -> None:
    """The file dialogue is the browser's own; all else is done by keys, and the focus goes where the eye goes."""
    browser = page(Actor(*mended()))
    focused = "document.activeElement.id || document.activeElement.className"
    browser.press("Tab")
    assert browser.run(focused) == "file"
    assert browser.run("getComputedStyle(document.querySelector('#drop')).outlineStyle") == "solid"
    browser.choose(picture)
    browser.until("document.activeElement.id === 'question'")
    browser.type("What is there?")
    order = []
    for _ in range(2):
        browser.press("Tab")
        order.append(browser.run(focused))
    assert order == ["guard", "ask"]
    browser.press(" ")
    browser.until(DONE)
    assert browser.run(focused) == "question"
    browser.run("document.querySelector('#file').focus()")
    browser.press("Tab")
    assert browser.run(focused) == "claim supported"
    assert "support 96 %" in browser.run("document.querySelector('#card').innerText")
    assert browser.run("document.activeElement.getAttribute('aria-expanded')") == "true"
    browser.press("Escape")
    assert browser.run("document.querySelector('#card').hidden")
    browser.press("Enter")
    assert not browser.run("document.querySelector('#card').hidden")
    browser.press("Tab")
    assert "contradicted: There is a moon." in browser.run("document.querySelector('#card').innerText")
    for _ in range(2):
        browser.press("Tab")
    assert browser.run("document.activeElement.tagName") == "SUMMARY"
    browser.press("Enter")
    assert browser.run("document.querySelector('details').open")
    browser.press("Tab")
    browser.press("Enter")
    assert "verification" in browser.run("document.querySelector('.claims details[open]').innerText")


def test_what_a_screen_reader_meets(page: Callable[..., Browser], picture: Path) -> None:
    browser = page(Actor(*mended()))
    before = browser.tree()
    assert ("heading", "edgereverie") in before
    assert any(role == "button" and "Choose a picture" in name for role, name in before), before
    assert ("textbox", "Your question") in before
    assert ("combobox", "Guard") in before
    assert ("button", "Ask") in before
    assert {"banner", "main", "status", "alert"} <= {role for role, _ in before}
    browser.choose(picture)
    _ask(browser)
    after = browser.tree()
    assert ("image", "The picture that you chose: scene.png") in after
    assert ("button", "moon: contradicted by the picture") in after
    assert browser.run("[...document.querySelectorAll('button, input, select, textarea, [role=button]')].every("
                       "e => e.hidden || e.offsetParent === null || e.labels?.length || e.textContent.trim())")  # fmt: skip


def test_a_question_without_a_picture_says_what_is_missing(page: Callable[..., Browser], picture: Path) -> None:
    browser = page(Actor(*played("Yes.")))
    browser.run("document.querySelector('#question').value = 'What?'")
    browser.click("#ask")
    browser.until("document.querySelector('#alert').textContent === 'Choose a picture first.'")
    assert browser.run("document.activeElement.id") == "file"


def test_a_conversation_goes_on_and_begins_anew(page: Callable[..., Browser], picture: Path) -> None:
    actor = Actor(*played("Yes, a ring."))
    browser = page(actor)
    browser.choose(picture)
    _ask(browser, "Is there a ring?")
    browser.run("document.querySelector('#question').value = 'Which colour?'")
    browser.press("Enter")
    browser.until("document.querySelectorAll('.notes').length === 2")
    assert [turn.text for turn in actor.asked[1][1]] == ["Is there a ring?", "Yes, a ring.", "Which colour?"]
    assert actor.asked[1][0] is not None
    browser.click("#anew")
    browser.until("document.querySelector('#talk').childElementCount === 0")


def test_an_answer_can_be_stopped(page: Callable[..., Browser], picture: Path) -> None:
    actor = Actor(*played("one " * 200), pause=0.05)
    browser = page(actor)
    browser.choose(picture)
    browser.run("document.querySelector('#question').value = 'What?'")
    browser.click("#ask")
    browser.until("document.querySelector('.answer')?.textContent.length > 8")
    browser.press("Enter")  # the focus is on the button that stops
    browser.until("document.querySelector('#status').textContent === 'Stopped.'")
    browser.until("!document.querySelector('#ask').hidden")


def test_characters_outside_the_first_plane_are_counted_as_one(page: Callable[..., Browser], picture: Path) -> None:
    from edgereverie.records import Answer, Claim
    from edgereverie.runtime.request import Done, Piece

    text = "🙂🙂 a ring"
    claim = Claim("ring", 5, 9, "ring", 0.9, "supported")
    browser = page(Actor(Piece(text), Done(Answer(text, (claim,)))))
    browser.choose(picture)
    _ask(browser)
    assert browser.run("document.querySelector('.answer .word').textContent") == "ring"


def test_claims_that_overlap_share_one_mark(page: Callable[..., Browser], picture: Path) -> None:
    """It carries the worse verdict, and its card and its name tell both."""
    from edgereverie.records import Answer, Claim
    from edgereverie.runtime.request import Done, Piece

    claims = (
        Claim("a red ring", 0, 10, "ring", 0.9, "supported", statement="There is a ring."),
        Claim("red", 2, 5, "ring", 0.1, "contradicted", statement="The ring is red."),
    )
    browser = page(Actor(Piece("a red ring"), Done(Answer("a red ring", claims))))
    browser.choose(picture)
    _ask(browser)
    assert browser.run("document.querySelectorAll('.answer .claim').length") == 1
    name = "a red ring: a red ring supported by the picture, red contradicted by the picture"
    assert browser.run("document.querySelector('.answer .contradicted').getAttribute('aria-label')") == name
    browser.click(".answer .claim")
    browser.until("!document.querySelector('#card').hidden")
    text = browser.run("document.querySelector('#card').innerText")
    assert "There is a ring." in text and "The ring is red." in text


def test_an_answer_is_text_and_never_a_page(page: Callable[..., Browser], picture: Path) -> None:
    browser = page(Actor(*played("<img src=x onerror=alert(1)><b>ring</b>")))
    browser.choose(picture)
    _ask(browser)
    assert browser.run("document.querySelector('.answer').textContent").startswith("<img src=x")
    assert browser.run("document.querySelectorAll('#talk img, #talk b').length") == 0


def test_a_key_is_asked_for_and_used(browser: Browser, serving: Serving, picture: Path) -> None:
    server = serving(Actor(*played("Yes.")), key="sesame")
    browser._call("Page.navigate", url=f"http://localhost:{server.port}/")
    browser.until("document.querySelector('#key-row')?.hidden === false")
    browser.choose(picture)
    browser.run("document.querySelector('#key').value = 'sesame'; document.querySelector('#question').value = 'What?'")
    browser.click("#ask")
    browser.until(DONE)


def test_a_refusal_is_shown_and_the_question_kept(page: Callable[..., Browser], picture: Path) -> None:
    from edgereverie.errors import BackendError

    browser = page(Actor(BackendError("The conversation has 600 tokens, the model's context holds 512.")))
    browser.run("window.expectedStatus = 400")  # which the browser itself writes into the console
    browser.choose(picture)
    browser.run("document.querySelector('#question').value = 'What?'")
    browser.click("#ask")
    browser.until("document.querySelector('#alert').textContent.includes('600 tokens')")
    assert browser.run("document.querySelector('#question').value") == "What?"


@pytest.mark.parametrize("width", [320, 375, 768, 1200])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_fits_every_width_and_its_colours_can_be_read(
    page: Callable[..., Browser], picture: Path, width: int, dark: bool
) -> None:
    """No sideways scrolling, and a contrast of at least 4.5 (WCAG 2.2, 1.4.3) wherever text stands on a colour."""
    browser = page(Actor(*mended()), width=width, dark=dark)
    browser.choose(picture)
    _ask(browser)
    browser.run("document.querySelectorAll('details').forEach(e => { e.open = true; })")
    browser.click(".answer .contradicted")
    browser.until("!document.querySelector('#card').hidden")
    assert browser.run("document.documentElement.scrollWidth") <= width
    poor = browser.run(_CONTRAST)
    assert poor == []
    if folder := os.environ.get("EDGEREVERIE_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        browser.photograph(Path(folder) / f"page-{width}-{'dark' if dark else 'light'}.png")


# The formulas of WCAG's relative luminance and contrast ratio, over every element that shows text of its own.
_CONTRAST = """(() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (c) => { const [r, g, b] = c.map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
                         return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ground = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
                          if (c.length < 4 || c[3] === 1) return c.slice(0, 3); } return [255, 255, 255]; };
  const poor = [];
  for (const e of document.querySelectorAll('body *')) {
    if (e.offsetParent === null || e.closest('.quiet, svg, [hidden]')) continue;
    if (![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())) continue;
    const [a, b] = [light(parse(getComputedStyle(e).color).slice(0, 3)), light(ground(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push([e.className, e.textContent.slice(0, 20), ratio]);
  }
  return poor;
})()"""


def test_who_wants_no_motion_gets_none(page: Callable[..., Browser], picture: Path) -> None:
    browser = page(Actor(*played("one " * 60), pause=0.05), calm=True)
    browser.choose(picture)
    browser.run("document.querySelector('#question').value = 'What?'")
    browser.click("#ask")
    browser.until("document.querySelector('.answer.coming')")
    assert browser.run("getComputedStyle(document.querySelector('.answer'), '::after').animationName") == "none"
