"""Models, bundles and servers to reports."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edgereverie.bundle import MANIFEST, Bundle
from edgereverie.errors import DataError
from edgereverie.registry import BENCHMARKS
from edgereverie.stages._answerers import Answerers, Asked, answerers, artefact, in_process, require_possible
from edgereverie.stages._console import console, long_bar
from edgereverie.stages._judges import JudgeAt, judging, require_judge
from edgereverie.stages._served import is_server
from edgereverie.stages.data import draw_scenes

if TYPE_CHECKING:
    from edgereverie.evaluation.kept import KeptRun
    from edgereverie.evaluation.run import Questions, Run
    from edgereverie.runtime.model import Model

__all__ = ["Asked", "Chosen", "JudgeAt", "artefact", "evaluate", "run_benchmarks", "versions"]


@dataclass(frozen=True, slots=True)
class Chosen:
    """What is asked. benchmarks: names, each with the way of scoring behind a slash where another than its own is wanted
    (``pope/vcd``); several ways of one benchmark score the same answers. data: the folder with their files. images: of their
    pictures, where it is another. splits: only these parts. limit: the first so many pictures of each.
    """

    benchmarks: Sequence[str]
    data: Path
    images: Path | None = None
    splits: Sequence[str] = field(default_factory=tuple)
    limit: int | None = None

    def read(self) -> list[Questions]:
        """Every benchmark's questions, checked. Raises DataError."""
        from edgereverie.evaluation.run import questions
        from edgereverie.evaluation.source import Source

        source = Source(self.data, self.images, splits=tuple(self.splits))
        return [
            questions(BENCHMARKS.get(name), source, variants=ways, limit=self.limit)
            for name, ways in _ways(self.benchmarks).items()
        ]


def evaluate(
    models: Sequence[str],
    *,
    benchmarks: Sequence[str],
    data: Path | None = None,
    images: Path | None = None,
    splits: Sequence[str] = (),
    limit: int | None = None,
    asked: Asked | None = None,
    judge: JudgeAt | None = None,
    labels: Sequence[str] = (),
    out: Path | None = None,
    card: bool = False,
) -> Path:
    """Run benchmarks on models, bundles and servers; the folder with report.json and report.html. The first is the starting
    point that the others are compared with.

    benchmarks, data, images, splits, limit: see ``Chosen``; without data the project's own held-out scenes, drawn into the
    report folder. asked: how models are asked, plainly where it is None. labels: what people call the models, all or none of
    them. card: write each model's hallucination card into the folder, or its cards/LABEL where there are several, and into its
    bundle where it is one. What cannot work is told before a model is loaded; a run that was killed goes on where it was when
    the same call is made again.
    """
    from edgereverie.evaluation.kept import keep
    from edgereverie.evaluation.report import report_of, terminal_table, write_report

    out, asked = out or Path("report"), asked or Asked()
    names = _labels(models, labels, asked)
    for place in models:
        require_possible(place, asked)
    tests = Chosen(benchmarks, data or _own_scenes(out), images, splits, limit).read()
    require_judge(judge, tests, len(models))
    kept: list[KeptRun] = []
    notes: list[str] = []
    for place, label in zip(models, names, strict=True):
        one, remarks = _evaluated(place, label, tests, asked, judge, out)
        keep(out, one)
        kept.append(one)
        notes += [f"{label}: {number:,} {what}." for what, number in remarks.items()]
    if asked.append:
        notes.insert(0, f"Behind every question stood: {asked.append}")
    parity = {name: bundle.parity for name, place in zip(names, models, strict=True) if (bundle := _bundle(place))}
    report = report_of(kept, title="Evaluation", notes=notes, parity=parity)
    write_report(out, report)
    console.print(terminal_table(report))
    if card:
        _write_cards(models, kept, out)
    return out


def _evaluated(
    place: str, label: str, tests: Sequence[Questions], asked: Asked, judge: JudgeAt | None, out: Path
) -> tuple[KeptRun, dict[str, int]]:
    """The run of one model, and remarks on its answers. A judge is opened when the model is closed: not all have room for two."""
    from edgereverie.evaluation.kept import KeptRun
    from edgereverie.evaluation.run import scored

    with answerers(place, asked) as ready:
        runs = [_run(test, ready, label, out / "answers") for test in tests]
    if judge is None:
        runs = [scored(run, test) for run, test in zip(runs, tests, strict=True)]
    else:
        with judging(judge, out / "judgements", label) as said:
            runs = [scored(run, test, said) for run, test in zip(runs, tests, strict=True)]
    kept = KeptRun(label, ready.backend, ready.artefact, asked.guard, 0, versions(), tuple(runs))
    return kept, dict(ready.remarks)


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
    """Every benchmark once on a model that is open, resumed from ``journal``/LABEL-BENCHMARK.jsonl when it is there.

    benchmarks: as ``Chosen`` has them; none that needs a judge.
    """
    from edgereverie.evaluation.run import scored

    ready = in_process(model, Asked(guard))
    return [scored(_run(test, ready, label, journal), test) for test in Chosen(benchmarks, data, limit=limit).read()]


def _run(test: Questions, ready: Answerers, label: str, journals: Path | None) -> Run:
    """One benchmark's answers, each picture's on the disk before the next is asked about."""
    from edgereverie.evaluation.run import ask

    name = test.benchmark.name
    path = journals / f"{label}-{name}.jsonl".replace("/", "_").replace(" ", "_") if journals else None
    with _alone(path), long_bar(f"{label}: {name}") as progress:
        run = ask(test, ready.hands, journal=path, identity=ready.identity, progress=progress)
    if run.resumed:
        console.print(f"{label}: {run.resumed:,} of {len(run.items):,} were answered before", markup=False)
    return run


@contextmanager
def _alone(journal: Path | None) -> Iterator[None]:
    """Raises DataError when another process is at work on this journal."""
    from edgereverie.synthesis.journal import lock_file

    if journal is None:
        yield
        return
    journal.parent.mkdir(parents=True, exist_ok=True)
    with journal.open("ab") as stream:
        lock_file(stream, journal)
        yield


def _ways(names: Sequence[str]) -> dict[str, list[str]]:
    """Ways of scoring by benchmark, "" for its own.

    >>> _ways(["pope", "pope/vcd", "chair"])
    {'pope': ['', 'vcd'], 'chair': ['']}
    """
    ways: dict[str, list[str]] = {}
    for name in names:
        benchmark, _, variant = name.partition("/")
        ways.setdefault(benchmark, []).append(variant)
    return ways


def _own_scenes(out: Path) -> Path:
    data = out / "scenes"
    if not (data / "manifest.json").is_file():
        draw_scenes(data, train=500, heldout=200, seed=2024, companion_share=0.7)
    return data


def _labels(models: Sequence[str], labels: Sequence[str], asked: Asked) -> list[str]:
    """One name for each model, no two alike. Raises DataError for labels that are."""
    if labels and len(labels) != len(models):
        raise DataError(f"{len(labels)} labels for {len(models)} models.", hint="Give each model one, in their order.")
    if len(set(labels)) < len(labels):
        raise DataError(f"Two models would be called alike: {', '.join(labels)}.", hint="Give each its own label.")
    found = list[str]()
    for place in models if not labels else ():
        name = _label(place, asked)
        found.append(name if name not in found else f"{name} ({len(found) + 1})")
    return found or list(labels)


def _label(place: str, asked: Asked) -> str:
    if is_server(place):
        return asked.served or place.partition("://")[2].strip("/")
    return "/".join(Path(place).parts[-2:])


def _bundle(place: str) -> Bundle | None:
    return None if is_server(place) or not (Path(place) / MANIFEST).is_file() else Bundle.load(Path(place))


def _write_cards(models: Sequence[str], kept: Sequence[KeptRun], out: Path) -> None:
    from edgereverie.evaluation.card import write_card
    from edgereverie.evaluation.kept import file_name

    for place, one in zip(models, kept, strict=True):
        bundle = _bundle(place)
        folder = out if len(kept) == 1 else out / "cards" / file_name(one.label)
        for path in write_card(one, bundle.folder if bundle else None, folder):
            console.print(f"wrote {path}", markup=False, soft_wrap=True)


def versions() -> dict[str, str]:
    """Of the packages that take part in answering."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in ("edgereverie", "torch", "transformers", "onnxruntime", "llama-cpp-python"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
