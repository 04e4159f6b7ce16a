"""HallusionBench: everything that the official script prints, the other harnesses' rules, and a judge that is read strictly."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edgereverie.errors import DataError
from edgereverie.evaluation.benchmarks._hallusion_counts import blame
from edgereverie.evaluation.benchmarks._hallusion_items import HallusionItem, id_of
from edgereverie.evaluation.benchmarks._hallusion_judge import JUDGE, says_same, valid, verdict_of
from edgereverie.evaluation.benchmarks.base import BenchmarkResult, compare, score_answers
from edgereverie.evaluation.benchmarks.hallusionbench import BENCHMARK
from edgereverie.evaluation.judging import judge_answers, score_prepared
from edgereverie.evaluation.run import run_benchmark
from edgereverie.evaluation.source import Source
from edgereverie.records import Answer, Options, Turn
from edgereverie.text.yes_no import vlmevalkit

WORDS = {0: "incorrect", 1: "correct", 2: "unclear"}


def drawn(text: str) -> int:
    return int(sha256(text.encode()).hexdigest(), 16)


# The verdict of row i, as the golden file states its rules.
RULES: dict[str, Callable[[int, HallusionItem], int]] = {
    "mod7": lambda i, item: 2 if i % 7 == 3 else int(i % 7 not in (1, 5)),
    "hash": lambda i, item: 1 if drawn(f"hb{i}") % 100 < 55 else 0 if drawn(f"hb{i}") % 100 < 88 else 2,
    "always_yes": lambda i, item: int(item.yes),
    "always_no": lambda i, item: int(not item.yes),
    "all_correct": lambda i, item: 1,
}


@pytest.fixture(scope="module")
def published(golden: Path) -> list[HallusionItem]:
    return BENCHMARK.items(Source(golden, pictures=False))


@pytest.fixture(scope="module")
def expected(golden: Path) -> dict:
    return json.loads((golden / "expected" / "hallusionbench.json").read_text(encoding="utf-8"))


def printed(result: BenchmarkResult, split: str = "") -> dict[str, float]:
    """Rates in percent with the script's four digits."""
    head = f"{result.scorer}/{split}"
    names = ((score.metric.removeprefix(head), score.value) for score in result.scores if score.metric.startswith(head))
    return {name: round(100 * value, 4) for name, value in names if "/" not in name}


def test_everything_that_the_official_script_prints(
    published: list[HallusionItem], expected: dict, tmp_path: Path
) -> None:
    assert len(expected["cases"]) >= 3
    for case in expected["cases"]:
        rule = RULES[case["mode"]]
        rows = [
            {"category": item.split, "subcategory": item.subcategory, "set_id": item.set_id, "figure_id": item.figure_id,
             "question_id": item.question_id, "gpt4v_output_gpt_check": str(rule(i, item)), "same": str(drawn(f"same{i}") % 2)}
            for i, item in enumerate(published)
        ]  # fmt: skip
        path = tmp_path / "judged.json"
        path.write_text(json.dumps(rows), encoding="utf-8")
        result = score_prepared(BENCHMARK, "official", published, path, judge="stated")
        check_case(result, case)


def check_case(result: BenchmarkResult, case: dict) -> None:
    counts, rates = result.counts()["hallusionbench/official"], printed(result)
    totals, figure = case["totals"], case["figure"]
    columns = ("questions", "pairs", "figures", "easy_pairs", "easy_questions", "hard_pairs", "hard_questions")
    told = ("questions", "pairs", "figures", "easy", "easy_q", "hard", "hard_q")
    assert [counts[name] for name in columns] == [totals[name] for name in told]
    assert [counts[f"figures_{name}"] for name in ("right", "wrong", "inconsistent")] \
        == [figure[name] for name in ("correct", "wrong", "inconsistent")]  # fmt: skip
    assert [counts[name] for name in ("language", "vision", "mixed")] == case["LH_VI_Mix_cg"]
    assert [counts[f"{name}_pairs"] for name in ("language", "vision", "mixed")] == case["LH_VI_Mix_pairs"]
    assert {name: rates[name] for name in ("qAcc", "fAcc", "easy_aAcc", "hard_aAcc", "aAcc")} \
        == {name: case[name] for name in ("qAcc", "fAcc", "easy_aAcc", "hard_aAcc", "aAcc")}  # fmt: skip
    for category, values in case["per_category"].items():
        assert {name: printed(result, f"{category}/")[name] for name in values} == values
    scores = {score.metric.removeprefix("hallusionbench/official/"): score.value for score in result.scores}
    assert scores["figures_share"] == pytest.approx(figure["score"], abs=1e-12)
    if case["yes_no_bias"] is None:  # where the script stops with a division by zero
        assert all(math.isnan(scores[name]) for name in ("fp_ratio", "language", "vision", "mixed"))
        return
    assert scores["yes_bias"] == pytest.approx(case["yes_no_bias"]["diff"], abs=1e-12)
    assert scores["fp_ratio"] == pytest.approx(case["yes_no_bias"]["fp"], abs=1e-12)
    assert figures_in(case["stdout_tail"]) == printed_figures(result)


def figures_in(output: str) -> list[str]:
    """Every figure that the script printed, as it printed it."""
    stats, _, tables = output.partition("##### Leaderboard Stats #####")
    rows = [line for line in tables.splitlines() if line.startswith("| GPT Eval")]
    return [*re.findall(r"\d+", stats), *(cell.strip() for row in rows for cell in row.strip("|").split("|")[1:])]


def printed_figures(result: BenchmarkResult) -> list[str]:
    """The same from a result: questions and figures of VD and VS, the leaderboard, the diagnosis."""
    counts = {split.rpartition("/")[2]: counts for split, counts in result.counts().items()}
    easy, hard, figures = (
        [counts[category][name] for category in ("VD", "VS")]
        for name in ("easy_questions", "hard_questions", "figures")
    )
    stats = [*easy, *hard, counts["official"]["questions"], *figures, counts["official"]["figures"]]
    rates = printed(result)
    scores = {score.metric.removeprefix("hallusionbench/official/"): score.value for score in result.scores}
    board = ("qAcc", "fAcc", "easy_aAcc", "hard_aAcc", "aAcc")
    consistency = ("fAcc", "figures_inconsistent", "figures_wrong", "language", "vision", "mixed")
    return [
        *(str(int(count)) for count in stats),
        *(str(rates[name]) for name in board),
        *(str(scores[name]) for name in ("yes_bias", "fp_ratio")),
        *(str(rates[name]) for name in consistency),
    ]


def test_vlmevalkits_groups(published: list[HallusionItem], expected: dict) -> None:
    wanted = expected["vlmevalkit_rating"]
    said = {item.id: "Yes." if item.yes == (RULES["hash"](i, item) == 1) else "no" for i, item in enumerate(published)}
    result = score_answers(BENCHMARK, "vlmevalkit", published, said)
    scores = {score.metric.removeprefix("hallusionbench/vlmevalkit/"): score for score in result.scores}
    assert scores["aAcc"].n == result.counts()["hallusionbench/vlmevalkit"]["questions"] == wanted["rows"]
    for split, values in {"": wanted, **{f"{name}/": part for name, part in wanted["by_category"].items()}}.items():
        for name in ("aAcc", "fAcc", "qAcc"):
            assert 100 * scores[split + name].value == pytest.approx(values[name], abs=1e-12)
    mean = sum(wanted[name] for name in ("aAcc", "fAcc", "qAcc")) / 3
    assert 100 * scores["overall"].value == pytest.approx(mean, abs=1e-12)
    # The totals behind the rates of logs that people publish: 89 questions of VD_ocr, 22 of 43 pairs right is 51.162791.
    apart = score_answers(BENCHMARK, "vlmevalkit-tsv", published, said).counts()
    assert [apart["hallusionbench/vlmevalkit-tsv"][name] for name in ("questions", "pairs", "figures")] == [
        951,
        455,
        346,
    ]
    assert [apart["hallusionbench/vlmevalkit-tsv/VD_ocr"][name] for name in ("questions", "pairs", "figures")] == [
        89,
        43,
        43,
    ]


def test_real_predictions_read_by_rule(published: list[HallusionItem], expected: dict, golden: Path) -> None:
    path = golden / "hallusionbench" / "HallusionBench_result_sample.json"
    ids = {"_".join(row[:5]): row[5] for row in expected["sample_file_extraction"]}
    items = [item for item in published if item.id in ids]
    texts = BENCHMARK.answers(path, items)
    words = {True: "Yes", False: "No", None: "Unknown"}
    assert {id: words[vlmevalkit(text)] for id, text in texts.items()} == ids
    marks = score_answers(BENCHMARK, "vlmevalkit", items, texts).marks
    shown = [item.id for item in items if item.visual != "0"]
    assert [(mark.id, mark.read) for mark in marks] == [
        (id, ids[id].lower().replace("unknown", "unread")) for id in shown
    ]
    # lmms-eval's rule on the same 254 answers: 161 right, 39 of 117 pairs, 24 of 79 figures.
    scores = {score.metric: score.value for score in score_answers(BENCHMARK, "lmms", items, texts).scores}
    rates = [round(scores[f"hallusionbench/lmms/{name}"], 5) for name in ("aAcc", "qAcc", "fAcc")]
    assert rates == [0.63386, 0.33333, 0.30380]
    with pytest.raises(DataError, match="875 questions without an answer"):
        BENCHMARK.answers(path, published)


def test_what_is_resampled_holds_whole_pairs_and_figures(published: list[HallusionItem]) -> None:
    keys = (
        lambda item: item.pair,
        lambda item: item.figure,
        lambda item: (item.subcategory, item.set_id, item.question_id),
        lambda item: (item.subcategory, item.set_id, item.figure_id),
    )
    for group in keys:
        units: dict[tuple[str, ...], set[str]] = {}
        for item in published:
            units.setdefault(group(item), set()).add(item.unit)
        assert all(len(found) == 1 for found in units.values())
    sets = {(item.split, item.subcategory, item.set_id) for item in published}
    shared = {set_id for category, name, set_id in sets if category == "VD" and ("VS", name, set_id) in sets}
    assert (len(sets), len(shared), len({item.unit for item in published})) == (167, 13, 154)


def question(category: str, figure: int, asked: int, visual: str, truth: str, set_id: str = "0") -> dict[str, object]:
    return {
        "category": category, "subcategory": "ocr", "visual_input": visual, "set_id": set_id, "figure_id": str(figure),
        "sample_note": "", "question_id": str(asked), "question": f"Is it so? {figure} {asked}",
        "gt_answer_details": "It is \"so\".", "gt_answer": truth,
        "filename": None if visual == "0" else f"./{category}/ocr/{set_id}_{figure}.png",
    }  # fmt: skip


# VD set 0: two questions about a figure and about an altered one. VS set 0: one question without, with, with an altered figure.
ROWS = [
    question("VD", 0, 0, "1", "1"), question("VD", 0, 1, "1", "0"),
    question("VD", 1, 0, "2", "0"), question("VD", 1, 1, "2", "1"),
    question("VS", 0, 0, "0", "1"), question("VS", 1, 0, "1", "1"), question("VS", 2, 0, "2", "0"),
]  # fmt: skip


def write(folder: Path, rows: Sequence[object] = ROWS) -> Source:
    path = folder / "hallusionbench" / "HallusionBench.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows), encoding="utf-8")
    for name in ("VD/ocr/0_0", "VD/ocr/0_1", "VS/ocr/0_1", "VS/ocr/0_2", "VD/ocr/1_0"):
        figure = path.parent / "hallusion_bench" / f"{name}.png"
        figure.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(figure)
    return Source(folder)


@pytest.fixture
def small(tmp_path: Path) -> list[HallusionItem]:
    return BENCHMARK.items(write(tmp_path))


def test_counts_by_hand(small: list[HallusionItem]) -> None:
    said = {item.id: "Yes, it is." for item in small}
    result = score_answers(BENCHMARK, "lmms", small, said)
    # Yes is right for VD 0_0 and 1_1, VS 0_0 and 1_0: no pair and of five figures the one without a figure and VS 1.
    assert result.counts() == {
        "hallusionbench/lmms": {"questions": 7, "right": 4, "pairs": 3, "pairs_right": 0, "figures": 5, "figures_right": 2},
        "hallusionbench/lmms/image": {"questions": 6, "right": 3, "pairs": 3, "pairs_right": 0, "figures": 4, "figures_right": 1},
    }  # fmt: skip
    kit, apart = (score_answers(BENCHMARK, name, small, said) for name in ("vlmevalkit", "vlmevalkit-tsv"))
    # VD's and VS's set 0 are both of subcategory ocr: figure 1 of both is one group, and so is question 0.
    assert kit.counts()["hallusionbench/vlmevalkit"] == {
        "questions": 6, "right": 3, "pairs": 2, "pairs_right": 0, "figures": 3, "figures_right": 0}  # fmt: skip
    assert apart.counts()["hallusionbench/vlmevalkit-tsv"] == {
        "questions": 6, "right": 3, "pairs": 3, "pairs_right": 0, "figures": 4, "figures_right": 1}  # fmt: skip
    assert kit.tallies[0].units == apart.tallies[0].units == ("ocr/0",)
    marks = {mark.id: (mark.read, mark.right, mark.note) for mark in kit.marks}
    assert "VS_ocr_0_0_0" not in marks and marks["VS_ocr_0_1_0"] == ("yes", 1.0, "")
    assert marks["VD_ocr_0_1_0"] == ("yes", 0.0, "said yes, which is not so")


# lmms-eval takes the letters "yes" anywhere for a yes, all else for a no; VLMEvalKit wants one of the words without the other.
@pytest.mark.parametrize(
    ("text", "lmms", "kit"),
    [
        ("Yes", "yes", "yes"), ("YES!", "yes", "yes"), ("No.", "no", "no"), ("", "no", "unread"), (" \n", "no", "unread"),
        ("Their eyes are the same.", "yes", "unread"), ("Yes and no", "yes", "unread"), ("yes\nno", "yes", "unread"),
        ("yes/no", "yes", "unread"), ("Nope", "no", "unread"), ("not so", "no", "unread"), ("Yes, as I know", "yes", "yes"),
        ("\u0414\u0430", "no", "unread"), ("**Yes**", "yes", "unread"), ("no\u3002", "no", "unread"),
        ("\uff59es yes", "yes", "yes"),
    ],
)  # fmt: skip
def test_what_is_read_out_of_an_answer(small: list[HallusionItem], text: str, lmms: str, kit: str) -> None:
    said = {item.id: text for item in small}
    read = [score_answers(BENCHMARK, name, small, said).marks[0].read for name in ("lmms", "vlmevalkit")]
    assert read == [lmms, kit]


def test_questions_without_a_figure_are_asked_without_one(tmp_path: Path) -> None:
    shown = []

    def answerer(image, questions, most):
        shown.append((image and "/".join(image.parts[-3:]), len(questions)))
        return [Answer("No.") for _ in questions]

    run = run_benchmark(BENCHMARK, write(tmp_path), answerer, variants=("lmms", "vlmevalkit"))
    assert shown == [
        ("VD/ocr/0_0.png", 2),
        ("VD/ocr/0_1.png", 2),
        (None, 1),
        ("VS/ocr/0_1.png", 1),
        ("VS/ocr/0_2.png", 1),
    ]
    right = score_answers(BENCHMARK, "lmms", run.items, {item.id: "yes" if item.yes else "no" for item in run.items})
    change = {score.metric: score.value for score in compare(BENCHMARK, run.results[0], right)}
    assert change["hallusionbench/lmms/aAcc"] == pytest.approx(4 / 7)


def test_answers_to_questions_with_a_figure_alone(tmp_path: Path) -> None:
    write(tmp_path)
    items = BENCHMARK.items(Source(tmp_path, splits=("image",)))
    assert [item.id for item in items] == [row_id for row_id in map(id_of, ROWS) if row_id != "VS_ocr_0_0_0"]
    assert [item.id for item in BENCHMARK.items(Source(tmp_path, splits=("image", "VS")))] == [
        "VS_ocr_0_1_0",
        "VS_ocr_0_2_0",
    ]
    counts = score_answers(BENCHMARK, "lmms", items, {item.id: "yes" for item in items}).counts()
    assert counts["hallusionbench/lmms"] == counts["hallusionbench/lmms/image"]
    with pytest.raises(DataError, match="2 questions are judged by their pair's first one"):
        score_answers(BENCHMARK, "official", items, {item.id: "correct" for item in items})


def test_the_truth_is_told_once(tmp_path: Path) -> None:
    rows = [{**ROWS[0], "gt_answer_details": "Yes, it is."}, {**ROWS[1], "gt_answer_details": "No."}, ROWS[2], ROWS[3]]
    truths = [item.truth for item in BENCHMARK.items(write(tmp_path, rows))]
    assert truths == ["Yes, it is.", "No.", 'no: It is "so".', 'yes: It is "so".']


def test_limit_keeps_whole_sets_and_splits_are_chosen(tmp_path: Path) -> None:
    source = write(tmp_path, [*ROWS, question("VD", 0, 0, "1", "1", "1")])
    assert len(BENCHMARK.items(source, 1)) == 7 and len(BENCHMARK.items(source, 2)) == len(BENCHMARK.items(source)) == 8
    (tmp_path / "hallusionbench" / "hallusion_bench" / "VD" / "ocr" / "0_0.png").unlink()
    items = BENCHMARK.items(Source(tmp_path, splits=("VS",)))
    assert [item.split for item in items] == ["VS"] * 3
    for variant, names in {
        "official": ["", "VS"],
        "lmms": ["", "image"],
        "vlmevalkit-tsv": ["", "VS", "VS_ocr"],
    }.items():
        tallies = BENCHMARK.variants[variant].count(items, {item.id: "correct" for item in items}).tallies
        assert [tally.split for tally in tallies] == names
    with pytest.raises(DataError, match="no split 'VX'"):
        BENCHMARK.items(Source(tmp_path, splits=("VX",)))


BROKEN = [
    {**ROWS[0], "category": "VX"}, {**ROWS[0], "gt_answer": "2"}, {**ROWS[0], "visual_input": 7}, {**ROWS[0], "set_id": None},
    {**ROWS[0], "set_id": "9"}, ROWS[1], ROWS[1], {**ROWS[2], "filename": None}, {**ROWS[3], "filename": "../x.png"},
    {key: value for key, value in ROWS[4].items() if key != "question"}, {**ROWS[5], "question": 3},
    {**ROWS[6], "question_id": True},
]  # fmt: skip


def test_all_that_is_wrong_with_the_questions_is_told_at_once(tmp_path: Path) -> None:
    source = write(tmp_path, [*BROKEN, {**ROWS[2], "question_id": "5"}])
    with pytest.raises(DataError) as error:
        BENCHMARK.items(source)
    told = str(error.value)
    assert told.split("\n")[0].endswith("11 faults.")
    for part in (
        "entry 1: 'category' is 'VX', expected VD or VS", "entry 2: 'gt_answer' is '2'", "entry 3: 'visual_input' is '7'",
        "entry 4: 'set_id' should be", "entry 7: the question VD_ocr_0_0_1 stands at",
        "entry 8: 'filename' should be str, found None",
        "entry 9: Image path '../x.png' leaves", "entry 10: the key 'question' is missing", "entry 11: 'question' should be str",
        "entry 12: 'question_id' should be", "1 questions whose pair has none with figure_id 0: VD_ocr_0_1_5",
    ):  # fmt: skip
        assert part in told, part
    missing = write(tmp_path / "other", [*ROWS, question("VS", 0, 0, "1", "1", "8")])
    with pytest.raises(DataError, match=r"entry 8: the picture 'VS/ocr/8_0.png' is not in"):
        BENCHMARK.items(missing)
    with pytest.raises(DataError, match="holds no questions"):
        BENCHMARK.items(write(tmp_path / "empty", []))


def test_result_files_in_any_order_and_what_does_not_fit(small: list[HallusionItem], tmp_path: Path) -> None:
    rows = [{**row, "model_prediction": f"Ja.\n\u2028„{number}“" if number else ""} for number, row in enumerate(ROWS)]
    path = tmp_path / "result.json"
    path.write_text(json.dumps(rows[::-1]), encoding="utf-8")
    texts = BENCHMARK.answers(path, small)
    assert (
        list(texts) == [item.id for item in small]
        and texts["VD_ocr_0_0_0"] == ""
        and texts["VS_ocr_0_2_0"] == "Ja.\n\u2028„6“"
    )
    broken = [rows[0], rows[0], {**rows[1], "set_id": "7"}, {"model_prediction": "x"}, {**rows[2], "model_prediction": None},
              {**rows[3], "figure_id": True}]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in broken), encoding="utf-8")
    with pytest.raises(DataError) as error:
        BENCHMARK.answers(path, small)
    for part in ("more than once: VD_ocr_0_0_0", "belong to no question: VD_ocr_7_0_1", "2 rows that name no question",
                 "1 rows without a text", "6 questions without an answer"):  # fmt: skip
        assert part in str(error.value)


# Language, vision: by hand from get_eval_pair_all. The pair's first verdict, this verdict, whether both say the same.
@pytest.mark.parametrize(
    ("category", "figure", "visual", "first", "verdict", "same", "blamed"),
    [
        ("VD", 0, "1", "incorrect", "incorrect", True, (0, 1)), ("VD", 0, "1", "unclear", "unclear", False, (0, 1)),
        ("VD", 1, "2", "correct", "correct", True, (0, 0)), ("VD", 1, "2", "correct", "incorrect", True, (1, 1)),
        ("VD", 1, "2", "correct", "incorrect", False, (0, 1)), ("VD", 1, "2", "correct", "unclear", True, (0, 1)),
        ("VD", 1, "2", "incorrect", "incorrect", True, (0, 1)), ("VD", 1, "2", "unclear", "incorrect", True, (0, 1)),
        ("VS", 0, "0", "incorrect", "incorrect", True, (1, 0)), ("VS", 0, "0", "unclear", "unclear", False, (0, 0)),
        ("VS", 1, "1", "incorrect", "incorrect", True, (1, 0)), ("VS", 1, "1", "incorrect", "incorrect", False, (1, 1)),
        ("VS", 1, "1", "incorrect", "unclear", True, (1, 1)), ("VS", 1, "1", "unclear", "incorrect", True, (0, 1)),
        ("VS", 1, "1", "unclear", "unclear", True, (0, 1)), ("VS", 1, "1", "correct", "unclear", True, (0, 1)),
        ("VS", 1, "1", "correct", "incorrect", True, (0, 1)), ("VS", 2, "2", "correct", "incorrect", True, (1, 0)),
        ("VS", 2, "2", "correct", "incorrect", False, (0, 1)), ("VS", 2, "2", "incorrect", "correct", True, (0, 0)),
    ],
)  # fmt: skip
def test_whose_mistake_it_is(category, figure, visual, first, verdict, same, blamed) -> None:
    item = HallusionItem(
        "x", None, "?", "yes", "u", split=category, subcategory="ocr", set_id="0", figure_id=str(figure), question_id="0",
        visual=visual, yes=True, reference="",
    )  # fmt: skip
    assert blame(item, verdict, first, same) == tuple(map(bool, blamed))


@pytest.mark.parametrize(
    ("reply", "verdict", "readable"),
    [
        ("correct", "correct", True), ("Correct.", "correct", True), ("**incorrect**", "incorrect", True),
        ("INCORRECT\n", "incorrect", True),
        ("“unclear”", "unclear", True), ("Mark: incorrect", "incorrect", True), ("correct, or incorrect?", "incorrect", False),
        ("Not correct", "correct", False), ("It is correct.", "correct", False), ("", "unclear", False),
        ("richtig", "unclear", False),
        ("incorrectly", "incorrect", False), ("1", "unclear", False), ("correct\nincorrect", "incorrect", False),
    ],
)  # fmt: skip
def test_verdicts_are_asked_for_strictly_and_read_as_published(reply: str, verdict: str, readable: bool) -> None:
    assert (verdict_of(reply), valid(reply)) == (verdict, readable)


@pytest.mark.parametrize(
    ("reply", "same", "readable"),
    [
        ("same", True, True),
        ("Same.", True, True),
        ("different", False, True),
        ("Not the same", True, False),
        ("", False, False),
    ],
)
def test_sameness_is_asked_for_strictly_and_read_as_published(reply: str, same: bool, readable: bool) -> None:
    assert (says_same(reply), valid(reply)) == (same, readable)


class Teacher:
    """A judge that reads what it is asked: answers that hold "yes" agree with every reference, two answers with each other."""

    name = "teacher"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def respond(self, image: Path | None, turns: Sequence[Turn], options: Options = Options()) -> Iterator[str]:
        text = turns[-1].text
        self.asked.append(text)
        if "second answer" in text:
            yield "different" if ("yes" in text) != ("no!" not in text) else "same"
        else:
            yield "correct" if "yes" in text else "incorrect"

    def score(self, image, turns, continuation) -> float:
        raise AssertionError("no judge is asked for a likelihood")


def test_a_judge_is_asked_about_each_answer_and_about_each_two(small: list[HallusionItem], tmp_path: Path) -> None:
    texts = {item.id: "no!" if item.original else f"yes {item.id}" for item in small}
    requests = JUDGE.asked(small, texts)
    later = [item.id for item in small if not item.original]
    assert [request.id for request in requests] == [item.id for item in small] + [f"{id}#same" for id in later]
    for request in requests:
        assert (
            len(request.turns) == 1
            and request.image is None
            and texts[request.id.partition("#")[0]] in request.turns[0].text
        )
    assert 'It is "so".' in requests[0].turns[0].text and "no!" in requests[-1].turns[0].text
    judge, journal = Teacher(), tmp_path / "judge.jsonl"
    result = judge_answers(BENCHMARK, "official", small, texts, judge, journal)
    counts = result.counts()["hallusionbench/official"]
    assert result.judge == "teacher" and len(judge.asked) == 11
    # Wrong are the first answers alone: VD's two by the eye, VS's without a figure by language.
    assert [counts[name] for name in ("right", "language", "vision", "mixed", "pairs_right")] == [4, 1, 2, 0, 0]
    assert printed(result)["unread"] == 0.0
    again = Teacher()
    assert (
        judge_answers(BENCHMARK, "official", small, texts, again, journal).scores == result.scores and again.asked == []
    )


def test_what_a_judge_said_and_nobody_can_read_is_counted(small: list[HallusionItem]) -> None:
    replies = {item.id: "correct" for item in small} | {
        "VD_ocr_0_0_0": "Well, not quite incorrect.",
        "VD_ocr_0_1_0": "incorrect",
    }
    result = score_answers(
        BENCHMARK, "official", small, {**replies, "VD_ocr_0_1_0#same": "the same", "VD_ocr_0_1_1#same": "?"}
    )
    counts = result.counts()["hallusionbench/official"]
    # The script reads the first as incorrect, and for the second nothing hangs on sameness: its pair's first is wrong.
    assert (counts["unread"], counts["right"], counts["vision"]) == (1, 5, 2)
    right_first = {**replies, "VD_ocr_0_0_0": "correct", "VD_ocr_0_1_0#same": "the same"}
    counts = score_answers(BENCHMARK, "official", small, right_first).counts()["hallusionbench/official"]
    assert (counts["unread"], counts["right"], counts["mixed"]) == (1, 6, 1)


def judged(rows: Sequence[dict], codes: str) -> list[dict]:
    return [{**row, "gpt4v_output_gpt_check": code} for row, code in zip(rows, codes, strict=True)]


def test_prepared_judgements_as_the_script_keeps_them(small: list[HallusionItem], tmp_path: Path) -> None:
    rows = judged(ROWS, "1101120")
    rows[2]["same"] = 1  # the only two that hang on it: wrong behind a right first
    rows[6]["gpt4v_output_gpt_check_same"] = "0"
    rows[4]["gpt4v_output_gpt_check"] = 1
    (tmp_path / "hallusion_output_vd_model.json").write_text(json.dumps(rows[:4]), encoding="utf-8")
    (tmp_path / "hallusion_output_vs_model.json").write_text(json.dumps(rows[4:]), encoding="utf-8")
    result = score_prepared(BENCHMARK, "official", small, tmp_path, judge="gpt-4")
    counts = result.counts()["hallusionbench/official"]
    assert [counts[name] for name in ("right", "language", "vision", "mixed")] == [4, 0, 2, 1]
    marks = {mark.id: (mark.read, mark.right, mark.note) for mark in result.marks}
    # What is true is no where the answer is incorrect, and yes where it is correct.
    assert marks["VD_ocr_0_1_0"] == ("yes", 0.0, "language hallucination or visual illusion")
    assert marks["VS_ocr_0_1_0"] == ("unclear", 0.0, "visual illusion") and marks["VS_ocr_0_0_0"] == ("yes", 1.0, "")
    assert marks["VD_ocr_0_0_1"] == ("no", 1.0, "")


def test_prepared_judgements_that_do_not_fit_are_all_listed(small: list[HallusionItem], tmp_path: Path) -> None:
    rows = judged(ROWS[:6], "110111")
    rows[1]["gpt4v_output_gpt_check"] = 3
    rows[3]["gpt4v_output_gpt_check"] = True
    rows[4]["same"] = "yes"
    del rows[5]["gpt4v_output_gpt_check"]
    path = tmp_path / "judged.json"
    path.write_text(json.dumps([*rows, rows[0], {**rows[0], "set_id": "5"}, {"same": "1"}]), encoding="utf-8")
    with pytest.raises(DataError) as error:
        JUDGE.file(path, small)
    for part in ("3 rows whose gpt4v_output_gpt_check is not 0, 1 or 2", "1 rows whose same is not 0 or 1: 'yes'",
                 "more than once: VD_ocr_0_0_0",
                 "belong to no question: VD_ocr_5_0_0", "1 rows that name no question", "without a judgement: VS_ocr_0_2_0",
                 "1 questions without `same`, on which the blame hangs: VD_ocr_0_1_0"):  # fmt: skip
        assert part in str(error.value), part
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"neither hallusion_output_vd_model.json nor"):
        JUDGE.file(tmp_path / "empty", small)
    with pytest.raises(DataError, match=r"1 questions without a judgement: VS_ocr_0_2_0"):
        score_answers(BENCHMARK, "official", small, {item.id: "correct" for item in small[:-1]})


@given(st.lists(st.tuples(st.sampled_from(tuple(WORDS.values())), st.booleans()), min_size=7, max_size=7))
def test_every_wrong_pair_is_blamed_on_something(verdicts: list[tuple[str, bool]]) -> None:
    items = [
        HallusionItem(
            f"{row['category']}{row['figure_id']}{row['question_id']}", None, "?", "", f"{row['category']}/0",
            split=row["category"], subcategory="ocr", set_id="0", figure_id=row["figure_id"], question_id=row["question_id"],
            visual=row["visual_input"], yes=row["gt_answer"] == "1", reference="",
        )
        for row in ROWS
    ]  # fmt: skip
    replies = {item.id: verdict for item, (verdict, _) in zip(items, verdicts, strict=True)}
    replies |= {
        f"{item.id}#same": "same" if same else "different" for item, (_, same) in zip(items, verdicts, strict=True)
    }
    counted = BENCHMARK.variants["official"].count(items, replies)
    for tally in counted.tallies:
        counts = tally.totals()
        # The script's own assertion, and what must add up besides.
        blamed = counts["language_pairs"] + counts["vision_pairs"] + counts["mixed_pairs"]
        assert counts["pairs"] - counts["pairs_right"] == blamed
        assert (
            counts["questions"] - counts["right"]
            == counts["wrong"]
            == sum(counts[k] for k in ("language", "vision", "mixed"))
        )
        assert counts["figures"] == sum(counts[f"figures_{name}"] for name in ("right", "wrong", "inconsistent"))
    halves = [tally.totals() for tally in counted.tallies]
    assert all(halves[0][name] == pytest.approx(halves[1][name] + halves[2][name]) for name in halves[0])
