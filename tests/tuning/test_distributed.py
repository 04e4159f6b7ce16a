"""Two processes with half a batch each end where one process with the whole batch ends."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from edgereverie.tuning import distributed

RECIPE = """
name: both
backbone: {{model: {model}, quantization: none}}
data:
  scenes: {{count: 12, diet: {diet}, seed: 5}}
train:
  method: {method}
  steps: 4
  batch_size: {batch}
  learning_rate: 2.0e-4
  warmup: 0.0
  precision: fp32
  gradient_checkpointing: {checkpointing}
  features: {features}
  save_every: 2
  log_every: 1
  lora: {{rank: 4, alpha: 8, dropout: 0.0}}
  parts: {{projector: full}}
"""


def launched(recipe: Path, out: Path, processes: int) -> Path:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # accelerate has processes on CPUs started by MPI alone; --multi_gpu starts them by itself, as on cards.
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", str(processes), "--num_machines", "1",
              "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", str(port)]  # fmt: skip
    done = subprocess.run(
        [sys.executable, *(launch if processes > 1 else ()), "-m", "edgereverie", "train", str(recipe), "--out", str(out)],
        text=True, capture_output=True, timeout=280, cwd=out.parent,
        env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1",
                          "PYTHONPATH": os.pathsep.join(sys.path), "XDG_CACHE_HOME": str(out.parent / "cache")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return out


CASES = {
    "reflective": {"method": "reflective", "diet": "reflective", "checkpointing": "false", "features": "disk"},
    "dpo": {"method": "dpo", "diet": "preferences", "checkpointing": "true", "features": "memory"},
}


@pytest.mark.parametrize("case", CASES)
def test_two_processes_are_one_with_twice_the_batch(case: str, tiny_folder: Path, tmp_path: Path) -> None:
    folders = []
    for processes, batch in ((2, 2), (1, 4)):
        recipe = tmp_path / f"{processes}.yaml"
        told = RECIPE.format(model=tiny_folder, batch=batch, **CASES[case])
        recipe.write_text(told, encoding="utf-8")
        folders.append(launched(recipe, tmp_path / f"run{processes}", processes))
    two, one = (load_file(folder / "adapter" / "adapter_model.safetensors") for folder in folders)
    assert two.keys() == one.keys() and len(two) > 10
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, atol=1e-5, rtol=0, msg=lambda text, name=name: f"{name}: {text}")
    moved = max(float(weight.abs().max()) for name, weight in one.items() if "lora_B" in name)
    assert moved > 2e-4, "the adapter learned something that could differ"
    losses = [
        [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
        for folder in folders
    ]
    assert len(losses[0]) == 4 and losses[0] == pytest.approx(losses[1], abs=1e-5)
    saved = folders[0] / "checkpoints" / "checkpoint-4"
    assert {"rng_state_0.pth", "rng_state_1.pth", "complete"} <= {path.name for path in saved.iterdir()}


ROUNDS = """
name: rounds
backbone: {{model: {model}, quantization: none}}
data:
  scenes: {{count: 5, diet: balanced, seed: 3}}
train:
  method: csr
  steps: 2
  batch_size: {batch}
  learning_rate: 1.0e-3
  warmup: 0.0
  precision: fp32
  log_every: 1
  lora: {{rank: 4, alpha: 8, dropout: 0.0}}
  csr: {{rounds: 2, ask: [Describe the image.], prompts: 4, beams: 3, characters: 60, sentence_tokens: 20}}
"""


def test_one_process_searches_and_both_learn_what_it_found(tmp_path: Path) -> None:
    """Rounds on two processes, each after the other's end; the first one's pairs and losses are those of one process."""
    folders = []
    for processes, batch in ((2, 1), (1, 2)):
        recipe = tmp_path / f"{processes}.yaml"
        recipe.write_text(ROUNDS.format(model="starter", batch=batch), encoding="utf-8")
        folders.append(launched(recipe, tmp_path / f"run{processes}", processes))
    two, one = (folder / "round-1" for folder in folders)
    assert (two / "pairs.jsonl").read_bytes() == (one / "pairs.jsonl").read_bytes()
    losses = [
        [json.loads(line)["loss"] for line in (folder / "train" / "log.jsonl").read_text(encoding="utf-8").splitlines()]
        for folder in (two, one)
    ]
    assert len(losses[0]) == 2 and losses[0] == pytest.approx(losses[1], abs=1e-4)
    first, second = (json.loads((folders[0] / f"round-{number}" / "report.json").read_text()) for number in (1, 2))
    assert first["model"] == "start" and second["model"] == "round-1" and second["pairs"]
    assert (folders[0] / "round-2" / "model" / "model.safetensors").is_file()
    assert not list(folders[0].rglob(".*"))


def test_alone_nothing_is_wrapped_and_nobody_waits() -> None:
    model = nn.Linear(2, 2)
    assert distributed.is_main() and distributed.inside(model, lambda inner: inner is model)
    with distributed.main_first():
        assert not torch.distributed.is_initialized()
