"""The demo, killed in each of its stages: the same command goes on, and ends where an undisturbed one ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("llama_cpp")

# One interpreter, one child for each moment: the imports are paid once, and each child dies by a real SIGKILL.
KILLER = """
import json, os, signal, sys
from pathlib import Path

import llama_cpp, onnxruntime, torch

from edgereverie import stages
from edgereverie.data.scenes import files
from edgereverie.evaluation import report
from edgereverie.evaluation.journal import Journal
from edgereverie.export import parity
from edgereverie.export.targets import onnx
from edgereverie.tuning import merge, trainer

torch.set_num_threads(1)

def dies(owner, name, call):
    "The owner's function of that name does its work, and at its call-th call it kills the process instead."
    original, calls = getattr(owner, name), []
    def counted(*args, **keywords):
        calls.append(None)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **keywords)
    setattr(owner, name, counted)

def torn_answer():
    def add(self, predictions):
        if len(self.answers) >= 6:
            with self.path.open("a") as stream:
                stream.write('{"id": "random/')
            os.kill(os.getpid(), signal.SIGKILL)
        original(self, predictions)
    original, Journal.add = Journal.add, add

MOMENTS = {
    "drawing": lambda: dies(files, "draw_scene", 15),
    "asking": torn_answer,
    "training": lambda: dies(trainer.Watch, "on_step_end", 2),
    "merging": lambda: dies(merge, "write_text", 1),
    "exporting": lambda: dies(onnx, "_save", 2),
    "judging": lambda: dies(parity, "judge", 1),
    "reporting": lambda: dies(report, "write_text", 2),
    "nothing": lambda: None,
}

def child(out, moment):
    pid = os.fork()
    if pid == 0:
        try:
            MOMENTS[moment]()
            stages.console.quiet = True
            stages.demo(out, quick=True)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(3)
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    return {"moment": moment, "killed": os.WIFSIGNALED(status), "status": status, "page": (out / "report.html").exists()}

runs = Path(sys.argv[1])
told = [child(runs / "killed", moment) for moment in MOMENTS]
told.append(child(runs / "undisturbed", "nothing"))
print(json.dumps(told))
"""


def measured(out: Path) -> list[tuple[object, ...]]:
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    return [(run["label"], run["artefact"], run["counts"], run["scores"]) for run in report["runs"]]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills by POSIX signals")
def test_killed_in_every_stage_it_ends_like_an_undisturbed_one(tmp_path: Path) -> None:
    alone = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILLER, str(tmp_path)]
    child = subprocess.run(command, capture_output=True, text=True, timeout=280, env=alone)
    assert child.returncode == 0, child.stderr
    told = json.loads(child.stdout)
    whole = [entry["moment"] for entry in told if not entry["killed"]]
    assert whole == ["nothing", "nothing"], child.stderr
    assert [entry["moment"] for entry in told if entry["page"]] == whole, "a page only when it is finished"
    assert measured(tmp_path / "killed") == measured(tmp_path / "undisturbed")
    assert [label for label, *_ in measured(tmp_path / "killed")] == [
        "starter", "tuned", "tuned, GGUF Q8_0", "tuned, ONNX int8",
    ]  # fmt: skip
    left = [path for path in (tmp_path / "killed").rglob("*") if path.name.startswith(".") or ".part" in path.name]
    assert not left
