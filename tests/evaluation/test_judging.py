"""Judges: asked again with the reason, kept through kills, refused when another's, and never scored in silence."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgereverie.errors import BackendError, DataError
from edgereverie.evaluation.benchmarks import gavie, llavabench, mmhal, mmvet
from edgereverie.evaluation.benchmarks.base import BenchmarkResult
from edgereverie.evaluation.benchmarks.mmhal import BENCHMARK as MMHAL
from edgereverie.evaluation.benchmarks.mmhal import TYPES, MmhalItem
from edgereverie.evaluation.benchmarks.pope import BENCHMARK as POPE
from edgereverie.evaluation.judgements import judge_named_in, without_thoughts
from edgereverie.evaluation.judging import UNNAMED, Declined, Judged, judge_answers, judge_run, prepared, score_prepared
from edgereverie.evaluation.prompts import prompt
from edgereverie.records import Options, Turn
from edgereverie.text.prompt import Prompt

ITEMS = [
    MmhalItem(f"p{n}", None, f"What is thing {n}?", "A ring.", f"p{n}", ("ring", "star"), split=TYPES[n], kind=TYPES[n])
    for n in range(8)
]
TEXTS = {item.id: f"It is ring {n}." for n, item in enumerate(ITEMS)}
AGAIN = "could not be read"


class Killed(BaseException):
    """Stands for a kill: no handler of ordinary errors may swallow it."""


class Scripted:
    """Says what ``reply`` makes of the question. asked: the questions, in their order."""

    def __init__(self, reply: Callable[[str], str], name: str = "scripted") -> None:
        self.reply, self.name = reply, name
        self.asked: list[str] = []
        self.options: list[Options] = []

    def respond(self, image: Path | None, turns: Sequence[Turn], options: Options) -> Iterator[str]:
        assert image is None and [turn.role for turn in turns] == ["user"]
        self.asked.append(turns[-1].text)
        self.options.append(options)
        said = self.reply(turns[-1].text)
        yield said[: len(said) // 2]
        yield said[len(said) // 2 :]


def number(told: str) -> int:
    """Of the thing that is asked about."""
    return int(told.split("What is thing ")[1][0])


def good(told: str) -> str:
    return f"Grounded.\nRating: {number(told) % 7}"


def judge(reply: Callable[[str], str] | Scripted, journal: Path | None = None, **options: object) -> Judged:
    asked = reply if isinstance(reply, Scripted) else Scripted(reply)
    return judge_run(MMHAL, "official", ITEMS, TEXTS, asked, journal=journal, **options)


def scored(reply: Callable[[str], str]) -> BenchmarkResult:
    return judge_answers(MMHAL, "official", ITEMS, TEXTS, Scripted(reply))


# Asking


def test_every_answer_is_judged_once_and_the_judge_is_named() -> None:
    asked, told = Scripted(good), []
    judged = judge(asked, progress=lambda done, total: told.append((done, total)))
    assert judged.judge == "scripted" and judged.unread == () and judged.resumed == 0
    assert judged.replies == {f"p{n}": f"Grounded.\nRating: {n % 7}" for n in range(8)}
    assert len(asked.asked) == 8 and all(f"It is ring {n}." in text for n, text in enumerate(asked.asked))
    assert {(options.temperature, options.max_tokens) for options in asked.options} == {(0.0, 512)}
    assert told == [(done, 8) for done in range(9)]


def test_scores_bear_the_judge_s_name() -> None:
    result = scored(good)
    assert (result.scorer, result.judge) == ("mmhal/official", "scripted")
    values = {score.metric: score.value for score in result.scores}
    # Ratings 0 1 2 3 4 5 6 0: their mean is 21/8, four of eight are below 3.
    assert values["mmhal/official/all/score"] == 21 / 8
    assert values["mmhal/official/all/hallucination_rate"] == 4 / 8
    assert values["mmhal/official/all/unread"] == 0


def test_a_reply_that_cannot_be_read_is_asked_for_again_with_the_reason() -> None:
    asked = Scripted(lambda told: good(told) if AGAIN in told or number(told) else "Rating: 2 or rating: 3")
    assert judge(asked).replies["p0"] == "Grounded.\nRating: 0"
    first, second = asked.asked[:2]
    assert second.startswith(first) and len(asked.asked) == 9
    assert "“Rating: 2 or rating: 3”" in second and "'Rating: N' with N from 0 to 6" in second


def test_an_empty_or_endless_reply_is_told_as_such() -> None:
    replies = iter(["", "x " * 5000, "Rating: 1"])
    asked = Scripted(lambda told: good(told) if number(told) else next(replies))
    judge(asked)
    assert "it was empty" in asked.asked[1]
    assert len(asked.asked[2]) < len(asked.asked[0]) + 700  # quoted in part only


def test_what_cannot_be_read_in_the_end_is_kept_counted_and_scored_as_the_rule_has_it(tmp_path: Path) -> None:
    asked = Scripted(lambda told: good(told) if number(told) != 5 else "I cannot say.")
    judged = judge(asked, tmp_path / "j.jsonl", retries=2)
    assert judged.unread == ("p5",) and judged.replies["p5"] == "I cannot say."
    assert len(asked.asked) == 7 + 3
    result = scored(asked.reply)
    counts = result.counts()["mmhal/official/all"]
    assert counts == {"items": 8, "score": 16, "hallucinated": 5, "unread": 1}  # 21 without its 5, which counts as 0
    mark = next(mark for mark in result.marks if mark.id == "p5")
    assert mark.read == "unread" and "I cannot say." in mark.note
    kept = [json.loads(line) for line in (tmp_path / "j.jsonl").read_text().splitlines()[1:]]
    assert [row["read"] for row in kept] == [True] * 5 + [False] + [True] * 2
    assert kept[5]["tries"] == 3 and kept[5]["reply"] == "I cannot say."


def test_a_judge_of_whom_nothing_can_be_read_gives_no_score() -> None:
    with pytest.raises(
        BackendError, match=r"not one of 8 replies of the judge scripted.*To p0 it said: Lovely weather"
    ) as caught:
        judge(lambda told: "Lovely weather")
    assert "Rating: N" in caught.value.hint


def test_one_request_that_is_declined_is_unread_and_asked_once() -> None:
    def reply(told: str) -> str:
        if number(told) == 3:
            raise Declined("the picture is not allowed")
        return good(told)

    asked = Scripted(reply)
    assert judge(asked).unread == ("p3",) and len(asked.asked) == 8


def test_a_judge_that_declines_all_is_quoted() -> None:
    def reply(told: str) -> str:
        raise Declined("the prompt has 900 tokens, room is for 512")

    with pytest.raises(BackendError, match="it said: the prompt has 900 tokens"):
        judge(reply)


def test_thoughts_are_kept_and_not_read(tmp_path: Path) -> None:
    judged = judge(lambda told: f"<think>Rating: 3? Or rating: 4?</think>\n\n{good(told)}", tmp_path / "j.jsonl")
    assert judged.unread == () and judged.replies["p2"] == "Grounded.\nRating: 2"
    assert "Or rating: 4?" in (tmp_path / "j.jsonl").read_text()
    assert without_thoughts("<think>endless") == "" and without_thoughts("No <think>") == "No <think>"


def test_answers_that_miss_or_do_not_belong_are_listed_before_anyone_is_asked() -> None:
    asked = Scripted(good)
    texts = {**TEXTS, "p99": "x"}
    del texts["p4"]
    with pytest.raises(DataError, match=r"have no answer: p4.*belong to no question: p99"):
        judge_run(MMHAL, "official", ITEMS, texts, asked)
    assert not asked.asked


def test_a_scoring_without_a_judge_is_told() -> None:
    with pytest.raises(DataError, match="pope/official needs no judge"):
        judge_run(POPE, "official", [], {}, Scripted(good))


def test_several_are_under_way_together() -> None:
    most, now, lock = [0], [0], threading.Lock()

    def reply(told: str) -> str:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.05)
        with lock:
            now[0] -= 1
        return good(told)

    assert judge(reply, at_once=3).replies == judge(good).replies
    assert most[0] == 3


@given(
    st.lists(st.sampled_from(["right", "empty", "half", "two", "refuses"]), min_size=8, max_size=8), st.integers(1, 4)
)
def test_habits_of_judges_never_change_what_is_read(habits: list[str], at_once: int) -> None:
    """Whatever a judge does first, it is read when it does right at last, whichever way requests overlap."""
    spoilt = {"empty": "", "half": "Rat", "two": "Rating: 1. Rating: 2", "refuses": "I would rather not."}

    def reply(told: str) -> str:
        return good(told) if AGAIN in told or habits[number(told)] == "right" else spoilt[habits[number(told)]]

    judged = judge(reply, at_once=at_once)
    assert judged.replies == {f"p{n}": f"Grounded.\nRating: {n % 7}" for n in range(8)} and list(
        judged.replies
    ) == list(TEXTS)


@given(st.text() | st.text("Rating: 0123456789.-,AccuracyRelevancy\n ", max_size=60))
def test_no_text_breaks_a_reading(reply: str) -> None:
    rated, graded, paired, scored = (
        mmhal.rating(reply),
        mmvet.grade(reply),
        llavabench.ratings(reply),
        gavie.scores(reply),
    )
    assert rated is None or 0 <= rated <= 6
    assert graded is None or 0 <= graded <= 1
    assert paired is None or all(map(math.isfinite, paired))
    assert scored is None or all(0 <= score <= 10 for score in scored)
    assert not mmhal.fits(reply) or rated is not None


def test_an_endless_reply_is_read_at_once() -> None:
    began = time.perf_counter()
    for reply in ("\n" * 200_000, "Relevancy:\n" * 20_000, "* " * 100_000, "rating: 1" * 20_000):
        assert gavie.scores(reply) is None and mmvet.grade(reply) is None and llavabench.ratings(reply) is None
        mmhal.fits(reply)
    assert time.perf_counter() - began < 5


# The journal


@pytest.mark.parametrize("dies_at", [0, 1, 7])
@pytest.mark.parametrize("at_once", [1, 2])
def test_a_killed_judge_goes_on_and_is_asked_nothing_twice(tmp_path: Path, dies_at: int, at_once: int) -> None:
    def dying(told: str) -> str:
        if number(told) == dies_at:
            raise Killed
        return good(told)

    first, second, journal = Scripted(dying), Scripted(good), tmp_path / "deep" / "judge.jsonl"
    with pytest.raises(Killed):
        judge(first, journal, at_once=at_once)
    judged = judge(second, journal, at_once=at_once)
    assert judged.replies == judge(good).replies
    assert judged.resumed == 8 - len(second.asked) >= dies_at
    third = Scripted(good)
    assert judge(third, journal).resumed == 8 and not third.asked


KILLED = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import test_judging as t

def slow(told):
    time.sleep(0.05)
    return t.good(told)

t.judge(slow, Path(sys.argv[1]), at_once=2, progress=lambda done, total: print(done, flush=True))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no kill -9")
def test_kill_minus_nine(tmp_path: Path) -> None:
    journal = tmp_path / "judge.jsonl"
    command = [sys.executable, "-c", KILLED, str(journal), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        for line in run.stdout:
            if int(line) == 3:
                os.kill(run.pid, signal.SIGKILL)
                break
    assert run.returncode == -signal.SIGKILL
    held = len(journal.read_text().splitlines()) - 1
    asked = Scripted(good)
    judged = judge(asked, journal)
    assert 3 <= held <= 8 and judged.resumed == held and len(asked.asked) == 8 - held
    assert judged.replies == judge(good).replies


def test_a_torn_line_is_cut_off_and_asked_again(tmp_path: Path) -> None:
    journal = tmp_path / "judge.jsonl"
    judge(good, journal)
    whole = journal.read_bytes()
    for cut in range(1, len(whole.splitlines()[-1]) + 2):
        journal.write_bytes(whole[:-cut])
        asked = Scripted(good)
        judge(asked, journal)
        assert len(asked.asked) == 1 and journal.read_bytes() == whole


def test_a_journal_of_another_judge_other_answers_or_other_words_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = tmp_path / "judge.jsonl"
    judge(good, journal)
    before = journal.read_bytes()
    others: list[Callable[[], object]] = [
        lambda: judge(Scripted(good, "another"), journal),
        lambda: judge(good, journal, identity="scripted of another version"),
        lambda: judge(good, journal, retries=1),
        lambda: judge_run(MMHAL, "official", ITEMS, {**TEXTS, "p0": "A star."}, Scripted(good), journal=journal),
        lambda: judge_run(
            MMHAL, "official", ITEMS[:7], {i.id: TEXTS[i.id] for i in ITEMS[:7]}, Scripted(good), journal=journal
        ),
    ]
    for other in others:
        with pytest.raises(DataError, match="belongs to another judgement"):
            other()
    assert judge(good, journal).resumed == 8
    for module, name in (
        ("edgereverie.evaluation.benchmarks.mmhal", "mmhal"),
        ("edgereverie.evaluation.judgements", "again"),
    ):
        changed = Prompt(name, prompt(name).text + "\nThink twice.", "0" * 64)
        with monkeypatch.context() as patched:
            patched.setattr(f"{module}.prompt", lambda _, changed=changed: changed)
            with pytest.raises(DataError, match="belongs to another judgement"):
                judge(good, journal)
    assert journal.read_bytes() == before


def test_a_file_of_another_kind_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "precious.txt"
    for content in ('{"id": 1}\n', "my notes, without a line end", '{"edgereverie": "journal", "version": 1}\n'):
        path.write_text(content)
        with pytest.raises(DataError):
            judge(good, path)
        assert path.read_text() == content


def test_damage_inside_a_journal_is_an_error_with_its_line(tmp_path: Path) -> None:
    journal = tmp_path / "judge.jsonl"
    judge(good, journal)
    lines = journal.read_text().splitlines()
    row = json.loads(lines[2])
    for broken, message in (
        ("{", r":3: the journal is damaged"),
        ("[]", r":3: the journal is damaged"),
        (json.dumps({**row, "reply": 5}), r":3: 'reply' should be str"),
        (json.dumps({key: row[key] for key in row if key != "read"}), r":3: 'read' should be true or false"),
        (lines[1], r":3: 'p0' was judged before"),
        (json.dumps({**row, "id": "p77"}), r":3: 'p77' is no request"),
    ):
        journal.write_text("\n".join([*lines[:2], broken, *lines[3:]]) + "\n")
        with pytest.raises(DataError, match=message):
            judge(good, journal)


# Prepared files


def write(path: Path, value: object) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


RATED = [f"Rating: {n % 7}" for n in range(8)]
WHOLE = [{"model": "gpt-4-0314", "choices": [{"message": {"content": text}}]} for text in RATED]


@pytest.mark.parametrize(
    ("content", "judge_name"),
    [
        (RATED, UNNAMED),
        (WHOLE, "gpt-4-0314"),
        ([json.dumps(row) for row in WHOLE], "gpt-4-0314"),
        ([{"content": text} for text in RATED], UNNAMED),
        (
            [{"image_id": f"p{n}", "content": text} for n, text in reversed(list(enumerate(RATED)))],
            UNNAMED,
        ),
        ("".join(json.dumps({"id": f"p{n}", "reply": t, "model": "m"}) + "\n" for n, t in enumerate(RATED)), "m"),
        ({f"p{n}": text for n, text in enumerate(RATED)}, UNNAMED),
        ({f"p{n}": {"content": text} for n, text in enumerate(RATED)}, UNNAMED),
    ],
)
def test_published_forms_are_read_without_asking(tmp_path: Path, content: object, judge_name: str) -> None:
    path = write(tmp_path / "judged.json", content)
    result = score_prepared(MMHAL, "official", ITEMS, path)
    assert result.counts()["mmhal/official/all"] == {"items": 8, "score": 21, "hallucinated": 4, "unread": 0}
    assert result.judge == judge_name
    assert score_prepared(MMHAL, "official", ITEMS, path, judge="Ada").judge == "Ada"


def test_a_whole_journal_is_a_prepared_file_and_keeps_its_judge(tmp_path: Path) -> None:
    journal = tmp_path / "judge.jsonl"
    judge(Scripted(good, "Qwen"), journal)
    judged = prepared(MMHAL, "official", ITEMS, journal)
    assert judged.judge == "Qwen" and judged.replies == judge(good).replies
    lines = journal.read_text().splitlines()
    write(journal, "\n".join([*lines[:-1], lines[1], lines[2].replace("p1", "p77")]) + "\n")
    with pytest.raises(
        DataError, match=r"(?s)replied to more than once: p0.*belong to no request: p77.*without a reply: p7"
    ):
        prepared(MMHAL, "official", ITEMS, journal)


def test_a_journal_of_other_answers_or_other_words_is_no_prepared_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = tmp_path / "judge.jsonl"
    judge(good, journal)
    assert prepared(MMHAL, "official", ITEMS, journal, TEXTS).replies == judge(good).replies
    others = {**TEXTS, "p3": "A star.", "p6": ""}
    with pytest.raises(DataError, match=r"2 requests about other answers, or in other words: p3 .*:5\), p6 .*:8\)"):
        score_prepared(MMHAL, "official", ITEMS, journal, others)
    changed = Prompt("mmhal", prompt("mmhal").text + "\nThink twice.", "0" * 64)
    monkeypatch.setattr("edgereverie.evaluation.benchmarks.mmhal.prompt", lambda _: changed)
    with pytest.raises(DataError, match="8 requests about other answers, or in other words"):
        prepared(MMHAL, "official", ITEMS, journal, TEXTS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (RATED[:7], "7 answers stand in the file and 8 questions"),
        (
            [{"id": "p0", "content": "Rating: 1"}] * 2,
            r"(?s)answered more than once: p0.*7 questions without an answer: p1",
        ),
        (
            [{"id": f"p{n}", "content": "Rating: 1"} for n in range(1, 10)],
            r"(?s)no question: p8.*p9.*without an answer: p0",
        ),
        ([{"id": f"p{n}", "content": n} for n in range(8)], "8 rows without a text in content or reply or text"),
        ([{"choices": []}] * 8, "entry 1: 'choices' holds no message"),
        ([5] * 8, "entry 1: expected a text or an object, found int"),
        ('["Rating: 1"', "judged.json:1: not JSON"),
        ("", "0 answers stand in the file"),
        ("5", "expected a list, an object or lines of objects, found int"),
    ],
)
def test_prepared_files_that_do_not_fit_are_errors_that_list_all(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        prepared(MMHAL, "official", ITEMS, write(tmp_path / "judged.json", content))


def test_unread_replies_of_a_prepared_file_are_listed(tmp_path: Path) -> None:
    path = write(tmp_path / "judged.json", ["No score given", *RATED[1:]])
    assert prepared(MMHAL, "official", ITEMS, path).unread == ("p0",)


def test_a_file_names_its_judge_wherever_it_does(tmp_path: Path) -> None:
    grades = {"v1_0": {"model": ["gpt-4", "gpt-4"], "score": [0.0, 1.0]}, "v1_1": {"model": ["gpt-4o"], "score": [0.5]}}
    assert judge_named_in(write(tmp_path / "g.json", grades)) == "gpt-4, gpt-4o"
