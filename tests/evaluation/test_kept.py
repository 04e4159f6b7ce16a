"""Kept runs: what was kept comes back, the folder may move, and nothing broken is read."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgereverie import __version__
from edgereverie.errors import DataError
from edgereverie.evaluation.kept import KeptRun, keep, load
from edgereverie.evaluation.run import Run, run_benchmark
from edgereverie.evaluation.source import Source
from edgereverie.records import Answer, Claim, Token
from edgereverie.registry import BENCHMARKS


def answer(image: Path | None, questions: Sequence[str], most: int) -> list[Answer]:
    claim = Claim("a ring", 0, 6, "ring", math.nan, "unverified", {"grounding": -1.5, "odd": math.inf})
    record = (Token(1, 0, 3, -0.1, 2.0, 0.3, 0),)
    return [
        Answer("Yes, \U0001f600 \ud800.", (claim,), confidence=0.75, backend="stand-in", tokens=4, seconds=0.25,
               draft="No.", record=record, guards=("flag", "verify"), reason="so", ended="length")
        for _ in questions
    ]  # fmt: skip


@pytest.fixture
def kept(folder: Path) -> KeptRun:
    runs = tuple(run_benchmark(BENCHMARKS.get(name), Source(folder), answer) for name in ("pope", "chair"))
    return KeptRun("Q8_0 GGUF/é", "stand-in", "abc", "flag,verify", 3, {"torch": "2.13"}, runs)


def same(one: Run, other: Run) -> None:
    plain = ("benchmark", "data", "pictures", "resumed", "seconds", "judge")
    assert [getattr(one, name) for name in plain] == [getattr(other, name) for name in plain]
    asked = ("id", "question", "truth", "unit", "split", "kind", "room")
    assert [[getattr(i, name) for name in asked] for i in one.items] == [
        [getattr(i, name) for name in asked] for i in other.items
    ]
    for result, again in zip(one.results, other.results, strict=True):
        assert repr((result.scorer, result.scores, result.marks)) == repr((again.scorer, again.scores, again.marks))
        assert again.counts() == result.counts()
        for tally, back in zip(result.tallies, again.tallies, strict=True):
            assert (tally.split, tally.units, tally.columns, tally.items) == (
                back.split, back.units, back.columns, back.items,
            )  # fmt: skip
            assert np.array_equal(tally.counts, back.counts) and tally.counts.dtype == back.counts.dtype


def test_what_was_kept_comes_back(kept: KeptRun, tmp_path: Path) -> None:
    path = keep(tmp_path / "report", kept)
    assert path.parent == tmp_path / "report" / "runs" and path.name.startswith("Q8_0-GGUF-")
    (back,) = load(path)
    named = ("label", "backend", "artefact", "guard", "seed")
    assert [getattr(back, name) for name in named] == [getattr(kept, name) for name in named]
    assert back.versions == {"edgereverie": __version__, "torch": "2.13"}
    for run, again in zip(kept.runs, back.runs, strict=True):
        same(run, again)
        assert [item.image for item in again.items] == [item.image.resolve() for item in run.items]
        first, found = run.predictions[0].answer, again.predictions[0].answer
        assert math.isnan(found.claims[0].support) and math.isnan(found.claims[0].evidence["odd"])
        assert found.claims[0].evidence["grounding"] == -1.5
        assert replace(found, claims=()) == replace(first, claims=(), record=())


def test_the_source_of_each_rule_is_told(kept: KeptRun, tmp_path: Path) -> None:
    told = json.loads(keep(tmp_path, kept).read_text())
    assert told["runs"][0]["results"][0]["source"] == BENCHMARKS.get("pope").variants["official"].source


def test_a_folder_with_its_pictures_can_move(folder: Path, kept: KeptRun, tmp_path: Path) -> None:
    keep(folder, kept)
    moved = shutil.move(folder, tmp_path / "elsewhere")
    (back,) = load(Path(moved))
    assert all(item.image.is_file() for run in back.runs for item in run.items)


def test_runs_come_in_the_order_of_the_report_beside_them(kept: KeptRun, tmp_path: Path) -> None:
    for label in ("b", "a", "c"):
        keep(tmp_path, replace(kept, label=label))
    assert [one.label for one in load(tmp_path)] == ["a", "b", "c"]
    (tmp_path / "report.json").write_text(json.dumps({"runs": [{"label": "c"}, {"label": "b"}]}))
    assert [one.label for one in load(tmp_path)] == ["c", "b", "a"]


def test_labels_that_look_alike_get_files_of_their_own(kept: KeptRun, tmp_path: Path) -> None:
    for label in ("a/b", "a b", "a-b", "../a", "", "a" * 300):
        keep(tmp_path, replace(kept, label=label))
    assert len(load(tmp_path)) == 6 and len(list((tmp_path / "runs").iterdir())) == 6


def change(*path: Any, to: Any) -> Callable[[Any], None]:
    def apply(values: Any) -> None:
        for key in path[:-1]:
            values = values[key]
        if to is KeyError:
            del values[path[-1]]
        else:
            values[path[-1]] = to

    return apply


RUN = ("runs", 0)
RESULT = (*RUN, "results", 0)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (change("version", to=2), "not a version 1 kept run"),
        (change("edgereverie", to="report"), "not a version 1 kept run"),
        (change("label", to=KeyError), "'label' is missing"),
        (change("seed", to="3"), "'seed' should be int"),
        (change("versions", "torch", to=2), "versions: 'torch' should be str"),
        (change(*RUN, "words", to=1), "run 1: the key 'words' is not known"),
        (change(*RUN, "items", 0, "question", to=None), "run 1, item 1: 'question' should be str"),
        (change(*RUN, "answers", 4, "id", to="x"), "run 1: its answers are not those of its questions"),
        (change(*RUN, "answers", 4, to=7), "run 1, answer 5: expected a JSON object, found int"),
        (change(*RUN, "answers", 4, "text", to=KeyError), "answer 5: the key 'text' is missing"),
        (change(*RUN, "answers", 4, "ended", to="never"), "answer 5: 'ended' is 'never'"),
        (change(*RUN, "answers", 4, "abstained", to=1), "answer 5: 'abstained' is 1"),
        (change(*RUN, "answers", 4, "claims", 0, "verdict", to="perhaps"), "answer 5, claim: 'verdict' is 'perhaps'"),
        (change(*RESULT, "tallies", 0, "counts", 0, to=[1, 2]), "counts are not a row of 4 numbers"),
        (change(*RESULT, "tallies", 0, "counts", 0, to=["a", 0, 0, 0]), "counts are not a row of 4 numbers"),
        (change(*RESULT, "marks", 2, to=["random/3", "yes", 1.0]), "mark 3: expected"),
        (change(*RESULT, "marks", 2, 0, to="x"), "mark 3: 'x' is none of the questions"),
        (change(*RESULT, "scores", 0, "value", to="high"), "score: 'value' should be"),
    ],
)
def test_a_broken_file_is_an_error_that_says_where(kept: KeptRun, tmp_path: Path, how: Any, message: str) -> None:
    path = keep(tmp_path, kept)
    values = json.loads(path.read_text())
    how(values)
    path.write_text(json.dumps(values))
    with pytest.raises(DataError, match=message):
        load(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'"text"'])
def test_what_is_no_kept_run_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(DataError):
        load(tmp_path / "x.json")


def test_a_folder_without_runs_says_who_writes_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no kept runs") as raised:
        load(tmp_path)
    assert "edgereverie eval" in (raised.value.hint or "")


def test_a_run_that_cannot_be_written_leaves_the_old_one(kept: KeptRun, tmp_path: Path) -> None:
    path = keep(tmp_path, kept)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        keep(tmp_path, replace(kept, versions={"torch": object()}))
    assert path.read_bytes() == before and [p.name for p in path.parent.iterdir()] == [path.name]
