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
KILLER = """
import json, os, random, shutil, signal, sys, threading, time, traceback
from pathlib import Path

from edgereverie import stages
from edgereverie.bundle import Bundle, MANIFEST
from edgereverie.errors import BundleError
from edgereverie.export import estimate, write
from edgereverie.export.targets import gguf

start, work, kills, profiles = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
ACTS = ("os.rename", "os.mkdir", "os.remove", "os.rmdir")
rng = random.Random(11)

def watched(place, act):
    "Call act(number) at each act on a file below the place that changes something."
    count = [0]
    def hook(event, arguments):
        if event == "open":
            path, mode, flags = arguments
            changing = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        else:
            path, changing = arguments[0] if arguments else None, event in ACTS
        if changing and isinstance(path, (str, os.PathLike)) and str(path).startswith(str(place)):
            count[0] += 1
            act(count[0])
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
    "When each act came."
    here, there = os.pipe()
    pid = child(place, lambda number: os.write(there, f"{time.monotonic()} ".encode()), work / "undisturbed.txt")
    os.close(there)
    with os.fdopen(here) as pipe:
        moments = [float(word) for word in pipe.read().split()]
    assert ended(pid) == 0, (work / "undisturbed.txt").read_text()
    return moments + [time.monotonic()]

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def at(wanted, delay):
    def act(number):
        if number == wanted:
            threading.Timer(delay, die).start() if delay else die()
    return act

def looked_at(place, right):
    "Every folder there that passes its check is the right bundle; how many do, and what else lies about."
    whole, rest = 0, []
    for manifest in place.rglob(MANIFEST):
        try:
            bundle = Bundle.load(manifest.parent)
            bundle.check()
        except BundleError:
            rest.append(manifest.parent.name)
            continue
        name = manifest.parent.name.removeprefix(".").removesuffix(".part")
        assert manifest.read_bytes() == right[name], f"{manifest.parent} passes its check and is wrong"
        whole += 1
    return whole, rest

place = work / "same"  # both at one place, one after the other
shutil.copytree(start, place / "run")
life = undisturbed(place)
place.rename(work / "undisturbed")
right = {path.parent.name: path.read_bytes() for path in (work / "undisturbed").rglob(MANIFEST)}
shutil.copytree(start, place / "run")
told, seen = [], 0
for number in range(kills):
    if seen == len(right):  # all of it stands: begin again
        shutil.rmtree(place)
        shutil.copytree(start, place / "run")
        seen = 0
    share = (number + rng.random()) / kills
    if number % 2:
        when = life[0] + share * (life[-1] - life[0])
        wanted = max(index for index, then in enumerate(life[:-1]) if then <= when) + 1
        delay = when - life[wanted - 1]
    else:
        wanted, delay = 1 + int(share * (len(life) - 1)), 0.0
    # What earlier children left whole is not done again, so this act may never come: then the first one is as good.
    if seen:
        wanted = 1 + wanted % 3
    code = ended(child(place, at(wanted, delay), work / "killed.txt"))
    seen, rest = looked_at(place / "bundles", right) if (place / "bundles").exists() else (0, [])
    inside = [path.name for path in place.rglob(".*.part") if path.is_dir()]
    told.append({"act": wanted, "delay": round(delay, 3), "code": code, "whole": seen, "inside": inside})
last = ended(child(place, lambda number: None, work / "killed.txt"))
print(json.dumps({"kills": told, "last": last, "acts": len(life) - 1, "seconds": round(life[-1] - life[0], 2)}))
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
    told = killed(tiny_folder, 2, ["gguf-q8-0"], tmp_path)
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
    told = killed(start, 20, ["gguf-q8-0", "gguf-q4-k-m"], tmp_path)
    assert files_of(tmp_path / "same") == files_of(tmp_path / "undisturbed")
    inside = {name for kill in told["kills"] for name in kill["inside"]}
    assert ".merged.part" in inside and len(inside) >= 2, inside
