"""Runs that are killed again and again, at moments drawn over their whole life, end as those that nothing disturbs.

One interpreter pays for the imports once; every attempt is a child of it, which dies by a real SIGKILL. The undisturbed run
tells when it made which file. Half of the moments are drawn from its seconds (most of which are steps), half from its files
(most of which are parts of data, checkpoints and results); the last falls into the writing of the result. A killed run dies
so long after it came to the same file, and the moments come in order, so that every attempt gets further than the last.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from edgereverie.bundle import sha256_of
from edgereverie.recipe import Recipe

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills by POSIX signals")

KILLER = r"""
import json, os, random, select, signal, sys, time
from pathlib import Path

import torch
torch.set_num_threads(1)
from edgereverie import stages
from edgereverie.export import parity
from edgereverie.recipe import load_recipe
from edgereverie.stages import planning, rounds
from edgereverie.synthesis.csr import pairs
from edgereverie.tuning import merge, plan, trainer
from edgereverie.tuning.methods import dpo, povid, reflective
from transformers import LlavaForConditionalGeneration, Trainer
import matplotlib.figure
from torch.utils.tensorboard import SummaryWriter

recipe, runs, kills = load_recipe(sys.argv[1]), Path(sys.argv[2]).resolve(), int(sys.argv[3])
rng = random.Random(len(recipe.name) + kills)
WRITES = os.O_WRONLY | os.O_RDWR

def telling(out, pipe):
    "Every file of the run that is opened to be written, every folder that is made, every rename goes into the pipe."
    def hook(event, given):
        if event == "open" and given[2] & WRITES:
            path = given[0]
        elif event == "os.mkdir":
            path = given[0]
        elif event == "os.rename":
            path = given[1]
        else:
            return
        path = os.fspath(path) if isinstance(path, (str, os.PathLike)) else ""
        if path.startswith(str(out) + "/") and "tensorboard" not in path:
            os.write(pipe, f"{event} {path[len(str(out)) + 1:]}\n".encode())
    return hook

def started(out):
    "A child at work, and what it tells of its files."
    here, there = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 3
        try:
            os.close(here)
            sys.addaudithook(telling(out, there))
            with open(out.with_suffix(".txt"), "a") as told:
                os.dup2(told.fileno(), 2)
                stages.train(recipe, out)
            code = 0
        except BaseException:
            import traceback
            traceback.print_exc()
        os._exit(code)
    os.close(there)
    return pid, os.fdopen(here, "rb", buffering=0)

def ended(pid):
    status = os.waitpid(pid, 0)[1]
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)

def undisturbed(out):
    "When it did what for the first time: [(seconds, what)]."
    begun, first = time.monotonic(), {"start": 0.0}
    pid, events = started(out)
    for line in events:
        first.setdefault(line.decode().strip(), time.monotonic() - begun)
    took = time.monotonic() - begun
    assert ended(pid) == 0, out.with_suffix(".txt").read_text()
    return sorted((when, what) for what, when in first.items()), took

def moments(life):
    "(event, delay) in the order of the life: half of them drawn from its seconds, half from its events."
    result = "round-2/.model.part" if recipe.train.method == "csr" else ".adapter.part"
    last = next(at for at, (_, what) in enumerate(life) if what == f"os.mkdir {result}")
    found = [(life[last][0], last, 0.0)]
    for number in range(kills - 1):
        share = (number // 2 + rng.random()) / ((kills - 1 + (number + 1) % 2) / 2)
        if number % 2:
            when = min(share, 0.999) * life[last][0]
            at = max(at for at, (then, _) in enumerate(life[:last]) if then <= when)
            delay = when - life[at][0]
        else:
            at = int(min(share, 0.999) * last)
            delay = rng.random() * (life[at + 1][0] - life[at][0])
            when = life[at][0] + delay
        found.append((when, at, delay))
    return [(at, delay) for _, at, delay in sorted(found)]

def wait(events, places, at, delay):
    "Until so long behind that event, and no longer than until the next: the machine may be faster or slower by now."
    left, until = b"", None if at else time.monotonic() + delay
    while until is None or (rest := until - time.monotonic()) > 0:
        if not select.select([events], [], [], None if until is None else rest)[0]:
            return
        got = os.read(events.fileno(), 1 << 16)
        *lines, left = (left + got).split(b"\n")
        come = max((places.get(line.decode(), -1) for line in lines), default=-1)
        if not got or come > at:
            return
        if come == at and until is None:
            until = time.monotonic() + delay

def where(out):
    "What was under way, by what it left behind."
    for folder in [out, *out.glob("round-*"), *out.glob("round-*/train")]:
        if any(not (path / "complete").exists() for path in folder.glob("checkpoints/*")):
            return "inside a checkpoint"
        for path in folder.glob(".*.part"):
            return "inside " + path.name[1:-5]
    if not (out / "run.json").exists():
        return "before the run was claimed"
    newest = max((path for path in out.glob("**/*.jsonl")), key=lambda path: path.stat().st_mtime_ns).name
    return {"log.jsonl": "among the steps", "reference.jsonl": "in the reference", "search.jsonl": "in the search",
            "pairs.jsonl": "behind the pairs"}.get(newest, "before the first step")

begun = time.monotonic()
out, told = runs / "killed", []  # at one place, one after the other: rounds name their models and pairs by their paths
life, took = undisturbed(out)
out.rename(runs / "undisturbed")
out.with_suffix(".txt").unlink()
places = {what: at for at, (_, what) in enumerate(life)}
for at, delay in moments(life):
    pid, events = started(out)
    here = time.monotonic()
    wait(events, places, at, delay)
    os.kill(pid, signal.SIGKILL)
    lived = time.monotonic() - here
    code = ended(pid)
    events.close()
    told.append({"behind": life[at][1], "by": round(delay, 4), "lived": round(lived, 2), "where": where(out), "code": code})
    if code != -signal.SIGKILL:
        break
pid, events = started(out)
events.read()
print(json.dumps({"kills": told, "last": ended(pid), "undisturbed": round(took, 2), "all": round(time.monotonic() - begun, 1)}))
"""

TRAIN: dict[str, Any] = {
    "epochs": 3, "batch_size": 2, "accumulation": 2, "precision": "fp32", "learning_rate": 2e-3, "warmup": 0.1,
    "save_every": 3, "log_every": 2, "features": "disk", "seed": 3, "lora": {"rank": 4, "alpha": 8, "dropout": 0.1},
    "parts": {"projector": "full"},
}  # fmt: skip
CASES: dict[str, dict[str, Any]] = {
    "reflective": {"method": "reflective"},
    "dpo": {"method": "dpo", "preference": {"reference": "kept"}, "epochs": 6},
    "povid": {"method": "povid", "povid": {"stage": "noise"}, "epochs": 6},
    "csr": {
        "method": "csr", "epochs": 2, "parts": {}, "accumulation": 1,
        "csr": {"rounds": 2, "ask": ("Describe the image.",), "beams": 3, "characters": 60, "sentence_tokens": 20},
    },
}  # fmt: skip
FEW = {"reflective": 4, "povid": 2}  # in the plain run; the others take a minute more
MANY = {"reflective": 20, "dpo": 10, "povid": 10, "csr": 14}
SPEED = ("tokens_per_second", "peak_bytes")
NOT_EQUAL = ("log.jsonl", "report.html", "report.json", "plan.json")  # they tell of speed and memory


def recipe_of(case: str, model: Path) -> Recipe:
    settings = TRAIN | CASES[case]
    diet = {"reflective": "reflective", "csr": "balanced"}.get(case, "preferences")
    return Recipe(
        name=f"kill-{case}",
        backbone={"model": "starter" if case == "csr" else str(model), "quantization": "none"},
        data={"scenes": {"count": 4, "diet": diet, "seed": 5}},
        train=settings,
    )


def killed(case: str, kills: int, model: Path, where: Path) -> dict[str, Any]:
    recipe_of(case, model).dump(where / "recipe.yaml")
    (where / "killer.py").write_text(KILLER, encoding="utf-8")
    alone = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "XDG_CACHE_HOME": str(where / "cache")}
    done = subprocess.run(
        [sys.executable, "killer.py", "recipe.yaml", str(where), str(kills)], cwd=where, text=True, capture_output=True,
        timeout=1500, env=os.environ | alone | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def tree(out: Path) -> list[str]:
    """Every file of a run; of checkpoints and TensorBoard's events, which are many or few by when a run was stopped, none."""
    apart = ("checkpoints", "tensorboard")
    files = (path.relative_to(out) for path in out.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in files if not set(path.parts) & set(apart))


def logged(path: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return [{key: value for key, value in line.items() if key not in SPEED} for line in lines]


def same(killed: Path, undisturbed: Path) -> None:
    """The adapter, or the rounds' models, byte for byte; the log's every figure but speed; and nothing stray."""
    assert tree(killed) == tree(undisturbed)
    for name in tree(undisturbed):
        one, other = killed / name, undisturbed / name
        if name.endswith("log.jsonl"):
            assert logged(one) == logged(other), name
        elif Path(name).name not in NOT_EQUAL and one.suffix != ".png":
            assert sha256_of(one) == sha256_of(other), name
    names = [
        sorted(path.relative_to(out).as_posix() for path in out.glob("**/checkpoints/*"))
        for out in (killed, undisturbed)
    ]
    assert names[0] == names[1] and names[0], "checkpoints"


def prove(case: str, kills: int, model: Path, where: Path) -> Counter[str]:
    told = killed(case, kills, model, where)
    said = (where / "killed.txt").read_text(encoding="utf-8")
    print(json.dumps(told, indent=1))
    assert [kill["code"] for kill in told["kills"]] == [-9] * kills and told["last"] == 0, (told, said[-4000:])
    assert "Traceback" not in said
    same(where / "killed", where / "undisturbed")
    return Counter(kill["where"].partition(",")[0] for kill in told["kills"])


@pytest.mark.parametrize("case", FEW)
def test_killed_at_a_few_moments(case: str, tiny_folder: Path, tmp_path: Path) -> None:
    prove(case, FEW[case], tiny_folder, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1600)
@pytest.mark.parametrize("case", CASES)
def test_killed_at_many_moments(case: str, tiny_folder: Path, tmp_path: Path) -> None:
    places = prove(case, MANY[case], tiny_folder, tmp_path)
    assert places["inside a checkpoint"] and len(places) >= 4, places
