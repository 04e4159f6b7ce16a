"""The published rules for yes and no, against what their scorers decided and against hand-derived decisions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgereverie.text.yes_no import (
    mme_lmms,
    mme_official,
    pope_lmms,
    pope_marine,
    pope_official,
    pope_opera,
    pope_vcd,
    vlmevalkit,
)

Y, N, U = True, False, None

# Derived by hand from each scorer's lines. vcd: (when the truth is yes, when it is no).
TABLE = [
    # text                                   official opera marine  vcd     lmms vlmevalkit
    ("Yes",                                       Y,   Y,   Y,   (Y, Y),    Y,   Y),
    ("No",                                        N,   N,   N,   (N, N),    N,   N),
    ("yes",                                       Y,   Y,   Y,   (Y, Y),    Y,   Y),
    ("no.",                                       N,   N,   N,   (N, N),    U,   N),
    (" YES \n",                                   Y,   Y,   Y,   (Y, Y),    Y,   Y),
    ("NO",                                        Y,   N,   N,   (N, N),    N,   N),
    ("No, there is no ring.",                     N,   N,   N,   (N, N),    U,   N),
    ("No,",                                       N,   N,   Y,   (N, N),    U,   N),
    ("There is not a ring.",                      N,   N,   N,   (N, N),    U,   U),
    ("There isn't a ring.",                       Y,   N,   Y,   (N, Y),    U,   U),
    ("I can't, sorry",                            Y,   N,   Y,   (N, Y),    U,   U),
    ("No!",                                       Y,   Y,   Y,   (N, N),    U,   N),
    ("**No**",                                    Y,   Y,   Y,   (N, N),    U,   U),
    ("\tNo",                                      Y,   Y,   N,   (N, N),    N,   N),
    ("No\u3002",                                  Y,   Y,   Y,   (N, N),    U,   U),
    ("Not",                                       Y,   Y,   N,   (N, N),    U,   U),
    ("none",                                      Y,   Y,   Y,   (N, N),    U,   U),
    ("",                                          Y,   Y,   U,   (N, Y),    U,   U),
    (" \t\n",                                     Y,   Y,   U,   (N, Y),    U,   U),
    ("1. No",                                     Y,   N,   Y,   (N, N),    U,   N),
    (". No",                                      Y,   N,   Y,   (N, N),    U,   N),
    ("No\nThere is no ring",                      N,   N,   N,   (N, N),    U,   N),
    ("No\nring",                                  Y,   Y,   N,   (N, N),    U,   N),
    ("Yes, there is no doubt",                    N,   N,   N,   (Y, N),    U,   U),
    ("Yes. It is not blue.",                      Y,   N,   Y,   (Y, N),    U,   Y),
    ("Yes, I know it.",                           Y,   Y,   Y,   (Y, N),    U,   Y),
    ("A ring in the snow.",                       Y,   Y,   Y,   (N, N),    U,   U),
    ("yes,no",                                    Y,   Y,   Y,   (Y, N),    U,   U),
    ("yes,no 1,000",                              Y,   Y,   Y,   (Y, N),    U,   U),
    ("yes/maybe",                                 Y,   Y,   Y,   (Y, Y),    U,   Y),
    ("yes/maybe 1,000",                           Y,   Y,   Y,   (Y, Y),    U,   U),
    ("no\u00a0ring",                              Y,   Y,   N,   (N, N),    U,   N),
    ("\U0001d40dno",                              Y,   Y,   Y,   (N, N),    U,   U),
]  # fmt: skip


@pytest.mark.parametrize(("text", "official", "opera", "marine", "vcd", "lmms", "kit"), TABLE)
def test_each_scorer_keeps_its_quirks(
    text: str,
    official: bool,
    opera: bool,
    marine: bool | None,
    vcd: tuple[bool, bool],
    lmms: bool | None,
    kit: bool | None,
) -> None:
    assert pope_official(text) is official
    assert pope_opera(text) is opera
    assert pope_marine(text) is marine
    assert (pope_vcd(text, True), pope_vcd(text, False)) == vcd
    assert pope_lmms(text) is lmms
    assert vlmevalkit(text) is kit


# The first four characters in lower case, not stripped; and stripped, full stops out, y and n.
@pytest.mark.parametrize(
    ("text", "official", "lmms"),
    [
        ("yes", Y, Y), ("No", N, N), ("Yes.", Y, Y), ("yes\n", Y, Y), (" yes", Y, Y), ("  yes", U, Y), ("\nyes", Y, Y),
        ("not sure", N, N), ("Nope", N, N), ("nothing", N, N), ("", U, U), (" ", U, U), ("y", U, Y), ("N.", U, N),
        ("ye", U, U), ("y.e.s", U, Y), ("a no", N, N), ("ah no", U, U), ("I know", U, U), ("eyes", Y, Y),
        ("noyes", N, N), ("\tNO", N, N), ("\u00a0\u00a0yes", U, Y), ("\u662f", U, U), ("\U0001f600yes", Y, Y),
        ("the answer is yes", U, U), (".yes", Y, Y), ("..no", N, N), ("...no", U, N),
    ],
)  # fmt: skip
def test_mme_reads_four_characters(text: str, official: bool | None, lmms: bool | None) -> None:
    assert mme_official(text) is official
    assert mme_lmms(text) is lmms


def test_only_the_first_32_full_stops_go() -> None:
    # VLMEvalKit hands a flag of the value 32 to sub() as the count.
    assert vlmevalkit("." * 32 + "no") is False
    assert vlmevalkit("." * 33 + "no") is None


def test_every_edge_case_of_the_scorers(golden: Path) -> None:
    path = golden / "expected" / "pope_edge_cases.jsonl"
    cases = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(cases) >= 300
    words: dict[bool | None, str] = {True: "Yes", False: "No", None: "Unknown"}
    for case in cases:
        text = case["answer"]
        assert pope_official(text) == bool(case["pope"])
        assert pope_opera(text) == bool(case["opera"])
        assert {True: 1, False: 0, None: -1}[pope_marine(text)] == case["marine"]
        assert pope_vcd(text, True) == bool(case["vcd_has_yes"])
        assert pope_vcd(text, False) != bool(case["vcd_has_no"])
        assert pope_lmms(text) is {"yes": True, "no": False}.get(case["lmms_pred"])
        assert words[vlmevalkit(text)] == case["vlmevalkit"]


def test_every_case_of_mme(golden: Path) -> None:
    cases = json.loads((golden / "expected" / "mme.json").read_text(encoding="utf-8"))["parse_cases"]
    words: dict[bool | None, str] = {True: "yes", False: "no", None: "other"}
    assert len(cases) >= 12
    for case in cases:
        assert words[mme_official(case["response"])] == case["official"]
        assert words[mme_lmms(case["response"])] == case["lmms_eval"]


RULES = (pope_official, pope_opera, pope_marine, pope_lmms, vlmevalkit, mme_official, mme_lmms)


@given(st.text(st.sampled_from("yesnoYESNOt'. ,\n\t;/-?1\u3002"), max_size=40))
def test_any_text_is_read_as_yes_no_or_neither(text: str) -> None:
    readings: list[Callable[[str], bool | None]] = [*RULES]
    assert {reading(text) for reading in readings} <= {True, False, None}
    # What holds between the rules: lmms-eval's one word is read alike by VLMEvalKit and, stripped and lowered, by POPE.
    if (said := pope_lmms(text)) is not None:
        assert vlmevalkit(text) is said
        assert pope_official(text.strip().lower()) is said
    # OPERA finds every denial that POPE finds: it deletes full stops instead of the text behind the first.
    if pope_official(text) is False and "." not in text:
        assert pope_opera(text) is False
