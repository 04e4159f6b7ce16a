"""MMHal-Bench: the official aggregation on 96 judge texts, and readers that refuse every kind of broken file."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from edgereverie.errors import DataError
from edgereverie.evaluation.benchmarks.base import compare, score_answers
from edgereverie.evaluation.benchmarks.mmhal import BENCHMARK, TYPES, rating
from edgereverie.evaluation.judging import judge_run, score_prepared
from edgereverie.evaluation.source import Source


def test_the_official_aggregation_to_the_last_printed_digit(golden: Path, tmp_path: Path) -> None:
    expected = json.loads((golden / "expected" / "mmhal_aggregation.json").read_text(encoding="utf-8"))
    texts = expected["judge_outputs"]
    assert [rating(text) or 0 for text in texts] == expected["scores"]
    items = BENCHMARK.items(Source(golden, pictures=False))
    (tmp_path / "judged.json").write_text(json.dumps(texts))
    result = score_prepared(BENCHMARK, "official", items, tmp_path / "judged.json")
    values = {score.metric.removeprefix("mmhal/official/"): score.value for score in result.scores}
    # What the official script printed: "Average score: 1.62", "Hallucination rate: 0.71", eight averages by type.
    printed = [re.findall(r"\d+\.\d+", line) for line in expected["stdout"]]
    assert [f"{values['all/score']:.2f}"] == printed[0]
    assert [f"{values['all/hallucination_rate']:.2f}"] == printed[1]
    assert [str(round(values[f"{kind}/score"], 2)) for kind in TYPES] == printed[2]
    below = [int(mark.faults) for mark in result.marks]
    assert below == expected["hallucination"]
    assert result.counts()["mmhal/official/all"]["unread"] == sum(rating(text) is None for text in texts) == 48


def test_published_answers_are_read_and_shown_to_the_judge(golden: Path) -> None:
    items = BENCHMARK.items(Source(golden, pictures=False))
    assert len(items) == 96 and [item.split for item in items] == [TYPES[n % 8] for n in range(96)]
    answers = BENCHMARK.answers(golden / "mmhal" / "responses_llava_7b.json", items)
    (request,) = BENCHMARK.variants["official"].judge.requests(items[1], answers[items[1].id])
    (turn,) = request.turns
    told = (
        "Door, Building",
        "Who is sitting on the bench?",
        "No one is sitting on the bench.",
        "A man is sitting on the bench.",
    )
    assert turn.role == "user" and all(part in turn.text for part in told) and "$" not in turn.text
    assert "Rating: N" in turn.text
    with pytest.raises(DataError, match="every answer is empty"):
        BENCHMARK.answers(golden / "mmhal" / "response_template.json", items)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("Rating: 0", 0),
        ("RATING: 6", 6),
        ("**Rating: 4**", 4),
        ("Rating: 5, very informative, and once more: rating: 5", 5),
        ("rating: 3.5", 3),
        ("Rating: 10", 1),  # as the official script's search for "rating: 1" has it
        ("Rating:3", None),
        ("Rating:  3", None),
        ("**Rating:** 3", None),
        ("Rating: 7", None),
        ("Rating: 2, not rating: 3", None),
        ("rating \u2028: 3", None),
        ("評価 Rating: 2 です\n", 2),
        ("", None),
    ],
)
def test_one_rating_and_no_other_form_is_read(reply: str, expected: int | None) -> None:
    assert rating(reply) == expected


@pytest.mark.parametrize("first", ["Rating: 10", "Rating: 3.5", "Rating: 2 or rating: 3", "", "Fine."])
def test_what_is_no_whole_rating_is_asked_for_again(tmp_path: Path, first: str) -> None:
    items = BENCHMARK.items(Source(folder(tmp_path).folder, pictures=False))

    class Judge:
        name = "judge"

        def respond(self, image, turns, options):
            yield "Rating: 5." if "could not be read" in turns[0].text else first

    judged = judge_run(BENCHMARK, "official", items, {item.id: "x" for item in items}, Judge())
    assert set(judged.replies.values()) == {"Rating: 5."}


def test_ratings_of_other_scales_count_by_the_rule_and_as_unread(tmp_path: Path) -> None:
    items = BENCHMARK.items(Source(folder(tmp_path).folder, pictures=False))
    result = score_answers(
        BENCHMARK, "official", items, dict(zip(("a1", "a2", "a3"), ("Rating: 10", "Rating: 4", "Hm"), strict=True))
    )
    assert result.counts()["mmhal/official/all"] == {"items": 3, "score": 5, "hallucinated": 2, "unread": 2}
    assert [mark.read for mark in result.marks] == ["1", "4", "unread"]


ROW = {"question_type": "attribute", "image_id": "a1", "image_src": "https://x.org/deep/7_o.jpg", "image_content": ["Cap"],
       "question": "What colour?", "gt_answer": "Yellow.", "model_answer": ""}  # fmt: skip
ROWS = [ROW, {**ROW, "image_id": "a2", "question_type": "other"}, {**ROW, "image_id": "a3", "question_type": "other"}]


def folder(tmp_path: Path, rows: object = ROWS) -> Source:
    (tmp_path / "mmhal" / "images").mkdir(parents=True, exist_ok=True)
    (tmp_path / "mmhal" / "response_template.json").write_text(rows if isinstance(rows, str) else json.dumps(rows))
    return Source(tmp_path)


def test_pictures_go_by_the_end_of_their_address_or_by_their_id(tmp_path: Path) -> None:
    source = folder(tmp_path)
    images = tmp_path / "mmhal" / "images"
    with pytest.raises(DataError, match=r"entry 1: the picture '7_o.jpg' is not in"):
        BENCHMARK.items(source)
    for name in ("7_o.jpg", "a2.jpg"):
        (images / name).write_bytes(b"")
    assert [item.image.name for item in BENCHMARK.items(source)] == ["7_o.jpg"] * 3
    (images / "7_o.jpg").rename(images / "a1.jpg")
    (images / "a3.jpg").write_bytes(b"")
    assert [item.image.name for item in BENCHMARK.items(source)] == ["a1.jpg", "a2.jpg", "a3.jpg"]


def test_types_are_chosen_and_limits_keep_the_first(tmp_path: Path) -> None:
    folder(tmp_path)
    chosen = BENCHMARK.items(Source(tmp_path, pictures=False, splits=("other",)))
    assert [item.id for item in chosen] == ["a2", "a3"]
    assert [item.id for item in BENCHMARK.items(Source(tmp_path, pictures=False), 2)] == ["a1", "a2"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "holds no questions"),
        ("[{", "response_template.json:1: not JSON"),
        ([5], "entry 1: expected a JSON object, found int"),
        ([{**ROW, "question_type": "odd"}], "entry 1: the question type is 'odd', expected one of attribute"),
        ([ROW, ROW], "entry 2: the image_id a1 stands there twice"),
        ([{**ROW, "image_content": "Cap"}], "'image_content' should be list"),
        ([{**ROW, "image_content": [5]}], "'image_content' should be a list of names"),
        ([{k: v for k, v in ROW.items() if k != "gt_answer"}], "the key 'gt_answer' is missing"),
        ([{**ROW, "question": None}], "'question' should be str"),
    ],
)
def test_a_broken_file_is_an_error_with_its_entry(tmp_path: Path, rows: object, message: str) -> None:
    folder(tmp_path, rows)
    with pytest.raises(DataError, match=message):
        BENCHMARK.items(Source(tmp_path, pictures=False))


def test_answers_that_do_not_fit_are_listed(tmp_path: Path) -> None:
    items = BENCHMARK.items(Source(folder(tmp_path).folder, pictures=False))
    path = tmp_path / "answers.json"
    path.write_text(json.dumps([{**ROW, "model_answer": "x"}, {**ROW, "model_answer": "y"}, {**ROW, "image_id": "a9"}]))
    with pytest.raises(DataError, match=r"(?s)more than once: a1.*no question: a9.*without an answer: a2, a3"):
        BENCHMARK.answers(path, items)


def test_two_runs_are_compared_by_picture(tmp_path: Path) -> None:
    items = BENCHMARK.items(Source(folder(tmp_path).folder, pictures=False))
    bad, better = ({item.id: f"Rating: {score}" for item in items} for score in (1, 5))
    change = {
        s.metric: s
        for s in compare(BENCHMARK, *(score_answers(BENCHMARK, "official", items, r) for r in (bad, better)))
    }
    assert change["mmhal/official/all/score"].value == 4.0
    assert change["mmhal/official/other/hallucination_rate"].value == -1.0


def test_a_reply_that_is_missing_is_never_scored(tmp_path: Path) -> None:
    items = BENCHMARK.items(Source(folder(tmp_path).folder, pictures=False))
    with pytest.raises(DataError, match="have no answer: a2, a3"):
        score_answers(BENCHMARK, "official", items, {"a1": "Rating: 3"})


def test_an_answer_with_dollars_braces_or_nothing_reaches_the_judge_as_it_is(tmp_path: Path) -> None:
    items = BENCHMARK.items(Source(folder(tmp_path).folder, pictures=False))
    texts = {"a1": "It costs $5, ${question} {x}", "a2": "", "a3": "two\nlines \U0001f600"}
    seen: list[str] = []

    class Judge:
        name = "judge"

        def respond(self, image, turns, options):
            seen.append(turns[0].text)
            yield "Rating: 3"

    judge_run(BENCHMARK, "official", items, texts, Judge())
    assert all(text in told for text, told in zip(texts.values(), seen, strict=True))
