"""The official POPE rule against what the official scorer decided."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgereverie.text.yes_no import pope_official


# Decisions derived by hand from evaluate.py: the first "."-sentence, commas deleted, split on " ", {No, not, no}.
@pytest.mark.parametrize(
    ("text", "yes"),
    [
        ("Yes", True), ("No", False), ("no.", False), ("No, there is no ring.", False), ("There is not a ring.", False),
        ("NO", True), ("No!", True), ("**No**", True), ("\tNo", True), ("No\u3002", True), ("Not", True),
        ("none", True),
        ("There isn't one.", True), ("", True), ("1. No", True), (". No", True), ("No\nThere is no ring", False),
        ("No\nring", True), ("Yes, there is no doubt", False), ("Yes. It is not blue.", True), ("no,", False),
    ],
)  # fmt: skip
def test_the_rule_keeps_the_official_quirks(text: str, yes: bool) -> None:
    assert pope_official(text) is yes


def test_every_edge_case_of_the_official_scorer(golden: Path) -> None:
    path = golden / "expected" / "pope_edge_cases.jsonl"
    cases = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(cases) >= 300
    wrong = [case for case in cases if pope_official(case["answer"]) != bool(case["pope"])]
    assert wrong == []
