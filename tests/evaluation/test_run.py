"""Asking a benchmark: one call per image, a journal that survives a kill, and nothing asked twice."""

from __future__ import annotations

import json
import time
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
    # The three splits ask the same of a picture: it is asked once.
    assert speaker.calls == [(name, 3, POPE.max_tokens) for name in ("a.png", "b.png", "c.png")]
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]
    # Ring is asked of all three, it is in a: TP 1, FP 2; star (in a) and cross (in b) are denied: FN 2, TN 4.
    assert run.results[0].counts()["pope/official/popular"] == {"TP": 1, "FP": 2, "TN": 4, "FN": 2}
    assert [prediction.id for prediction in run.predictions] == [item.id for item in run.items]
    assert (run.resumed, run.seconds) == (0, 4.5), "nine answers of half a second, each given three times"


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


def test_of_a_torn_line_all_questions_about_its_picture_are_asked_again(folder: Path, tmp_path: Path) -> None:
    """In the company in which they were asked before: an engine's last bits hang on it."""
    journal = tmp_path / "journal.jsonl"
    run_benchmark(POPE, Source(folder), Speaker(), journal=journal)
    whole = journal.read_bytes()
    for cut in range(1, len(whole.splitlines()[-1]) + 2, 7):
        journal.write_bytes(whole[:-cut])
        speaker = Speaker()
        run_benchmark(POPE, Source(folder), speaker, journal=journal)
        assert speaker.calls == [("c.png", 3, POPE.max_tokens)]
        assert journal.read_bytes() == whole


def test_a_torn_header_starts_over(folder: Path, tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    journal.write_text('{"edgereverie": "answ')
    speaker = Speaker()
    run_benchmark(POPE, Source(folder), speaker, journal=journal)
    assert len(speaker.calls) == 3 and len(journal.read_text().splitlines()) == 4


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
        (json.dumps({"id": "x"}), r":3: not answers"),
        (json.dumps({"answers": [{"id": "x", "answer": {"claims": [], "words": 1}}]}), r":3: not answers"),
        (lines[1], r":3: 'random/1' was answered before"),
        (lines[2].replace("random/4", "random/77"), r"answers belong to no question: random/77"),
    ):
        journal.write_text("\n".join([*lines[:2], broken, *lines[3:]]) + "\n")
        with pytest.raises(DataError, match=message):
            run_benchmark(POPE, Source(folder), Speaker(), journal=journal)


def test_another_file_is_not_taken_for_a_journal(tmp_path: Path) -> None:
    path = tmp_path / "precious.jsonl"
    path.write_text('{"id": 1}\n')
    with pytest.raises(DataError, match="not a version 1 journal of answers"):
        Journal(path, "x")
    assert path.read_text() == '{"id": 1}\n'


def test_answers_come_back_from_the_journal_as_they_went_in(tmp_path: Path) -> None:
    claim = Claim("a ring", 0, 6, "ring", 0.25, "contradicted", {"grounding": -1.5})
    answer = Answer("a ring \u2028 \u00e9\n", (claim,), True, 0.5, "hf", 3, 0.25)
    Journal(tmp_path / "j.jsonl", "f").add([Prediction("1", answer)])
    assert Journal(tmp_path / "j.jsonl", "f").answers == {"1": answer}


def test_a_wrong_number_of_answers_is_an_error(folder: Path) -> None:
    with pytest.raises(BackendError, match="3 questions were asked and 1 answers came back"):
        run_benchmark(POPE, Source(folder), lambda image, questions, room: [Answer("Yes")])


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_that_leaves_nothing_is_refused(folder: Path, limit: int) -> None:
    with pytest.raises(DataError, match="at least 1"):
        run_benchmark(POPE, Source(folder), Speaker(), limit=limit)


def test_progress_is_told_for_each_image(folder: Path) -> None:
    told: list[tuple[int, int]] = []
    run_benchmark(POPE, Source(folder), Speaker(), progress=lambda done, total: told.append((done, total)))
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]


# Several hands


class Slow(Speaker):
    """Takes its time, each hand another."""

    def __init__(self, seconds: float, dies_at: int | None = None) -> None:
        super().__init__(dies_at)
        self.seconds = seconds

    def __call__(self, image: Path, questions: Sequence[str], max_tokens: int) -> list[Answer]:
        time.sleep(self.seconds)
        return super().__call__(image, questions, max_tokens)


@pytest.mark.parametrize("hands", [2, 3, 5])
def test_several_hands_share_pictures_and_leave_no_trace(folder: Path, tmp_path: Path, hands: int) -> None:
    alone = run_benchmark(POPE, Source(folder), Speaker())
    speakers, told = [Slow(0.01 * (hands - number)) for number in range(hands)], []
    run = run_benchmark(
        POPE, Source(folder), speakers, journal=tmp_path / "j", progress=lambda done, total: told.append((done, total))
    )
    assert sorted(call for speaker in speakers for call in speaker.calls) == [
        (name, 3, POPE.max_tokens) for name in ("a.png", "b.png", "c.png")
    ]
    assert run.predictions == alone.predictions and run.results[0].scores == alone.results[0].scores
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]
    again = Speaker(dies_at=0)
    assert run_benchmark(POPE, Source(folder), again, journal=tmp_path / "j").predictions == alone.predictions


@pytest.mark.parametrize("dies_at", [0, 1])
def test_what_one_hand_answered_is_kept_when_another_fails(folder: Path, tmp_path: Path, dies_at: int) -> None:
    """The first picture's hand dies at once or at its second picture; the other one is slow enough to be under way."""
    journal = tmp_path / "j"
    with pytest.raises(Killed):
        run_benchmark(POPE, Source(folder), [Slow(0.02, dies_at), Slow(0.3)], journal=journal)
    kept = len(Journal(journal, json.loads(journal.read_text().splitlines()[0])["fingerprint"]).answers)
    assert kept == 9 * dies_at
    speakers = [Speaker(), Speaker()]
    run = run_benchmark(POPE, Source(folder), speakers, journal=journal)
    assert run.resumed == kept and sum(len(speaker.calls) for speaker in speakers) == 3 - dies_at
    assert run.predictions == run_benchmark(POPE, Source(folder), Speaker()).predictions


# Ways of scoring


def test_a_benchmark_s_own_way_is_scored_beside_one_that_is_named(folder: Path) -> None:
    run = run_benchmark(POPE, Source(folder), Speaker(), variants=["", "vcd", "official"])
    assert [result.scorer for result in run.results] == ["pope/official", "pope/vcd"]


def test_ways_are_checked_before_anything_is_asked(folder: Path) -> None:
    speaker = Speaker()
    with pytest.raises(DataError, match="knows no scoring 'offical'") as caught:
        run_benchmark(POPE, Source(folder), speaker, variants=["offical"])
    assert "official" in caught.value.hint and not speaker.calls
