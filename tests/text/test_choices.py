"""ScienceQA's published readings, against what LLaVA's scorer decided and against hand-derived decisions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgereverie.text.choices import scienceqa_llava, scienceqa_lmms


# By hand from eval_science_qa.py (LLaVA) and utils.py (lmms-eval).
@pytest.mark.parametrize(
    ("text", "llava", "lmms"),
    [
        ("A", "A", "A"), ("b", None, "B"), (" B", None, "B"), ("B\n", None, "B"), ("F", None, "F"), ("", None, None),
        (" ", None, None), ("A.", None, "A"), ("A. ", "A", "A"), ("B. text", "B", "B"), ("B.text", None, "B"),
        ("F. text", None, "F"), ("b. text", None, None), ("B) text", None, None), ("(B)", None, None),
        ("B.\ttext", None, "B"), ("B.\n", None, "B"), ("\u0392. text", None, "\u0392"),
        ("The answer is C.", "C", None), ("The answer is C", None, None), ("The answer is C!", "C", None),
        ("The answer is C\n", None, None), ("the answer is C.", None, None), ("The answer is c.", None, None),
        ("The answer is Z.", "Z", None), ("So: The answer is B, surely.", "B", None),
        ("The answer is A. The answer is A.", None, None), ("Apple", None, None), ("An answer", None, None),
        ("B. The answer is C.", "B", "B"), ("1. A", None, None), ("\u662f", None, "\u662f"),
    ],
)  # fmt: skip
def test_each_scorer_keeps_its_quirks(text: str, llava: str | None, lmms: str | None) -> None:
    assert scienceqa_llava(text) == llava
    assert scienceqa_lmms(text) == lmms


def test_every_edge_case_of_llava(golden: Path) -> None:
    cases = json.loads((golden / "expected" / "scienceqa.json").read_text(encoding="utf-8"))["edge_cases"]
    assert len(cases) >= 15
    for case in cases:
        letter = scienceqa_llava(case["text"])
        assert (letter or "FAILED") == case["parsed"]
        choices = "ABCDE"[: case["n_choices"]]
        assert (choices.index(letter) if letter is not None and letter in choices else -1) == case["index"]
