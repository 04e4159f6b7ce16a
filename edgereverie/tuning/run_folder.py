"""A run's folder: whose run it holds, which of its checkpoints are whole, and writes that say when the disk is full."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from edgereverie.bundle import write_text
from edgereverie.errors import TrainError
from edgereverie.recipe import Recipe
from edgereverie.records import PreferencePair, Sample, as_json

COMPLETE = "complete"  # a file in a checkpoint, written when all the others are


def flush(path: Path) -> None:
    if path.is_file():
        with path.open("rb") as stream:
            os.fsync(stream.fileno())


def data_fingerprint(samples: Sequence[Sample | PreferencePair]) -> str:
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(json.dumps(as_json(sample), ensure_ascii=False).encode())
    return digest.hexdigest()


def require_same_run(out: Path, recipe: Recipe, samples: Sequence[Sample | PreferencePair]) -> None:
    """Write run.json, or raise TrainError when the folder's run has another recipe or other data."""
    identity = {"recipe": recipe.fingerprint(), "data": data_fingerprint(samples)}
    path = out / "run.json"
    if not path.is_file():
        write_text(path, json.dumps(identity | {"samples": len(samples)}, indent=2) + "\n")
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    changed = [key for key, value in identity.items() if found.get(key) != value]
    if changed:
        raise TrainError(
            f"{out} holds a run with another {' and other '.join(changed)}; it cannot go on with this.",
            hint="Give the run another name or --out, or start it again with --force.",
        )


def checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    found = [path for path in folder.glob("checkpoint-*") if (path / COMPLETE).is_file()]
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint; incomplete ones, which a kill left behind, are removed."""
    whole = checkpoints(folder)
    for path in set(folder.glob("checkpoint-*")) - set(whole):
        shutil.rmtree(path)
    return whole[-1] if whole else None


def is_last(checkpoint: Path) -> bool:
    """Whether the run had done its last step there. Resumed from it, the Trainer would take one step too many."""
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    return state["global_step"] >= state["max_steps"]


@contextmanager
def written(path: Path) -> Iterator[None]:
    """A write that fails says which. safetensors and torch report a full disk as errors of their own, not as OSError."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        raise TrainError(
            f"{path}: cannot be written ({error}).",
            hint="Is the disk full? Make room and run the same command again: it goes on from the last checkpoint.",
        ) from error
