"""What goes wrong under a run: no room, lost pictures, damaged files. It is told, nothing half-written stays, and the same
command goes on to the very adapter of an undisturbed run once it is mended."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from edgereverie import stages
from edgereverie.bundle import sha256_of
from edgereverie.errors import DataError, TrainError
from edgereverie.tuning import events, run_folder, run_report, trainer
from edgereverie.tuning.methods.dpo import METHOD as DPO
from edgereverie.tuning.methods.reflective import METHOD
from edgereverie.tuning.reference import _read

FULL = Path("/dev/full")  # a device that has no room, ever
full = pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")


def adapter(result: Path) -> str:
    return sha256_of(result / "adapter_model.safetensors")


def steps(out: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]


@contextmanager
def no_room_for(path: Path) -> Iterator[None]:
    """What is written to ``path`` meets a disk that is full: the system's own error, at the system's own moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(FULL)
    yield
    path.unlink(missing_ok=True)


# ---- full disks -----------------------------------------------------------------------------------------------------


@full
def test_each_file_of_a_run_meets_a_full_disk(train, recipe, trained: Path, tmp_path: Path, monkeypatch) -> None:
    """One after the other in one folder; the run that has room ends as the one that always had it."""
    out = tmp_path / "run"
    for name in (".run.json.part", ".recipe.yaml.part", "log.jsonl", ".report.html.part"):
        what = name.removeprefix(".").removesuffix(".part")
        with (
            no_room_for(out / name),
            pytest.raises(TrainError, match=rf"{what}: cannot be written .*No space left") as told,
        ):
            train(recipe(), out)
        assert "the same command again" in told.value.hint
        assert not (out / "adapter").exists() and not list(out.glob(".*"))
    assert steps(out) == [1, 2, 3, 4], "all steps were done before the report met the full disk"

    def no_room(chart: Any) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_report, "png", no_room)
    with pytest.raises(TrainError, match=r"report\.html: cannot be written"):
        train(recipe(), out)
    monkeypatch.undo()
    result = train(recipe(), out)
    assert adapter(result) == adapter(trained / "adapter")
    assert {path.name for path in out.iterdir()} == {path.name for path in trained.iterdir()}


def test_a_checkpoint_that_cannot_be_finished_leaves_its_room(train, recipe, tmp_path: Path, file_size_limit) -> None:
    with file_size_limit(50_000), pytest.raises(TrainError, match="checkpoint-2: cannot be written"):
        train(recipe(), tmp_path / "run")
    assert not list((tmp_path / "run" / "checkpoints").iterdir())
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "What was noticed" in page, "the page tells how far it came"


def test_a_line_of_the_log_is_whole_or_not_there(tmp_path: Path, file_size_limit) -> None:
    log = tmp_path / "log.jsonl"
    run_folder.append(log, "x" * 60)
    with file_size_limit(100), pytest.raises(TrainError, match=r"log\.jsonl: cannot be written"):
        run_folder.append(log, "y" * 60)
    assert log.read_text(encoding="utf-8") == "x" * 60 + "\n"


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnhandledThreadExceptionWarning"
)  # TensorBoard's own thread fails too
def test_events_that_cannot_be_written_stop_nothing(train, recipe, trained: Path, tmp_path: Path, monkeypatch) -> None:
    writers = pytest.importorskip("tensorboard.summary.writer.record_writer")

    def no_room(self: Any, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writers.RecordWriter, "write", no_room)
    with pytest.warns(RuntimeWarning, match=r"no (more )?events are written .*No space left"):
        result = train(recipe(), tmp_path / "run")
    assert adapter(result) == adapter(trained / "adapter")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "tensorboard").write_text("a file where a folder is wanted")
    with pytest.warns(RuntimeWarning, match="no events are written"):
        assert events.tensorboard(tmp_path / "other" / "tensorboard") is None


@full
def test_a_plan_is_advice_and_drawn_scenes_are_not(recipe, tmp_path: Path, monkeypatch, capsys) -> None:
    out = tmp_path / "run"
    few = recipe(steps=1).model_copy(update={"data": recipe().data.model_copy(
        update={"scenes": recipe().data.scenes.model_copy(update={"count": 2})})})  # fmt: skip
    from edgereverie.data.scenes import files

    save = files._save

    def no_room(*_: Any) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "_save", no_room)
    with pytest.raises(TrainError, match=r"data: cannot be written .*No space left"):
        stages.train(few, out)
    assert not list(out.iterdir())
    monkeypatch.setattr(files, "_save", save)
    with no_room_for(out / ".plan.json.part"):
        assert stages.train(few, out) == out / "adapter"
    assert "plan.json cannot be written" in " ".join(capsys.readouterr().err.split())
    assert not (out / "plan.json").exists() and not list(out.glob(".*"))


# ---- pictures -------------------------------------------------------------------------------------------------------


@pytest.fixture
def own_images(drawn: Path, tmp_path: Path) -> Path:
    shutil.copytree(drawn / "images", tmp_path / "images")
    return tmp_path / "images"


def lose(images: Path) -> None:
    for path in images.rglob("*.png"):
        path.unlink()


def go_away(images: Path) -> None:
    images.rename(images.with_name("elsewhere"))


def cut(images: Path) -> None:
    for path in images.rglob("*.png"):
        path.write_bytes(path.read_bytes()[:200])


@pytest.mark.parametrize(("harm", "features"), [(lose, "memory"), (go_away, "off"), (cut, "off")])
def test_a_picture_that_is_lost_or_cut_between_steps(
    harm: Callable[[Path], None], features: str, folder, samples, recipe, trained: Path, own_images: Path, drawn: Path,
    tmp_path: Path, monkeypatch,
) -> None:  # fmt: skip
    """After the third step; kept outputs alone do not hide it, and with the pictures back it ends as it would have."""
    wanted, out = recipe(features=features, steps=4), tmp_path / "run"

    def run() -> Path:
        return trainer.run(wanted, METHOD, folder, samples, own_images, out, console=Console(quiet=True), counts={})

    end = trainer.Watch.on_step_end

    def harmed(self: Any, args: Any, state: Any, control: Any, **rest: Any) -> None:
        end(self, args, state, control, **rest)
        if state.global_step == 2:
            harm(own_images)

    monkeypatch.setattr(trainer.Watch, "on_step_end", harmed)
    with pytest.raises(DataError, match=r"^Record '[^']+'.*\.png: .*(no such image|cannot be read|cut short)") as told:
        run()
    assert "the same command again" in told.value.hint and "_" in str(told.value)
    monkeypatch.undo()
    assert not (out / "adapter").exists() and run_folder.checkpoints(out / "checkpoints")
    shutil.rmtree(own_images, ignore_errors=True)
    shutil.copytree(drawn / "images", own_images)
    assert adapter(run()) == adapter(trained / "adapter")


def test_a_picture_that_is_lost_before_the_kept_reference(
    folder, pairs, drawn_pairs: Path, recipe, tmp_path: Path
) -> None:
    shutil.copytree(drawn_pairs / "images", tmp_path / "images")
    lost = tmp_path / "images" / pairs[0].image
    lost.unlink()
    wanted = recipe(method="dpo", preference={"reference": "kept"})
    with pytest.raises(DataError, match=f"Record '{pairs[0].id}': .*{lost.name}: the image cannot be read"):
        trainer.run(
            wanted, DPO, folder, pairs, tmp_path / "images", tmp_path / "run", console=Console(quiet=True), counts={}
        )


# ---- checkpoints ----------------------------------------------------------------------------------------------------


def harmed(path: Path, how: str) -> None:
    raw = bytearray(path.read_bytes())
    if how == "flipped":
        raw[len(raw) // 2] ^= 1
    elif how == "gone":
        path.unlink()
        return
    path.write_bytes(raw[: len(raw) // 2] if how == "cut" else raw)


@pytest.fixture
def stopped(trained: Path, tmp_path: Path) -> Path:
    """A run with whole checkpoints at steps 2 and 4, and no result."""
    shutil.copytree(trained, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "adapter")
    return tmp_path / "run"


def test_a_damaged_checkpoint_is_told_of_and_the_one_before_goes_on(
    stopped: Path, folder, samples, images: Path, recipe, trained: Path
) -> None:
    newest = stopped / "checkpoints" / "checkpoint-4"
    harmed(newest / "optimizer.pt", "flipped")
    console = Console(record=True, width=500, file=io.StringIO())
    result = trainer.run(recipe(), METHOD, folder, samples, images, stopped, console=console, counts={})
    said = console.export_text()
    assert "checkpoint-4 is damaged (optimizer.pt is not what was written) and was removed" in said
    assert "the run goes on from checkpoint-2" in said
    assert adapter(result) == adapter(trained / "adapter")
    assert steps(stopped) == [1, 2, 3, 4] and run_folder.damage(newest) is None


@pytest.mark.parametrize(
    ("name", "how", "wrong"),
    [("adapter_model.safetensors", "cut", "is not what was written"), ("trainer_state.json", "gone", "is missing"),
     ("rng_state.pth", "flipped", "is not what was written"), ("complete", "cut", "cannot be read")],
)  # fmt: skip
def test_every_damage_is_seen(name: str, how: str, wrong: str, stopped: Path) -> None:
    folder, told = stopped / "checkpoints", []
    harmed(folder / "checkpoint-4" / name, how)
    assert run_folder.last_checkpoint(folder, told.append) == folder / "checkpoint-2"
    assert len(told) == 1 and f"{name} {wrong}" in told[0] and not (folder / "checkpoint-4").exists()


def test_without_a_whole_checkpoint_the_run_begins_again(stopped: Path, trained: Path) -> None:
    folder, told = stopped / "checkpoints", []
    for path in folder.iterdir():
        harmed(path / "optimizer.pt", "cut")
    assert run_folder.last_checkpoint(folder, told.append) is None and not list(folder.iterdir())
    assert len(told) == 2 and all("the run begins again from its start" in line for line in told)
    assert run_folder.damage(trained / "checkpoints" / "checkpoint-4") is None


class Bomb:
    def __reduce__(self) -> Any:
        return os.mkdir, ("exploded",)


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"])
def test_a_checkpoint_cannot_run_code(
    name: str, stopped: Path, train, recipe, trained: Path, tmp_path: Path, monkeypatch
) -> None:
    """Even one whose digests were made to fit: tensors and plain values are all that is unpickled."""
    monkeypatch.chdir(tmp_path)
    shutil.rmtree(stopped / "checkpoints" / "checkpoint-4")
    folder = stopped / "checkpoints" / "checkpoint-2"
    torch.save(Bomb(), folder / name)
    run_folder.seal(folder)
    if name == "training_args.bin":  # written by the Trainer, read by nobody
        assert adapter(train(recipe(), stopped)) == adapter(trained / "adapter")
    else:
        with pytest.raises(TrainError, match="more than weights and plain values"):
            train(recipe(), stopped)
    assert not (tmp_path / "exploded").exists()


# ---- the kept reference ---------------------------------------------------------------------------------------------


def test_a_damaged_line_of_the_kept_reference_is_computed_anew(
    folder, pairs, drawn_pairs: Path, recipe, tmp_path: Path
) -> None:
    wanted = recipe(method="dpo", preference={"reference": "kept"}, steps=2)

    def run(out: Path) -> Path:
        return trainer.run(
            wanted, DPO, folder, pairs, drawn_pairs / "images", out, console=Console(quiet=True), counts={}
        )

    whole = run(tmp_path / "whole")
    lines = (tmp_path / "whole" / "reference.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    row = json.loads(lines[2])
    wrong = {
        "another figure": json.dumps(row | {"ref_chosen_logps": row["ref_chosen_logps"] + 1}) + "\n",
        "another pair": json.dumps(row | {"pair": 1, "id": json.loads(lines[3])["id"]}) + "\n",
        "no JSON": lines[2][:20] + "\n",
        "no object": "7\n",
    }
    identity = json.loads(lines[0])["fingerprint"]
    for line in wrong.values():
        (tmp_path / "reference.jsonl").write_text("".join([*lines[:2], line, *lines[3:]]), encoding="utf-8")
        with pytest.warns(RuntimeWarning, match="1 damaged line is computed anew"):
            found = _read(
                tmp_path / "reference.jsonl", identity, len(pairs), ("ref_chosen_logps", "ref_rejected_logps")
            )
        assert [index for index in range(len(pairs)) if found[index, 0] != found[index, 0]] == [row["pair"]]
    out = tmp_path / "again"
    out.mkdir()
    (out / "reference.jsonl").write_text("".join([*lines[:2], wrong["another figure"], *lines[3:-1], lines[-1][:9]]))
    with pytest.warns(RuntimeWarning, match="computed anew"):
        again = run(out)
    assert adapter(again) == adapter(whole), "computed in the batches that they were in"
    assert sorted((out / "reference.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)) == sorted(lines)


@full
def test_a_full_disk_while_the_reference_is_kept(folder, pairs, drawn_pairs: Path, recipe, tmp_path: Path) -> None:
    wanted, out = recipe(method="dpo", preference={"reference": "kept"}, steps=1), tmp_path / "run"
    with no_room_for(out / "reference.jsonl"), pytest.raises(TrainError, match=r"reference\.jsonl: cannot be written"):
        trainer.run(wanted, DPO, folder, pairs, drawn_pairs / "images", out, console=Console(quiet=True), counts={})
    trainer.run(wanted, DPO, folder, pairs, drawn_pairs / "images", out, console=Console(quiet=True), counts={})
    assert len((out / "reference.jsonl").read_text(encoding="utf-8").splitlines()) == 1 + len(pairs)


# ---- kept features --------------------------------------------------------------------------------------------------


def test_damaged_features_are_computed_anew_in_the_midst_of_a_run(
    train, recipe, trained: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    train(recipe(features="disk"), tmp_path / "first")
    for number, path in enumerate(sorted((tmp_path / "cache").rglob("*.safetensors"))):
        harmed(path, "cut" if number % 2 else "flipped")
    with pytest.warns(RuntimeWarning, match="damaged: it is removed, and computed anew"):
        result = train(recipe(features="disk"), tmp_path / "run")
    assert adapter(result) == adapter(trained / "adapter")


def test_a_damaged_identity_is_refused(train, recipe, stopped: Path) -> None:
    (stopped / "run.json").write_text('{"recipe": "ab', encoding="utf-8")
    with pytest.raises(TrainError, match=r"run\.json is damaged") as told:
        train(recipe(), stopped)
    assert "--force" in told.value.hint
