"""``edgereverie score`` and ``compare``: every broken file is refused with all that is wrong, and the figures are right."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from edgereverie.evaluation.run import run_benchmark
from edgereverie.evaluation.source import Source
from edgereverie.records import Answer, Claim
from edgereverie.registry import BENCHMARKS
from edgereverie.told.values import json_of

PICTURES = ("a.png", "b.png", "c.png")
HOLDS = {"a.png": ("ring", "star"), "b.png": ("cross",), "c.png": ()}
THINGS = ("ring", "star", "cross")
HEADER = {
    "edgereverie": "chair",
    "version": 1,
    "vocabulary": {name: [name] for name in THINGS},
    "prompt": "Describe it.",
}


def lines(path: Path, rows: Iterable[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """POPE's questions, and CHAIR in the project's own form; no picture is there."""
    folder = tmp_path / "data"
    questions = [
        {"question_id": number, "image": picture, "text": f"Is there a {thing} in the image?",
         "label": "yes" if thing in HOLDS[picture] else "no"}
        for number, (picture, thing) in enumerate(((p, t) for p in PICTURES for t in THINGS), start=1)
    ]  # fmt: skip
    for split in ("random", "popular", "adversarial"):
        lines(folder / "pope" / f"{split}.jsonl", questions)
    lines(folder / "chair.jsonl", [HEADER, *({"image": p, "objects": list(HOLDS[p])} for p in PICTURES)])
    return folder


def answers(says: str = "Yes") -> list[dict[str, Any]]:
    return [{"question_id": number, "text": says} for number in range(1, 10)]


@pytest.fixture
def score(command: Callable[..., Any], data: Path, tmp_path: Path) -> Callable[..., Any]:
    """``score(rows or bytes, ...)`` writes them to answers.jsonl and scores them as answers to POPE's random questions."""

    def run(content: Any, *words: str, name: str = "answers.jsonl", bench: str = "pope") -> Any:
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content is not None:
            lines(path, content)
        return command("score", bench, str(path), "--data", str(data), "--split", "random", *words)

    return run


def test_the_table_has_the_figures(score: Callable[..., Any]) -> None:
    done = score(answers())
    assert done.code == 0 and done.err == ""
    assert "pope/official" in done.out and "33.3 %" in done.out  # 3 of 9 are there


def test_json_has_everything(score: Callable[..., Any]) -> None:
    told = json.loads(score(answers(), "--json").out)
    (scorer,) = told["scorers"]
    assert (scorer["scorer"], scorer["source"][:15]) == ("pope/official", "AoiDragon/POPE ")
    assert scorer["counts"] == {"pope/official/random": {"TP": 3, "FP": 6, "TN": 0, "FN": 0}}
    values = {score["metric"]: score for score in scorer["scores"]}
    assert values["pope/official/random/accuracy"]["value"] == pytest.approx(3 / 9)
    assert (told["answers"], told["pictures"], len(told["data"])) == (9, "", 64)
    assert told["versions"]["edgereverie"] and told["differing"] == []


def test_all_variants_stand_side_by_side_with_the_answers_that_they_read_differently(score: Callable[..., Any]) -> None:
    rows = answers("No")
    rows[1]["text"] = rows[4]["text"] = "Yes, there is no doubt."  # star of a is there, star of b is not
    rows[2]["text"] = "No."  # lmms-eval takes no full stop
    done = score(rows, "--all-variants")
    assert done.code == 0
    for way in BENCHMARKS.get("pope").variants:
        assert way in done.out
    assert (
        "3 of 9 answers are read differently, 3 different ones." in done.out and "Yes, there is no doubt." in done.out
    )
    told = json.loads(score(rows, "--all-variants", "--json").out)
    by_text = {(one["text"], one["truth"]): one["readings"] for one in told["differing"]}
    # POPE's own rule finds the token "no"; VCD's takes a "yes" for yes where yes is right, and a "no" for no where no is.
    assert by_text["Yes, there is no doubt.", "yes"]["pope/official"] == ["no", 0.0]
    assert by_text["Yes, there is no doubt.", "yes"]["pope/vcd"] == ["yes", 1.0]
    assert by_text["No.", "no"]["pope/lmms"] == ["unread", 0.0] and by_text["No.", "no"]["pope/official"] == ["no", 1.0]


def test_ways_are_named_behind_a_slash(score: Callable[..., Any]) -> None:
    told = json.loads(score(answers(), "--json", bench="pope/vcd,opera").out)
    assert [scorer["scorer"] for scorer in told["scorers"]] == ["pope/vcd", "pope/opera"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda rows: rows[:-2], ["2 questions without an answer: random/8, random/9"]),
        (lambda rows: [*rows, rows[3]], ["1 questions answered more than once: random/4 (", "answers.jsonl:10)"]),
        (lambda rows: [*rows, {"question_id": 77, "text": "Yes"}], ["1 answers that belong to no question: random/77 ("]),
        (lambda rows: [{"text": "Yes"}, *rows[1:]], ["1 rows that name no question: ", "without an answer: random/1."]),
        (lambda rows: [*rows[:-1], {"question_id": 9}], ["1 rows without a text in text or answer or response: "]),
        (lambda rows: [*rows[:-1], {"question_id": 9, "text": 3}], ["1 rows without a text in "]),
        (lambda rows: [*rows[:-1], {"question_id": 9, "text": None}], ["1 rows without a text in "]),
        (lambda rows: [*rows[:-1], {"question_id": [9], "text": "Yes"}], ["1 rows that name no question: "]),
        (lambda rows: [*rows[:-1], {"question_id": True, "text": "Yes"}], ["1 rows that name no question: "]),
        (lambda rows: [*rows[:-1], {"question_id": 9.0, "text": "Yes"}], ["1 rows that name no question: "]),
        (lambda rows: [*rows[1:6], rows[6], rows[6], {"question_id": 10, "text": "Yes"}],
         ["3 questions without an answer: random/1, random/8, random/9.", "1 questions answered more than once: random/7",
          "1 answers that belong to no question: random/10"]),
        (lambda rows: [], ["9 questions without an answer"]),
        (lambda rows: [{**row, "category": "popular"} for row in rows], ["9 questions without an answer"]),
        (lambda rows: [*rows[:4], {**rows[4], "image": "z.png"}, *rows[5:]], ["1 answers about other pictures: ", "z.png"]),
        (lambda rows: [{"question": f"Is there a {t} in the image?", "answer": "Yes"} for t in reversed(THINGS * 3)],
         ["answers to other questions: ", "answers.jsonl:1"]),
        (lambda rows: [{"question": "?", "answer": "Yes"}] * 8, ["8 answers stand in the file and 9 questions were asked."]),
        (lambda rows: [*rows[:-1], []], ["answers.jsonl:9: expected a JSON object, found list."]),
    ],
)  # fmt: skip
def test_a_file_that_does_not_fit_is_refused_with_all_that_is_wrong(
    score: Callable[..., Any], change: Callable[[list[Any]], Any], told: list[str]
) -> None:
    done = score(change(answers()), "--all-variants")
    assert done.code == 1 and done.out == ""
    for words in told:
        assert words in done.err, done.err
    assert "hint: " in done.err and "Traceback" not in done.err


def text_of(rows: Iterable[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, ["answers.jsonl: no such file"]),
        (b"", ["questions without an answer"]),
        (text_of(answers()).encode()[:-6], ["answers.jsonl:9: not JSON (", "seems to be cut short"]),
        ("\ufefffirst\n" + text_of(answers()), ["answers.jsonl:1: not JSON"]),
        (
            text_of(answers()).replace("}\n", "}\n\n", 2),
            ["answers.jsonl:2: the line is empty", "answers.jsonl:4: the line"],
        ),
        (
            text_of(answers()).replace('"Yes"', '"Yes', 3),
            ["answers.jsonl:1: not JSON", ".jsonl:2: not", ".jsonl:3: not"],
        ),
        (text_of(answers()).encode("utf-16"), ["cannot be read as UTF-8 text (it looks like UTF-16)"]),
        (text_of(answers()).encode().replace(b"Yes", b"S\xed", 2), ["on 2 lines: 1, 2"]),
        (("[" + text_of(answers()).replace("}\n", "},\n")).encode(), ["answers.jsonl:10: not JSON"]),
        (
            json.dumps([*answers(), 7, "x"]),
            ["answers.jsonl, entry 10: expected a JSON object, found int", "entry 11: "],
        ),
        (b"[" * 100_000, ["not JSON"]),
        (
            text_of(answers()).replace('"question_id": 1,', '"question_id": 1' + "0" * 5000 + ",", 1),
            ["answers.jsonl:1: not"],
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_all_its_lines(
    score: Callable[..., Any], content: Any, told: list[str]
) -> None:
    done = score(content.encode() if isinstance(content, str) else content)
    assert done.code == 1 and done.out == ""
    for words in told:
        assert words in done.err, done.err
    assert "Traceback" not in done.err


def test_a_packed_file_cut_short_is_refused(score: Callable[..., Any]) -> None:
    packed = gzip.compress(text_of(answers()).encode())
    assert score(packed, name="answers.jsonl.gz").code == 0
    assert score(packed[:-9], name="answers.jsonl.gz").code == 1


@pytest.mark.parametrize(
    "form",
    [
        lambda rows: rows[::-1],
        lambda rows: [{"question_id": f"random/{row['question_id']}", "answer": row["text"]} for row in rows],
        lambda rows: [{**row, "category": "random"} for row in rows],
        lambda rows: text_of(rows).replace("\n", "\r\n").encode(),
        lambda rows: json.dumps(rows, indent=1).encode(),
        lambda rows: b"\xef\xbb\xbf" + text_of(rows).encode(),
        lambda rows: text_of(rows).encode()[:-1],
    ],
)
def test_the_same_answers_in_another_form_have_the_same_score(
    score: Callable[..., Any], form: Callable[..., Any]
) -> None:
    rows = [{**row, "text": "Yes" if number % 2 else "No"} for number, row in enumerate(answers())]
    plain = json.loads(score(rows, "--json").out)["scorers"]
    assert json.loads(score(form(rows), "--json").out)["scorers"] == plain


def said(image: Path | None, questions: Sequence[str], most: int) -> list[Answer]:
    claim = Claim("a ring", 0, 6, "ring", 0.25, "contradicted", {"grounding": -1.5})
    one = Answer("Yes", (claim,), confidence=0.75, backend="stand-in", tokens=1, seconds=0.5, guards=("flag",))
    return [one for _ in questions]


@pytest.fixture
def journal(data: Path, tmp_path: Path) -> Path:
    """What an evaluation leaves, for the random questions."""
    path = tmp_path / "random.jsonl"
    run_benchmark(BENCHMARKS.get("pope"), Source(pictures_of(data), splits=("random",)), said, journal=path)
    return path


def pictures_of(data: Path) -> Path:
    (data / "images").mkdir()
    for name in PICTURES:
        Image.new("RGB", (8, 8), (20 * ord(name[0]) % 256, 0, 0)).save(data / "images" / name)
    return data


def test_a_journal_is_scored_with_its_confidence(command: Callable[..., Any], data: Path, journal: Path) -> None:
    out = data.parent / "out"
    done = command("score", "pope", str(journal), "--data", str(data), "--split", "random", "--out", str(out))
    assert done.code == 0 and "33.3 %" in done.out and f"wrote {out / 'report.html'}" in done.out
    kept = json.loads(next((out / "runs").iterdir()).read_text())
    assert (kept["label"], kept["backend"], kept["guard"]) == ("random", "stand-in", "flag")
    assert kept["runs"][0]["answers"][0]["confidence"] == 0.75 and len(kept["runs"][0]["pictures"]) == 64


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda rows: rows[:-1], "1 questions without an answer: random/9"),
        (lambda rows: [*rows, rows[2]], "1 questions answered more than once: random/3 ("),
        (lambda rows: [*rows, {**rows[2], "id": "random/77"}], "1 answers that belong to no question: random/77 ("),
        (lambda rows: [*rows[:-1], {"id": 9}], "1 rows without an id: "),
        (lambda rows: [*rows[:-1], 7], "1 lines that hold no answers: "),
        (lambda rows: [*rows[:-1], {"id": "random/9"}], "1 rows that hold no answer: "),
        (lambda rows: [*rows[:-1], {"id": "random/9", "answer": {"text": 1}}], "'text' should be str, found 1"),
        (
            lambda rows: [*rows[:-1], {"id": "random/9", "answer": {"text": "Yes", "mood": 1}}],
            "'mood' is not known here",
        ),
    ],
)
def test_a_broken_journal_is_refused_and_stays_as_it_is(
    command: Callable[..., Any], data: Path, journal: Path, change: Callable[[list[Any]], list[Any]], told: str
) -> None:
    header, *rows = [json.loads(line) for line in journal.read_text().splitlines()]
    answers = [one for row in rows for one in row["answers"]]
    lines(journal, [header, {"answers": change(answers)[:4]}, {"answers": change(answers)[4:]}])
    before = journal.read_bytes()
    done = command("score", "pope", str(journal), "--data", str(data), "--split", "random")
    assert done.code == 1 and told in done.err and journal.read_bytes() == before


def test_a_batch_is_scored_by_whole_or_short_ids(score: Callable[..., Any]) -> None:
    answer = replace(said(None, ["?"], 1)[0], text="No")
    for name in ("random/{}", "{}"):
        rows = [
            {"id": name.format(n), "image": "a.png", "question": "?", "answer": json_of(answer)} for n in range(1, 10)
        ]
        told = json.loads(score(rows, "--json").out)
        assert told["scorers"][0]["counts"] == {"pope/official/random": {"TP": 0, "FP": 0, "TN": 6, "FN": 3}}


def test_wrong_words_are_told(score: Callable[..., Any], command: Callable[..., Any], data: Path) -> None:
    for done, words in (
        (score(answers(), bench="popes"), "Did you mean 'pope'?"),
        (score(answers(), bench="pope/vdc"), "Did you mean 'vcd'?"),
        (score(answers(), "--all-variants", bench="pope/vcd"), "not both"),
        (score(answers(), "--split", "popluar"), "Did you mean 'popular'?"),
    ):
        assert done.code in (1, 2) and words in done.err.replace("\n", " ")
    done = command("score", "pope", str(data), "--data", "nowhere")
    assert done.code == 1 and "edgereverie data get pope --out nowhere" in done.err


def test_captions_are_scored(command: Callable[..., Any], data: Path, tmp_path: Path) -> None:
    path = lines(tmp_path / "captions.jsonl", [{"image_id": p, "caption": "A ring."} for p in PICTURES])
    told = json.loads(command("score", "chair/table", str(path), "--data", str(data), "--json").out)
    values = {score["metric"]: score["value"] for score in told["scorers"][0]["scores"]}
    assert values["chair/table/chair_s"] == pytest.approx(2 / 3)  # a ring is in a alone


def test_reports_of_one_folder_gather_and_two_are_compared(score: Callable[..., Any], command: Callable[..., Any],
                                                           tmp_path: Path) -> None:  # fmt: skip
    one, two = tmp_path / "one", tmp_path / "two"
    right = [{**row, "text": "Yes" if n in (0, 1, 5) else "No"} for n, row in enumerate(answers())]
    assert score(answers(), "--out", str(one), "--label", "always yes").code == 0
    assert score(right, "--out", str(one), "--label", "all right").code == 0
    assert len(list((one / "runs").iterdir())) == 2
    assert score(right, "--out", str(two), "--label", "all right").code == 0
    file = next(path for path in (one / "runs").iterdir() if "always" in path.name)
    for first, second in ((str(file), str(two)), (str(file), str(two / "report.json"))):
        done = command("compare", first, second, "--json", "--out", str(tmp_path / "three"))
        told = json.loads(done.out)["comparisons"][0]
        assert (told["before"], told["after"]) == ("always yes", "all right")
        change = next(one for one in told["changes"] if one["metric"] == "pope/official/random/accuracy")
        assert change["difference"]["value"] == pytest.approx(6 / 9)
        # All three pictures gain (1, 2, 3 answers): of 2^3 ways all or none swapped differ as much.
        assert change["chance"] == {"p": 0.25, "resolution": 0.125, "exact": True} and change["verdict"] == "unclear"
        assert told["mcnemar"]["pope/official/random"] == {"gained": 6, "lost": 0, "p": 2 / 64}
    assert (tmp_path / "three" / "report.html").is_file()
    done = command("compare", str(one))
    assert done.code == 0 and "6 answers gained, 0 lost; McNemar p = 0.031" in done.out


def test_other_questions_are_refused_unless_the_common_part_is_asked_for(
    score: Callable[..., Any], command: Callable[..., Any], tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    score(answers(), "--out", str(one))
    score(answers("No")[:6], "--limit", "2", "--out", str(two))
    done = command("compare", str(one), str(two))
    assert done.code == 1 and "were asked other questions: 3 only the first (random/7, random/8, random/9)" in done.err
    assert "--common" in done.err
    done = command("compare", str(one), str(two), "--common")
    assert done.code == 0 and "Only pope: the 6 questions that all were asked (answers 9, answers (2) 6)." in done.out
    assert "pope/official/random, 6 answers" in done.out


def test_it_takes_two_to_compare(score: Callable[..., Any], command: Callable[..., Any], tmp_path: Path) -> None:
    score(answers(), "--out", str(tmp_path / "one"))
    done = command("compare", str(tmp_path / "one"))
    assert done.code == 1 and "it takes two to compare" in done.err
    done = command("compare", str(tmp_path / "one"), str(tmp_path / "nowhere"))
    assert done.code == 1 and "no such file or folder" in done.err
    done = command("compare", str(tmp_path / "one"), str(tmp_path))
    assert done.code == 1 and "no kept runs are there" in done.err


def test_published_answers_give_the_official_counts_from_the_command_line(
    command: Callable[..., Any], golden: Path, tmp_path: Path
) -> None:
    """LLaVA's one file of 8,910 answers in its own numbers, packed, against the questions of the commit that it names."""
    for split in ("random", "popular", "adversarial"):
        questions = golden / "pope" / "questions" / f"coco_pope_{split}.pin_e3e39262.jsonl.gz"
        (tmp_path / f"coco_pope_{split}.json").write_bytes(gzip.decompress(questions.read_bytes()))
    answers = golden / "pope" / "answers" / "llava-v1.5-13b.jsonl.gz"
    told = json.loads(command("score", "pope", str(answers), "--data", str(tmp_path), "--json").out)
    (scorer,) = told["scorers"]
    cases = json.loads((golden / "expected" / "pope_official.json").read_text(encoding="utf-8"))["cases"]
    cases = [case for case in cases if case["answers"] == "pope/answers/llava-v1.5-13b.jsonl.gz"]
    assert len(cases) == 3
    for case in cases:
        expected, split = case["pope_evaluate_py"], f"pope/official/{case['split']}"
        assert scorer["counts"][split] == {key: expected[key] for key in ("TP", "FP", "TN", "FN")}
        for name in ("accuracy", "precision", "recall", "f1", "yes_ratio"):
            value = next(score["value"] for score in scorer["scores"] if score["metric"] == f"{split}/{name}")
            assert value == pytest.approx(expected[name], abs=1e-12)


def test_a_judge_s_words_are_scored_and_named(command: Callable[..., Any], golden: Path) -> None:
    """MM-Vet's published grades of three runs, which the reference recomputes as 31.2, 30.8 and 31.2."""
    folder = golden / "mmvet"
    words = ("score", "mmvet", str(folder / "llava-v1.5-7b.answers.json"), "--data", str(golden))
    done = command(*words)
    assert done.code == 1 and "mmvet/official needs a judge" in done.err and "--judgements" in done.err
    told = json.loads(
        command(*words, "--judgements", str(folder / "llava-v1.5-7b_gpt-4-grade-3runs.json"), "--json").out
    )
    (scorer,) = told["scorers"]
    runs = [
        score["value"]
        for score in scorer["scores"]
        if "/run-" in score["metric"] and score["metric"].endswith("/score")
    ]
    assert [round(100 * value, 1) for value in runs] == [31.2, 30.8, 31.2] and scorer["judge"]


def test_a_judge_that_nobody_needs_is_refused(score: Callable[..., Any], tmp_path: Path) -> None:
    done = score(answers(), "--judgements", str(tmp_path / "answers.jsonl"))
    assert done.code == 1 and "official of pope needs none" in done.err


def test_a_folder_with_runs_over_other_questions_stays_as_it_was(score: Callable[..., Any], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert score(answers(), "--out", str(out), "--label", "whole").code == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    done = score(answers()[:6], "--limit", "2", "--out", str(out), "--label", "part")
    assert done.code == 1 and "holds runs that part does not go with" in done.err and "another folder" in done.err
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert score(answers("No"), "--out", str(out), "--label", "whole").code == 0  # the same label gives way
    assert [path.name for path in (out / "runs").iterdir()] == ["whole.json"]
