"""HallusionBench: the same question about a figure, an altered one and none at all (Guan et al., CVPR 2024).

    hallusionbench/HallusionBench.json      as the authors publish it: 1,129 questions, 455 pairs, 346 figures
    hallusionbench/hallusion_bench/         the figures, as their archive unpacks

A pair is one question about all figures of its set, a figure all questions about it, and either counts when all of it is right.
Pairs span figures and figures span pairs, so what is resampled is the set, which holds both whole; sets of VD and VS that share
their subcategory and number are one (154 in all), because VLMEvalKit's groups run across them.
Free answers want a judge (``official``); ``lmms`` and ``vlmevalkit`` read yes or no out of them instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from edgereverie.evaluation.answer_files import Faults, by_id
from edgereverie.evaluation.benchmarks._hallusion_counts import (
    CORRECT,
    GROUP_COLUMNS,
    UNCLEAR,
    asks_same,
    blame,
    by_category,
    group_metrics,
    group_tally,
    is_right,
    judged_metrics,
    judged_tally,
)
from edgereverie.evaluation.benchmarks._hallusion_items import HallusionItem, id_of, items_of
from edgereverie.evaluation.benchmarks._hallusion_judge import JUDGE, originals, same_id, says_same, valid, verdict_of
from edgereverie.evaluation.benchmarks.base import Benchmark, Counted, Mark, Variant
from edgereverie.evaluation.rows import rows_of
from edgereverie.evaluation.source import Source
from edgereverie.evaluation.statistics import Metric
from edgereverie.text import yes_no

_NOTES = {
    (True, True): "language hallucination or visual illusion",
    (True, False): "language hallucination",
    (False, True): "visual illusion",
}


class HallusionBench(Benchmark):
    """All questions, those without a figure among them."""

    name = "hallusionbench"
    max_tokens = 128

    def __init__(self) -> None:
        lmms = "EvolvingLMMs-Lab/lmms-eval tasks/hallusion_bench/evaluate_hb.py, *_intern"
        kit = "open-compass/VLMEvalKit dataset/utils/yorn.py, Hallusion_rating"
        accuracies = group_metrics(GROUP_COLUMNS)
        mean = Metric(
            "overall", "Mean of aAcc, fAcc and qAcc", lambda counts: sum(m.formula(counts) for m in accuracies) / 3
        )
        self.variants = {
            "official": Variant("tianyi-lab/HallusionBench evaluation.py", judged_metrics(), _count_judged, JUDGE),
            "lmms": Variant(lmms, accuracies, _count_lmms),
            "vlmevalkit": Variant(kit, (*accuracies, mean), _count_kit),
            "vlmevalkit-tsv": Variant(f"{kit}, on its own file's groups", (*accuracies, mean), _count_kit_on_its_file),
        }

    def items(self, source: Source, limit: int | None = None) -> list[HallusionItem]:
        """Ids as ``VD_illusion_0_1_2``, splits VD and VS, or ``image`` for those with a figure. limit: the first so many sets."""
        return items_of(source, limit)

    def answers(self, path: Path, items: Sequence[HallusionItem]) -> dict[str, str]:
        """Rows of questions with ``model_prediction``, as the authors ask for them, or with ``id`` and a text."""
        return by_id(rows_of(path), items, id_of, ("model_prediction", "prediction", "text", "response"))


def _count_judged(items: Sequence[HallusionItem], replies: Mapping[str, str]) -> Counted:
    faults = Faults()
    for item in items:
        if item.id not in replies:
            faults.add("questions without a judgement", item.id)
    faults.check("Judge the answers to the very questions that are scored.")
    verdicts = {item.id: verdict_of(replies[item.id]) for item in items}
    first = originals(items)
    blamed, unreadable = {}, {item.id for item in items if not valid(replies[item.id])}
    for item in items:
        verdict, before, same = verdicts[item.id], verdicts[first[item.pair].id], replies.get(same_id(item), "")
        blamed[item.id] = blame(item, verdict, before, says_same(same))
        if asks_same(item, verdict, before) and not valid(same):
            unreadable.add(item.id)
    tallies = tuple(judged_tally(name, part, verdicts, blamed, unreadable) for name, part in by_category(items))
    return Counted(tallies, tuple(_judged_mark(item, verdicts[item.id], blamed[item.id]) for item in items))


def _judged_mark(item: HallusionItem, verdict: str, blamed: tuple[bool, bool]) -> Mark:
    """Read as the script reads a verdict: an answer that is correct said what is true, one that is incorrect the opposite."""
    read = UNCLEAR if verdict == UNCLEAR else "yes" if (verdict == CORRECT) == item.yes else "no"
    right = float(is_right(item, verdict))
    return Mark(item.id, read, right, 1 - right, _NOTES.get(blamed, ""))


def _count_lmms(items: Sequence[HallusionItem], texts: Mapping[str, str]) -> Counted:
    """Every answer that holds "yes" is a yes, every other a no. ``image``: the questions with a figure, which its task asks."""
    said = {item.id: "yes" in texts[item.id].lower() for item in items}
    right = {item.id: said[item.id] == item.yes for item in items}
    tallies = [group_tally("", items, right)]
    shown = [item for item in items if item.visual != "0"]
    if shown:
        tallies.append(group_tally("image", shown, right))
    return Counted(tuple(tallies), tuple(_mark(item, said[item.id]) for item in items))


def _count_kit(items: Sequence[HallusionItem], texts: Mapping[str, str]) -> Counted:
    """VLMEvalKit's counts, of questions with a figure alone, in groups of one l2-category, set and figure or question.

    The l2-category is the subcategory here, so that the sets of VD and VS that bear the same number fall together: 429 pairs and
    332 figures.
    """
    shown, right, marks = _kit_reads(items, texts)

    def pair(item: HallusionItem) -> tuple[str, ...]:
        return (item.subcategory, item.set_id, item.question_id)

    def figure(item: HallusionItem) -> tuple[str, ...]:
        return (item.subcategory, item.set_id, item.figure_id)

    return Counted(tuple(group_tally(name, part, right, pair, figure) for name, part in by_category(shown)), marks)


def _count_kit_on_its_file(items: Sequence[HallusionItem], texts: Mapping[str, str]) -> Counted:
    """The same with the l2-categories of VLMEvalKit's own file, ``VD_ocr``, as the logs that people publish show them: 455 pairs
    and 346 figures."""
    shown, right, marks = _kit_reads(items, texts)
    kinds = [
        (kind, [item for item in shown if item.kind == kind]) for kind in dict.fromkeys(item.kind for item in shown)
    ]
    parts = [*by_category(shown), *((kind.replace("/", "_"), part) for kind, part in kinds)]
    return Counted(tuple(group_tally(name, part, right) for name, part in parts), marks)


def _kit_reads(
    items: Sequence[HallusionItem], texts: Mapping[str, str]
) -> tuple[list[HallusionItem], dict[str, bool], tuple[Mark, ...]]:
    """The questions that it asks, which of their answers are right, and the marks."""
    shown = [item for item in items if item.visual != "0"]
    said = {item.id: yes_no.vlmevalkit(texts[item.id]) for item in shown}
    right = {item.id: said[item.id] is item.yes for item in shown}
    return shown, right, tuple(_mark(item, said[item.id]) for item in shown)


def _mark(item: HallusionItem, said: bool | None) -> Mark:
    read = "unread" if said is None else "yes" if said else "no"
    right = said is item.yes
    note = "" if right else "neither yes nor no" if said is None else f"said {read}, which is not so"
    return Mark(item.id, read, float(right), float(not right), note)


BENCHMARK = HallusionBench()
