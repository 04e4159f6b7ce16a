"""Answers as text, JSON and HTML: every mark at its place, every text escaped, no number that JSON does not have."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edgereverie.records import Answer, Claim, Token
from edgereverie.told.markup import fragment, marked_html, page
from edgereverie.told.parts import parts, text_of
from edgereverie.told.values import SCHEMA, json_of

TEXT = "Two red rings left of a <b>star</b>."
VERDICTS = st.sampled_from(["supported", "contradicted", "unverified"])
VOID = {"meta", "img", "br"}


def claim(text: str, verdict: str = "supported", **more: object) -> Claim:
    start = TEXT.index(text)
    return Claim(text, start, start + len(text), text.split()[-1], 0.5, verdict, **more)  # type: ignore[arg-type]


class Read(HTMLParser):
    """Well-formed HTML: what is opened is closed, in order. text: what a reader sees, tips left out."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.hidden = 0
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)
            self.hidden += (
                self.hidden > 0 or tag == "style" or ("role", "note") in attrs or ("aria-hidden", "true") in attrs
            )

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self.hidden -= self.hidden > 0

    def handle_data(self, data: str) -> None:
        self.text += "" if self.hidden else data


claims_anywhere = st.lists(
    st.builds(
        lambda start, length, verdict, kind: Claim("x", start, start + length, "x", 0.5, verdict, {}, kind),
        st.integers(-3, 45), st.integers(0, 40), VERDICTS, st.sampled_from(["object", "relation"]),
    ),
    max_size=7,
)  # fmt: skip


@given(claims_anywhere)
def test_whatever_overlaps_the_text_stays_whole(claims: list[Claim]) -> None:
    answer = Answer(TEXT, tuple(claims))
    found, astray = parts(answer)
    assert "".join(part.text for part in found) == TEXT
    assert sum(len(part.claims) for part in found) + len(astray) == len(claims)
    assert re.sub(r"\[[!?]\]", "", text_of(answer)) == TEXT
    read = Read(marked_html(answer))
    assert read.text.partition("Also:")[0] == TEXT
    placed = [claim for claim in claims if 0 <= claim.start < claim.end <= len(TEXT)]
    bad = {claim.end for claim in placed if claim.verdict != "supported" and not inside(claim, placed)}
    assert len(re.findall(r"\[[!?]\]", text_of(answer))) == len(bad), "one mark where a doubtful claim ends"


def inside(claim: Claim, claims: list[Claim]) -> bool:
    """Whether a longer claim around it is as doubtful, or a thing that is more so."""
    ranks = {"contradicted": 2, "unverified": 1, "supported": 0}
    return any(
        other.start <= claim.start and claim.end <= other.end and other.end - other.start > claim.end - claim.start
        and (ranks[other.verdict] == ranks[claim.verdict]
             or (ranks[other.verdict] > ranks[claim.verdict] and other.kind == "object"))
        for other in claims
    )  # fmt: skip


def test_the_narrowest_claim_tells_a_stretch_and_every_end_has_its_mark() -> None:
    answer = Answer(TEXT, (
        claim("Two red rings left of a <b>star</b>", "contradicted", kind="relation"),
        claim("red rings", "unverified", kind="attribute"), claim("rings", "supported"),
    ))  # fmt: skip
    assert text_of(answer) == "Two red rings[?] left of a <b>star</b>[!]."
    (part, _), _ = parts(answer)
    assert [(piece.text, piece.verdict) for piece in part.pieces] == [
        ("Two ", "contradicted"), ("red ", "unverified"), ("rings", "supported"), (" left of a <b>star</b>", "contradicted"),
    ]  # fmt: skip


def test_a_doubt_about_a_thing_is_marked_once_and_about_one_word_of_it_at_that_word() -> None:
    thing, word = claim("Two red rings"), claim("red")
    for outer, inner, told in (
        ("unverified", "unverified", "Two red rings[?] left"), ("contradicted", "unverified", "Two red rings[!] left"),
        ("supported", "unverified", "Two red[?] rings left"), ("unverified", "contradicted", "Two red[!] rings[?] left"),
    ):  # fmt: skip
        both = (replace(thing, verdict=outer), replace(word, verdict=inner))
        assert text_of(Answer(TEXT, both)).startswith(told)
        assert marked_html(Answer(TEXT, both)).count("support 50 %") == 2, "both are explained"


def test_html_explains_in_words_and_escapes_everything() -> None:
    hostile = "<script>alert(1)</script>\"'&"
    answer = Answer(
        hostile, (Claim("<script>", 0, 8, hostile, 0.12, "contradicted", {hostile: -1.0}, "object", hostile),),
        draft=hostile, reason=hostile, guarantee=hostile, ended="length", tokens=7,
    )  # fmt: skip
    html = fragment(answer, lambda claim: f"because {hostile}", question=hostile)
    read = Read(html)
    assert "script" not in read.tags and not any(name.startswith("on") for name, _ in read.attributes)
    assert read.text.count(hostile) == 7, "question, answer, statement, why, draft, reason and guarantee"
    assert "contradicted by the picture, support 12 %" in read.text and "✗" in html
    assert "cut at 7 tokens" in read.text


def test_the_fragments_style_stays_inside_it() -> None:
    style = fragment(Answer("x")).partition("<style>")[2].partition("</style>")[0]
    depth, top = 0, ""
    for character in style:
        depth += (character == "{") - (character == "}")
        top += character if depth == 0 and character not in "{}" else ""
    assert top.strip() == ".edgereverie" and depth == 0
    assert "url(" not in style and "@import" not in style


def test_a_page_shows_a_picture_once_and_loads_nothing(tmp_path: Path) -> None:
    Image.new("RGB", (900, 600), "red").save(tmp_path / "a.png")
    answer = Answer("A ring.", (Claim("A ring", 0, 6, "ring", 0.9, "supported"),))
    html = page(
        "talk & more",
        [(tmp_path / "a.png", "One?", answer), (tmp_path / "a.png", "Two?", answer), (None, "3?", answer)],
    )
    read = Read(html)
    assert read.tags.count("img") == 1 and read.tags.count("section") == 3
    assert all(value and value.startswith("data:image/") for name, value in read.attributes if name in ("src", "href"))
    assert "default-src 'none'" in html and "<title>talk &amp; more</title>" in html


def test_json_is_what_the_schema_says() -> None:
    validator = pytest.importorskip("jsonschema").Draft202012Validator
    validator.check_schema(SCHEMA)
    odd = Answer(
        "A ring.", (Claim("A ring", 0, 6, "ring", math.nan, "unverified", {"grounding": math.inf, "verification": 1.5}),),
        confidence=math.nan, backend="x", tokens=3, seconds=0.25, record=(Token(5, 0, 1, -math.inf, 0.5, 1.0, 0),),
    )  # fmt: skip
    for record in (False, True):
        values = json_of(odd, lambda claim: "so", record=record)
        validator(SCHEMA).validate(json.loads(json.dumps(values, allow_nan=False)))
        assert ("record" in values) == record
    names = "text start end kind subject statement support verdict why evidence"
    assert list(values["claims"][0]) == names.split()
    assert values["claims"][0]["evidence"] == {"grounding": None, "verification": 1.5} and values["confidence"] is None
    assert values["record"][0]["log_prob"] is None and values["claims"][0]["why"] == "so"
    with pytest.raises(Exception, match="Additional properties"):
        validator(SCHEMA).validate(values | {"more": 1})


def test_no_claims_no_marks() -> None:
    assert text_of(Answer("")) == "" and text_of(Answer("No [?] here.")) == "No [?] here."
    assert marked_html(Answer("")) == '<em class="empty">(empty answer)</em>'
