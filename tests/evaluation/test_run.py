"""Asking a benchmark: one call per image, a journal that survives a kill, and nothing asked twice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from edgereverie.errors import BackendError, DataError
from edgereverie.evaluation.journal import Journal
from edgereverie.evaluation.run import run_benchmark
from edgereverie.evaluation.source import Source
from edgereverie.records import Answer, Claim, Prediction
from edgereverie.registry import BENCHMARKS

POPE = BENCHMARKS.get("pope")


class Killed(BaseException):
    """Stands for a kill: no handler of ordinary errors may swallow it."""


class Speaker:
    """Answers yes to rings, no to the rest; dies on the image number ``dies_at`` before it answers."""

    def __init__(self, dies_at: int | None = None) -> None:
        self.calls: list[tuple[str, int, int]] = []
        self.dies_at = dies_at

    def __call__(self, image: Path, questions: Sequence[str], max_tokens: int) -> list[Answer]:
        if len(self.calls) == self.dies_at:
            raise Killed
        self.calls.append((image.name, len(questions), max_tokens))
        return [Answer("Yes." if "ring" in question else "No.", backend="fake", seconds=0.5) for question in questions]


def test_each_image_is_shown_once_with_all_its_questions(folder: Path) -> None:
    speaker, told = Speaker(), []
    run = run_benchmark(POPE, Source(folder), speaker, progress=lambda done, total: told.append((done, total)))
    assert speaker.calls == [(name, 9, POPE.max_tokens) for name in ("a.png", "b.png", "c.png")]
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]
    # Ring is asked of all three, it is in a: TP 1, FP 2; star (in a) and cross (in b) are denied: FN 2, TN 4.
    assert run.results[0].counts()["pope/official/popular"] == {"TP": 1, "FP": 2, "TN": 4, "FN": 2}
    assert [prediction.id for prediction in run.predictions] == [item.id for item in run.items]
    assert (run.resumed, run.seconds) == (0, 13.5)


@pytest.mark.parametrize("dies_at", [0, 1, 2])
def test_a_killed_run_goes_on_and_asks_nothing_twice(folder: Path, tmp_path: Path, dies_at: int) -> None:
    journal = tmp_path / "journal.jsonl"
    first, second = Speaker(dies_at), Speaker()
    with pytest.raises(Killed):
        run_benchmark(POPE, Source(folder), first, journal=journal)
    run = run_benchmark(POPE, Source(folder), second, journal=journal)
    assert [call[0] for call in first.calls + second.calls] == ["a.png", "b.png", "c.png"]
    assert run.resumed == 9 * dies_at
    whole = run_benchmark(POPE, Source(folder), Speaker())
    assert run.results[0].scores == whole.results[0].scores and run.predictions == whole.predictions
    third = Speaker(dies_at=0)
    assert run_benchmark(POPE, Source(folder), third, journal=journal).predictions == run.predictions


def test_a_torn_line_is_cut_off_and_only_its_question_asked_again(folder: Path, tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    run_benchmark(POPE, Source(folder), Speaker(), journal=journal)
    whole = journal.read_bytes()
    for cut in range(1, len(whole.splitlines()[-1]) + 2):
        journal.write_bytes(whole[:-cut])
        speaker = Speaker()
        run_benchmark(POPE, Source(folder), speaker, journal=journal)
        assert speaker.calls == [("c.png", 1, POPE.max_tokens)]
        assert journal.read_bytes() == whole


def test_a_torn_header_starts_over(folder: Path, tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    journal.write_text('{"edgereverie": "jour')
    speaker = Speaker()
    run_benchmark(POPE, Source(folder), speaker, journal=journal)
    assert len(speaker.calls) == 3 and len(journal.read_text().splitlines()) == 28


def test_another_run_s_journal_is_refused(folder: Path, tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    run_benchmark(POPE, Source(folder), Speaker(), journal=journal, identity="model A")
    before = journal.read_bytes()
    with pytest.raises(DataError, match="belongs to another run"):
        run_benchmark(POPE, Source(folder), Speaker(), journal=journal, identity="model B")
    with pytest.raises(DataError, match="belongs to another run"):
        run_benchmark(POPE, Source(folder), Speaker(), journal=journal, identity="model A", limit=2)
    (folder / "images" / "a.png").write_bytes((folder / "images" / "b.png").read_bytes())
    with pytest.raises(DataError, match="belongs to another run"):
        run_benchmark(POPE, Source(folder), Speaker(), journal=journal, identity="model A")
    assert journal.read_bytes() == before


def test_damage_inside_the_journal_is_an_error_with_its_line(folder: Path, tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    run_benchmark(POPE, Source(folder), Speaker(), journal=journal)
    lines = journal.read_text().splitlines()
    for broken, message in (
        ("{", r":3: the journal is damaged"),
        ("[]", r":3: the journal is damaged"),
        (json.dumps({"id": "x"}), r":3: not an answer"),
        (json.dumps({"id": "x", "answer": {"claims": [], "words": 1}}), r":3: not an answer"),
        (lines[1], r":3: 'random/1' was answered before"),
        (lines[2].replace("random/2", "random/77"), r"answers belong to no question: random/77"),
    ):
        journal.write_text("\n".join([*lines[:2], broken, *lines[3:]]) + "\n")
        with pytest.raises(DataError, match=message):
            run_benchmark(POPE, Source(folder), Speaker(), journal=journal)


def test_another_file_is_not_taken_for_a_journal(tmp_path: Path) -> None:
    path = tmp_path / "precious.jsonl"
    path.write_text('{"id": 1}\n')
    with pytest.raises(DataError, match="not a version 1 journal"):
        Journal(path, "x")
    assert path.read_text() == '{"id": 1}\n'


def test_answers_come_back_from_the_journal_as_they_went_in(tmp_path: Path) -> None:
    claim = Claim("a ring", 0, 6, "ring", 0.25, "contradicted", {"grounding": -1.5})
    answer = Answer("a ring \u2028 \u00e9\n", (claim,), True, 0.5, "hf", 3, 0.25)
    Journal(tmp_path / "j.jsonl", "f").add([Prediction("1", answer)])
    assert Journal(tmp_path / "j.jsonl", "f").answers == {"1": answer}


def test_a_wrong_number_of_answers_is_an_error(folder: Path) -> None:
    with pytest.raises(BackendError, match="9 questions were asked and 1 answers came back"):
        run_benchmark(POPE, Source(folder), lambda image, questions, room: [Answer("Yes")])


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_that_leaves_nothing_is_refused(folder: Path, limit: int) -> None:
    with pytest.raises(DataError, match="at least 1"):
        run_benchmark(POPE, Source(folder), Speaker(), limit=limit)


def test_progress_is_told_for_each_image(folder: Path) -> None:
    told: list[tuple[int, int]] = []
    run_benchmark(POPE, Source(folder), Speaker(), progress=lambda done, total: told.append((done, total)))
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]
