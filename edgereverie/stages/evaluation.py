"""Models and bundles to reports."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

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
    from edgereverie.evaluation.kept import KeptRun, keep
    from edgereverie.evaluation.report import report_of, terminal_table, write_report

    out = out or Path("report")
    if data is None:
        data = out / "scenes"
        if not (data / "manifest.json").is_file():
            draw_scenes(data, train=500, heldout=200, seed=2024, companion_share=0.7)
    gathered: list[KeptRun] = []
    for path in models:
        with open_model(path, backend=backend) as model:
            label = _label(path, [one.label for one in gathered])
            runs = run_benchmarks(
                model, data, benchmarks, limit=limit, guard=guard, journal=out / "answers", label=label
            )
            gathered.append(KeptRun(label, model.engine.backend, artefact(model), guard, 0, versions(), tuple(runs)))
    for one in gathered:
        keep(out, one)
    report = report_of(gathered, title="Evaluation", notes=(f"Guard: {guard}.",))
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
