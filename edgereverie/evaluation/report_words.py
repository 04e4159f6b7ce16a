"""How a report puts scores into words: the metric behind a name, titles, figures, intervals, p-values and verdicts."""

from __future__ import annotations

import math
from functools import cache

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


def probability(p: float | None) -> str:
    """A p-value in words, empty where there is none.

    >>> probability(0.03124), probability(0.0001), probability(None)
    ('p = 0.031', 'p < 0.001', '')
    """
    if p is None or math.isnan(p):
        return ""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def judgement(score: Score | None, metric: Metric) -> str:
    """What a paired difference shows: ``better``, ``worse``, ``unclear`` (the interval holds zero), or nothing.

    >>> judgement(Score("", -0.2, -0.3, -0.1, 100), metric_of("chair/table/chair_i"))
    'better'
    """
    if score is None or metric.better is None or math.isnan(score.value):
        return ""
    if score.low <= 0 <= score.high:
        return "unclear"
    return "better" if (score.value > 0) == (metric.better == "higher") else "worse"
