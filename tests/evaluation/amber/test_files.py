"""AMBER's files: read strictly, in every form that the authors publish, and answers that do not fit are listed."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from edgereverie.errors import DataError
from edgereverie.evaluation.benchmarks._amber_files import AmberItem
from edgereverie.evaluation.benchmarks.amber import BENCHMARK
from edgereverie.evaluation.run import run_benchmark
from edgereverie.evaluation.source import Source
from edgereverie.records import Answer

Items = Callable[..., list[AmberItem]]
ANSWERS = {str(n): "Yes" if n % 2 else "No" for n in range(3, 12)}


def test_items_carry_split_kind_unit_and_room(folder: Path, items_in: Items) -> None:
    items = {item.id: item for item in items_in(folder)}
    assert list(items) == [str(n) for n in range(1, 12)]
    assert (items["1"].split, items["1"].kind, items["1"].room) == ("generative", "description", 512)
    assert items["1"].objects == ("man", "dog", "cup") and items["1"].targets == ("cat", "tree")
    assert (items["7"].split, items["7"].kind, items["7"].unit, items["7"].room) == ("attribute", "action", "a.jpg", 16)
    assert items["11"].kind == "relation" and items["11"].truth == "no" and not items["11"].label
    assert [item.id for item in items_in(folder, "state", "relation")] == ["4", "5", "8", "10", "11"]
    assert {item.unit for item in items_in(folder, limit=1)} == {"a.jpg"}


def test_the_authors_single_files_do_as_well(folder: Path, items_in: Items) -> None:
    amber = folder / "amber"
    queries = json.loads((amber / "query_all.json").read_text(encoding="utf-8"))
    (amber / "query_all.json").unlink()
    parts = {"generative": (1, 2), "discriminative-existence": (3, 9), "discriminative-relation": (8, 11)}
    for name, ids in parts.items():
        rows = json.dumps([queries[id - 1] for id in ids]).encode()
        (amber / f"query_{name}.json.gz").write_bytes(gzip.compress(rows))
    assert [item.id for item in items_in(folder)] == ["1", "2", "3", "9", "8", "11"]
    with pytest.raises(DataError, match="no questions of attribute"):
        items_in(folder, "attribute")
    (amber / "query_discriminative.json").write_text(json.dumps(queries[2:]), encoding="utf-8")
    assert len(items_in(folder)) == 11
    (amber / "query").mkdir()
    (amber / "query" / "query_all.json").write_text(json.dumps(queries[:5]), encoding="utf-8")
    assert len(items_in(folder)) == 5
    for path in [*amber.glob("query_*"), *amber.glob("query/*")]:
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
    folder: Path, name: str, change: Callable[[Any], Any], message: str, items_in: Items
) -> None:
    spoil(name, change)(folder)
    with pytest.raises(DataError, match=message):
        items_in(folder)


@pytest.mark.parametrize("line", ["qa_correct_num=0", "chair_score=1", "chair_num=__import__('os')", "chair_num"])
def test_other_starts_of_the_counters_are_refused(folder: Path, line: str, items_in: Items) -> None:
    path = folder / "amber" / "metrics.txt"
    path.write_text("chair_num=0.001\nchair_score=0\n", encoding="utf-8")
    assert len(items_in(folder)) == 11
    path.write_text(f"chair_num=0.001\n{line}\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"metrics\.txt:2: found"):
        items_in(folder)


def test_every_fault_of_an_answer_file_is_listed(folder: Path, items_in: Items) -> None:
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


def test_a_file_of_answers_is_scored_on_the_parts_that_it_answers(folder: Path, items_in: Items) -> None:
    path = folder / "answers.json"

    def asked(*ids: int) -> list[str]:
        path.write_text(json.dumps([{"id": id, "response": "Yes"} for id in ids]), encoding="utf-8")
        return [item.id for item in BENCHMARK.asked(Source(folder, pictures=False), None, path)]

    assert asked(3, 9) == ["3", "9"]
    assert asked(1, 11) == ["1", "2", "8", "11"]  # one answer asks for all of its part
    assert asked(99) == [str(n) for n in range(1, 12)]


def test_all_ways_are_those_that_fit_and_can_be_taken(
    folder: Path, monkeypatch: pytest.MonkeyPatch, items_in: Items
) -> None:
    monkeypatch.setitem(sys.modules, "spacy", None)
    assert BENCHMARK.ways(items_in(folder, "existence")) == ["official", "vlmevalkit"]
    assert BENCHMARK.ways(items_in(folder, "generative")) == ["official-exact", "lmms-exact"]
    assert BENCHMARK.ways(items_in(folder)) == ["official-exact", "lmms-exact", "vlmevalkit"]
    assert BENCHMARK.default(items_in(folder)) == "official"


def test_a_model_gets_room_for_each_kind_of_answer(folder: Path) -> None:
    images = folder / "amber" / "images"
    images.mkdir()
    for name in ("a.jpg", "b.jpg"):
        (images / name).write_bytes(b"a picture")
    asked = []

    def answer(image: Path | None, questions: Sequence[str], most: int) -> list[Answer]:
        asked.append((image.name, len(questions), most))
        return [Answer("No") for _ in questions]

    run = run_benchmark(BENCHMARK, Source(folder), answer, variants=["vlmevalkit"])
    assert sorted(asked) == [("a.jpg", 1, 512), ("a.jpg", 6, 16), ("b.jpg", 1, 512), ("b.jpg", 3, 16)]
    assert {mark.id for mark in run.results[0].marks} == set(map(str, range(3, 12)))
