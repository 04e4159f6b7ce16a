"""Reflective tuning of the starter, over seeds: before, after, and after export; which rationales it owes that to; and
whether experts add to it.

    python benchmarks/reflective.py tune    --out runs/benchmark --seeds 0 1 2
    python benchmarks/reflective.py ablate  --out runs/benchmark --seeds 0 1 2
    python benchmarks/reflective.py experts --out runs/benchmark --seeds 0 1 2

``tune`` trains the recipe starter/reverie with each seed, merges, exports Q8_0 GGUF and fp32 and int8 ONNX, and asks all of
them POPE and CHAIR on held-out scenes that no seed has seen. ``ablate`` trains four arms with equal data and steps: answers
only, with positive rationales, with negative ones, with both, and measures each in PyTorch. ``experts`` tunes the starter
and the starter upcycled to four experts in every other layer with equal data and steps, and tells the experts' loads. All
resume where they were stopped; ``tune`` and ``ablate`` take two to five minutes per seed and arm on two cores. Results:
benchmarks/results/{tune,ablate,experts}.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import mean, stdev

from edgereverie import stages
from edgereverie.bundle import Bundle, write_text
from edgereverie.recipe import load_recipe

PROFILES = ("gguf-q8-0", "onnx-fp32", "onnx-int8")
ARMS = {
    "none": "answers only",
    "positive": "+ positive rationales",
    "negative": "+ negative rationales",
    "both": "+ both",
}
SHOWN = {
    "pope/official/adversarial/accuracy": "POPE adv. accuracy",
    "pope/official/adversarial/f1": "F1",
    "pope/official/adversarial/yes_ratio": "yes ratio",
    "pope/official/popular/accuracy": "popular acc.",
    "pope/official/random/accuracy": "random acc.",
    "chair/table/chair_i": "CHAIR_i",
    "chair/table/chair_s": "CHAIR_s",
    "chair/table/recall": "recall",
}
RESULTS = Path(__file__).parent / "results"


def heldout(out: Path) -> Path:
    data = out / "heldout"
    return data if data.is_dir() else stages.draw_scenes(data, train=500, heldout=200, seed=4242, companion_share=0.7)


def measure(path: str, label: str, data: Path, out: Path) -> dict[str, object]:
    """Scores by metric, with the 95 % interval of each."""
    with stages.open_model(path) as model:
        runs = stages.run_benchmarks(
            model, data, ("pope", "chair"), limit=None, guard="none", journal=out / "answers", label=label
        )
        mark = stages.artefact(model)
    results = [result for run in runs for result in run.results]
    return {
        "label": label,
        "artefact": mark,
        "questions": sum(len(run.items) for run in runs),
        "counts": {split: counts for result in results for split, counts in result.counts().items()},
        "scores": {score.metric: [score.value, score.low, score.high] for result in results for score in result.scores},
    }


def trained(arm: str, seed: int, out: Path, base: str = "starter") -> Path:
    """The merged model of one arm and seed."""
    run = out / (f"{arm}-{seed}" if base == "starter" else f"{Path(base).name}-{seed}")
    settings = [
        f"name={run.name}",
        f"backbone.model={base}",
        f"train.seed={seed}",
        f"data.scenes.seed={100 + seed}",
        f"data.scenes.rationales={arm}",
    ]
    adapter = stages.train(load_recipe("starter/reverie", settings), run)
    merged = run / "merged"
    return merged if merged.is_dir() else stages.merge(adapter, merged)


def tune(out: Path, seeds: list[int]) -> dict[str, object]:
    data = heldout(out)
    columns: dict[str, list[dict[str, object]]] = {"starter": [measure("starter", "starter", data, out)]}
    parity: dict[str, object] = {}
    for seed in seeds:
        merged = trained("both", seed, out)
        columns.setdefault("tuned, PyTorch", []).append(measure(str(merged), f"tuned-{seed}", data, out))
        for profile, bundle in zip(
            PROFILES, stages.export(merged, PROFILES, out / f"both-{seed}" / "bundles"), strict=True
        ):
            columns.setdefault(f"tuned, {profile}", []).append(measure(str(bundle), f"{profile}-{seed}", data, out))
            parity[f"{profile}, seed {seed}"] = dict(Bundle.load(bundle).parity)
    return {"columns": columns, "parity": parity}


def ablate(out: Path, seeds: list[int]) -> dict[str, object]:
    data = heldout(out)
    columns = {"starter": [measure("starter", "starter", data, out)]}
    for arm, title in ARMS.items():
        for seed in seeds:
            path = str(trained(arm, seed, out))
            columns.setdefault(title, []).append(measure(path, f"{arm}-{seed}", data, out))
    return {"columns": columns}


def experts(out: Path, seeds: list[int]) -> dict[str, object]:
    data, base = heldout(out), out / "starter-4e"
    if not base.is_dir():
        stages.upcycle("starter", base)
    columns: dict[str, list[dict[str, object]]] = {"starter": [measure("starter", "starter", data, out)]}
    loads = {}
    for seed in seeds:
        dense, sparse = trained("both", seed, out), trained("both", seed, out, str(base))
        columns.setdefault("tuned", []).append(measure(str(dense), f"tuned-{seed}", data, out))
        columns.setdefault("tuned with experts", []).append(measure(str(sparse), f"experts-{seed}", data, out))
        log = (sparse.parent / "log.jsonl").read_text(encoding="utf-8").splitlines()
        loads[f"seed {seed}"] = json.loads(log[-1])["experts"]
    return {"columns": columns, "experts": loads}


def table(columns: dict[str, list[dict[str, object]]], shown: dict[str, str] = SHOWN) -> str:
    """Markdown: mean over seeds, with the standard deviation where there are several."""
    rows = ["| | " + " | ".join(shown.values()) + " |", "|---|" + "---|" * len(shown)]
    for title, runs in columns.items():
        cells = []
        for metric in shown:
            values = [run["scores"][metric][0] for run in runs]
            spread = f" ± {100 * stdev(values):.1f}" if len(values) > 1 else ""
            cells.append(f"{100 * mean(values):.1f}{spread}")
        rows.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


WHAT = {"tune": tune, "ablate": ablate, "experts": experts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=tuple(WHAT))
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    chosen = parser.parse_args()
    result = WHAT[chosen.what](chosen.out, chosen.seeds)
    result |= {"seeds": chosen.seeds, "versions": stages.versions(), "recipe": "starter/reverie"}
    RESULTS.mkdir(exist_ok=True)
    write_text(RESULTS / f"{chosen.what}.json", json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(table(result["columns"]))


if __name__ == "__main__":
    main()
