"""How a report puts scores into words: the metric behind a name, titles, figures, intervals, p-values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache

from edgereverie.evaluation.comparing import Change
from edgereverie.evaluation.confidence import MEASURES, YES_AUROC
from edgereverie.evaluation.statistics import Metric, ratio
from edgereverie.records import Score
from edgereverie.registry import BENCHMARKS

NOT_AVAILABLE = "n/a"
MINUS = "\N{MINUS SIGN}"
RIGHT = Metric("right", "Right answers", lambda counts: ratio(counts[..., 0], counts[..., 1]))
"""Share of right answers by the marks of a scorer, graded ones in part; columns: sum of ``Mark.right``, answers."""
_OTHERS = {
    RIGHT.name: RIGHT,
    **{
        measure.name: Metric(measure.name, measure.title, lambda counts: counts[..., 0], measure.better, measure.share)
        for measure in (*MEASURES.values(), YES_AUROC)
    },
}
_BESIDE = ("yes_ratio", "recall", "cover")
_NAMES = {
    "hallusionbench": "HallusionBench",
    "llavabench": "LLaVA-Bench",
    "mmbench": "MMBench",
    "mmhal": "MMHal-Bench",
    "mmvet": "MM-Vet",
    "scenes": "Scenes",
    "scienceqa": "ScienceQA",
}


@cache
def metric_of(name: str) -> Metric:
    """How people read a score's name: ``pope/official/random/accuracy`` is an accuracy of the benchmark ``pope``.

    >>> metric_of("chair/table/chair_i").better
    'lower'
    """
    benchmark, variant, last = *name.split("/")[:2], name.rpartition("/")[2]
    ways = BENCHMARKS.get(benchmark).variants if benchmark in BENCHMARKS.names() else {}
    for metric in ways[variant].metrics_of(split_of(name)) if variant in ways else ():
        if metric.name == last:
            return metric
    if last in _OTHERS:
        return _OTHERS[last]
    return Metric(last, last.replace("_", " ").capitalize(), lambda counts: counts[..., 0], better=None, share=False)


def scorer_of(name: str) -> str:
    """``pope/official`` of ``pope/official/random/accuracy``.

    >>> scorer_of("pope/official/random/accuracy")
    'pope/official'
    """
    return "/".join(name.split("/")[:2])


def split_of(name: str) -> str:
    """The part of the benchmark that a score is of, empty where there is one alone.

    >>> split_of("pope/official/random/accuracy"), split_of("chair/table/recall")
    ('random', '')
    """
    return "/".join(name.split("/")[2:-1])


def benchmark_title(benchmark: str) -> str:
    """A benchmark's name as its authors write it.

    >>> benchmark_title("pope"), benchmark_title("hallusionbench")
    ('POPE', 'HallusionBench')
    """
    return _NAMES.get(benchmark, benchmark.upper())


def headline(asked: Mapping[str, int]) -> list[str]:
    """The figures that a scorer is known by, of its scores' names and how many answers each is of.

    The first metric, and a yes ratio or recall that shows what that one hides, of the split with most answers; of equal ones of
    the one called all, else of the last, as benchmarks go from easy to hard. Splits with a first metric of their own have
    headlines of their own.

    >>> headline({f"pope/official/{s}/{m}": 9 for s in ("random", "popular") for m in ("accuracy", "f1", "yes_ratio")})
    ['pope/official/popular/accuracy', 'pope/official/popular/yes_ratio']
    """
    splits: dict[str, list[str]] = {}
    for name in asked:
        splits.setdefault(split_of(name), []).append(name)
    largest: dict[str, list[str]] = {}
    for names in splits.values():
        known = largest.setdefault(names[0].rpartition("/")[2], names)
        if (asked[names[0]], split_of(names[0]) == "all") >= (asked[known[0]], split_of(known[0]) == "all"):
            largest[names[0].rpartition("/")[2]] = names
    found = []
    for names in largest.values():
        beside = [name for last in _BESIDE for name in names[1:] if name.rpartition("/")[2] == last]
        found += names[:1] + beside[:1]
    return found


def title_of(name: str) -> str:
    """The whole name for people, without its scorer.

    >>> title_of("pope/official/adversarial/yes_ratio"), title_of("chair/table/chair_i")
    ('POPE adversarial yes ratio', 'CHAIR_i')
    """
    benchmark, title, split = name.split("/")[0], metric_of(name).title, split_of(name)
    if title.upper().startswith(benchmark.upper()):
        return " ".join(filter(None, (title, split)))
    return " ".join(filter(None, (benchmark_title(benchmark), split, lowered(title))))


def lowered(title: str) -> str:
    """A title inside a sentence; abbreviations stay as they are.

    >>> lowered("Yes ratio"), lowered("F1"), lowered("CHAIR_i")
    ('yes ratio', 'F1', 'CHAIR_i')
    """
    return title if title[1:2].isupper() or any(ch.isdigit() for ch in title) else title[:1].lower() + title[1:]


def figure(value: float, metric: Metric, *, signed: bool = False) -> str:
    """A value as people read it; shares in percent, differences of shares in percentage points, other figures to three digits.

    >>> accuracy = metric_of("pope/official/random/accuracy")
    >>> figure(0.8342, accuracy), figure(0.05, accuracy, signed=True), figure(float("nan"), accuracy)
    ('83.4 %', '+5.0 pp', 'n/a')
    """
    if math.isnan(value):
        return NOT_AVAILABLE
    shown = 100 * value if metric.share else value
    digits = 1 if metric.share or abs(value) >= 10 else 2
    number = f"{shown:{'+' if signed else ''}.{digits}f}".replace("-", MINUS)
    return number + ((" pp" if signed else " %") if metric.share else "")


def interval(score: Score, metric: Metric, *, signed: bool = False) -> str:
    """The interval's two ends without unit, such as ``81.0 to 85.9``.

    >>> interval(Score("", 0.83, 0.81, 0.859, 3000), metric_of("pope/official/random/accuracy"))
    '81.0 to 85.9'
    """
    if math.isnan(score.low) or math.isnan(score.high):
        return NOT_AVAILABLE
    ends = (figure(end, metric, signed=signed) for end in (score.low, score.high))
    return " to ".join(end.removesuffix(" %").removesuffix(" pp") for end in ends)


def p_of(change: Change) -> float:
    """The p-value to go by: adjusted for all that were made where a direction is good, as it is elsewhere."""
    return change.chance.p if math.isnan(change.adjusted) else change.adjusted


def probability(p: float) -> str:
    """A p-value in words, empty where it is undefined.

    >>> probability(0.03124), probability(0.0001), probability(math.nan)
    ('p = 0.031', 'p < 0.001', '')
    """
    if math.isnan(p):
        return ""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
