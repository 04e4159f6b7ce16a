"""Every tuning method on the starter, over seeds, measured on what is exported: GGUF Q8_0 through llama.cpp.

    python benchmarks/methods.py --out runs/methods --seeds 0 1 2

Arms, each from the starter: reflective (REVERIE), balanced instructions (LRV), POVID's stage 1 and stages 1 and 2, CSR's
rounds; and the chain of reflective, POVID and CSR, each from what the one before it left. All of them answer POPE's
adversarial questions and CHAIR on held-out scenes that none has seen. Resumes where it was stopped; about an hour per seed
on one core. Results: benchmarks/results/methods.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from reflective import RESULTS, SHOWN, heldout, measure, table

from edgereverie import stages
from edgereverie.bundle import write_text
from edgereverie.evaluation.benchmarks import pope
from edgereverie.recipe import load_recipe

pope.SPLITS = ("adversarial",)  # the hardest of three, in a third of the time
ASKED = {metric: title for metric, title in SHOWN.items() if "popular" not in metric and "random" not in metric}
Found = Iterator[tuple[str, Path]]  # a column's title, and the model folder that it is about
ROUNDS = 3
GENTLE = "train.learning_rate=1.0e-4"  # for a model that errs little already; at the recipe's rate a round undoes some of that


def tuned(recipe: str, run: Path, seed: int, base: str = "starter", *settings: str) -> Path:
    """The model that a shipped recipe makes of ``base``, in the run folder ``run``."""
    chosen = [
        f"name={run.name}", f"backbone.model={base}", f"train.seed={seed}", f"data.scenes.seed={100 + seed}",
        f"data.seed={seed}", *settings,
    ]  # fmt: skip
    result = stages.train(load_recipe(f"starter/{recipe}", chosen), run)
    if result.name == "model":
        return result
    merged = run / "merged"
    return merged if merged.is_dir() else stages.merge(result, merged, base=base)


def povid(before: str, out: Path, seed: int, base: str = "starter") -> Found:
    name = before.split(",")[0] or "starter"
    text = tuned("povid-text", out / f"{name}-text-{seed}", seed, base)
    yield f"{before}POVID, text", text
    yield f"{before}POVID, text and noise", tuned("povid", out / f"{name}-noise-{seed}", seed, str(text))


def csr(before: str, out: Path, seed: int, rounds: int, base: str = "starter", *settings: str) -> Found:
    run = out / f"{'chain' if before else 'starter'}-csr-{seed}"
    tuned("csr", run, seed, base, f"train.csr.rounds={rounds}", *settings)
    for number in range(1, rounds + 1):
        yield f"{before}CSR, round {number}", run / f"round-{number}" / "model"


def reflective(out: Path, seed: int) -> Found:
    yield "reflective", tuned("reverie", out / f"reflective-{seed}", seed)


def balanced(out: Path, seed: int) -> Found:
    yield "balanced (LRV)", tuned("lrv", out / f"balanced-{seed}", seed)


def preferences(out: Path, seed: int) -> Found:
    yield from povid("", out, seed)


def searched(out: Path, seed: int) -> Found:
    yield from csr("", out, seed, ROUNDS)


def chain(out: Path, seed: int) -> Found:
    ((_, base),) = reflective(out, seed)
    for title, path in povid("reflective, ", out, seed, str(base)):
        yield title, path
    yield from csr("reflective, POVID, ", out, seed, 1, str(path), GENTLE)


ARMS: dict[str, Callable[[Path, int], Found]] = {
    "reflective": reflective, "balanced": balanced, "povid": preferences, "csr": searched, "chain": chain,
}  # fmt: skip


def exported(model: Path) -> Path:
    return stages.export(model, ["gguf-q8-0"], model.parent / "bundles")[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arms", nargs="*", default=list(ARMS), help=f"Of {', '.join(ARMS)}. Default: all.")
    parser.add_argument("--out", type=Path, default=Path("runs/methods"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--part", action="store_true", help="Run these arms and seeds only; write no results.")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    data = heldout(chosen.out)
    columns: dict[str, list[dict[str, Any]]] = {}
    for seed in chosen.seeds:
        for arm in chosen.arms:
            for title, model in ARMS[arm](chosen.out, seed):
                bundle = exported(model)
                label = "-".join(bundle.relative_to(chosen.out).parts)
                columns.setdefault(title, []).append(measure(str(bundle), label, data, chosen.out))
    if not chosen.part:
        result = {"columns": columns, "seeds": chosen.seeds, "versions": stages.versions()}
        RESULTS.mkdir(exist_ok=True)
        write_text(RESULTS / "methods.json", json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(table(columns, ASKED))


if __name__ == "__main__":
    main()
