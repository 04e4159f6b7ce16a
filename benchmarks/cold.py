"""Cold start: from the start of the process to the first characters of an answer, and how much of it is whose.

    python benchmarks/cold.py --out runs/cold

The starter in each runtime (GGUF Q8_0, ONNX int8, its folder in PyTorch) is asked one question about one picture by
``edgereverie ask`` at a terminal of its own; what is timed ends when the answer's first characters are on that terminal.
Files are in the system's cache. Beside each: the same process with nothing to do but import what that runtime needs, which
no program that uses it can go below, and an empty interpreter. They take turns, so that whatever else the machine does falls
on all of them; the median and the quickest run are told. Where the imports' time goes is read from one run under
``-X importtime``, in milliseconds by top-level package. Result: benchmarks/results/cold.json.
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import re
import subprocess
import sys
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from edgereverie.bundle import write_text

RESULTS = Path(__file__).parent / "results"
CHECKOUT = Path(__file__).parent.parent
QUESTION = "Is there a ring in the image?"
PROFILES = {"gguf": "gguf-q8-0", "onnx": "onnx-int8"}
FLOORS = {
    "python": "pass",
    "gguf": "import llama_cpp, onnxruntime, tokenizers, numpy, PIL.Image",
    "onnx": "import onnxruntime, tokenizers, numpy, PIL.Image",
    "torch": "import torch, tokenizers, numpy, PIL.Image\nfrom transformers import LlavaForConditionalGeneration",
}
_STEPS = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|\s")
_IMPORT = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s*(\S+)")


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(CHECKOUT), "TERM": "xterm-256color"}


def to_first_token(words: list[str]) -> float:
    """Seconds from the start of ``edgereverie WORDS`` until a character that can be seen is on its terminal."""
    master, slave = pty.openpty()
    try:
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "edgereverie", *words], stdout=slave, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
            env=environment(),
        )  # fmt: skip
        os.close(slave)
        seen = b""
        while not _STEPS.sub(b"", seen):
            try:
                seen += os.read(master, 4096)
            except OSError:  # its end
                raise SystemExit(process.communicate()[1].decode()) from None
        taken = time.perf_counter() - started
        while True:
            try:
                if not os.read(master, 4096):
                    break
            except OSError:
                break
        process.communicate()
        return taken
    finally:
        os.close(master)


def to_its_end(code: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, env=environment())
    return time.perf_counter() - started


def imports(words: list[str]) -> dict[str, float]:
    """Milliseconds of importing, by top-level package, those under 5 together."""
    command = [sys.executable, "-X", "importtime", "-m", "edgereverie", *words]
    told = subprocess.run(command, capture_output=True, text=True, check=True, env=environment()).stderr
    spent: Counter[str] = Counter()
    for line in told.splitlines():
        if found := _IMPORT.match(line):
            spent[found[2].partition(".")[0]] += int(found[1]) / 1000
    large = {name: round(taken, 1) for name, taken in spent.most_common() if taken >= 5}
    return large | {"others": round(sum(spent.values()) - sum(large.values()), 1)}


def made(out: Path) -> dict[str, str]:
    """What each runtime loads; bundles are exported once."""
    from edgereverie import stages

    models = {"torch": "starter"}
    for target, profile in PROFILES.items():
        bundle = out / f"starter-{profile}"
        models[target] = str(bundle if bundle.is_dir() else stages.export("starter", [profile], out)[0])
    return models


def told(seconds: list[float]) -> dict[str, float]:
    return {"median": round(median(seconds), 3), "quickest": round(min(seconds), 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/cold"))
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    picture = given.out / "picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8)).save(picture)
    asks = {
        name: ["ask", model, QUESTION, "--image", str(picture), "--guard", "none"]
        for name, model in made(given.out).items()
    }
    first: dict[str, list[float]] = {name: [] for name in asks}
    floors: dict[str, list[float]] = {name: [] for name in FLOORS}
    for turn in range(given.rounds + 1):
        for name, words in asks.items():
            first[name].append(to_first_token(words))
        for name, code in FLOORS.items():
            floors[name].append(to_its_end(code))
        if turn == 0:  # fills the system's cache
            for seconds in (*first.values(), *floors.values()):
                seconds.clear()
    packages = (
        "edgereverie",
        "llama-cpp-python",
        "onnxruntime",
        "torch",
        "transformers",
        "tokenizers",
        "typer",
        "numpy",
    )
    result: dict[str, Any] = {
        "rounds": given.rounds,
        "seconds_to_first_token": {name: told(seconds) for name, seconds in first.items()},
        "seconds_of_imports_alone": {name: told(seconds) for name, seconds in floors.items()},
        "seconds_above_imports": {name: round(median(first[name]) - median(floors[name]), 3) for name in first},
        "milliseconds_of_imports": {name: imports(words) for name, words in asks.items()},
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "versions": {package: version(package) for package in packages},
    }
    write_text(RESULTS / "cold.json", json.dumps(result, indent=2) + "\n")
    for name in first:
        one = result["seconds_to_first_token"][name]
        print(
            f"{name}: {one['median']:.2f} s to the first token, {median(floors[name]):.2f} s of it imports that it needs"
        )


if __name__ == "__main__":
    main()
