"""Reading an option out of an answer: the published rules, quirk by quirk, and every case that VLMEvalKit decided."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgereverie.text import can_infer

OPTIONS = {"A": "a seed", "B": "a leaf", "C": "Bark", "D": "all of the above things together"}
LONG = "It is a leaf" + ", " + "as everybody who has ever seen a tree will gladly tell you" * 3


# Derived by hand from the two sources: matching_util.py of VLMEvalKit, mmbench_evals.py of lmms-eval. "" is None, "ask a judge".
@pytest.mark.parametrize(
    ("answer", "kit", "lmms"),
    [
        ("B", "B", "B"), ("(B)", "B", "B"), ("(B).", "B", "B"), ("B:", "B", "B"), ("Answer: B", "B", "B"), (":B", "B", "B"),
        ("**B**", "B", ""), ("[B]", "B", ""), ("{B}", "B", ""), ("#B!", "B", ""), ("b", "", ""), ("B)", "B", "B"),
        ("B\nbecause", "B", "B"), ("\u201cB\u201d", "", ""), ("B\u3002", "", ""), ("\uff22", "", ""),
        ("", "", ""), ("\n", "", ""),
        # Two letters, the same letter twice, a letter that is no option.
        ("A or B", "", ""), ("A, B", "", "B"), ("B B", "B", "B"), ("E", "", "E"), ("Z", "Z", ""), ("Z or B", "B", "B"),
        # The letter's place: VLMEvalKit wants it among the last four words, and there where it first stands.
        ("B is what I see", "", "B"), ("B is what see", "B", "B"), ("I would go for B", "B", "B"), ("B x x x x B", "", "B"),
        # An article is a letter to VLMEvalKit when it stands late; lmms-eval passes over words where A is one of more than three.
        ("Is that A leaf", "A", "B"), ("A big green leaf there", "", ""), ("A leaf", "A", "A"), ("A, I am sure of that", "", "A"),
        # "answer is", whatever follows.
        ("The correct answer is **B** because the picture shows it clearly", "B", ""),
        ("The answer is blue, said the man who had seen it", "B", ""), ("The answer is E, said the man who had seen it", "", "E"),
        ("ANSWER IS c as far as anybody here can tell", "C", ""),
        # Texts of options: exactly one, in any case, and VLMEvalKit reads no answer longer than twice all options.
        ("A LEAF!", "A", "A"), ("a leaf", "B", "B"), ("bark", "C", "C"), ("a seed or a leaf", "", ""), (LONG, "", "B"),
        # Refusals are told by their words; a failed request is not a refusal, and the words around it are still read.
        ("Cannot determine the answer", "Z", ""), ("Cannot determine the answer: B", "Z", "B"),
        ("I can't process this file.", "Z", ""),
        ("Sorry, I can't help with images of people yet.", "Z", ""), ("Failed to obtain answer via API B", "", ""),
        ("Failed to obtain answer via API a leaf", "B", "B"),
    ],
)  # fmt: skip
def test_what_the_rules_read(answer: str, kit: str, lmms: str) -> None:
    assert (can_infer.vlmevalkit(answer, OPTIONS), can_infer.lmms(answer, OPTIONS)) == (kit or None, lmms or None)


def test_options_behind_d_are_vlmevalkits_alone() -> None:
    options = {**OPTIONS, "E": "a root", "F": "a twig"}
    assert can_infer.vlmevalkit("a twig", options) == "F" and can_infer.lmms("a twig", options) is None
    assert can_infer.vlmevalkit("F", options) == "F" and can_infer.lmms("F", options) is None


def test_every_case_that_vlmevalkit_decided(golden: Path) -> None:
    with gzip.open(golden / "expected" / "mmbench_can_infer_cases.jsonl.gz", "rt", encoding="utf-8") as lines:
        cases = [json.loads(line) for line in lines]
    assert len(cases) >= 500
    wrong = [
        case
        for case in cases
        if can_infer.vlmevalkit(case["prediction"], case["choices"]) != (case["can_infer"] or None)
    ]
    assert wrong == []


@given(st.text(max_size=60), st.dictionaries(st.sampled_from("ABCDEF"), st.text(max_size=12), min_size=2))
def test_what_is_read_is_an_option_or_a_refusal(answer: str, options: dict[str, str]) -> None:
    assert can_infer.vlmevalkit(answer, options) in {*options, can_infer.REFUSED, None}
    assert can_infer.lmms(answer, options) in {*"ABCDE", None}
