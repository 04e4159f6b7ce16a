"""Whether a model can judge its own answers: what the guard ``reflect`` stands or falls with.

    python benchmarks/reflection.py --out runs/guards --scenes 60 BUNDLE BUNDLE ...

Of held-out scenes: questions with the right answer and a confusing one. Each way of asking for a verdict is measured by the
probability that the right answer gets the higher one (AUROC, 0.5 is chance), with what the two orders of "right" and "wrong"
change; beside them the answer's own likelihood and what the picture adds to it. Then the model's own answers: what becomes of
right and wrong ones when the second answer, with the reason why the first is wrong before it, is always taken. Means over the
bundles, intervals by drawing pictures anew. Results: benchmarks/results/reflection.json.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from random import Random
from statistics import fmean

import numpy as np
from guards import DRAWS, RESULTS, SEED, alike, scenes

from edgereverie.bundle import write_text
from edgereverie.data.scenes.talk import exchanges
from edgereverie.records import Options, Turn
from edgereverie.runtime.guards.reflect import GUARD, ORDERS, grounding
from edgereverie.runtime.model import Model
from edgereverie.runtime.request import Request
from edgereverie.runtime.sampling import log_softmax, log_sum_exp
from edgereverie.runtime.scoring import spellings

# A way of asking: the question behind the answer, the word that calls it right and the one that calls it wrong.
ASKED = {
    "right or wrong": (ORDERS[0], "right", "wrong"),
    "wrong or right": (ORDERS[1], "right", "wrong"),
    "is it right": ("Is this answer right? Answer yes or no.", "yes", "no"),
    "is it wrong": ("Is this answer wrong? Answer yes or no.", "no", "yes"),
}
BOTH, LIKELY, GROUNDED = "both orders", "likelihood of the answer", "what the picture adds to it"
Pairs = dict[str, list[tuple[float, float]]]  # by picture: verdicts on a right answer and on the confusing one


def verdicts(model: Model, image: Path, question: str, answer: str) -> dict[str, float]:
    """By way of asking, what the picture adds to the odds of right over wrong, in nats."""
    turns = (Turn("user", question),)
    found = {}
    for name, (asked, right, wrong) in ASKED.items():
        talk = (*turns, Turn("assistant", answer), Turn("user", asked))
        words = [spellings(model.tokenizer, word) for word in (right, wrong)]
        rows = [log_softmax(model.first_logits(picture, talk)) for picture in (image, None)]
        seen, blind = (log_sum_exp(row[words[0]]) - log_sum_exp(row[words[1]]) for row in rows)
        found[name] = seen - blind
    found[BOTH] = (found["right or wrong"] + found["wrong or right"]) / 2
    found[LIKELY] = float(model.score_tokens(image, turns, answer).log_probs.mean())
    found[GROUNDED] = grounding(Request(model, image, turns), answer)
    return found


def auroc(pairs: Sequence[tuple[float, float]]) -> float:
    right, wrong = np.array(pairs).T
    return float((right[:, None] > wrong).mean() + (right[:, None] == wrong).mean() / 2)


def interval(values: dict[str, list], figure) -> dict[str, float]:
    """figure: of all pictures' values in one list."""
    images, rng = sorted(values), np.random.default_rng(0)

    def of(drawn: Sequence[str]) -> float:
        held = [one for image in drawn for one in values[image]]
        return figure(held) if held else float("nan")

    draws = [of([images[at] for at in rng.integers(0, len(images), len(images))]) for _ in range(DRAWS)]
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return {"value": of(images), "low": float(low), "high": float(high)}


def measure(model: Model, folder: Path, number: int) -> tuple[dict[str, Pairs], dict[str, list[tuple[bool, bool]]]]:
    """Verdicts by way of asking, and of the model's own answers: whether the first was right, and the second."""
    told: dict[str, Pairs] = defaultdict(lambda: defaultdict(list))
    again: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    for scene, image in scenes(folder, number):
        for ask in exchanges(scene, Random(f"reflection/{scene.id}")):
            both = [verdicts(model, image, ask.question, text) for text in (ask.answer, ask.confusing)]
            for name in both[0]:
                told[name][image.name].append((both[0][name], both[1][name]))
            request = Request(model, image, (Turn("user", ask.question),), Options(max_tokens=48))
            first = model.answer(image, request.turns, request.options).text
            if first.strip() and (why := GUARD.why_wrong(request, first)):
                second = GUARD.again(request, first, why)
                again[image.name].append((alike(first, ask.answer), alike(second, ask.answer)))
    return told, again


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundles", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/guards"))
    parser.add_argument("--scenes", type=int, default=60)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    by_bundle = {}
    for path in asked.bundles:
        with Model.load(path) as model:
            told, again = measure(model, asked.out / "heldout", asked.scenes)
        orders = {image: list(zip(told["right or wrong"][image], told["wrong or right"][image], strict=True))
                  for image in told[BOTH]}  # fmt: skip
        by_bundle[path.name] = {
            "auroc": {name: interval(pairs, auroc) for name, pairs in told.items()},
            "order changes the verdict by (nats)": interval(
                orders, lambda held: fmean(abs(a[at] - b[at]) for a, b in held for at in (0, 1))
            ),
            "second answer always taken: fixed": interval(again, lambda held: _rate(held, False)),
            "second answer always taken: broken": interval(again, lambda held: _rate(held, True)),
        }
    mean = {
        name: fmean(one["auroc"][name]["value"] for one in by_bundle.values())
        for name in (*ASKED, BOTH, LIKELY, GROUNDED)
    }
    write_text(
        RESULTS / "reflection.json",
        json.dumps({"scenes": asked.scenes, "seed": SEED, "auroc": mean, "bundles": by_bundle}, indent=1) + "\n",
    )
    print(json.dumps(mean, indent=1))
    for name, figures in by_bundle.items():
        print(name, {key: one["value"] for key, one in figures.items() if key != "auroc"})


def _rate(held: Sequence[tuple[bool, bool]], was: bool) -> float:
    """Of the answers that were so, how many the second turned."""
    here = [after for before, after in held if before is was]
    return fmean(after is not was for after in here) if here else float("nan")


if __name__ == "__main__":
    main()
