"""An export that is killed again and again ends with the same bytes as one that nothing disturbs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

# One interpreter, one child for each kill: the imports are paid once, and each child dies by a real SIGKILL. The moment is
# drawn from the export's own life: at its n-th act on the file system, or so long after it, in strata over the whole of it.
KILLER = r"""
import json, os, random, shutil, signal, sys, threading, time, traceback
from pathlib import Path

import gguf, llama_cpp, onnxruntime, peft, transformers

from edgereverie import stages
from edgereverie.bundle import Bundle, MANIFEST
from edgereverie.errors import BundleError
from edgereverie.export import parity, write
from edgereverie.tuning import merge, plan, trainer

start, work, kills, profiles = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
ACTS = ("os.rename", "os.mkdir", "os.remove", "os.rmdir")
rng = random.Random(11)

def watched(place, act):
    "Call act(number, what) at each act on a file below the place that changes something."
    count = [0]
    def hook(event, arguments):
        if event == "open":
            path, mode, flags = arguments
            changing = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        else:
            path, changing = arguments[0] if arguments else None, event in ACTS
        if changing and isinstance(path, (str, os.PathLike)) and str(path).startswith(str(place)):
            count[0] += 1
            act(count[0], f"{event} {Path(path).name}")
    sys.addaudithook(hook)

def child(place, act, told):
    pid = os.fork()
    if pid:
        return pid
    code = 3
    try:
        watched(place, act)
        os.dup2(os.open(told, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        stages.export(place / "run", profiles, place / "bundles")
        code = 0
    except BaseException:
        traceback.print_exc()
    for timer in threading.enumerate():  # a kill that comes late comes all the same
        if isinstance(timer, threading.Timer):
            timer.join()
    os._exit(code)

def ended(pid):
    status = os.waitpid(pid, 0)[1]
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)

def undisturbed(place):
    "When each act came, and what it was; the end comes last."
    here, there = os.pipe()
    pid = child(place, lambda number, what: os.write(there, f"{time.monotonic()} {what}\n".encode()), work / "undisturbed.txt")
    os.close(there)
    with os.fdopen(here) as pipe:
        life = [(float(line.split()[0]), line.split(maxsplit=1)[1].strip()) for line in pipe]
    assert ended(pid) == 0, (work / "undisturbed.txt").read_text()
    return [*life, (time.monotonic(), "end")]

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def at(wanted, delay):
    def act(number, what):
        if number == wanted:
            threading.Timer(delay, die).start() if delay else die()
    return act

def looked_at(place, right):
    "How many folders there pass their check; each that does is the right bundle."
    whole = 0
    for manifest in place.rglob(MANIFEST):
        try:
            bundle = Bundle.load(manifest.parent)
            bundle.check()
        except BundleError:
            continue
        name = manifest.parent.name.removeprefix(".").removesuffix(".part")
        assert manifest.read_bytes() == right[name], f"{manifest.parent} passes its check and is wrong"
        whole += not manifest.parent.name.startswith(".")
    return whole

place = work / "same"  # both at one place, one after the other
shutil.copytree(start, place / "run")
life = undisturbed(place)
place.rename(work / "undisturbed")
right = {path.parent.name: path.read_bytes() for path in (work / "undisturbed").rglob(MANIFEST)}
shutil.copytree(start, place / "run")

def stands(place):
    "How many acts of the life an export begins with behind it: those up to the last folder that got its name."
    done = 0
    for index, (_, what) in enumerate(life, 1):
        name = what.removeprefix("os.rename .").removesuffix(".part")
        if what.startswith("os.rename .") and any((at / name).is_dir() for at in (place / "run", place / "bundles")):
            done = index
    return done

begin, end = life[0][0], life[-1][0]
first = next(index for index, (_, what) in enumerate(life, 1) if what.startswith("os.rename ."))  # a folder gets its name
told = []
for number in range(kills):
    share = (number + rng.random()) / kills
    if number == 0:  # the first folder is soon made, in less than a stratum
        wanted, delay = rng.randint(2, first), 0.0
    elif number % 2:
        when = begin + share * (end - begin)
        wanted = max(index for index, (then, _) in enumerate(life[:-1], 1) if then <= when)
        delay = when - life[wanted - 1][0]
    else:
        wanted, delay = 1 + int(share * (len(life) - 1)), 0.0
    after = life[wanted - 1][1]
    code = ended(child(place, at(max(1, wanted - stands(place)), delay), work / "killed.txt"))
    seen = looked_at(place / "bundles", right)
    inside = [path.name for path in place.rglob(".*.part") if path.is_dir()]
    told.append({"after": after, "delay": round(delay, 3), "code": code, "whole": seen, "inside": inside})
    if seen == len(right):  # it was faster than before; there is more to be killed
        shutil.rmtree(place / "bundles" / f"run-{profiles[-1]}")
last = ended(child(place, lambda number, what: None, work / "killed.txt"))
print(json.dumps({"kills": told, "last": last, "acts": len(life) - 1, "seconds": round(end - begin, 2)}))
"""


def killed(start: Path, kills: int, profiles: list[str], where: Path) -> dict[str, Any]:
    (where / "killer.py").write_text(KILLER, encoding="utf-8")
    alone = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "XDG_CACHE_HOME": str(where / "cache")}
    done = subprocess.run(
        [sys.executable, "killer.py", str(start), str(where), str(kills), *profiles], cwd=where, text=True,
        capture_output=True, timeout=1700, env=os.environ | alone | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    told = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(told, indent=1))
    said = (where / "killed.txt").read_text(encoding="utf-8")
    assert "Traceback" not in said, said[-4000:]
    assert [kill["code"] for kill in told["kills"]] == [-9] * kills and told["last"] == 0
    return told


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills by POSIX signals")
def test_killed_at_a_few_moments(tiny_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    pytest.importorskip("peft")
    told = killed(tiny_folder, 2, ["gguf-f16"], tmp_path)
    assert files_of(tmp_path / "same") == files_of(tmp_path / "undisturbed"), "nothing else, nothing stray"
    assert told["acts"] >= 10


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills by POSIX signals")
def test_killed_at_twenty_moments_of_merging_and_exporting(tuned_run: Path, tmp_path: Path) -> None:
    """From the adapter: the base is merged, and two profiles leave, one of them through llama.cpp's quantizer."""
    pytest.importorskip("llama_cpp")
    start = tmp_path / "start"
    shutil.copytree(tuned_run, start, ignore=shutil.ignore_patterns("merged", "bundles", "checkpoints"))
    profiles = ["gguf-f16", "gguf-q4-k-m"]
    told = killed(start, 20, profiles, tmp_path)
    assert files_of(tmp_path / "same") == files_of(tmp_path / "undisturbed")
    inside = {name for kill in told["kills"] for name in kill["inside"]}
    assert inside == {".merged.part", *(f".run-{profile}.part" for profile in profiles)}, "it died in each of its parts"
