"""Does an importance matrix, measured on conversations with pictures, keep hallucination scores when bits get few?

    python benchmarks/importance.py runs/seed-0/merged runs/seed-1/merged runs/seed-2/merged --out runs/importance

Each merged model (one per training seed, from: edgereverie train starter/reverie) is exported as F16, and as Q4_K_M, Q3_K_M
and Q2_K without and with importance. All bundles answer POPE's adversarial questions and CHAIR on the same held-out scenes,
and are compared with PyTorch on conversations that importance was not measured on. Resumes where it was stopped; some
ten minutes per model on one core. Results: benchmarks/results/importance.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from reflective import RESULTS, heldout, measure, table

from edgereverie import stages
from edgereverie.backbones.base import ModelFolder, open_folder
from edgereverie.bundle import MANIFEST, write_text
from edgereverie.chat import encode
from edgereverie.data.scenes.draw import draw_scene
from edgereverie.data.scenes.talk import reflective
from edgereverie.data.scenes.world import make_scene
from edgereverie.evaluation.benchmarks import pope
from edgereverie.evaluation.statistics import bootstrap, ratio
from edgereverie.export.base import Case, ParityBound, Profile
from edgereverie.export.parity import compare
from edgereverie.export.write import export_bundle
from edgereverie.image import prepare

pope.SPLITS = ("adversarial",)  # the hardest of three, in a third of the time
ARMS = (("F16", False), *((name, with_it) for name in ("Q4_K_M", "Q3_K_M", "Q2_K") for with_it in (False, True)))
MEASURED_ON, COMPARED_ON = 64, 48  # conversations
NO_BOUND = ParityBound(min_top1=0.0)
ASKED = {
    "pope/official/adversarial/accuracy": "POPE adv. accuracy",
    "pope/official/adversarial/f1": "F1",
    "pope/official/adversarial/yes_ratio": "yes ratio",
    "chair/table/chair_i": "CHAIR_i",
    "chair/table/recall": "recall",
    "parity/top1": "same top token",
    "parity/mean_kl": "KL, 1/100 nat",
}


def conversations(folder: ModelFolder, name: str, count: int) -> list[Case]:
    """Questions and answers about drawn pictures; other ``name``, other pictures."""
    tokenizer, image_id, cases = folder.tokenizer(), folder.config["image_token_index"], []
    for index in range(count):
        scene = make_scene(f"{name}/{index}", 0.5)
        sample = next(reflective(scene, "", Random(f"{name}/{index}")))
        ids, _ = encode(tokenizer, folder.chat, sample.turns, image_tokens=folder.image.tokens, image_id=image_id)
        cases.append((ids, prepare(draw_scene(scene), folder.image)))
    return cases


def exported(folder: ModelFolder, quantization: str, importance: bool, out: Path) -> Path:
    if not (out / MANIFEST).is_file():
        profile = Profile(
            name=f"gguf-{quantization.lower().replace('_', '-')}", target="gguf", quantization=quantization,
            description="", settings={"importance": importance}, parity=NO_BOUND,
        )  # fmt: skip
        export_bundle(folder, profile, out, made_from={"model": folder.path.name},
                      prompts=lambda: conversations(folder, "importance", MEASURED_ON), force=True)  # fmt: skip
    return out


def parity(model: Path, bundle: Path, cases: list[Case]) -> dict[str, list[float]]:
    """Share of equal top tokens and mean divergence over all positions, with intervals over conversations."""
    per_case = np.empty((len(cases), 3))
    with stages.open_model(str(model), precise=True) as ours, stages.open_model(str(bundle), precise=True) as theirs:
        for row, case in zip(per_case, cases, strict=True):
            one = compare(ours.engine, theirs.engine, [case], NO_BOUND)
            row[:] = one.positions, one.top1 * one.positions, one.mean_kl * one.positions
    same, divergence = bootstrap(
        per_case, [lambda sums: ratio(sums[..., 1], sums[..., 0]), lambda sums: ratio(sums[..., 2], sums[..., 0])]
    )
    return {
        "parity/top1": [same.value, same.low, same.high],
        "parity/mean_kl": [divergence.value, divergence.low, divergence.high],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path, help="Merged model folders, one per training seed.")
    parser.add_argument("--out", type=Path, default=Path("runs/importance"))
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    data = heldout(chosen.out)
    columns: dict[str, list[dict[str, Any]]] = {}
    for seed, path in enumerate(chosen.models):
        folder = open_folder(path)
        cases = conversations(folder, "parity", COMPARED_ON)
        for quantization, importance in ARMS:
            label = f"{quantization}{'-importance' if importance else ''}-{seed}"
            bundle = exported(folder, quantization, importance, chosen.out / label)
            column = measure(str(bundle), label, data, chosen.out)
            column["scores"] |= parity(path, bundle, cases)  # type: ignore[operator]
            title = (
                f"{quantization}, {'with' if importance else 'without'} importance" if quantization != "F16" else "F16"
            )
            columns.setdefault(title, []).append(column)
            print(label, {key: round(column["scores"][key][0], 4) for key in ASKED}, flush=True)
    result = {"columns": columns, "models": len(chosen.models), "measured_on": MEASURED_ON, "compared_on": COMPARED_ON,
              "versions": stages.versions()}  # fmt: skip
    RESULTS.mkdir(exist_ok=True)
    write_text(RESULTS / "importance.json", json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(table(columns, ASKED))


if __name__ == "__main__":
    main()
