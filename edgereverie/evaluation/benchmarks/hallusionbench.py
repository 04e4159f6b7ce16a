"""HallusionBench: the same question about a figure, an altered one and none at all (Guan et al., CVPR 2024).

    hallusionbench/HallusionBench.json      as the authors publish it: 1,129 questions, 455 pairs, 346 figures
    hallusionbench/hallusion_bench/         the figures, as their archive unpacks

A pair is one question about all figures of its set, a figure all questions about it, and either counts when all of it is right.
Pairs span figures and figures span pairs, so what is resampled is the set (167 of them), which holds both whole.
Free answers want a judge (``official``); ``lmms`` and ``vlmevalkit`` read yes or no out of them instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from edgereverie.evaluation.answer_files import Faults, by_id
from edgereverie.evaluation.benchmarks._hallusion_counts import (
    GROUP_COLUMNS,
    blame,
    by_category,
    group_metrics,
    group_tally,
    is_right,
    judged_metrics,
    judged_tally,
)
from edgereverie.evaluation.benchmarks._hallusion_items import HallusionItem, id_of, items_of
from edgereverie.evaluation.benchmarks._hallusion_judge import JUDGE, originals, same_id, says_same, verdict_of
from edgereverie.evaluation.benchmarks.base import Benchmark, Counted, Mark, Tally, Variant
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
            "vlmevalkit": Variant(kit, (*accuracies, mean), _counting_kit(lambda item: item.subcategory)),
            "vlmevalkit-tsv": Variant(
                f"{kit}, on the groups of its own file", (*accuracies, mean), _counting_kit(lambda item: item.kind)
            ),
        }

    def items(self, source: Source, limit: int | None = None) -> list[HallusionItem]:
        """Ids as ``VD_illusion_0_1_2``, splits VD and VS. limit: the first so many sets."""
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
    blamed = {
        item.id: blame(
            item, verdicts[item.id], verdicts[first[item.pair].id], says_same(replies.get(same_id(item), ""))
        )
        for item in items
    }
    tallies = tuple(judged_tally(name, part, verdicts, blamed) for name, part in by_category(items))
    marks = []
    for item in items:
        right = float(is_right(item, verdicts[item.id]))
        marks.append(Mark(item.id, verdicts[item.id], right, 1 - right, _NOTES.get(blamed[item.id], "")))
    return Counted(tallies, tuple(marks))


def _count_lmms(items: Sequence[HallusionItem], texts: Mapping[str, str]) -> Counted:
    """Every answer that holds "yes" is a yes, every other a no. ``image``: what its task asks, the questions with a figure."""
    said = {item.id: "yes" in texts[item.id].lower() for item in items}
    right = {item.id: said[item.id] == item.yes for item in items}
    tallies = [group_tally("", items, right)]
    shown = [item for item in items if item.visual != "0"]
    if 0 < len(shown) < len(items):
        tallies.append(group_tally("image", shown, right))
    return Counted(tuple(tallies), tuple(_mark(item, said[item.id]) for item in items))


def _counting_kit(
    finer: Callable[[HallusionItem], str],
) -> Callable[[Sequence[HallusionItem], Mapping[str, str]], Counted]:
    """VLMEvalKit's counts, of questions with a figure alone. finer: what the questions' l2-category is.

    It groups by l2-category, set and figure or question. Its file says ``VD_ocr`` there, as the logs that people publish show
    (455 pairs, 346 figures); with ``ocr``, the sets of VD and VS that bear the same number fall together (429 and 332).
    """

    def count(items: Sequence[HallusionItem], texts: Mapping[str, str]) -> Counted:
        said = {item.id: yes_no.vlmevalkit(texts[item.id]) for item in items}
        right = {item.id: said[item.id] is item.yes for item in items}
        shown = [item for item in items if item.visual != "0"]
        parts = [*by_category(shown), *((name.replace("/", "_"), part) for name, part in _by(shown, finer).items())]
        marks = (_mark(item, said[item.id], counted=item.visual != "0") for item in items)
        return Counted(tuple(tally(name, part, right) for name, part in parts), tuple(marks))

    def tally(name: str, part: Sequence[HallusionItem], right: Mapping[str, bool]) -> Tally:
        return group_tally(
            name,
            part,
            right,
            pair=lambda item: (finer(item), item.set_id, item.question_id),
            figure=lambda item: (finer(item), item.set_id, item.figure_id),
            unit=lambda item: f"{finer(item)}/{item.set_id}",
        )

    return count


def _by(items: Sequence[HallusionItem], name: Callable[[HallusionItem], str]) -> dict[str, list[HallusionItem]]:
    parts: dict[str, list[HallusionItem]] = {}
    for item in items:
        parts.setdefault(name(item), []).append(item)
    return parts


def _mark(item: HallusionItem, said: bool | None, *, counted: bool = True) -> Mark:
    read = "unread" if said is None else "yes" if said else "no"
    right = said is item.yes
    note = "" if right else "neither yes nor no" if said is None else f"said {read}, which is not so"
    return Mark(
        item.id, read, float(right), float(not right), note if counted else "asked without a figure, not counted"
    )


BENCHMARK = HallusionBench()
