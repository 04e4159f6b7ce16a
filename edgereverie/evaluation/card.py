"""The hallucination card: what an artefact gets wrong, how often, measured how, with which thresholds, and what nobody measured.

``card.md`` for people and ``card.json`` for programs say the same. Every statement has its figure, every figure its scorer,
number of answers, interval and the hash of what was asked.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgereverie import __version__
from edgereverie.bundle import Bundle, carded, write_text
from edgereverie.errors import DataError
from edgereverie.evaluation.benchmarks.base import BenchmarkResult, Item, Mark, per_unit
from edgereverie.evaluation.exhibits import is_wrong, mistake
from edgereverie.evaluation.report import ReportRun, column
from edgereverie.evaluation.report_words import metric_of, scorer_of, title_of
from edgereverie.evaluation.statistics import bootstrap, ratio
from edgereverie.records import Score
from edgereverie.registry import BENCHMARKS
from edgereverie.told.values import finite

if TYPE_CHECKING:
    from edgereverie.evaluation.kept import KeptRun
    from edgereverie.evaluation.run import Run

_KINDS = 12  # of mistakes, parts and things that a card lists, each the most frequent first
_EXAMPLES = 3
_LONGEST = 240  # characters of a text that an example quotes


def write_card(kept: KeptRun, bundle: Path | None, out: Path) -> tuple[Path, Path]:
    """Write ``card.md`` and ``card.json`` into the folder ``out``, and into the bundle that was measured, if it was one.

    Returns the two in ``out``. Raises DataError when the run was of another artefact than the bundle is.
    """
    from edgereverie.evaluation.card_text import markdown

    measured = Bundle.load(bundle) if bundle is not None else None
    if measured is not None and measured.fingerprint() != kept.artefact:
        raise DataError(
            f"{bundle}: the run {kept.label!r} was of artefact {kept.artefact[:12] or 'unknown'}, this bundle is "
            f"{measured.fingerprint()[:12]}.",
            hint=f"Measure this one: edgereverie eval {bundle}",
        )
    card = card_of(kept, measured)
    text = markdown(card)
    out.mkdir(parents=True, exist_ok=True)
    paths = out / carded.NAMES["card"], out / carded.NAMES["card_data"]
    write_text(paths[0], text)
    write_text(paths[1], carded.text_of(card))
    if measured is not None:
        carded.attach(measured, text, card)
    return paths


def card_of(kept: KeptRun, bundle: Bundle | None) -> dict[str, Any]:
    """The card as plain JSON values; figures that are undefined are null."""
    run = column(kept)
    return finite(
        {
            "edgereverie": carded.KIND,
            "version": carded.VERSION,
            "made_by": f"edgereverie {__version__}",
            "date": datetime.now(UTC).date().isoformat(),
            "artefact": _artefact(kept, bundle),
            "measured": [_measured(kept, run, result) for kept_run in kept.runs for result in kept_run.results],
            "mistakes": [_mistakes(one, result) for one in kept.runs for result in one.results[:1] if result.marks],
            "thresholds": _thresholds(bundle),
            "not_measured": _lacking(kept, bundle),
        }
    )


def _artefact(kept: KeptRun, bundle: Bundle | None) -> dict[str, Any]:
    told = {
        "label": kept.label,
        "fingerprint": kept.artefact,
        "backend": kept.backend,
        "guard": kept.guard or "none",
        "seed": kept.seed,
        "versions": dict(kept.versions),
        "calibration": carded.calibration_hash(bundle) if bundle else "",
    }
    if bundle is None:
        return told
    return told | {"name": bundle.name, "target": bundle.target, "quantization": bundle.quantization}


def _measured(kept: KeptRun, run: ReportRun, result: BenchmarkResult) -> dict[str, Any]:
    """One way of scoring: whose rule, who judged, on what, and every figure that came of it."""
    return {
        "scorer": result.scorer,
        "rule": run.scorers[result.scorer],
        "judge": result.judge or None,
        "answers": sum(len(one.items) for one in kept.runs if one.benchmark == result.benchmark),
        "questions_sha256": run.data[result.benchmark],
        "pictures_sha256": run.pictures[result.benchmark] or None,
        "scores": [_score(run, score) for score in run.scores if scorer_of(score.metric) == result.scorer],
    }


def _score(run: ReportRun, score: Score) -> dict[str, Any]:
    metric = metric_of(score.metric)
    told = {
        "metric": score.metric,
        "title": title_of(score.metric),
        "share": metric.share,
        "better": metric.better,
        "value": score.value,
        "low": score.low,
        "high": score.high,
        "n": score.n,
    }
    truth = run.truths.get(score.metric.rpartition("/")[0])
    return told | {"truth": truth} if metric.name == "yes_ratio" and truth is not None else told


def _mistakes(run: Run, result: BenchmarkResult) -> dict[str, Any]:
    """How many answers the benchmark's scorer found fault with, by part of the benchmark and by kind of mistake."""
    items = {item.id: item for item in run.items}
    answers = {one.id: one.answer.text for one in run.predictions}
    marks = [mark for mark in result.marks if mark.id in items]
    kinds = Counter(mistake(mark) for mark in marks if is_wrong(mark))
    parts = Counter(_part(items[mark.id]) for mark in marks)
    return {
        "scorer": result.scorer,
        "judge": result.judge or None,
        **_share(marks, items, is_wrong),
        "parts": [
            {"part": part} | _share([mark for mark in marks if _part(items[mark.id]) == part], items, is_wrong)
            for part in list(parts)[:_KINDS]
            if len(parts) > 1
        ],
        "kinds": [
            {"kind": kind}
            | _share(marks, items, lambda mark, kind=kind: is_wrong(mark) and mistake(mark) == kind)
            | {"things": _things(marks, kind), "examples": list(_examples(marks, kind, items, answers))}
            for kind, _ in kinds.most_common(_KINDS)
        ],
    }


def _part(item: Item) -> str:
    return item.kind or item.split


def _share(marks: Sequence[Mark], items: Mapping[str, Item], counts: Callable[[Mark], bool]) -> dict[str, Any]:
    """How many of the answers it holds for, with the 95 % interval over units.

    Where it holds for none or for all, resampling has nothing to draw from, and the interval is the exact one of as many
    trials as there are units (Clopper and Pearson 1934).
    """
    _, table = per_unit([items[mark.id].unit for mark in marks], [(int(counts(mark)), 1) for mark in marks], 2)
    found = bootstrap(table, [lambda sums: ratio(sums[..., 0], sums[..., 1])])[0]
    wrong, end = int(table[:, 0].sum()), 0.025 ** (1 / len(table))
    low, high = {0: (0.0, 1 - end), len(marks): (end, 1.0)}.get(wrong, (found.low, found.high))
    return {"wrong": wrong, "n": len(marks), "value": found.value, "low": low, "high": high}


def _things(marks: Sequence[Mark], kind: str) -> dict[str, int]:
    """What such notes name behind their colon, most often first; empty where it is named once each."""
    named = Counter(
        thing.strip()
        for mark in marks
        if is_wrong(mark) and mistake(mark) == kind
        for thing in re.split(r"[,;.]\s", mark.note.partition(":")[2].rstrip(".") + " ")
        if thing.strip()
    )
    return {thing: times for thing, times in named.most_common(_KINDS) if times > 1}


def _examples(
    marks: Sequence[Mark], kind: str, items: Mapping[str, Item], answers: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """The worst of a kind, short ones first, about different pictures and with different questions where there are some."""
    found = [mark for mark in marks if is_wrong(mark) and mistake(mark) == kind and mark.id in answers]
    found.sort(key=lambda mark: (-mark.faults, len(answers[mark.id])))
    asked: Counter[str] = Counter()
    by_unit: dict[str, tuple[int, Mark]] = {}
    for mark in found:
        item = items[mark.id]
        if item.unit not in by_unit:
            by_unit[item.unit] = asked[item.question], mark
            asked[item.question] += 1
    for _, mark in sorted(by_unit.values(), key=lambda entry: entry[0])[:_EXAMPLES]:
        item = items[mark.id]
        yield {
            "id": mark.id,
            "question": _quoted(item.question),
            "truth": _quoted(item.truth),
            "answer": _quoted(answers[mark.id]),
            "read": _quoted(mark.read),
            "note": _quoted(mark.note),
        }


def _quoted(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= _LONGEST else plain[: _LONGEST - 1].rstrip() + "…"


def _thresholds(bundle: Bundle | None) -> dict[str, Any] | None:
    """The rules that the bundle's calibration promises, as its manifest has them; None without one."""
    if bundle is None or bundle.calibration is None:
        return None
    told = bundle.calibration
    return {key: told.get(key) for key in ("data", "backend", "images", "rules", "lacking", "guards", "seed")}


def _lacking(kept: KeptRun, bundle: Bundle | None) -> list[str]:
    done = {run.benchmark for run in kept.runs}
    found = []
    if missing := [name for name in BENCHMARKS.names() if name not in done]:
        found.append(f"Benchmarks that were not run: {', '.join(missing)}.")
    found.append(
        f"Other backends than {kept.backend or 'the one that answered, whose name is not known'}, and other guards than "
        f"{kept.guard or 'none'}: figures of one do not hold for another."
    )
    found.append("Pictures and questions unlike those whose hashes stand above.")
    found.append("The spread over training seeds: this is one artefact.")
    if bundle is not None and bundle.calibration is None:
        found.append("Error rates that could be promised: the bundle was not calibrated.")
    if not any(one.answer.confidence is not None for run in kept.runs for one in run.predictions):
        found.append("How sure the model is: no answer came with a confidence.")
    if not kept.artefact:
        found.append("Which artefact answered: the answers came without its fingerprint.")
    return found
