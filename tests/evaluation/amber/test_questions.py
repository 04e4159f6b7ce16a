"""AMBER's questions: files read strictly, the official scorer's figures to the last digit, other rules beside them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from statistics import NormalDist
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgereverie.errors import DataError
from edgereverie.evaluation.benchmarks._amber_files import AmberItem
from edgereverie.evaluation.benchmarks.amber import BENCHMARK
from edgereverie.evaluation.benchmarks.base import BenchmarkResult, compare, score_answers

ANSWERS = dict(zip(map(str, range(3, 12)), ("No", "Yes", "No.", "Yes", "Yes", "No", "Yes", "No", "No"), strict=True))


Items = Callable[..., list[AmberItem]]


def figures(result: BenchmarkResult, digits: int = 9) -> dict[str, float]:
    """Percentages by split and metric."""
    return {
        score.metric.partition("/")[2].partition("/")[2]: round(100 * score.value, digits) for score in result.scores
    }


def test_figures_by_hand(folder: Path, items_in: Items) -> None:
    """What the official inference.py printed for these eleven entries; "No." is read as neither."""
    result = score_answers(BENCHMARK, "official", items_in(folder, "discriminative"), ANSWERS)
    found = figures(result)
    expected = {
        # 5 / 9.001, 3 / 4.001 of the answered no, 3 / 6.001 of the true no; 2 * .75 * .5 / 1.2501
        "discriminative": (55.5, 75.0, 50.0, 60.0),
        # one of two, 1 / 1.001, 1 / 2.001; 2 * .999 * .5 / (1.499 + .001)
        "existence": (50.0, 99.9, 50.0, 66.6),
        # 3 / 5.003, 1 / 1.003, 1 / 3.003: three starts; 2 * .997 * .333 / 1.3301
        "attribute": (60.0, 99.7, 33.3, 49.9),
        # 2 / 3.001, 1 / 1.001, 1 / 2.001
        "state": (66.6, 99.9, 50.0, 66.6),
        "number": (99.9, 0.0, 0.0, 0.0),
        "action": (0.0, 0.0, 0.0, 0.0),
        "relation": (50.0, 50.0, 99.9, 66.6),
    }
    for split, values in expected.items():
        assert tuple(found[f"{split}/{name}"] for name in ("accuracy", "precision", "recall", "f1")) == values, split
    assert found["discriminative/yes_ratio"] == pytest.approx(100 * 4 / 9)
    assert result.counts()["amber/official/discriminative"] == {
        "right": 5, "asked": 9, "rightly_no": 3, "truly_no": 6, "said_no": 4, "said_yes": 4
    }  # fmt: skip
    # Two of three true yes were found, and two of six true no called yes: z(2.5 / 4) - z(2.5 / 7).
    z = NormalDist().inv_cdf
    assert found["discriminative/d_prime"] == pytest.approx(100 * (z(2.5 / 4) - z(2.5 / 7)))
    assert "existence/d_prime" not in found
    assert [tally.split.rpartition("/")[2] for tally in result.tallies] == [
        "existence", "state", "number", "action", "attribute", "relation", "discriminative"
    ]  # fmt: skip
    assert {mark.id: (mark.read, mark.right, mark.note) for mark in result.marks if not mark.right} == {
        "5": ("unread", 0.0, "neither yes nor no"),
        "7": ("yes", 0.0, "said yes to what is not so"),
        "8": ("no", 0.0, "said no to what is so"),
        "9": ("yes", 0.0, "said yes to what is not so"),
    }


@pytest.mark.parametrize(("split", "expected"), [("relation", 66.7), ("existence", 66.6)])
def test_f1_comes_from_rounded_figures_and_is_weakened_more_for_existence(split: str, expected: float) -> None:
    items = [AmberItem(str(n), None, "", "", "a.jpg", False, split=split, kind=split) for n in range(4)]
    result = score_answers(BENCHMARK, "official", items, {"0": "No", "1": "No", "2": "Yes", "3": "Yes"})
    # 2 / 2.001 and 2 / 4.001 are told as 100.0 and 50.0; 1 / 1.5001 is 66.66, 1 / 1.501 is 66.62; not rounded before, 66.64.
    assert figures(result)[f"{split}/f1"] == expected


@pytest.mark.parametrize(
    ("text", "official", "vlmevalkit"),
    [
        ("Yes", "yes", "yes"),
        ("No", "no", "no"),
        ("yes", "unread", "yes"),
        ("NO", "unread", "no"),
        ("Yes.", "unread", "yes"),
        ("No, there is not.", "unread", "no"),
        (" No", "unread", "no"),
        ("No\n", "unread", "no"),
        ("No\nYes", "unread", "unread"),
        ("", "unread", "unread"),
        ("Nо", "unread", "unread"),  # the second letter is Cyrillic
        ("不", "unread", "unread"),
        ("\N{ZERO WIDTH SPACE}Yes", "unread", "unread"),
    ],
)
def test_every_rule_reads_answers_in_its_own_way(
    folder: Path, text: str, official: str, vlmevalkit: str, items_in: Items
) -> None:
    items = items_in(folder, "existence")
    for variant, expected in (("official", official), ("vlmevalkit", vlmevalkit)):
        result = score_answers(BENCHMARK, variant, items, {item.id: text for item in items})
        assert {mark.read for mark in result.marks} == {expected}


def test_vlmevalkit_takes_the_mean_of_the_three_dimensions(folder: Path, items_in: Items) -> None:
    items = items_in(folder, "discriminative")
    result = score_answers(BENCHMARK, "vlmevalkit", items, ANSWERS)
    # "No." counts here: existence 1 of 2, attribute 4 of 5, relation 1 of 2.
    assert figures(result) == {
        "discriminative/mean_accuracy": 60.0, "existence/accuracy": 50.0, "attribute/accuracy": 80.0, "relation/accuracy": 50.0
    }  # fmt: skip
    two = items_in(folder, "existence", "relation")
    found = figures(score_answers(BENCHMARK, "vlmevalkit", two, {"3": "No", "9": "No", "8": "no", "11": "no"}))
    assert found["discriminative/mean_accuracy"] == pytest.approx(75.0)
    alone = score_answers(BENCHMARK, "vlmevalkit", items_in(folder, "relation"), {"8": "Yes", "11": "yes"})
    assert figures(alone) == {"relation/accuracy": 50.0}


def test_a_rule_without_anything_to_score_says_so(folder: Path, items_in: Items) -> None:
    with pytest.raises(DataError, match="amber/lmms scores descriptions only, and there are none"):
        score_answers(BENCHMARK, "lmms", items_in(folder, "discriminative"), ANSWERS)
    with pytest.raises(DataError, match="amber/vlmevalkit scores yes-or-no questions only"):
        score_answers(BENCHMARK, "vlmevalkit", items_in(folder, "generative"), {"1": "", "2": ""})


@given(
    st.lists(st.tuples(st.sampled_from(["Yes", "No", "yes", ""]), st.booleans(), st.integers(0, 4)), min_size=1),
    st.randoms(),
)
def test_splits_add_up_in_any_order(rows: list[tuple[str, bool, int]], random: Any) -> None:
    kinds = ("existence", "state", "number", "action", "relation")
    items = [
        AmberItem(str(n), None, "", "", f"{n % 7}.jpg", label, split=kinds[kind], kind=kinds[kind])
        for n, (_, label, kind) in enumerate(rows)
    ]
    texts = {str(n): text for n, (text, _, _) in enumerate(rows)}
    count = BENCHMARK.variants["official"].count
    counts = {tally.split: tally.totals() for tally in count(items, texts).tallies}
    if len(counts) == 7:
        for column, total in counts["discriminative"].items():
            assert total == sum(counts[name][column] for name in kinds)
            assert counts["attribute"][column] == sum(counts[name][column] for name in kinds[1:4])
    assert sum(counts[name]["right"] for name in kinds if name in counts) == sum(
        text == ("Yes" if label else "No") for text, label, _ in rows
    )
    shuffled = count(random.sample(items, len(items)), texts)
    assert {tally.split: tally.totals() for tally in shuffled.tallies} == counts


def test_two_runs_are_compared_split_by_split(folder: Path, items_in: Items) -> None:
    items = items_in(folder, "discriminative")
    right = {item.id: item.truth.capitalize() for item in items}
    runs = [score_answers(BENCHMARK, "official", items, texts) for texts in (ANSWERS, right)]
    change = {score.metric: score.value for score in compare(BENCHMARK, *runs)}
    assert change["amber/official/state/accuracy"] == pytest.approx(1.0 - 0.666)  # 3 / 3.001 is 100.0 when rounded
    assert change["amber/official/existence/recall"] == pytest.approx(1.0 - 0.5)


def _hashed(item: AmberItem) -> str:
    share = int(hashlib.sha256(f"amber{item.id}".encode()).hexdigest(), 16) % 100
    if share >= 95:
        return "Unknown"
    return item.truth.capitalize() if share < 70 else {"yes": "No", "no": "Yes"}[item.truth]


MESSY = ("Yes", "No", "yes", "no", "Yes.", "No.", "No, there is not.", "Yes, it is.", "")
RULES: dict[str, Callable[[AmberItem], str]] = {
    "truth": lambda item: item.truth.capitalize(),
    "flip3": lambda item: item.truth.capitalize() if int(item.id) % 3 else {"yes": "No", "no": "Yes"}[item.truth],
    "always_no": lambda item: "No",
    "always_yes": lambda item: "Yes",
    "messy": lambda item: MESSY[int(item.id) % 9],
    "hash": _hashed,
}
NAMES = {"Descriminative Task": "discriminative", "Exsitence": "existence"}  # as the official scorer spells them


def test_golden_questions(golden: Path, items_in: Items) -> None:
    items = items_in(golden, "discriminative")
    assert len(items) == 14216
    for case in json.loads((golden / "expected" / "amber.json").read_text(encoding="utf-8"))["discriminative"]:
        found = figures(
            score_answers(BENCHMARK, "official", items, {item.id: RULES[case["mode"]](item) for item in items})
        )
        for name, printed in case["result"].items():
            split = NAMES.get(name, name.lower())
            assert {key: found[f"{split}/{key.lower()}"] for key in printed} == printed, (case["mode"], split)


def test_golden_counts(golden: Path, items_in: Items) -> None:
    items = items_in(golden)
    sizes = {kind: sum(item.kind == kind for item in items) for kind in dict.fromkeys(item.kind for item in items)}
    assert sizes == {
        "description": 1004,
        "state": 4764,
        "number": 2072,
        "action": 792,
        "existence": 4924,
        "relation": 1664,
    }
    assert sum(item.truth == "no" for item in items) == 9427 and sum(item.label for item in items) == 4789
