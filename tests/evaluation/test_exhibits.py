"""Which answers a report shows: what tells the runs apart first, the worst of it foremost, and no kind of mistake crowded out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from edgereverie.evaluation.benchmarks.base import BenchmarkResult, Item, Mark
from edgereverie.evaluation.exhibits import exhibits, mistake
from edgereverie.evaluation.kept import KeptRun
from edgereverie.evaluation.run import Run
from edgereverie.records import Answer, Prediction

Marks = Mapping[str, Mark]


def kept(label: str, marks: Marks, other: Marks | None = None, *, texts: Mapping[str, str] | None = None) -> KeptRun:
    """A run of ``pope`` with these marks; a second scorer's where there are some."""
    items = tuple(Item(id, Path(f"{id}.png"), f"Q {id[0]}?", "no", id, split="random") for id in marks)
    predictions = tuple(Prediction(id, Answer((texts or {}).get(id, label))) for id in marks)
    results = tuple(
        BenchmarkResult("pope", name, (), (), tuple(found.values()))
        for name, found in (("official", marks), ("vcd", other))
        if found
    )
    return KeptRun(label, "", "", "none", 0, {}, (Run("pope", items, predictions, results, "", "", 0, 0.0),))


@pytest.fixture
def mark() -> Callable[..., Mark]:
    return lambda id, faults, note="a note": Mark(id, "yes", float(not faults), float(faults), note if faults else "")


def test_disputed_mistakes_come_first_then_the_worst(mark: Callable[..., Mark]) -> None:
    first = {"a": mark("a", 1), "b": mark("b", 5), "c": mark("c", 2), "d": mark("d", 0), "e": mark("e", 0)}
    second = {"a": mark("a", 0), "b": mark("b", 5), "c": mark("c", 0), "d": mark("d", 0), "e": mark("e", 3)}
    found = exhibits([kept("before", first), kept("after", second)])
    assert [one.id for one in found] == ["e", "c", "a", "b"], "right answers are no exhibits"
    assert [one.disputed for one in found] == [True, True, True, False]
    worst = found[-1]
    assert [(said.label, said.wrong, said.faults) for said in worst.said] == [("before", True, 5), ("after", True, 5)]


def test_kinds_of_mistake_take_turns_in_what_is_chosen(mark: Callable[..., Mark]) -> None:
    frequent = {f"x{i}": mark(f"x{i}", 3, "invents: ring") for i in range(20)}
    rare = {"y": mark("y", 1, "overlooks"), "z": mark("z", 1, "unread")}
    found = exhibits([kept("one", frequent | rare)], most=4)
    assert {one.id for one in found} == {"x0", "x1", "y", "z"}
    assert {kind for one in found for kind in one.mistakes} == {"invents", "overlooks", "unread"}


def test_equal_mistakes_are_not_one_question_over_and_over(mark: Callable[..., Mark]) -> None:
    marks = {id: mark(id, 1) for id in ("a1", "a2", "a3", "b1")}
    assert [one.id for one in exhibits([kept("one", marks)])] == ["a1", "b1", "a2", "a3"]


def test_what_another_scorer_made_of_it_is_kept(mark: Callable[..., Mark]) -> None:
    (found,) = exhibits([kept("one", {"a": mark("a", 1)}, {"a": mark("a", 0)})])
    (said,) = found.said
    assert [(reading.scorer, reading.wrong) for reading in said.readings] == [
        ("pope/official", True),
        ("pope/vcd", False),
    ]
    assert said.wrong, "the first scorer decides"


def test_texts_tell_whether_an_answer_changed(mark: Callable[..., Mark]) -> None:
    marks = {"a": mark("a", 1), "b": mark("b", 1)}
    one, other = (kept(label, marks, texts={"a": "Yes", "b": label}) for label in ("before", "after"))
    assert {found.id: found.changed for found in exhibits([one, other])} == {"a": False, "b": True}


def test_without_mistakes_there_is_nothing_to_show(mark: Callable[..., Mark]) -> None:
    assert exhibits([kept("one", {"a": mark("a", 0)})]) == () == exhibits([])


def test_kinds_of_mistake_in_words() -> None:
    assert mistake(Mark("1", "yes", 0, 1)) == "wrong"
    assert mistake(Mark("1", "ring", 0, 1, "not in the picture: ring, star")) == "not in the picture"
