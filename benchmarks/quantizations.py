"""Every export profile on the same tuned models: how near each artefact stays to the model it was made from.

    python benchmarks/quantizations.py runs/seed-0/merged runs/seed-1/merged runs/seed-2/merged --out runs/quantizations

What ``edgereverie export`` itself proves and writes into the manifest, on 100 prompts for each model (one per training seed):
largest logit difference, same top token, divergence, perplexity, greedy answers; and what the bundle weighs. A profile that
fails its own bounds is in the table all the same, marked. Resumes where it was stopped; some minutes per model on one core.
Results: benchmarks/results/quantizations.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from edgereverie import stages
from edgereverie.bundle import Bundle, write_text
from edgereverie.shipped import shipped_profiles

RESULTS = Path(__file__).parent / "results"
PROMPTS = 100
TOLD = {
    "top1": "same top token, %", "mean_kl": "mean KL, nats", "perplexity_ratio": "perplexity ratio",
    "greedy": "answers begin alike, %", "max_logit_diff": "largest logit difference", "megabytes": "MB",
}  # fmt: skip


def figures(bundle: Bundle) -> dict[str, float | bool]:
    found = bundle.parity
    return {
        "top1": 100 * found["top1"],
        "mean_kl": found["mean_kl"],
        "perplexity_ratio": found["perplexity"] / found["reference_perplexity"],
        "greedy": 100 * found["greedy"],
        "max_logit_diff": found["max_logit_diff"],
        "megabytes": sum(entry.bytes for entry in bundle.files.values()) / 1e6,
        "passed": found["passed"],
    }


def table(columns: dict[str, list[dict[str, float | bool]]]) -> str:
    """Markdown: mean over the models, with the standard deviation where there are several."""
    rows = ["| | " + " | ".join(TOLD.values()) + " |", "|---|" + "---|" * len(TOLD)]
    for name, runs in columns.items():
        cells = []
        for key in TOLD:
            values = np.array([run[key] for run in runs], dtype=float)
            spread = (
                f" ± {values.std(ddof=1):.2g}" if len(values) > 1 and values.std() > 0 and key != "megabytes" else ""
            )
            cells.append(f"{values.mean():.3g}{spread}")
        mark = "" if all(run["passed"] for run in runs) else " (fails its bounds)"
        rows.append(f"| {name}{mark} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path, help="Merged model folders, one per training seed.")
    parser.add_argument("--out", type=Path, default=Path("runs/quantizations"))
    chosen = parser.parse_args()
    profiles = shipped_profiles()
    columns: dict[str, list[dict[str, float | bool]]] = {name: [] for name in profiles}
    for seed, model in enumerate(chosen.models):
        for name in profiles:
            (folder,) = stages.export(model, [name], chosen.out / str(seed), prompts=PROMPTS, allow_parity_failure=True)
            columns[name].append(figures(Bundle.load(folder)))
    result = {"columns": columns, "models": len(chosen.models), "prompts": PROMPTS, "versions": stages.versions()}
    RESULTS.mkdir(exist_ok=True)
    write_text(RESULTS / "quantizations.json", json.dumps(result, indent=1) + "\n")
    print(table(columns))


if __name__ == "__main__":
    main()
