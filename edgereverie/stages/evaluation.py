"""Models and bundles to reports."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgereverie.bundle import sha256_of
from edgereverie.records import Answer, Options
from edgereverie.registry import BENCHMARKS
from edgereverie.stages._console import bar, console
from edgereverie.stages.backbones import open_model
from edgereverie.stages.data import draw_scenes

if TYPE_CHECKING:
    from edgereverie.evaluation.run import Run
    from edgereverie.runtime.model import Model


def run_benchmarks(
    model: Model,
    data: Path,
    benchmarks: Sequence[str],
    *,
    limit: int | None,
    guard: str,
    journal: Path | None,
    label: str,
) -> list[Run]:
    """Every benchmark once, resumed from ``journal``/LABEL-BENCHMARK.jsonl when it is there.

    benchmarks: names, each with the way of scoring behind a slash where another than its own is wanted (``pope/vcd``); several
    ways of one benchmark score the same answers.
    """
    from edgereverie.evaluation.run import run_benchmark
    from edgereverie.evaluation.source import Source

    identity = f"{artefact(model)}/{guard}"
    runs = []
    for name, variants in _ways(benchmarks).items():

        def answer(image: Path | None, questions: Sequence[str], most: int) -> list[Answer]:
            model.sight.forget()  # so that answers do not hang on which pictures came before: see stages.batching
            return model.answer_many(image, questions, Options(max_tokens=most), guard)

        path = journal / f"{label}-{name}.jsonl".replace("/", "_").replace(" ", "_") if journal else None
        with bar(f"{label}: {name}") as progress:
            runs.append(
                run_benchmark(
                    BENCHMARKS.get(name),
                    Source(data),
                    answer,
                    variants=variants,
                    limit=limit,
                    journal=path,
                    identity=identity,
                    progress=progress,
                )
            )
    return runs


def _ways(names: Sequence[str]) -> dict[str, list[str]]:
    ways: dict[str, list[str]] = {}
    for name in names:
        benchmark, _, variant = name.partition("/")
        ways.setdefault(benchmark, []).extend([variant] if variant else [])
    return ways


def artefact(model: Model) -> str:
    """A fingerprint of what answers: the bundle's, or the hash of the weights that were loaded."""
    if model.bundle is not None:
        return model.bundle.fingerprint()
    from edgereverie.backbones.base import open_folder

    digest = hashlib.sha256()
    for path in open_folder(model.folder).files():
        digest.update(sha256_of(path).encode())
    return digest.hexdigest()


def evaluate(
    models: Sequence[str],
    *,
    benchmarks: Sequence[str],
    data: Path | None = None,
    limit: int | None = None,
    guard: str = "none",
    out: Path | None = None,
    backend: str = "auto",
) -> Path:
    """Run benchmarks on one or more models; the folder with report.json and report.html. The first is the starting point.

    data: a folder with the benchmarks' files; by default the project's own held-out scenes, drawn into the report folder.
    """
    from edgereverie.evaluation.report import Report, difference, report_run, terminal_table, write_report

    out = out or Path("report")
    if data is None:
        data = out / "scenes"
        if not (data / "manifest.json").is_file():
            draw_scenes(data, train=500, heldout=200, seed=2024, companion_share=0.7)
    gathered: list[tuple[str, list[Run], str, str]] = []
    for path in models:
        with open_model(path, backend=backend) as model:
            label = _label(path, [name for name, *_ in gathered])
            runs = run_benchmarks(
                model, data, benchmarks, limit=limit, guard=guard, journal=out / "answers", label=label
            )
            gathered.append((label, runs, model.engine.backend, artefact(model)))
    columns = tuple(report_run(label, runs, backend=name, artefact=mark) for label, runs, name, mark in gathered)
    first = gathered[0]
    differences = tuple(difference((first[0], first[1]), (label, runs)) for label, runs, *_ in gathered[1:])
    report = Report(
        title="Evaluation",
        runs=columns,
        differences=differences,
        exhibits=exhibits(gathered),
        versions=versions(),
        notes=(f"Guard: {guard}.",),
    )
    write_report(out, report)
    console.print(terminal_table(report))
    return out


def _label(path: str, taken: Sequence[str]) -> str:
    label = path if path == "starter" else "/".join(Path(path).parts[-2:])
    return label if label not in taken else f"{label} ({len(taken) + 1})"


def versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in ("edgereverie", "torch", "transformers", "onnxruntime", "llama-cpp-python"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def exhibits(gathered: Sequence[tuple[str, list[Run], str, str]], most: int = 12) -> tuple[Any, ...]:
    """Questions for the gallery: first those that the runs answer differently, the worst mistakes of the first foremost."""
    from edgereverie.evaluation.report import Exhibit

    shown = []
    by_benchmark = {
        run.benchmark: [(label, r) for label, runs, *_ in gathered for r in runs if r.benchmark == run.benchmark]
        for run in gathered[0][1]
    }
    for columns in by_benchmark.values():
        items = columns[0][1].items
        answers = {label: {p.id: p.answer for p in run.predictions} for label, run in columns}
        disputed = [item for item in items if len({answers[label][item.id].text for label in answers}) > 1]
        for item in (disputed or list(items))[: most // max(1, len(by_benchmark))]:
            shown.append(
                Exhibit(
                    item.image, item.question, item.truth, tuple((label, answers[label][item.id]) for label in answers)
                )
            )
    return tuple(shown)
