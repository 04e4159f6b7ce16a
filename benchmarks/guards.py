"""What each guard does to answers about held-out scenes, and what it costs.

    python benchmarks/guards.py --out runs/guards --scenes 100 starter=BUNDLE reflective=BUNDLE,BUNDLE,BUNDLE

Bundles behind one name are seeds of one model: figures are means over them. The guards answer each question one after the
other in a drawn order, the plain model among them, so all meet the same machine; the picture is prefilled before. Truth is the
scene's own.
A guard's descriptions are compared with the plain greedy ones cut to the same number of words: whoever says less errs less.
Intervals: 1,000 bootstrap draws of pictures, guard and plain together. Each answer is kept in OUT/answers.jsonl; the same
call goes on where it was stopped. Results: benchmarks/results/guards.json.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import NormalDist
from typing import Any

import numpy as np

from edgereverie.bundle import write_text
from edgereverie.data.scenes.files import draw_dataset
from edgereverie.data.scenes.talk import exchanges
from edgereverie.data.scenes.world import SHAPES, Scene, Thing
from edgereverie.data.truth import true_of
from edgereverie.records import Options, Turn
from edgereverie.runtime.guarding import Guarding
from edgereverie.runtime.guards.contrast import Contrast
from edgereverie.runtime.model import Model
from edgereverie.text.asking import says_yes
from edgereverie.text.claims import claims

RESULTS = Path(__file__).parent / "results"
SEED, DRAWS = 950, 1000  # of scenes that no choice was made on
DESCRIBE = ("Describe the image.", "Describe the image in detail.")
GUARDS: dict[str, Guarding] = {
    "none": "none",
    "contrast (M3ID, no picture)": "contrast",
    "contrast (VCD, no picture)": Contrast(form="vcd"),
    "contrast (VCD, grey)": Contrast(form="vcd", other="blank"),
    "contrast (VCD, noise)": Contrast(form="vcd", other="noised"),
    "search": "search",
    "rollback": "rollback",
    "verify": "verify",
    "rollback,verify": "rollback,verify",
    "reflect": "reflect",
    "agree": "agree",
}
_CONTRAST = tuple(name for name in GUARDS if name.startswith("contrast"))
# What each kind of question is asked with: contrast answers closed ones plainly, search and rollback all but
# descriptions, and agree leaves all but short open ones alone.
ASKED = {
    "describe": ("none", *_CONTRAST, "search", "rollback", "verify", "rollback,verify", "reflect"),
    "exists": ("none", "verify", "reflect"),
    "short": ("none", *_CONTRAST[:2], "verify", "reflect", "agree"),
}
Row = dict[str, Any]


def scenes(folder: Path, number: int) -> list[tuple[Scene, Path]]:
    if not folder.is_dir():
        draw_dataset(folder, train=1, heldout=number, seed=SEED, companion_share=0.85)
    found = []
    for line in (folder / "scenes.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["image"].startswith("heldout"):
            things = tuple(Thing(**thing) for thing in row["things"])
            found.append((Scene(row["id"], things, (240, 240, 240), ()), folder / "images" / row["image"]))
    return found[:number]


def questions(folder: Path, scene: Scene, image: Path) -> Iterator[tuple[str, str, str]]:
    """Kind, question and right answer; of a description there is none."""
    yield from (("describe", question, "") for question in DESCRIBE)
    for line in (folder / "pope" / "adversarial.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["image"] == f"heldout/{image.name}":
            yield "exists", row["text"], row["label"]
    for ask in exchanges(scene, Random(f"guards/{scene.id}"))[-1:] + exchanges(scene, Random(f"more/{scene.id}"))[-1:]:
        if says_yes(ask.answer) is None:
            yield "short", ask.question, ask.answer


def answered(model: Model, name: str, folder: Path, number: int, journal: Path) -> None:
    """Every question with every guard that is for it, into the journal; what is there already is not asked again."""
    known = {(row["model"], row["image"]) for row in read(journal)}
    with journal.open("a", encoding="utf-8") as out:
        for scene, image in scenes(folder, number):
            if (name, image.name) in known:
                continue
            rows = []
            for kind, question, right in dict.fromkeys(questions(folder, scene, image)):
                model.look(image)
                for guard in Random(f"{name}/{image.name}/{question}").sample(ASKED[kind], len(ASKED[kind])):
                    started = time.perf_counter()
                    answer = model.answer(image, [Turn("user", question)], Options(), GUARDS[guard])
                    seconds = time.perf_counter() - started
                    rows.append({"model": name, "image": image.name, "kind": kind, "question": question, "right": right,
                                 "guard": guard, "text": answer.text, "abstained": answer.abstained,
                                 "tokens": len(model.tokenizer.encode(answer.text, add_special_tokens=False).ids),
                                 "seconds": seconds})  # fmt: skip
            out.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))  # a picture at a time
            out.flush()


def read(journal: Path) -> list[Row]:
    lines = journal.read_text(encoding="utf-8").splitlines() if journal.is_file() else []
    return [json.loads(line) for line in lines]


def told(scene: Scene, question: str, text: str) -> Row:
    """What a description claims: true and false claims, and its objects as CHAIR counts them."""
    found = {one.key: (one, true_of(scene, one)) for one in claims(question, text)}.values()
    things = [(one.subject.split()[-1], true) for one, true in found if one.kind == "object" and one.present]
    named = {name for name, true in things if true and name in SHAPES}
    return {
        "true": sum(true is True for _, true in found),
        "false": sum(true is False for _, true in found),
        "objects": len(things),
        "invented": sum(true is False for _, true in things),
        "recalled": len(named),
        "shapes": len(scene.shapes),
    }


def shortened(text: str, words: int) -> str:
    """The first words of a text, with as many claims as they hold whole."""
    found = list(re.finditer(r"\S+", text))
    return text if words >= len(found) else text[: found[words - 1].end()] if words else ""


def alike(one: str, other: str) -> bool:
    """Whether two short answers say the same: yes or no, or the same words."""
    if (said := says_yes(other)) is not None:
        return says_yes(one) is said
    bare = [re.sub(r"[^\w ]", "", text.lower()).strip() for text in (one, other)]
    absent = [re.match(r"(?:there is no|i see no)\b", text) is not None for text in bare]
    return bare[0] == bare[1] or all(absent)


def judge(rows: Sequence[Row], by_image: dict[str, Scene]) -> list[Row]:
    """The rows with what is true of them; beside each guard's description the plain one of its length."""
    plain = {(r["model"], r["image"], r["question"]): r for r in rows if r["guard"] == "none"}
    out = []
    for row in rows:
        key, scene = (row["model"], row["image"], row["question"]), by_image[row["image"]]
        base, said = plain[key], "" if row["abstained"] else row["text"]
        if row["kind"] == "describe":
            matched = told(scene, row["question"], shortened(base["text"], len(said.split())))
            row = row | told(scene, row["question"], said) | {"matched_" + k: matched[k] for k in ("true", "false")}
            full = told(scene, row["question"], base["text"])
            row |= {"plain_true": full["true"], "plain_false": full["false"]}
        else:
            row = row | {
                "ok": alike(said, row["right"]),
                "was": alike(base["text"], row["right"]),
                "yes": says_yes(said),
            }
        out.append(row | {"plain_seconds": base["seconds"]})
    return out


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure of sums over rows. columns: what is summed of a row; figure: of the sums, the last axis, what is told."""

    columns: Callable[[Row], tuple[float, ...]]
    figure: Callable[[np.ndarray], np.ndarray] = lambda sums: sums[..., 0] / sums[..., 1]


def share(over: str, under: Callable[[Row], float]) -> Metric:
    return Metric(lambda row: (row[over], under(row)))


def mean(of: Callable[[Row], float]) -> Metric:
    return Metric(lambda row: (of(row), 1.0))


def rate(among: Callable[[Row], bool], happens: Callable[[Row], bool]) -> Metric:
    return Metric(lambda row: (float(among(row) and happens(row)), float(among(row))))


def _separation(sums: np.ndarray) -> np.ndarray:
    """z(true positives) - z(false positives), half an answer added to each cell."""
    z = np.vectorize(NormalDist().inv_cdf)
    return z((sums[..., 0] + 0.5) / (sums[..., 1] + 1)) - z((sums[..., 2] + 0.5) / (sums[..., 3] + 1))


D_PRIME = Metric(
    lambda row: tuple(
        float(one)
        for label in ("yes", "no")
        for one in (row["right"] == label and row["yes"] is True, row["right"] == label)
    ),
    _separation,
)
_CHANGES = {
    "fixed": rate(lambda r: not r["was"], lambda r: r["ok"]),
    "broken": rate(lambda r: r["was"], lambda r: not r["ok"] and not r["abstained"]),
    "silenced when right": rate(lambda r: r["was"], lambda r: r["abstained"]),
    "silenced when wrong": rate(lambda r: not r["was"], lambda r: r["abstained"]),
}
_COST = {"cost": share("seconds", lambda r: r["plain_seconds"])}
METRICS: dict[str, dict[str, Metric]] = {
    "describe": {
        "false claims left": share("false", lambda r: r["plain_false"]),
        "true claims kept": share("true", lambda r: r["plain_true"]),
        "false share": share("false", lambda r: r["true"] + r["false"]),
        "false share, plain at this length": share("matched_false", lambda r: r["matched_true"] + r["matched_false"]),
        "CHAIR_i": share("invented", lambda r: r["objects"]),
        "recall": share("recalled", lambda r: r["shapes"]),
        "tokens": mean(lambda r: r["tokens"] * (not r["abstained"])),
        **_COST,
    },
    "exists": {
        "accuracy": mean(lambda r: r["ok"]),
        "yes_ratio": mean(lambda r: r["yes"] is True),
        "d'": D_PRIME,
        **_CHANGES,
        **_COST,
    },
    "short": {"accuracy": mean(lambda r: r["ok"]), **_CHANGES, **_COST},
}


def measured(rows: Sequence[Row], metric: Metric) -> dict[str, float]:
    """Mean over models of one name, with the interval of drawing pictures anew."""
    images = sorted({row["image"] for row in rows})
    models = sorted({row["model"] for row in rows})
    width = len(metric.columns(rows[0]))
    sums = np.zeros((len(models), len(images), width))
    for row in rows:
        sums[models.index(row["model"]), images.index(row["image"])] += metric.columns(row)
    times = np.random.default_rng(0).multinomial(len(images), [1 / len(images)] * len(images), DRAWS)
    with np.errstate(invalid="ignore", divide="ignore"):
        draws = metric.figure(np.einsum("di,mik->dmk", times, sums)).mean(axis=1)
        value = float(metric.figure(sums.sum(axis=1)).mean())
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return {"value": value, "low": float(low), "high": float(high)}


def table(results: dict[str, Any]) -> str:
    lines = []
    for name, kinds in results.items():
        for kind, guards in kinds.items():
            heads = list(METRICS[kind])
            lines += [f"\n{name}, {kind}", "| guard | " + " | ".join(heads) + " |", "|---|" + "---:|" * len(heads)]
            for guard, figures in guards.items():
                cells = [
                    f"{figures[h]['value']:.3f} [{figures[h]['low']:.3f}, {figures[h]['high']:.3f}]" for h in heads
                ]
                lines.append(f"| {guard} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", help="NAME=BUNDLE,BUNDLE,...")
    parser.add_argument("--out", type=Path, default=Path("runs/guards"))
    parser.add_argument("--scenes", type=int, default=100)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    folder, journal = asked.out / "heldout", asked.out / "answers.jsonl"
    by_image = {image.name: scene for scene, image in scenes(folder, asked.scenes)}
    names, bundles = {}, {}
    for given in asked.models:
        name, _, paths = given.partition("=")
        bundles[name] = [Path(path).name for path in paths.split(",")]
        for at, path in enumerate(paths.split(",")):
            names[f"{name}/{at}"] = name
            with Model.load(Path(path)) as model:
                answered(model, f"{name}/{at}", folder, asked.scenes, journal)
    rows = judge([r for r in read(journal) if r["model"] in names and r["image"] in by_image], by_image)
    results: dict[str, Any] = {}
    for name in dict.fromkeys(names.values()):
        for kind, guards in ASKED.items():
            for guard in guards:
                held = [r for r in rows if names[r["model"]] == name and (r["kind"], r["guard"]) == (kind, guard)]
                figures = {metric: measured(held, value) for metric, value in METRICS[kind].items()}
                results.setdefault(name, {}).setdefault(kind, {})[guard] = figures
    told_of = {"scenes": len(by_image), "seed": SEED, "models": bundles, "results": results}
    write_text(RESULTS / "guards.json", json.dumps(told_of, indent=1) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()
