"""Runs that learn, and runs that are killed, interrupted, starved of disk or handed other data in the same folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgereverie.bundle import sha256_of
from edgereverie.errors import TrainError
from edgereverie.recipe import load_recipe
from edgereverie.tuning import run_folder, trainer, watch
from edgereverie.tuning.methods.reflective import METHOD

# One interpreter, one child for each moment: the imports are paid once, and each child dies by a real SIGKILL.
KILLER = """
import json, os, signal, sys
from pathlib import Path

import torch
from rich.console import Console

from edgereverie.backbones.base import open_folder
from edgereverie.data.jsonl import read_samples
from edgereverie.recipe import load_recipe
from edgereverie.tuning import run_folder, trainer, watch
from edgereverie.tuning.methods.reflective import METHOD
from peft import PeftModel

recipe, data, runs = load_recipe(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
folder, samples = open_folder(Path(recipe.backbone.model)), list(read_samples(data / "samples.jsonl"))
die = lambda: os.kill(os.getpid(), signal.SIGKILL)
torch.set_num_threads(1)
trainer.quiet()

def whole():
    "Nothing happens."

def half_a_checkpoint():
    def cut(value, path, *_, **__):
        Path(path).write_bytes(b"PK half of it")
        die()
    torch.save = cut

def a_torn_log_line():
    def on_step_end(self, args, state, control, **_):
        if state.global_step == 3:
            with self.log.open("a") as stream:
                stream.write('{"step": 3, "lo')
            die()
    trainer.Watch.on_step_end = on_step_end

def all_but_the_mark():
    def flush(path):
        if path.parent.name == "checkpoint-4":
            die()
    run_folder.flush = flush

def half_an_adapter():
    def save(self, path, *args, **keywords):
        if Path(path).name.startswith("checkpoint"):
            return original(self, path, *args, **keywords)
        (Path(path) / "adapter_model.safetensors").write_bytes(b"half of it")
        die()
    original, PeftModel.save_pretrained = PeftModel.save_pretrained, save

def child(out, moment):
    pid = os.fork()
    if pid == 0:
        try:
            moment()
            trainer.run(recipe, METHOD, folder, samples, data / "images", out, console=Console(quiet=True), counts={})
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(3)
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    checkpoints = sorted(path.parent.name for path in out.glob("checkpoints/*/complete"))
    return {"moment": moment.__name__, "killed": os.WIFSIGNALED(status), "status": status, "complete": checkpoints,
            "left": sorted(path.name for path in out.iterdir())}

told = [child(runs / "killed", moment) for moment in
        (half_a_checkpoint, a_torn_log_line, all_but_the_mark, half_an_adapter, whole)]
told.append(child(runs / "undisturbed", whole))
print(json.dumps(told))
"""


def lines(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def complete(out: Path) -> list[str]:
    return sorted(path.parent.name for path in (out / "checkpoints").glob("*/complete"))


def adapter_hash(result: Path) -> str:
    return sha256_of(result / "adapter_model.safetensors")


def test_reflective_overfits_four_samples(train, recipe, samples, tmp_path: Path) -> None:
    """From ln 1024 = 6.9 nats at the start, four conversations are learned nearly by heart."""
    learn = recipe(steps=40, batch_size=4, learning_rate=2e-3, save_every=1000,
                   parts={"language_model": "full", "projector": "full"})  # fmt: skip
    four = [*samples[:3], samples[-1]]
    result = train(learn, tmp_path / "run", four)
    losses = [entry["loss"] for entry in lines(tmp_path / "run")]
    assert result.name == "model" and len(losses) == 40
    assert 6 < losses[0] < 8
    assert losses[-1] < 0.7, losses[-5:]


def test_a_run_folder_holds_what_it_says(trained: Path, recipe) -> None:
    assert {path.name for path in trained.iterdir()} - {"curves", "tensorboard"} == {
        "adapter",
        "checkpoints",
        "log.jsonl",
        "recipe.yaml",
        "report.html",
        "run.json",
    }
    assert load_recipe(trained / "recipe.yaml") == recipe()
    assert {"adapter_model.safetensors", "adapter_config.json"} <= {
        path.name for path in (trained / "adapter").iterdir()
    }
    assert complete(trained) == ["checkpoint-2", "checkpoint-4"]
    identity = json.loads((trained / "run.json").read_text(encoding="utf-8"))
    assert identity["recipe"] == recipe().fingerprint() and set(identity) == {"recipe", "data", "samples"}
    log = lines(trained)
    assert [entry["step"] for entry in log] == [1, 2, 3, 4]
    assert all(entry["loss"] > 0 and entry["grad_norm"] > 0 and entry["learning_rate"] >= 0 for entry in log)


def test_nf4_trains_and_resumes_too(train, recipe, tmp_path: Path) -> None:
    result = train(recipe("nf4", parts={"projector": "full"}), tmp_path / "run")
    config = json.loads((result / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["r"] == 8 and config["modules_to_save"] == ["multi_modal_projector"]
    losses = [entry["loss"] for entry in lines(tmp_path / "run")]
    assert losses[-1] < losses[0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills by POSIX signals")
def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(recipe, drawn: Path, tmp_path: Path) -> None:
    """Killed four times in one run folder; the adapter equals an undisturbed run's byte for byte (fp32 on one thread)."""
    recipe(steps=6).dump(tmp_path / "recipe.yaml")
    (tmp_path / "killer.py").write_text(KILLER, encoding="utf-8")
    runs = tmp_path / "runs"
    runs.mkdir()
    done = subprocess.run(
        [sys.executable, "killer.py", "recipe.yaml", str(drawn), str(runs)], cwd=tmp_path, text=True, timeout=900,
        capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert [(entry["moment"], entry["killed"], entry["complete"]) for entry in told] == [
        ("half_a_checkpoint", True, []),
        ("a_torn_log_line", True, ["checkpoint-2"]),
        ("all_but_the_mark", True, ["checkpoint-2"]),
        ("half_an_adapter", True, ["checkpoint-4", "checkpoint-6"]),
        ("whole", False, ["checkpoint-4", "checkpoint-6"]),
        ("whole", False, ["checkpoint-4", "checkpoint-6"]),
    ], done.stderr
    assert not any("adapter" in entry["left"] for entry in told[:4])
    killed, undisturbed = runs / "killed", runs / "undisturbed"
    assert ".adapter.part" not in os.listdir(killed)
    assert adapter_hash(killed / "adapter") == adapter_hash(undisturbed / "adapter")
    assert [entry["step"] for entry in lines(killed)] == [1, 2, 3, 4, 5, 6]
    assert [(e["step"], e["loss"]) for e in lines(killed)] == [(e["step"], e["loss"]) for e in lines(undisturbed)]


def test_ctrl_c_leaves_a_folder_that_goes_on(train, recipe, trained: Path, tmp_path: Path, monkeypatch) -> None:
    stopped = trainer.Watch.on_step_end

    def interrupt(self, args, state, control, **rest):
        if state.global_step == 3:
            raise KeyboardInterrupt
        stopped(self, args, state, control, **rest)

    monkeypatch.setattr(trainer.Watch, "on_step_end", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(recipe(), tmp_path / "run")
    assert complete(tmp_path / "run") == ["checkpoint-2"] and not (tmp_path / "run" / "adapter").exists()
    monkeypatch.undo()
    result = train(recipe(), tmp_path / "run")
    assert adapter_hash(result) == adapter_hash(trained / "adapter")
    assert [entry["step"] for entry in lines(tmp_path / "run")] == [1, 2, 3, 4]


def test_another_recipe_or_other_data_is_refused(train, recipe, samples, trained: Path) -> None:
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    with pytest.raises(TrainError, match="another recipe;") as caught:
        train(recipe(learning_rate=1e-5), trained)
    assert "--force" in caught.value.hint
    with pytest.raises(TrainError, match="another data;"):
        train(recipe(), trained, samples[1:])
    with pytest.raises(TrainError, match="another recipe and other data"):
        train(recipe(steps=5), trained, samples[1:])
    assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == before


def test_a_diverging_loss_stops_the_run(train, recipe, tmp_path: Path) -> None:
    """No mock: a step of 1e30 drives the weights out of what 32 bits hold."""
    with pytest.raises(TrainError, match=r"The loss became (nan|inf) at step [2-4]\.") as caught:
        train(recipe(learning_rate=1e30, save_every=1000, parts={"language_model": "full"}), tmp_path / "run")
    assert "learning_rate" in caught.value.hint
    assert not (tmp_path / "run" / "model").exists()


def test_a_full_disk_while_checkpointing(train, recipe, trained: Path, tmp_path: Path, file_size_limit) -> None:
    """The limit lets log and recipe through and stops the adapter's weights, inside safetensors."""
    with file_size_limit(50_000), pytest.raises(TrainError, match="checkpoint-2: cannot be written") as caught:
        train(recipe(), tmp_path / "run")
    assert "disk full" in caught.value.hint
    assert complete(tmp_path / "run") == []
    result = train(recipe(), tmp_path / "run")
    assert adapter_hash(result) == adapter_hash(trained / "adapter")


def test_a_full_disk_while_saving_the_adapter(train, recipe, tmp_path: Path, file_size_limit, monkeypatch) -> None:
    monkeypatch.setattr(trainer._MethodTrainer, "_save_checkpoint", lambda *_: None)
    with file_size_limit(50_000), pytest.raises(TrainError, match="adapter: cannot be written"):
        train(recipe(steps=1), tmp_path / "run")
    assert not [path for path in (tmp_path / "run").iterdir() if "adapter" in path.name]


def test_old_checkpoints_go_only_after_a_new_one_is_whole(train, recipe, tmp_path: Path, monkeypatch) -> None:
    """With one kept: when the second cannot be finished, the first is still there."""
    real = run_folder.flush

    def fail(path: Path) -> None:
        if path.parent.name == "checkpoint-4":
            raise OSError(28, "No space left on device")
        real(path)

    monkeypatch.setattr(run_folder, "flush", fail)
    with pytest.raises(TrainError, match="checkpoint-4: cannot be written"):
        train(recipe(keep_checkpoints=1), tmp_path / "run")
    assert complete(tmp_path / "run") == ["checkpoint-2"]
    monkeypatch.undo()
    train(recipe(keep_checkpoints=1), tmp_path / "run")
    assert os.listdir(tmp_path / "run" / "checkpoints") == ["checkpoint-4"]


def test_the_log_forgets_what_a_kill_undid(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text(
        '{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.5}\n{"step": 3, "loss": 1.2}\n{"st', encoding="utf-8"
    )
    watch._drop_after(log, 2)
    assert [entry["step"] for entry in lines(tmp_path)] == [1, 2]
    watch._drop_after(tmp_path / "none.jsonl", 2)
    assert not (tmp_path / "none.jsonl").exists()


def test_the_method_is_registered() -> None:
    from edgereverie.registry import METHODS

    assert METHODS.get("reflective") is METHOD and METHODS.get("sight").name == "sight"
