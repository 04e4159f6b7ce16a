"""POPE: six scorers' figures on published answers, and readers that refuse every kind of broken file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgereverie.errors import DataError
from edgereverie.evaluation.benchmarks.base import BenchmarkResult, compare, score_answers, texts_by_id
from edgereverie.evaluation.benchmarks.pope import BENCHMARK, SPLITS, PopeItem
from edgereverie.evaluation.source import Source
from edgereverie.records import Answer, Prediction

# What each variant is called in the golden file, and the names of its figures there.
SCORERS = {
    "official": "pope_evaluate_py",
    "vcd": "vcd_substring",
    "opera": "opera_recorder",
    "marine": "marine",
    "lmms": "lmms_eval",
    "vlmevalkit": "vlmevalkit",
}
OURS = {"acc": "accuracy", "f1_score": "f1", "length_response": "length"}
COUNTS = ("TP", "FP", "TN", "FN")


def printed(case: dict, variant: str) -> tuple[dict[str, int], dict[str, float]]:
    """A scorer's counts and figures, under our names."""
    figures = dict(case[SCORERS[variant]])
    if variant == "marine":
        figures = {**figures["overall_metrics"], "length_response": figures["length_response"]}
    counts = {name: figures.pop(name) for name in COUNTS if name in figures}
    named = {name.lower().removeprefix("pope_"): value for name, value in figures.items()}
    return counts, {OURS.get(name, name): value for name, value in named.items()}


def figures_of(result: BenchmarkResult, split: str) -> dict[str, float]:
    prefix = f"{result.scorer}/{split}/"
    return {s.metric.removeprefix(prefix): s.value for s in result.scores if s.metric.startswith(prefix)}


@pytest.mark.parametrize("variant", SCORERS)
def test_published_answers_give_each_scorer_s_figures_to_the_last_digit(golden: Path, variant: str) -> None:
    scored = 0
    for case in json.loads((golden / "expected" / "pope_official.json").read_text(encoding="utf-8"))["cases"]:
        questions, answers = golden / case["questions"], golden / case["answers"]
        if not questions.is_file() or not answers.is_file():
            continue
        items = BENCHMARK.items(Source(questions, pictures=False))
        result = score_answers(BENCHMARK, variant, items, BENCHMARK.answers(answers, items))
        counts, figures = printed(case, variant)
        ours = figures_of(result, case["split"])
        assert {name: ours[name] for name in figures} == figures
        assert {name: result.counts()[f"pope/{variant}/{case['split']}"][name] for name in counts} == counts
        assert len(items) == case["n"] and all(score.n == case["n"] for score in result.scores)
        assert all(score.low <= score.value <= score.high for score in result.scores if score.metric != "unknown")
        scored += 1
    assert scored >= 5


@pytest.mark.parametrize("variant", SCORERS)
def test_the_edge_cases_give_each_scorer_s_figures(golden: Path, variant: str) -> None:
    case = json.loads((golden / "expected" / "pope_official.json").read_text(encoding="utf-8"))["edge_cases"]
    path = golden / "expected" / "pope_edge_cases.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    items = [item_of(str(row["i"]), row["label"]) for row in rows]
    result = score_answers(BENCHMARK, variant, items, {str(row["i"]): row["answer"] for row in rows})
    counts, figures = printed(case, variant)
    # The file may hold a part of the cases, each template as often as any other: counts shrink with it, rates stay.
    part = case["n"] // len(rows)
    figures |= {"unknown": figures["unknown"] / part} if variant == "vlmevalkit" else {}
    ours = figures_of(result, "edge")
    assert case["n"] % len(rows) == 0 and {name: ours[name] for name in figures} == figures
    assert {name: part * result.counts()[f"pope/{variant}/edge"][name] for name in counts} == counts


def item_of(id: str, label: str, split: str = "edge") -> PopeItem:
    return PopeItem(id, Path("a.png"), "Is there a ring?", label, id, label == "yes", split=split)


# Six answers, read by hand under each rule; the truths are yes, yes, yes, no, no, no.
SIX = ("Yes.", "no", "", "No, I know.", "Snow", "yes, there is not")


@pytest.mark.parametrize(
    ("variant", "counts", "figures"),
    [
        # official: yes, no, yes (empty) | no, yes (no token), no: "not" stands in the first sentence.
        ("official", (2, 1, 2, 1), {"accuracy": 4 / 6, "precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3, "yes_ratio": 0.5}),
        # vcd: has yes, has not, has not | has no, has no ("snow"), has no ("not")
        ("vcd", (1, 0, 3, 2), {"accuracy": 4 / 6, "precision": 1.0, "recall": 1 / 3, "yes_ratio": 1 / 6, "unknown": 0.0}),
        ("opera", (2, 1, 2, 1), {"accuracy": 4 / 6, "specificity": None}),
        # marine leaves the empty answer out; "No," is no "no", and "I know" is none either. 5 answers count, 6 have 11 words.
        ("marine", (1, 2, 1, 1), {"accuracy": 0.4, "precision": 0.3333, "recall": 0.5, "specificity": 0.3333, "f1": 0.4,
                                  "yes_ratio": 0.6, "length": 1.67}),
        # lmms reads "no" alone ("Yes." has its full stop): 0 right, and nobody was found.
        ("lmms", (0, 0, 0, 1), {"accuracy": 0.0, "precision": 0.0, "recall": 0.0, "f1": 0.0, "yes_ratio": 0.5}),
        # vlmevalkit: Yes, No, Unknown | No, Unknown, Yes ("not" is no "no").
        ("vlmevalkit", (1, 1, 1, 1), {"accuracy": 100 * 2 / 6, "precision": 50.0, "recall": 100 / 3, "f1": 40.0,
                                      "unknown": 2.0}),
    ],
)  # fmt: skip
def test_six_answers_by_hand(variant: str, counts: tuple[int, ...], figures: dict[str, float | None]) -> None:
    items = [item_of(str(place), "yes" if place < 3 else "no") for place in range(6)]
    result = score_answers(BENCHMARK, variant, items, dict(zip((item.id for item in items), SIX, strict=True)))
    found = result.counts()[f"pope/{variant}/edge"]
    assert tuple(found[name] for name in COUNTS) == counts
    ours = figures_of(result, "edge")
    for name, value in figures.items():
        assert ours.get(name) == (None if value is None else pytest.approx(value, abs=1e-12))
    assert [mark.id for mark in result.marks] == [item.id for item in items]
    assert sum(mark.right for mark in result.marks) == counts[0] + counts[2]


def test_marine_rounds_as_numpy_and_python_do() -> None:
    # 102 of 320 is 0.31875. MARINE's accuracy comes from numpy, which makes 0.3188 of it; its yes ratio from Python: 0.3187.
    items = [item_of(str(place), "yes") for place in range(320)]
    answers = {item.id: "Yes" if int(item.id) < 102 else "No" for item in items}
    ours = figures_of(score_answers(BENCHMARK, "marine", items, answers), "edge")
    assert (ours["accuracy"], ours["yes_ratio"]) == (0.3188, 0.3187)


def test_vlmevalkit_counts_a_question_in_each_of_its_splits_and_in_the_overall_row(folder: Path) -> None:
    items = BENCHMARK.items(Source(folder))
    result = score_answers(BENCHMARK, "vlmevalkit", items, {item.id: "Yes" for item in items})
    assert [tally.split.rpartition("/")[2] for tally in result.tallies] == ["overall", *SPLITS]
    assert result.tallies[0].totals() == {"TP": 9, "FP": 18, "TN": 0, "FN": 0, "unread_yes": 0, "unread_no": 0}
    assert result.tallies[0].units == ("a.png", "b.png", "c.png") and result.tallies[0].items == 27
    # P 1/3, R 1: F1 1/2.
    assert figures_of(result, "overall")["f1"] == 50.0


def test_d_prime_stands_beside_the_rates(folder: Path) -> None:
    items = [item for item in BENCHMARK.items(Source(folder)) if item.split == "random"]
    # All yes: 3 of 3 found and 6 of 6 false alarms: z(3.5 / 4) - z(6.5 / 7) = 1.150349 - 1.465234.
    result = score_answers(BENCHMARK, "official", items, {item.id: "Yes" for item in items})
    assert figures_of(result, "random")["d_prime"] == pytest.approx(1.150349 - 1.465234, abs=1e-6)


def test_counts_by_hand(folder: Path) -> None:
    items = [item for item in BENCHMARK.items(Source(folder)) if item.split == "random"]
    # Truth: a holds ring and star, b a cross, c nothing; every question answered with yes: TP 3, FP 6.
    result = score_answers(BENCHMARK, "official", items, {item.id: "Yes." for item in items})
    assert result.counts() == {"pope/official/random": {"TP": 3, "FP": 6, "TN": 0, "FN": 0}}
    values = {score.metric: score.value for score in result.scores}
    assert values["pope/official/random/accuracy"] == pytest.approx(3 / 9)
    assert values["pope/official/random/yes_ratio"] == 1.0
    tally = result.tallies[0]
    assert tally.units == ("a.png", "b.png", "c.png")
    assert tally.counts.tolist() == [[2, 1, 0, 0], [1, 2, 0, 0], [0, 3, 0, 0]]


def test_items_carry_the_split_and_limit_keeps_whole_images(folder: Path) -> None:
    items = BENCHMARK.items(Source(folder))
    assert len(items) == 27 and len({item.id for item in items}) == 27
    assert items[0].id == "random/1" and items[-1].id == "adversarial/9"
    limited = BENCHMARK.items(Source(folder), 2)
    assert len(limited) == 18 and {item.unit for item in limited} == {"a.png", "b.png"}


ROW = {"question_id": 1, "image": "a.png", "text": "Is there a ring?", "label": "yes"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        ("", "no questions"),
        ("{", r"random.jsonl:1: not JSON"),
        ("[1]\n", r"random.jsonl, entry 1: expected a JSON object, found int"),
        (json.dumps(ROW) + "\n\n" + json.dumps(ROW) + "\n", r"random.jsonl:2: the line is empty"),
        (
            json.dumps(ROW) + "\n" + json.dumps(ROW) + "\n",
            r"random.jsonl:2: question_id 1 stands in .*random.jsonl:1 already",
        ),
        (json.dumps({**ROW, "label": "Yes"}) + "\n", r"random.jsonl:1: the label is 'Yes'"),
        (
            json.dumps({k: v for k, v in ROW.items() if k != "text"}) + "\n",
            r"random.jsonl:1: the key 'text' is missing",
        ),
        (json.dumps({**ROW, "text": 3}) + "\n", r"random.jsonl:1: 'text' should be str"),
        (json.dumps({**ROW, "image": "z.png"}) + "\n", r"random.jsonl:1: the picture 'z.png' is not in"),
        (json.dumps({**ROW, "image": "../a.png"}) + "\n", r"random.jsonl:1: .*leaves the image root"),
        (b"\xff\xfe\n", "cannot be read as UTF-8"),
    ],
)
def test_a_broken_file_is_an_error_with_its_line(folder: Path, content: str | bytes | None, message: str) -> None:
    path = folder / "pope" / "random.jsonl"
    path.unlink()
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message):
        BENCHMARK.items(Source(folder))


def test_missing_unknown_and_doubled_answers_are_listed(folder: Path) -> None:
    items = BENCHMARK.items(Source(folder))
    answers = {item.id: "Yes" for item in items}
    del answers["popular/3"]
    answers["popular/99"] = "No"
    with pytest.raises(DataError, match=r"1 questions have no answer: popular/3.*1 answers belong.*popular/99"):
        score_answers(BENCHMARK, "official", items, answers)
    with pytest.raises(DataError, match=r"more than once: random/1"):
        texts_by_id([Prediction("random/1", Answer("Yes")), Prediction("random/1", Answer("No"))])


def test_runs_are_compared_on_the_same_questions_only(folder: Path) -> None:
    items = BENCHMARK.items(Source(folder))
    yes = score_answers(BENCHMARK, "official", items, {item.id: "Yes" for item in items})
    right = score_answers(BENCHMARK, "official", items, {item.id: item.truth.capitalize() for item in items})
    change = {score.metric: score for score in compare(BENCHMARK, yes, right)}
    assert change["pope/official/random/accuracy"].value == pytest.approx(6 / 9)
    fewer = BENCHMARK.items(Source(folder), 2)
    with pytest.raises(DataError, match="not asked the same questions"):
        compare(BENCHMARK, yes, score_answers(BENCHMARK, "official", fewer, {item.id: "Yes" for item in fewer}))


# Published forms of answers. Three pictures, nine questions; item n of a split is question n.
def lines(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


OFFSETS = {"adversarial": 0, "random": 10_000_000, "popular": 20_000_000}


@pytest.mark.parametrize(
    "row",
    [
        lambda item, n: {"id": item.id, "text": item.id},
        lambda item, n: {"question_id": n, "category": item.split, "image": item.unit, "text": item.id},
        lambda item, n: {"question_id": str(n), "category": item.split, "response": item.id},
        lambda item, n: {
            "question_id": OFFSETS[item.split] + n,
            "prompt": f"{item.question}\nAnswer.",
            "text": item.id,
        },
        lambda item, n: {"question": item.question, "answer": item.id},
    ],
    ids=["own", "category", "text-ids", "llava", "official"],
)
def test_answers_to_all_splits_are_read_in_every_published_form(folder: Path, tmp_path: Path, row) -> None:
    items = BENCHMARK.items(Source(folder))
    path = lines(tmp_path / "answers.jsonl", [row(item, int(item.id.rpartition("/")[2])) for item in items])
    assert BENCHMARK.answers(path, items) == {item.id: item.id for item in items}


@pytest.mark.parametrize(
    "row",
    [
        lambda item, n: {"question_id": n, "text": item.id},
        lambda item, n: {"question_id": n, "prompt": item.question.replace("image", "imange"), "text": item.id},
        lambda item, n: {
            "question_id": n,
            "image_id": item.unit,
            "prompt": f"<image>\n{item.question}",
            "text": item.id,
        },
        lambda item, n: {"question": item.question.lower(), "answer": item.id},
    ],
    ids=["vcd", "cd_rethink", "marine", "official"],
)
def test_answers_to_one_split_are_read_in_every_published_form(folder: Path, tmp_path: Path, row) -> None:
    items = BENCHMARK.items(Source(folder, splits=("popular",)))
    rows = [row(item, int(item.id.rpartition("/")[2])) for item in items]
    assert BENCHMARK.answers(lines(tmp_path / "answers.jsonl", rows), items) == {item.id: item.id for item in items}
    assert BENCHMARK.answers(_as_list(tmp_path / "answers.json", rows), items) == {item.id: item.id for item in items}


def _as_list(path: Path, rows: list[dict]) -> Path:
    path.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return path


def test_one_split_is_taken_from_a_file_of_several(folder: Path, tmp_path: Path) -> None:
    everything = BENCHMARK.items(Source(folder))
    some = [item for item in everything if item.split == "popular"]
    for form in ("category", "llava"):
        rows = []
        for item in everything:
            number = int(item.id.rpartition("/")[2])
            of_llava = {"question_id": OFFSETS[item.split] + number}
            named = {"question_id": number, "category": item.split} if form == "category" else of_llava
            rows.append({**named, "text": item.id})
        path = lines(tmp_path / f"{form}.jsonl", rows)
        assert BENCHMARK.answers(path, some) == {item.id: item.id for item in some}


def test_answers_that_tell_no_split_are_not_guessed_at(folder: Path, tmp_path: Path) -> None:
    items = BENCHMARK.items(Source(folder))
    for row in ({"text": "Yes"}, {"question": "Is there a ring in the image?", "answer": "Yes"}):
        rows = [row if "answer" in row else {"question_id": n, **row} for n in range(1, 10)]
        with pytest.raises(
            DataError, match="the 9 answers tell no split, and those of random, popular, adversarial were"
        ):
            BENCHMARK.answers(lines(tmp_path / "answers.jsonl", rows), items)


def test_all_that_is_wrong_with_a_file_of_answers_is_listed(folder: Path, tmp_path: Path) -> None:
    items = BENCHMARK.items(Source(folder, splits=("random",)))
    rows: list[dict] = [{"question_id": n, "text": "No"} for n in (1, 2, 2, 4, 5, 99)]
    rows += [{"question_id": 6, "text": None}, {"question_id": 7}, {"question_id": True, "text": "Yes"}]
    path = lines(tmp_path / "answers.jsonl", rows)
    with pytest.raises(DataError) as raised:
        BENCHMARK.answers(path, items)
    told = str(raised.value)
    assert f"1 answers that belong to no question: random/99 ({path}:6)" in told
    assert f"1 questions answered more than once: random/2 ({path}:3)" in told
    assert f"2 rows without a text in text or answer or response: {path}:7, {path}:8" in told
    assert f"1 rows that name no question: {path}:9 (question_id, text)" in told
    assert "5 questions without an answer: random/3, random/6, random/7, random/8, random/9" in told


def test_answers_to_other_questions_or_pictures_are_refused(folder: Path, tmp_path: Path) -> None:
    items = BENCHMARK.items(Source(folder, splits=("random",)))
    rows = [
        {"question_id": n + 1, "image": item.unit, "prompt": item.question, "text": "Yes"}
        for n, item in enumerate(items)
    ]
    rows[3] |= {"image": "c.png"}
    rows[4] |= {"prompt": "Is there a moon in the image?"}
    with pytest.raises(DataError, match=r"1 answers about other pictures: .*:4 \(c.png, expected b.png\)(.|\n)*"
                                        r"1 answers to other questions: .*:5 \('Is there a moon"):  # fmt: skip
        BENCHMARK.answers(lines(tmp_path / "answers.jsonl", rows), items)
    # POPE's own form has no ids: order is all there is, so the questions must be the same.
    turned = [{"question": item.question, "answer": "Yes"} for item in reversed(items)]
    with pytest.raises(DataError, match=r"6 answers to other questions"):
        BENCHMARK.answers(lines(tmp_path / "turned.jsonl", turned), items)
    with pytest.raises(DataError, match="8 answers stand in the file and 9 questions were asked"):
        BENCHMARK.answers(lines(tmp_path / "short.jsonl", turned[:8]), items)
    # Without the questions, nothing says that the order is theirs; nor where one row alone has lost its id.
    for nameless, count in (([{"answer": "Yes"}] * 9, 9), ([{"text": "Yes"}, *rows[1:3], *rows[5:]], 1)):
        with pytest.raises(DataError, match=f"{count} rows that name no question"):
            BENCHMARK.answers(lines(tmp_path / "nameless.jsonl", nameless), items)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "9 questions without an answer"),
        ('{"question_id": 1, "text": "Yes"}\n{"question_id": 2, "te', r":2: not JSON"),
        ('{"question_id": 1, "text": "Yes"}\n\n{"question_id": 2, "text": "No"}\n', r":2: the line is empty"),
        ('{"question_id": 1, "text": "Yes"}\n["no"]\n', r":2: expected a JSON object, found list"),
        ('{"question_id": 1, "text": "Yes"}{"question_id": 2, "text": "No"}\n', r":1: not JSON"),
        ('{"question_id": 1, "more": [1\n2], "text": "No"}\n', r":1: not JSON"),
        ('{"question_id": 1, "text": "Yes"},0,{"question_id": 2, "text": "No"}\n', r":1: not JSON"),
    ],
)
def test_half_lines_and_other_wrecks_are_errors(folder: Path, tmp_path: Path, content: str, message: str) -> None:
    items = BENCHMARK.items(Source(folder, splits=("random",)))
    path = tmp_path / "answers.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        BENCHMARK.answers(path, items)


def test_a_file_cut_short_anywhere_is_an_error(folder: Path, tmp_path: Path) -> None:
    items = BENCHMARK.items(Source(folder, splits=("random",)), 1)
    rows = [
        {"question_id": n, "text": text} for n, text in ((3, "No \u2028 no"), (1, "Yes"), (2, '\u00e9, {"text": 1}'))
    ]
    path = tmp_path / "answers.jsonl"
    whole = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    path.write_bytes(whole)
    read = BENCHMARK.answers(path, items)
    assert read == {"random/1": "Yes", "random/2": '\u00e9, {"text": 1}', "random/3": "No \u2028 no"}
    path.write_bytes(whole[:-1])
    assert BENCHMARK.answers(path, items) == read
    for end in range(len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(DataError):
            BENCHMARK.answers(path, items)


def test_question_files_are_found_under_their_published_names(folder: Path, tmp_path: Path) -> None:
    content = (folder / "pope" / "random.jsonl").read_bytes()
    for name in ("coco_pope_random.json", "coco_pope_random.head.jsonl", "aokvqa_pope_seem_random.json"):
        root = tmp_path / name.replace(".", "_")
        root.mkdir()
        (root / name).write_bytes(content)
        source = Source(root, pictures=False, splits=("random",))
        alone = Source(root / name, pictures=False)
        assert [item.id for item in BENCHMARK.items(source)] == [item.id for item in BENCHMARK.items(alone)]
    (root / "coco_pope_random.pin.jsonl").write_bytes(content)
    with pytest.raises(
        DataError, match=r"2 files hold random questions: aokvqa_pope_seem_random\.json, coco_pope_random\.pin"
    ):
        BENCHMARK.items(Source(root, pictures=False, splits=("random",)))


def test_a_file_of_one_split_is_not_taken_for_another(folder: Path) -> None:
    path = folder / "pope" / "random.jsonl"
    assert len(BENCHMARK.items(Source(path, folder / "images", splits=("random",)))) == 9
    with pytest.raises(DataError, match="no split 'popular'"):
        BENCHMARK.items(Source(path, folder / "images", splits=("popular",)))


def test_somebody_s_own_questions_have_no_split(folder: Path, tmp_path: Path) -> None:
    theirs = BENCHMARK.items(Source(folder, splits=("random",)))
    path = _as_list(
        tmp_path / "labels.json", [{"id": n + 1, "image": i.unit, "label": i.truth} for n, i in enumerate(theirs)]
    )
    items = BENCHMARK.items(Source(path, pictures=False))
    assert [(item.id, item.split, item.question, item.label) for item in items] == [
        (str(n + 1), "", "", item.label) for n, item in enumerate(theirs)
    ]
    rows = [{"question_id": n + 1, "image_id": item.unit, "prompt": "<image>\nIs it?", "text": item.truth, "category": "coco"}
            for n, item in enumerate(theirs)]  # fmt: skip
    texts = BENCHMARK.answers(lines(tmp_path / "answers.jsonl", rows), items)
    assert texts == {item.id: item.truth for item in items}
    result = score_answers(BENCHMARK, "marine", items, texts)
    assert list(result.counts()) == ["pope/marine"]
    assert {score.metric: score.value for score in result.scores}["pope/marine/accuracy"] == 1.0
    # Without a text it can be scored, not asked.
    with pytest.raises(DataError, match="entry 1: the key 'text' is missing"):
        BENCHMARK.items(Source(path))


def test_both_versions_of_the_questions_are_read(golden: Path) -> None:
    counts = {}
    for version in ("head", "pin_e3e39262"):
        path = golden / "pope" / "questions" / f"coco_pope_random.{version}.jsonl.gz"
        items = BENCHMARK.items(Source(path, pictures=False))
        counts[version] = (
            len(items),
            len({item.unit for item in items}),
            sum("imange" in item.question for item in items),
        )
    # As told of the two: 3,000 questions and 2,910 with a misspelling, over 500 pictures.
    assert counts["head"] == (3000, 500, 0) and counts["pin_e3e39262"][:2] == (2910, 500)
    assert counts["pin_e3e39262"][2] > 0
