"""AMBER's questions: files read strictly, the official scorer's figures to the last digit, other rules beside them."""

from __future__ import annotations

import gzip
import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgereverie.errors import DataError
from edgereverie.evaluation.benchmarks._amber_files import AmberItem
from edgereverie.evaluation.benchmarks.amber import BENCHMARK
from edgereverie.evaluation.benchmarks.base import BenchmarkResult, compare, score_answers
from edgereverie.evaluation.source import Source

RELATED = {"man": ["guy"], "dog": ["puppy"], "cup": [], "cat": [], "tree": []}
ANNOTATIONS: list[dict[str, Any]] = [
    {"id": 1, "type": "generative", "truth": ["man", "dog", "cup"], "hallu": ["cat", "tree"]},
    {"id": 2, "type": "generative", "truth": ["tree"], "hallu": ["dog"]},
    {"id": 3, "type": "discriminative-hallucination", "truth": "no"},
    {"id": 4, "type": "discriminative-attribute-state", "truth": "yes"},
    {"id": 5, "type": "discriminative-attribute-state", "truth": "no"},
    {"id": 6, "type": "discriminative-attribute-number", "truth": "yes"},
    {"id": 7, "type": "discriminative-attribute-action", "truth": "no"},
    {"id": 8, "type": "discriminative-relation", "truth": "yes"},
    {"id": 9, "type": "discriminative-hallucination", "truth": "no"},
    {"id": 10, "type": "discriminative-attribute-state", "truth": "no"},
    {"id": 11, "type": "relation", "truth": "no"},
]
QUERIES = [
    {"id": n, "image": "a.jpg" if n in (1, 3, 4, 5, 6, 7, 8) else "b.jpg", "query": f"Question {n}?"}
    for n in range(1, 12)
]
ANSWERS = dict(zip(map(str, range(3, 12)), ("No", "Yes", "No.", "Yes", "Yes", "No", "Yes", "No", "No"), strict=True))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures with two descriptions and nine questions, in the authors' form."""
    amber = tmp_path / "amber"
    amber.mkdir()
    for name, content in (("query_all", QUERIES), ("annotations", ANNOTATIONS), ("relation", RELATED)):
        (amber / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    (amber / "safe_words.txt").write_text("light\nsign", encoding="utf-8")
    return tmp_path


def items_in(folder: Path, *splits: str, limit: int | None = None) -> list[AmberItem]:
    return BENCHMARK.items(Source(folder, pictures=False, splits=splits), limit)


def figures(result: BenchmarkResult, digits: int = 9) -> dict[str, float]:
    """Percentages by split and metric."""
    return {
        score.metric.partition("/")[2].partition("/")[2]: round(100 * score.value, digits) for score in result.scores
    }


def test_figures_by_hand(folder: Path) -> None:
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
    assert [tally.split.rpartition("/")[2] for tally in result.tallies] == list(expected)
    assert {mark.id: (mark.read, mark.right, mark.note) for mark in result.marks if not mark.right} == {
        "5": ("unread", 0.0, "neither yes nor no"),
        "7": ("yes", 0.0, "said yes to what is not so"),
        "8": ("no", 0.0, "said no to what is so"),
        "9": ("yes", 0.0, "said yes to what is not so"),
    }


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
def test_every_rule_reads_answers_in_its_own_way(folder: Path, text: str, official: str, vlmevalkit: str) -> None:
    items = items_in(folder, "existence")
    for variant, expected in (("official", official), ("vlmevalkit", vlmevalkit)):
        result = score_answers(BENCHMARK, variant, items, {item.id: text for item in items})
        assert {mark.read for mark in result.marks} == {expected}


def test_vlmevalkit_takes_the_mean_of_the_three_dimensions(folder: Path) -> None:
    items = items_in(folder, "discriminative")
    result = score_answers(BENCHMARK, "vlmevalkit", items, ANSWERS)
    # "No." counts here: existence 1 of 2, attribute 4 of 5, relation 1 of 2.
    assert figures(result) == {
        "discriminative/mean_accuracy": 60.0, "existence/accuracy": 50.0, "attribute/accuracy": 80.0, "relation/accuracy": 50.0
    }  # fmt: skip
    alone = score_answers(BENCHMARK, "vlmevalkit", items_in(folder, "relation"), {"8": "Yes", "11": "yes"})
    assert figures(alone) == {"relation/accuracy": 50.0}


def test_a_rule_without_anything_to_score_says_so(folder: Path) -> None:
    with pytest.raises(DataError, match="amber/lmms scores descriptions only, and there are none"):
        score_answers(BENCHMARK, "lmms", items_in(folder, "discriminative"), ANSWERS)
    with pytest.raises(DataError, match="amber/vlmevalkit scores yes-or-no questions only"):
        score_answers(BENCHMARK, "vlmevalkit", items_in(folder, "generative"), {"1": "", "2": ""})


def test_items_carry_split_kind_unit_and_room(folder: Path) -> None:
    items = {item.id: item for item in items_in(folder)}
    assert list(items) == [str(n) for n in range(1, 12)]
    assert (items["1"].split, items["1"].kind, items["1"].room) == ("generative", "description", 512)
    assert items["1"].objects == ("man", "dog", "cup") and items["1"].targets == ("cat", "tree")
    assert (items["7"].split, items["7"].kind, items["7"].unit, items["7"].room) == ("attribute", "action", "a.jpg", 16)
    assert items["11"].kind == "relation" and items["11"].truth == "no" and not items["11"].label
    assert [item.id for item in items_in(folder, "state", "relation")] == ["4", "5", "8", "10", "11"]
    assert {item.unit for item in items_in(folder, limit=1)} == {"a.jpg"}


def test_the_authors_single_files_do_as_well(folder: Path) -> None:
    amber = folder / "amber"
    (amber / "query_all.json").unlink()
    parts = {"generative": (1, 2), "discriminative-existence": (3, 9), "discriminative-relation": (8, 11)}
    for name, ids in parts.items():
        rows = json.dumps([QUERIES[id - 1] for id in ids]).encode()
        (amber / f"query_{name}.json.gz").write_bytes(gzip.compress(rows))
    assert [item.id for item in items_in(folder)] == ["1", "2", "3", "9", "8", "11"]
    with pytest.raises(DataError, match="no questions of attribute"):
        items_in(folder, "attribute")
    (amber / "query_discriminative.json").write_text(json.dumps(QUERIES[2:]), encoding="utf-8")
    assert len(items_in(folder)) == 11
    for path in amber.glob("query_*"):
        path.unlink()
    with pytest.raises(DataError, match=r"query_all\.json: no such file"):
        items_in(folder)


def spoil(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / "amber" / f"{name}.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(change(content)), encoding="utf-8")

    return apply


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("query_all", lambda rows: [*rows, rows[0]], r"entry 12: the id 1 stands at .*entry 1 already"),
        ("query_all", lambda rows: [{**rows[0], "id": 12}], "the id is 12, and annotations.json has 11 entries"),
        ("query_all", lambda rows: [{**rows[0], "id": "1"}], r"entry 1: 'id' should be int, found '1'"),
        ("query_all", lambda rows: [{**rows[0], "id": 0}], "the id is 0"),
        ("query_all", lambda rows: [{"id": 1, "image": "a.jpg"}], "the key 'query' is missing"),
        ("query_all", lambda rows: [{**rows[0], "image": "../a.jpg"}], "leaves the image root"),
        ("query_all", lambda rows: [], "hold no questions"),
        ("annotations", lambda rows: [rows[1], rows[0], *rows[2:]], r"entry 1: the id is 2, expected 1"),
        ("annotations", lambda rows: [{**rows[0], "type": "new"}, *rows[1:]], "unknown type 'new'"),
        ("annotations", lambda rows: [{**rows[0], "truth": ["cow", "man"]}, *rows[1:]], "does not know 'cow'"),
        ("annotations", lambda rows: [{**rows[0], "hallu": "cat"}, *rows[1:]], "'hallu' should be list"),
        ("annotations", lambda rows: [*rows[:2], {**rows[2], "truth": "No"}, *rows[3:]], "the truth is 'No'"),
        ("relation", lambda table: {**table, "man": "guy"}, "gives each word a list of words"),
    ],
)
def test_a_broken_file_is_an_error_with_its_place(
    folder: Path, name: str, change: Callable[[Any], Any], message: str
) -> None:
    spoil(name, change)(folder)
    with pytest.raises(DataError, match=message):
        items_in(folder)


@pytest.mark.parametrize("line", ["qa_correct_num=0", "chair_score=1", "chair_num=__import__('os')", "chair_num"])
def test_other_starts_of_the_counters_are_refused(folder: Path, line: str) -> None:
    path = folder / "amber" / "metrics.txt"
    path.write_text("chair_num=0.001\nchair_score=0\n", encoding="utf-8")
    assert len(items_in(folder)) == 11
    path.write_text(f"chair_num=0.001\n{line}\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"metrics\.txt:2: found"):
        items_in(folder)


def test_every_fault_of_an_answer_file_is_listed(folder: Path) -> None:
    path = folder / "answers.json"
    rows = [{"id": int(id), "response": text} for id, text in reversed(ANSWERS.items())]
    items = items_in(folder, "discriminative")
    path.write_text(json.dumps(rows), encoding="utf-8")
    assert BENCHMARK.answers(path, items) == ANSWERS
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert BENCHMARK.answers(path, items) == ANSWERS
    broken = [
        *rows[1:],
        rows[4],
        {"id": 99, "response": "Yes"},
        {"id": True, "response": "No"},
        {"id": 11, "response": 1},
    ]
    path.write_text(json.dumps(broken), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        BENCHMARK.answers(path, items)
    for told in ("answered more than once: 7", "belong to no question: 99", "name no question", "without a text in response",
                 "questions without an answer: 11"):  # fmt: skip
        assert told in str(caught.value)


def test_a_file_of_answers_is_scored_on_the_parts_that_it_answers(folder: Path) -> None:
    path = folder / "answers.json"

    def asked(*ids: int) -> list[str]:
        path.write_text(json.dumps([{"id": id, "response": "Yes"} for id in ids]), encoding="utf-8")
        return [item.id for item in BENCHMARK.asked(path, items_in(folder))]

    assert asked(3, 9) == ["3", "9"]
    assert asked(1, 11) == ["1", "2", "8", "11"]  # one answer asks for all of its part
    assert asked(99) == [str(n) for n in range(1, 12)]


def test_all_ways_are_those_that_fit_and_can_be_taken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spacy", None)
    assert BENCHMARK.ways(items_in(folder, "existence")) == ["official", "vlmevalkit"]
    assert BENCHMARK.ways(items_in(folder, "generative")) == ["official-exact", "lmms-exact"]
    assert BENCHMARK.ways(items_in(folder)) == ["official-exact", "lmms-exact", "vlmevalkit"]
    assert BENCHMARK.default(items_in(folder)) == "official"


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
    result = score_answers(BENCHMARK, "official", items, texts)
    counts = {name.rpartition("/")[2]: found for name, found in result.counts().items()}
    if len(counts) == 7:
        for column, total in counts["discriminative"].items():
            assert total == sum(counts[name][column] for name in kinds)
            assert counts["attribute"][column] == sum(counts[name][column] for name in kinds[1:4])
    assert sum(counts[name]["right"] for name in kinds if name in counts) == sum(
        text == ("Yes" if label else "No") for text, label, _ in rows
    )
    shuffled = random.sample(items, len(items))
    assert figures(score_answers(BENCHMARK, "official", shuffled, texts)) == figures(result)


def test_two_runs_are_compared_split_by_split(folder: Path) -> None:
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


def test_golden_questions(golden: Path) -> None:
    items = items_in(golden, "discriminative")
    assert len(items) == 14216
    for case in json.loads((golden / "expected" / "amber.json").read_text(encoding="utf-8"))["discriminative"]:
        found = figures(
            score_answers(BENCHMARK, "official", items, {item.id: RULES[case["mode"]](item) for item in items})
        )
        for name, printed in case["result"].items():
            split = NAMES.get(name, name.lower())
            assert {key: found[f"{split}/{key.lower()}"] for key in printed} == printed, (case["mode"], split)


def test_golden_counts(golden: Path) -> None:
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
