"""The whole job once: a small model that makes things up is tuned, merged, exported, asked and measured, on a laptop.

Every step is a stage that has a command of its own; a demo that was stopped goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgereverie.bundle import Bundle
from edgereverie.errors import MissingPackage
from edgereverie.recipe import load_recipe
from edgereverie.records import Answer, Options, Turn
from edgereverie.stages._console import console
from edgereverie.stages.backbones import open_model
from edgereverie.stages.data import draw_scenes
from edgereverie.stages.evaluation import artefact, run_benchmarks, versions
from edgereverie.stages.exporting import export
from edgereverie.stages.tuning import merge, train

if TYPE_CHECKING:
    from edgereverie.evaluation.exhibits import Exhibit
    from edgereverie.evaluation.kept import KeptRun

PROFILES = ("gguf-q8-0", "onnx-int8")
_COMPANIONS = 0.7  # as in the starter's diet: POPE's popular and adversarial questions rank by these scenes


def demo(out: Path, *, seed: int = 0, quick: bool = False) -> Path:
    """Everything into the folder ``out``; returns it. quick: a few steps and pictures, to see that it all runs."""
    from edgereverie.evaluation.card import write_card
    from edgereverie.evaluation.kept import file_name, keep
    from edgereverie.evaluation.report import report_of, terminal_table, write_report
    from edgereverie.tuning.card import losses

    started = time.monotonic()
    pictures, steps = (6, 4) if quick else (100, None)
    data = out / "scenes"
    console.rule("1 of 6  scenes whose truth is known")
    if not (data / "manifest.json").is_file():
        draw_scenes(data, train=20 if quick else 500, heldout=pictures, seed=1000 + seed, companion_share=_COMPANIONS)

    console.rule("2 of 6  the starter, as it ships")
    gathered = [_measure("starter", "starter", data, out, seed)]

    console.rule("3 of 6  reflective tuning, QLoRA")
    settings = [f"train.seed={seed}", f"data.scenes.seed={21 + seed}"]
    if steps is not None:
        settings += [f"train.steps={steps}", "data.scenes.count=40", "train.batch_size=4"]
    adapter = train(load_recipe("starter/reverie", settings), out / "run")

    console.rule("4 of 6  merge, export, prove")
    merged = out / "run" / "merged"
    if not merged.is_dir():
        merge(adapter, merged)
    bundles = export(merged, _installed(PROFILES), out / "bundles", allow_parity_failure=quick)

    console.rule("5 of 6  the same questions again, in each runtime")
    gathered.append(_measure("tuned", str(merged), data, out, seed))
    gathered += [_measure(_title(bundle), str(bundle), data, out, seed) for bundle in bundles]

    console.rule("6 of 6  report")
    questions = [_told("starter", "starter", data), *(_told(_title(bundle), str(bundle), data) for bundle in bundles)]
    for kept, bundle in zip(gathered, (None, None, *bundles), strict=True):
        keep(out, kept)
        write_card(kept, bundle, out / "cards" / file_name(kept.label))
    report = report_of(
        gathered,
        title="The starter before and after reflective tuning",
        notes=(f"{pictures} held-out scenes, seed {seed}; the starter has {_parameters(merged)} parameters.",),
        loss={"reflective tuning": losses(out / "run" / "log.jsonl")},
        parity={_title(bundle): Bundle.load(bundle).parity for bundle in bundles},
    )
    report = replace(report, exhibits=_flagged(data, questions) + report.exhibits)
    write_report(out, report)
    console.print(terminal_table(report))
    console.print(f"What each export gets wrong is told by its hallucination card: {bundles[0] / 'card.md'}")
    console.print(
        f"Took {(time.monotonic() - started) / 60:.1f} minutes. Look at {out / 'report.html'}, or ask the exported model:"
    )
    console.print(
        f"  edgereverie ask {bundles[0]} --image {data / 'images' / 'heldout' / '000000.png'} 'Describe the image.' --guard flag"
    )
    return out


def _installed(profiles: Sequence[str]) -> list[str]:
    """The profiles whose runtime is here; a missing one is named, not hidden."""
    from importlib.util import find_spec

    needed = {"gguf": "llama_cpp", "onnx": "onnxruntime"}
    here = [name for name in profiles if find_spec(needed[name.partition("-")[0]])]
    for name in sorted(set(profiles) - set(here)):
        console.print(f"[yellow]left out {name}: the package {needed[name.partition('-')[0]]} is not installed[/]")
    if not here:
        raise MissingPackage("onnxruntime", "The demo's export", "all")
    return here


def _measure(label: str, path: str, data: Path, out: Path, seed: int) -> KeptRun:
    from edgereverie.evaluation.kept import KeptRun

    with open_model(path) as model:
        runs = run_benchmarks(
            model, data, ("pope", "chair"), limit=None, guard="none", journal=out / "answers", label=label
        )
        return KeptRun(label, model.engine.backend, artefact(model), "none", seed, versions(), tuple(runs))


def _title(bundle: Path) -> str:
    loaded = Bundle.load(bundle)
    return f"tuned, {loaded.target.upper()} {loaded.quantization}"


def _told(label: str, path: str, data: Path) -> tuple[str, list[Answer]]:
    """Descriptions of the first held-out pictures with every claim checked against the picture."""
    with open_model(path) as model:
        turns = [Turn("user", "Describe the image in detail.")]
        return label, [model.answer(image, turns, Options(max_tokens=120), "flag") for image in _pictures(data)]


def _pictures(data: Path) -> list[Path]:
    return sorted((data / "images" / "heldout").glob("*.png"))[:4]


def _flagged(data: Path, told: Sequence[tuple[str, list[Answer]]]) -> tuple[Exhibit, ...]:
    from edgereverie.evaluation.benchmarks.chair import BENCHMARK
    from edgereverie.evaluation.exhibits import Exhibit, Said
    from edgereverie.evaluation.source import Source

    truth = {item.image.name: item.truth for item in BENCHMARK.items(Source(data))}
    return tuple(
        Exhibit(
            image,
            "Describe the image in detail.",
            truth[image.name],
            tuple(Said(label, answers[index]) for label, answers in told),
        )
        for index, image in enumerate(_pictures(data))
    )


def _parameters(folder: Path) -> str:
    from safetensors import safe_open

    total = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="numpy") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (not a dict)
                shape = tensors.get_slice(name).get_shape()
                size = 1
                for length in shape:
                    size *= length
                total += size
    return f"{total / 1e6:.1f} million"
