"""Comparing runs: pairs over the same questions only, arithmetic by hand, and the part that all were asked."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from edgereverie.errors import DataError
from edgereverie.evaluation.common import common_part
from edgereverie.evaluation.comparing import Change, Comparison, comparisons
from edgereverie.evaluation.kept import KeptRun, keep, load
from edgereverie.evaluation.run import run_benchmark
from edgereverie.evaluation.significance import McNemar
from edgereverie.evaluation.source import Source
from edgereverie.records import Answer
from edgereverie.registry import BENCHMARKS

Say = Callable[[str], str]


def asked(folder: Path, label: str, say: Say, benchmark: str = "pope", **where: object) -> KeptRun:
    def answer(image: Path | None, questions: Sequence[str], most: int) -> list[Answer]:
        return [Answer(say(question)) for question in questions]

    limit = where.pop("limit", None)
    run = run_benchmark(BENCHMARKS.get(benchmark), Source(folder, **where), answer, limit=limit)
    return KeptRun(label, "stand-in", "", "none", 0, {}, (run,))


def always(text: str) -> Say:
    return lambda question: text


def rings_only(question: str) -> str:
    return "Yes" if "ring" in question else "No"


def test_differences_by_hand(folder: Path) -> None:
    # Truth: a holds ring and star, b a cross, c nothing. Always yes has 3 of 9 right. Yes to rings only has right the ring and
    # the cross of a, the star of b, star and cross of c.
    found = comparisons([asked(folder, "yes", always("Yes")), asked(folder, "rings", rings_only)])
    assert len(found) == 1 and (found[0].before, found[0].after) == ("yes", "rings")
    change = next(c for c in found[0].changes if c.metric == "pope/official/random/accuracy")
    assert (change.before.value, change.after.value) == pytest.approx((3 / 9, 5 / 9))
    assert change.difference.value == pytest.approx(2 / 9)
    # Right by picture 2, 1, 0 and then 2, 1, 2: one picture differs, and swapping it or not differs as much.
    assert (change.chance.p, change.chance.exact) == (1.0, True)
    assert (change.adjusted, change.verdict) == (1.0, "unclear")
    # Gained: cross of a, star of b, star and cross of c. Lost: star of a, cross of b.
    assert found[0].right["pope/official/random"] == McNemar(4, 2, 2 * (1 + 6 + 15) / 64)
    ratio = next(c for c in found[0].changes if c.metric == "pope/official/random/yes_ratio")
    assert ratio.verdict == "" and math.isnan(ratio.adjusted)


def test_many_pictures_make_a_difference_certain_and_several_runs_make_it_dearer(tmp_path: Path) -> None:
    folder = many(tmp_path, 60)
    first, better, same = (
        asked(folder, label, say) for label, say in (("a", always("Yes")), ("b", always("No")), ("c", always("Yes")))
    )
    alone = accuracy(comparisons([first, better])[0])
    assert alone.verdict == "better" and alone.chance.resolution == 1 / 10_000
    several = comparisons([first, better, same])
    assert accuracy(several[0]).verdict == "better" and accuracy(several[1]).verdict == "unclear"
    assert accuracy(several[0]).adjusted > alone.adjusted >= alone.chance.p == 1 / 10_000
    back = accuracy(comparisons([better, first])[0])
    assert back.verdict == "worse" and back.difference.value == -alone.difference.value


def many(root: Path, pictures: int) -> Path:
    """Questions about things of which three in four are not there."""
    import json

    rows = [
        {
            "question_id": 4 * p + k,
            "image": f"{p}.png",
            "text": f"Is there a thing {k}?",
            "label": "yes" if k == 0 else "no",
        }
        for p in range(pictures)
        for k in range(4)
    ]
    (root / "images").mkdir()
    for p in range(pictures):
        (root / "images" / f"{p}.png").write_bytes(b"%d" % p)
    for split in ("random", "popular", "adversarial"):
        (root / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def accuracy(comparison: Comparison) -> Change:
    return next(change for change in comparison.changes if change.metric == "pope/official/random/accuracy")


def test_other_questions_are_refused_and_named(folder: Path) -> None:
    whole, part = asked(folder, "whole", always("Yes")), asked(folder, "part", always("Yes"), limit=2)
    with pytest.raises(
        DataError, match=r"pope: whole and part were asked other questions: 9 only the first \(random/7"
    ) as e:
        comparisons([whole, part])
    assert "--common" in (e.value.hint or "")


def test_another_truth_is_another_question(folder: Path) -> None:
    first = asked(folder, "first", always("Yes"))
    path = folder / "pope" / "popular.jsonl"
    path.write_text(path.read_text().replace('"label": "no"', '"label": "yes"', 1))
    with pytest.raises(DataError, match=r"1 in both, with other words or another truth \(popular/3\)"):
        comparisons([first, asked(folder, "second", always("Yes"))])


def test_other_pictures_and_other_judges_are_refused(folder: Path) -> None:
    first, second = asked(folder, "first", always("Yes")), asked(folder, "second", always("No"))
    other = replace(second, runs=(replace(second.runs[0], pictures="f" * 64),))
    with pytest.raises(DataError, match="the pictures are not"):
        comparisons([first, other])
    unseen = replace(second, runs=(replace(second.runs[0], pictures=""),))
    assert comparisons([first, unseen])
    judged = replace(second, runs=(replace(second.runs[0], judge="J"),))
    with pytest.raises(DataError, match="first was judged by an unnamed judge and second by J"):
        comparisons([first, judged])


def test_runs_with_nothing_in_common_are_refused(folder: Path) -> None:
    with pytest.raises(DataError, match=r"no benchmark scored in the same way: pope/official; chair/"):
        comparisons([asked(folder, "a", always("Yes")), asked(folder, "b", always("A ring."), "chair")])


def test_the_common_part_is_what_both_were_asked(folder: Path, tmp_path: Path) -> None:
    whole = asked(folder, "whole", always("Yes"))
    part = asked(folder, "part", rings_only, splits=("random", "popular"), limit=2)
    cut, left = common_part([whole, part])
    assert [(one.benchmark, one.questions, one.asked) for one in left] == [("pope", 12, {"whole": 27, "part": 12})]
    assert cut[0].runs[0].data == cut[1].runs[0].data
    direct = asked(folder, "whole", always("Yes"), splits=("random", "popular"), limit=2)
    assert {s.metric: s for s in cut[0].runs[0].results[0].scores} == {
        s.metric: s for s in direct.runs[0].results[0].scores
    }
    found = comparisons(cut)[0]
    assert {c.metric.split("/")[2] for c in found.changes} == {"random", "popular"}
    keep(tmp_path / "kept", cut[1])
    assert load(tmp_path / "kept")[0].runs[0].results[0].counts() == cut[1].runs[0].results[0].counts()


def test_a_count_over_several_splits_loses_what_is_not_common_in_all(folder: Path) -> None:
    def scored(label: str, **where: object) -> KeptRun:
        def answer(image: Path | None, questions: Sequence[str], most: int) -> list[Answer]:
            return [Answer("Yes") for _ in questions]

        run = run_benchmark(BENCHMARKS.get("pope"), Source(folder, **where), answer, variants=["vlmevalkit"])
        return KeptRun(label, "", "", "", 0, {}, (run,))

    cut, _ = common_part([scored("all"), scored("one", splits=("random",))])
    for one in cut:
        assert list(one.runs[0].results[0].counts()) == ["pope/vlmevalkit/random"]
    same, _ = common_part([scored("a"), scored("b")])
    assert next(iter(same[0].runs[0].results[0].counts())) == "pope/vlmevalkit/overall"


def test_nothing_in_common_is_an_error(folder: Path) -> None:
    with pytest.raises(DataError, match="no picture's questions alike"):
        common_part([
            asked(folder, "a", always("Yes"), splits=("random",)), asked(folder, "b", always("Yes"), splits=("popular",))
        ])  # fmt: skip
