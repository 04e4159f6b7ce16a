"""How fast an exported model goes through a benchmark: as ``edgereverie eval`` does it, and question by question.

    python benchmarks/evaluation.py --out runs/evaluation                  # 3,000 questions about 500 drawn pictures
    python benchmarks/evaluation.py --out runs/evaluation --pictures 20    # a smoke run

POPE's adversarial questions, six about each held-out picture, to the shipped starter's GGUF Q8_0 and ONNX int4. Three ways take
turns, block by block of pictures, so that whatever else the machine does falls on all: ``apart`` looks at the picture anew
for every question; ``once`` looks once and asks one question after the other; ``eval`` looks once, writes the answers together
and keeps a journal. Counted is also how many answers of each are the ones of ``apart``, letter by letter. Then whole runs
of short answers and of descriptions with one process and with two, their start included, and whether they end alike, to the
last bit.
Result: benchmarks/results/evaluation.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from edgereverie import stages
from edgereverie.bundle import write_text
from edgereverie.evaluation.run import Questions, ask, questions
from edgereverie.evaluation.source import Source
from edgereverie.records import Answer, Options, Turn
from edgereverie.registry import BENCHMARKS
from edgereverie.runtime.model import Model
from edgereverie.stages._answerers import Asked, answerers, asking

RESULTS = Path(__file__).parent / "results"
PROFILES = ("gguf-q8-0", "onnx-int4")
Way = Callable[[Questions], dict[str, Answer]]


def block_of(test: Questions, pictures: Sequence[Path]) -> Questions:
    kept = set(pictures)
    return replace(test, items=tuple(item for item in test.items if item.image in kept))


def ways_of(model: Model, work: Path) -> dict[str, Way]:
    """Each way gives the answers to a block's questions by id."""

    def one_by_one(test: Questions, *, anew: bool) -> dict[str, Answer]:
        found, last = {}, None
        for item in test.items:
            if anew or item.image != last:
                model.sight.close()
            last = item.image
            options = Options(max_tokens=test.benchmark.max_tokens)
            found[item.id] = model.answer(item.image, [Turn("user", item.question)], options)
        return found

    def evaluated(test: Questions) -> dict[str, Answer]:
        model.sight.close()
        journal = work / "block.jsonl"
        journal.unlink(missing_ok=True)
        run = ask(test, asking(model, "none"), journal=journal)
        return {prediction.id: prediction.answer for prediction in run.predictions}

    return {
        "apart": lambda test: one_by_one(test, anew=True),
        "once": lambda test: one_by_one(test, anew=False),
        "eval": evaluated,
    }


def in_turns(model: Model, test: Questions, work: Path, size: int) -> dict[str, Any]:
    pictures = list(dict.fromkeys(item.image for item in test.items))
    blocks = [block_of(test, pictures[start : start + size]) for start in range(0, len(pictures), size)]
    ways = ways_of(model, work)
    for way in ways.values():  # warms up
        way(block_of(test, pictures[:2]))
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    answers: dict[str, dict[str, Answer]] = {name: {} for name in ways}
    for number, block in enumerate(blocks):
        order = list(ways)[number % len(ways) :] + list(ways)[: number % len(ways)]
        for name in order:
            started = time.perf_counter()
            answers[name] |= ways[name](block)
            seconds[name].append(time.perf_counter() - started)
    apart = answers["apart"]
    told: dict[str, Any] = {"pictures": len(pictures), "questions": len(test.items), "blocks": len(blocks)}
    for name in ways:
        told[name] = {"seconds": round(sum(seconds[name]), 3)}
        if name != "apart":
            ratios = [one / other for one, other in zip(seconds["apart"], seconds[name], strict=True)]
            told[name] |= {
                "times_faster": round(sum(seconds["apart"]) / sum(seconds[name]), 3),
                "times_faster_median_of_blocks": round(median(ratios), 3),
                "times_faster_least_and_most": [round(min(ratios), 3), round(max(ratios), 3)],
                "same_answers": sum(answers[name][id].text == answer.text for id, answer in apart.items()),
                "largest_confidence_difference": max(
                    abs(answers[name][id].confidence - answer.confidence) for id, answer in apart.items()
                ),
            }
    return told


def whole_runs(place: Path, test: Questions, work: Path, jobs: Sequence[int], rounds: int) -> dict[str, Any]:
    """Seconds of whole runs, from the start of their processes to the last answer, in turns; the median of the rounds."""
    seconds: dict[int, list[float]] = {count: [] for count in jobs}
    loading: dict[int, list[float]] = {count: [] for count in jobs}
    found: dict[int, list[Any]] = {}
    for _ in range(rounds):
        for count in jobs:
            journal = work / "whole.jsonl"
            journal.unlink(missing_ok=True)
            started = time.perf_counter()
            with answerers(str(place), Asked(jobs=count)) as ready:
                loading[count].append(time.perf_counter() - started)
                run = ask(test, ready.hands, journal=journal, identity=ready.identity)
            seconds[count].append(time.perf_counter() - started)
            found[count] = [(one.id, one.answer.text, one.answer.confidence) for one in run.predictions]
    first = seconds[jobs[0]]
    return {
        str(count): {
            "seconds": round(median(seconds[count]), 3),
            "of_it_loading": round(median(loading[count]), 3),
            "times_faster": round(median(a / b for a, b in zip(first, seconds[count], strict=True)), 3),
            "equal_to_the_last_bit": found[count] == found[jobs[0]],
        }
        for count in jobs
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=500)
    parser.add_argument("--block", type=int, default=25, help="pictures of which each way takes its turn")
    parser.add_argument("--rounds", type=int, default=3, help="of whole runs")
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--result", type=Path, default=RESULTS / "evaluation.json")
    given = parser.parse_args()
    data = given.out / f"scenes-{given.pictures}"
    if not data.is_dir():
        stages.draw_scenes(data, train=given.pictures, heldout=given.pictures, seed=2024, companion_share=0.7)
    bundles = stages.export("starter", PROFILES, given.out / "bundles")
    pope = questions(BENCHMARKS.get("pope"), Source(data, splits=("adversarial",)))
    told = questions(BENCHMARKS.get("scenes"), Source(data))
    work = given.out / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    result: dict[str, Any] = {}
    for profile, bundle in zip(PROFILES, bundles, strict=True):
        with Model.load(bundle) as model:
            result[profile] = {"turns": in_turns(model, pope, work, given.block)}
        result[profile]["processes, short answers"] = whole_runs(bundle, pope, work, given.jobs, given.rounds)
        result[profile]["processes, descriptions"] = whole_runs(bundle, told, work, given.jobs, given.rounds)
        print(profile, json.dumps(result[profile], indent=1), flush=True)
    packages = ("edgereverie", "llama-cpp-python", "onnxruntime", "numpy")
    about = {
        "seed": 2024,
        "processors": len(os.sched_getaffinity(0)),
        "threads": os.environ.get("OMP_NUM_THREADS", "one for each processor"),
        "versions": {package: version(package) for package in packages},
        "data": pope.data,
    }
    write_text(given.result, json.dumps(about | result, indent=2) + "\n")


if __name__ == "__main__":
    main()
