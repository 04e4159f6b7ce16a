"""How long scoring takes, from files to figures with intervals: 100,000 answers to POPE, 5,000 captions for CHAIR; one core.

    OMP_NUM_THREADS=1 python benchmarks/scoring.py                       # results/scoring.json
    EDGEREVERIE_GOLDEN=FOLDER NLTK_DATA=FOLDER python benchmarks/scoring.py

Questions, truths and answers are made up, with a seed; captions are sentences of published ones, mixed, where EDGEREVERIE_GOLDEN
names the folder that has them (CHAIR is left out without). The scorer that needs nltk's data is left out where they are not.
Beside POPE's time stands that of its official rule written down as its authors did, a loop over lines, which reads the same
files, counts, and makes no intervals; beside CHAIR's that of nltk's own tokenizer, tagger and lemmatiser on the same captions,
which its scorers spend most of their time in, where nltk is installed. Seconds are those of the processor, the least of several
runs: a machine that does other things makes them longer, never shorter.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import random
import re
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from edgereverie import __version__
from edgereverie.bundle import write_text
from edgereverie.evaluation.scoring import score_file
from edgereverie.evaluation.source import Source
from edgereverie.registry import BENCHMARKS

RESULTS = Path(__file__).parent / "results" / "scoring.json"
ANSWERS, CAPTIONS, SPLITS = 100_000, 5_000, ("random", "popular", "adversarial")
SAID = (
    "Yes",
    "No",
    "Yes, there is a {} in the image.",
    "No, there is no {} in the image.",
    "There is a {}, yes.",
    "no.",
)
THINGS = "person dog cat chair car bottle cup bench clock kite truck boat bird table".split()


def made_pope(folder: Path, rng: random.Random) -> Path:
    """Six questions about each picture in each split, and one file of answers with the split in ``category``."""
    (folder / "pope").mkdir()
    answers = []
    for place, split in enumerate(SPLITS):
        rows = range(ANSWERS * place // 3, ANSWERS * (place + 1) // 3)
        with (folder / "pope" / f"coco_pope_{split}.json").open("w", encoding="utf-8") as stream:
            for number, _ in enumerate(rows, start=1):
                thing, picture = rng.choice(THINGS), f"COCO_val2014_{number // 6:012}.jpg"
                row = {"question_id": number, "image": picture, "text": f"Is there a {thing} in the image?"}
                stream.write(json.dumps({**row, "label": rng.choice(("yes", "no"))}) + "\n")
                answers.append({"question_id": number, "category": split, "text": rng.choice(SAID).format(thing)})
    return written(folder / "pope_answers.jsonl", answers)


def made_captions(folder: Path, golden: Path, rng: random.Random) -> tuple[Path, list[str]]:
    """Captions of five sentences each, and the objects of published pictures as the truth of made-up ones."""
    (folder / "chair").mkdir()
    (folder / "chair" / "synonyms.txt").write_bytes((golden / "chair" / "synonyms.txt").read_bytes())
    sentences = []
    for path in sorted((golden / "chair" / "captions").glob("*.jsonl.gz")):
        for line in gzip.decompress(path.read_bytes()).decode().splitlines():
            sentences += re.findall(r"[^.]+\.", json.loads(line)["caption"])
    truths = list(json.loads(gzip.decompress((golden / "chair" / "gt_objects.json.gz").read_bytes())).values())
    truth = {str(number): rng.choice(truths) for number in range(1, CAPTIONS + 1)}
    (folder / "chair" / "gt_objects.json").write_text(json.dumps(truth))
    captions = ["".join(rng.choices(sentences, k=5)).strip() for _ in truth]
    rows = [{"image_id": int(id), "caption": caption} for id, caption in zip(truth, captions, strict=True)]
    return written(folder / "captions.jsonl", rows), captions


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def plain_pope(folder: Path, answers: Path) -> dict[str, list[int]]:
    """The official rule, line by line: TP, FP, TN, FN of each split."""
    said: dict[str, list[str]] = {}
    for line in answers.open(encoding="utf-8"):
        row = json.loads(line)
        said.setdefault(row["category"], []).append(row["text"])
    found = {}
    for split in SPLITS:
        labels = [
            json.loads(line)["label"] for line in (folder / "pope" / f"coco_pope_{split}.json").open(encoding="utf-8")
        ]
        counts = [0, 0, 0, 0]
        for label, text in zip(labels, said[split], strict=True):
            if text.find(".") != -1:
                text = text.split(".")[0]
            words = text.replace(",", "").split(" ")
            no = "No" in words or "not" in words or "no" in words
            counts[(2 if label == "no" else 3) if no else (1 if label == "no" else 0)] += 1
        found[split] = counts
    return found


def plain_reading(captions: list[str]) -> int:
    """What nltk makes of the captions: words, tags, dictionary forms."""
    import nltk

    parts = {"J": "a", "V": "v", "R": "r"}
    lemmas = nltk.stem.WordNetLemmatizer()
    total = 0
    for caption in captions:
        tagged = nltk.pos_tag(nltk.word_tokenize(caption.lower()))
        total += len([lemmas.lemmatize(word, parts.get(tag[0], "n")) for word, tag in tagged])
    return total


def least(work: Callable[[], Any], times: int) -> tuple[float, Any]:
    """Seconds of the processor, the least of several, and what the work gave."""
    seconds, found = [], None
    for _ in range(times):
        begun = time.process_time()
        found = work()
        seconds.append(time.process_time() - begun)
    return min(seconds), found


def pope(folder: Path, times: int) -> dict[str, Any]:
    answers, benchmark = made_pope(folder, random.Random(0)), BENCHMARKS.get("pope")
    source = Source(folder, pictures=False)
    told: dict[str, Any] = {"answers": ANSWERS}
    plain, counts = least(lambda: plain_pope(folder, answers), times)
    for ways in ([], list(benchmark.variants)):
        seconds, run = least(lambda ways=ways: score_file(benchmark, source, answers, variants=ways), times)
        name = "official" if not ways else f"all {len(ways)} scorers"
        told[name] = {"seconds": round(seconds, 3), "times the plain rule": round(seconds / plain, 2)}
        for split, expected in counts.items():
            assert list(run.results[0].counts()[f"pope/official/{split}"].values()) == expected
    return {**told, "the plain rule, without intervals": round(plain, 3)}


def chair(folder: Path, golden: Path, times: int) -> dict[str, Any]:
    from edgereverie.evaluation.nltk_data import present

    answers, captions = made_captions(folder, golden, random.Random(1))
    source, benchmark = Source(folder, pictures=False), BENCHMARKS.get("chair")
    told: dict[str, Any] = {"captions": CAPTIONS, "words": sum(len(caption.split()) for caption in captions)}
    for way in ("maxlinn", "opera") if present() else ("maxlinn",):
        begun = time.process_time()
        score_file(benchmark, source, answers, variants=[way])
        first = time.process_time() - begun
        seconds, _ = least(lambda way=way: score_file(benchmark, source, answers, variants=[way]), times)
        told[way] = {"seconds": round(seconds, 3), "seconds the first time": round(first, 3)}
    if find_spec("nltk") and "opera" in told:
        some = captions[:500]
        plain_reading(some[:1])
        seconds = least(lambda: plain_reading(some), 1)[0] * CAPTIONS / len(some)
        told["nltk's own reading alone, from 500"] = round(seconds, 2)
        told["opera"]["times nltk's reading"] = round(told["opera"]["seconds"] / seconds, 3)
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=5, help="the least of so many runs counts")
    times = parser.parse_args().times
    if os.environ.get("OMP_NUM_THREADS") != "1":
        sys.exit("Set OMP_NUM_THREADS=1: seconds of several cores would be added up.")
    told: dict[str, Any] = {
        "versions": {"edgereverie": __version__, "python": platform.python_version(), "numpy": np.__version__},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, one used",
        "times": times,
    }
    with TemporaryDirectory() as folder:
        told["pope"] = pope(Path(folder), times)
    if golden := os.environ.get("EDGEREVERIE_GOLDEN"):
        with TemporaryDirectory() as folder:
            told["chair"] = chair(Path(folder), Path(golden), times)
    write_text(RESULTS, json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps(told, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
