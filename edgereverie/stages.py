"""The stages, one function each: the only place where data, tuning, export, runtime and evaluation meet.

Each reads a recipe section or a folder and leaves a folder that the next one accepts; the command line adds nothing but
parsing and printing.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from edgereverie.bundle import MANIFEST, Bundle, new_folder, sha256_of, write_text
from edgereverie.errors import ExportError, MissingPackage, TrainError
from edgereverie.records import Answer, Options, Sample, as_json
from edgereverie.registry import BENCHMARKS, METHODS

if TYPE_CHECKING:
    from edgereverie.backbones.base import ModelFolder
    from edgereverie.data.mix import Counts
    from edgereverie.evaluation.run import Run
    from edgereverie.recipe import Recipe
    from edgereverie.runtime.model import Model

console = Console(stderr=True, highlight=False)


@contextmanager
def _bar(title: str) -> Iterator[Any]:
    """A progress bar as a callable of (done, total)."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
    ) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


# Data


def draw_scenes(out: Path, *, train: int, heldout: int, seed: int, companion_share: float, force: bool = False) -> Path:
    """Drawn scenes with training data in every form and benchmark questions; see ``data.scenes.files``."""
    from edgereverie.data.scenes.files import draw_dataset

    with _bar("draw scenes") as progress:
        return draw_dataset(
            out,
            train=train,
            heldout=heldout,
            seed=seed,
            companion_share=companion_share,
            force=force,
            progress=progress,
        )


def _samples(recipe: Recipe, out: Path) -> tuple[list[Sample], Path | None, Counts]:
    """The run's samples, their image root, and counts for the run's card."""
    from edgereverie.data.load import load_samples
    from edgereverie.data.mix import counts, mix, select_rationales
    from edgereverie.data.scenes.files import draw_training_scenes

    if (scenes := recipe.data.scenes) is not None:
        with _bar("draw scenes") as progress:
            drawn = draw_training_scenes(out / "data", **scenes.model_dump(exclude={"rationales"}), progress=progress)
        samples = select_rationales(drawn, scenes.rationales)
        return samples, out / "data" / "images", counts(samples)
    parts, dropped, noted = [], Counter(), Counter()
    for source in recipe.data.train:
        loaded = load_samples(source.path, format=source.format, images=recipe.data.images)
        # In proportion to what each holds, so that equal shares are the plain union, as published mixtures are.
        parts.append((select_rationales(loaded.records, source.rationales), source.share * len(loaded.records)))
        dropped.update(loaded.counts.dropped)
        noted.update(loaded.counts.noted)
    mixed = mix(parts, seed=recipe.data.seed)
    return mixed, recipe.data.images, replace(counts(mixed), dropped=dict(dropped), noted=dict(noted))


# Models


def model_folder(name: str, *, revision: str | None = None) -> ModelFolder:
    """``starter``, a folder, or a hub id (downloaded when it is not cached) as a checked model folder."""
    from edgereverie.backbones import starter
    from edgereverie.backbones.base import open_folder

    return starter.shipped() if name == "starter" else open_folder(name, revision=revision)


def models() -> list[dict[str, Any]]:
    """The published models that load as they are, a row each: counts, licences, export targets, and bytes to tune and run."""
    from edgereverie.backbones._catalogue import catalogue
    from edgereverie.backbones._sizes import parameters, running_bytes, tuning_bytes
    from edgereverie.registry import BACKBONES

    rows = []
    for model in catalogue():
        counts, targets = parameters(model.config), BACKBONES.get(model.backbone).adapter_targets
        named = {name: getattr(model, name) for name in ("id", "backbone", "layout", "chat", "licence", "base_licence")}
        rows.append(
            named
            | {
                "parameters": counts.total,
                "active": counts.active,
                "exports": list(model.exports),
                "tune_bytes": tuning_bytes(model.config, targets),
                "run_bytes": running_bytes(model.config, model.exports),
            }
        )
    return rows


def upcycle(
    model: str,
    out: Path | None = None,
    *,
    layers: str = "sparse",
    experts: int = 4,
    top_k: int = 2,
    seed: int = 0,
    force: bool = False,
) -> Path:
    """A dense model as a MoE-LLaVA in the new folder ``out``, with the figures of its likeness in ``upcycle.json``.

    layers, experts, top_k, seed: see ``backbones._upcycle.upcycled``. Raises BackboneError when its outputs differ.
    """
    folder = model_folder(model)
    try:
        import torch  # noqa: F401

        from edgereverie.backbones import _upcycle
    except ImportError as error:
        raise MissingPackage(error.name or "torch", "Upcycling", "train") from None
    out = out or Path(f"{folder.path.name}-{experts}e")
    choices = {"layers": layers, "experts": experts, "top_k": top_k, "seed": seed}
    told = f"{experts} experts, {top_k} of them for each token, layers: {layers}"
    with new_folder(out, replace=force) as beside:
        with console.status(f"upcycle {folder.path.name}: {told}"):
            _upcycle.write_upcycled(folder, beside, **choices)
            likeness = _upcycle.compare(folder, model_folder(str(beside)), _probe_batches(folder))
        _upcycle.require_alike(likeness)
        record = {"base": folder.path.name} | choices | {"likeness": as_json(likeness)}
        write_text(beside / "upcycle.json", json.dumps(record, indent=2) + "\n")
    console.print(f"upcycle {folder.path.name}: {told}")
    console.print(
        f"  likeness: largest logit difference {likeness.max_logit_diff:.2e} of {likeness.scale:.1f} "
        f"({likeness.precision}), same top token at {likeness.top1:.1%} of {likeness.positions} positions"
    )
    return out


def _base(recipe: Recipe, out: Path) -> ModelFolder:
    if recipe.backbone.model != "starter:untrained":
        return model_folder(recipe.backbone.model, revision=recipe.backbone.revision)
    from edgereverie.backbones import starter
    from edgereverie.backbones.base import open_folder
    from edgereverie.data.scenes.talk import corpus

    base = out / "base"
    if not base.is_dir():
        with new_folder(base) as beside:
            starter.build(beside, corpus(), recipe.train.seed)
    return open_folder(base)


# Tuning


def train(recipe: Recipe, out: Path | None = None, *, resume: bool = True, force: bool = False) -> Path:
    """Run a recipe's training; the folder of its result: ``adapter``, or ``model`` when no adapter was trained.

    A stopped run goes on; a finished one is returned as it is. force: throw away what is there and start again.
    """
    out = out or Path("runs") / recipe.name
    if force and out.exists():
        shutil.rmtree(out)
    if not resume and (out / "run.json").exists():
        raise TrainError(f"{out} holds a run already.", hint="Give --out, or --force to throw it away.")
    out.mkdir(parents=True, exist_ok=True)
    samples, images, counted = _samples(recipe, out)
    folder = _base(recipe, out)
    try:
        from edgereverie.tuning import trainer
    except ImportError as error:
        raise MissingPackage(error.name or "torch", "Training", "train") from None
    trainer.quiet()
    for name in ("adapter", "model"):
        if (out / name).is_dir():
            trainer.require_same_run(out, recipe, samples)
            return out / name
    console.print(f"train {recipe.name}: {len(samples):,} samples, {recipe.backbone.model}, {recipe.train.method}")
    return trainer.run(
        recipe, METHODS.get(recipe.train.method), folder, samples, images, out, console=console, counts=as_json(counted)
    )


def _probe_prompts(folder: ModelFolder) -> list[tuple[list[int], Any]]:
    """A few prompts for comparisons, (ids, pixels or None): questions and answers, with drawn pictures and without."""
    from random import Random

    from edgereverie.chat import encode
    from edgereverie.data.scenes.draw import draw_scene
    from edgereverie.data.scenes.talk import reflective
    from edgereverie.data.scenes.world import make_scene
    from edgereverie.image import prepare

    tokenizer = folder.tokenizer()
    cases: list[tuple[list[int], Any]] = []
    for index in range(6):
        scene = make_scene(f"probe/{index}", 0.5)
        sample = next(reflective(scene, "", Random(f"probe/{index}")))
        tokens = 0 if index >= 4 else folder.image.tokens
        image_id = folder.config.get("image_token_index")
        ids, _ = encode(tokenizer, folder.chat, sample.turns, image_tokens=tokens, image_id=image_id)
        cases.append((ids, prepare(draw_scene(scene), folder.image) if tokens else None))
    return cases


def _probe_batches(folder: ModelFolder) -> list[dict[str, Any]]:
    """The probe prompts as batches of one for the model itself."""
    import torch

    return [
        {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
        | ({} if pixels is None else {"pixel_values": torch.from_numpy(pixels)[None]})
        for ids, pixels in _probe_prompts(folder)
    ]


def merge(adapter: Path, out: Path | None = None, *, base: str | None = None, force: bool = False) -> Path:
    """Merge an adapter into its 16-bit base; the new model folder, with the parity figures in ``merge.json``."""
    adapter = adapter / "adapter" if (adapter / "adapter" / "adapter_config.json").is_file() else adapter
    out = out or adapter.parent / "merged"
    try:
        from edgereverie.tuning import merge as merging
        from edgereverie.tuning import trainer
    except ImportError as error:
        raise MissingPackage(error.name or "torch", "Merging", "train") from None
    trainer.quiet()
    folder = model_folder(base or merging.base_of_adapter(adapter))
    prompts = _probe_batches(folder)
    console.print(f"merge {adapter} into {folder.path.name}")
    parity = merging.merge(folder, adapter, out, prompts, force=force)
    console.print(
        f"  parity: largest logit difference {parity.max_logit_diff:.2e} (the adapter moves logits by "
        f"{parity.adapter_effect:.2f}), same top token at {parity.top1:.1%} of {parity.positions} positions"
    )
    return out


# Export


def export(
    model: Path | str,
    profiles: Sequence[str],
    out: Path | None = None,
    *,
    force: bool = False,
    allow_parity_failure: bool = False,
) -> list[Path]:
    """Bundles of a model folder, one per profile, each compared with the model it was made from.

    model: a model folder, ``starter``, a hub id, or an adapter (or its run folder), which is merged first. out: the folder
    for all bundles; by default ``bundles`` beside the model. Raises ExportError when a bundle fails its parity bound,
    and removes it unless ``allow_parity_failure``.
    """
    try:
        import torch  # noqa: F401

        from edgereverie.export.base import find_target, load_profile
        from edgereverie.export.write import export_bundle
        from edgereverie.tuning import trainer
    except ImportError as error:
        raise MissingPackage(error.name or "torch", "Exporting", "export") from None
    trainer.quiet()
    source = _merged(Path(model)) if not isinstance(model, str) or Path(model).exists() else model
    folder = model_folder(str(source))
    out = out or (Path("bundles") if source == "starter" else folder.path.parent / "bundles")
    chosen = [load_profile(name) for name in profiles]
    if not chosen:
        raise ExportError("No export profile was named.", hint="For example: --profile gguf-q8-0 --profile onnx-int8")
    for profile in chosen:
        find_target(folder, profile)
    made_from = _provenance(folder, str(source))
    written = []
    for profile in chosen:
        final = out / f"{_bundle_stem(str(source), folder)}-{profile.name}"
        if final.exists() and not force and _finished(final, made_from):
            console.print(f"export {profile.name}: {final} is there already")
            written.append(final)
            continue
        with console.status(f"export {profile.name}"), _rewritten(folder, out) as written_anew:
            bundle = export_bundle(written_anew, profile, final, made_from=made_from, force=force)
            _judge(written_anew, bundle, profile, allow_parity_failure=allow_parity_failure)
        size = sum(entry.bytes for entry in bundle.files.values()) / 1e6
        console.print(f"export {profile.name}: {final} ({size:.1f} MB)")
        written.append(final)
    return written


@contextmanager
def _rewritten(folder: ModelFolder, out: Path) -> Iterator[ModelFolder]:
    """The folder in transformers' own layout, which export reads; a published one of another is written anew for so long."""
    from tempfile import TemporaryDirectory

    from edgereverie.backbones.base import HUGGINGFACE, open_folder, write_folder

    if folder.layout == HUGGINGFACE:
        yield folder
        return
    out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out, prefix=".layout-") as beside:
        anew = Path(beside) / folder.path.name
        anew.mkdir()
        write_folder(folder, anew)
        yield open_folder(anew)


def _merged(path: Path) -> Path:
    """The model folder behind a path: itself, a run's merged model, or an adapter merged now."""
    if (path / "config.json").is_file():
        return path
    for run in (path, path.parent):
        if (run / "run.json").is_file():
            if (run / "model" / "config.json").is_file():
                return run / "model"
            return run / "merged" if (run / "merged" / "config.json").is_file() else merge(run / "adapter")
    return path


def _bundle_stem(source: str, folder: ModelFolder) -> str:
    if source == "starter":
        return "starter"
    return folder.path.parent.name if folder.path.name in ("merged", "model") else folder.path.name


def _provenance(folder: ModelFolder, source: str) -> dict[str, Any]:
    weights = {
        path.name if path.parent == folder.path else f"{path.parent.name}/{path.name}": sha256_of(path)
        for path in folder.files()
    }
    merged = folder.path / "merge.json"
    told = json.loads(merged.read_text(encoding="utf-8")) if merged.is_file() else {}
    return {"model": "starter" if source == "starter" else folder.path.name, "weights": weights, **told}


def _finished(final: Path, made_from: dict[str, Any]) -> bool:
    """A whole bundle of the very same weights needs no second export."""
    if not (final / MANIFEST).is_file():
        return False
    bundle = Bundle.load(final)
    return (
        bundle.made_from.get("weights") == made_from["weights"]
        and bool(bundle.parity.get("passed"))
        and not bundle.faults()
    )


def _judge(folder: ModelFolder, bundle: Bundle, profile: Any, *, allow_parity_failure: bool) -> None:
    """Compare the bundle with its model in their runtimes and write the verdict into its manifest."""
    from edgereverie.export.parity import compare
    from edgereverie.export.write import with_parity

    with (
        open_model(str(folder.path), precise=True) as reference,
        open_model(str(bundle.folder), precise=True) as exported,
    ):
        parity = compare(reference.engine, exported.engine, _probe_prompts(folder), profile.parity)
    with_parity(bundle, parity.as_json())
    if not parity.passed and not allow_parity_failure:
        shutil.rmtree(bundle.folder)
        parity.require()


# Runtime


def open_model(path: str, *, backend: str = "auto", precise: bool = False) -> Model:
    """A bundle, a model folder or ``starter``, ready to answer. Use it as a context manager, or close it."""
    from edgereverie.runtime.model import Model

    if path == "starter":
        from edgereverie.backbones import starter

        model = Model.load(starter.shipped().path, backend, precise)
        model.name = "starter"
        return model
    return Model.load(Path(path), backend, precise)


# Evaluation


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
    """Every benchmark once, resumed from ``journal``/LABEL-BENCHMARK.jsonl when it is there."""
    from edgereverie.evaluation.run import console_progress, run_benchmark

    identity = f"{artefact(model)}/{guard}"
    runs = []
    for name in benchmarks:

        def answer(image: Path, questions: Sequence[str], most: int) -> list[Answer]:
            return model.answer_many(image, questions, Options(max_tokens=most), guard)

        path = journal / f"{label}-{name}.jsonl".replace("/", "_").replace(" ", "_") if journal else None
        with console_progress(console, f"{label}: {name}") as progress:
            runs.append(
                run_benchmark(
                    BENCHMARKS.get(name), data, answer, limit=limit, journal=path, identity=identity, progress=progress
                )
            )
    return runs


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


def demo(out: Path, *, seed: int = 0, quick: bool = False) -> Path:
    """The whole line once on the starter model; see ``demo``."""
    from edgereverie import demo as whole

    return whole.run(out, seed=seed, quick=quick)
