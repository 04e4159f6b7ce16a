"""A run's folder: whose run it holds, which of its checkpoints are whole, and writes that say when the disk is full."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from edgereverie.bundle import sha256_of, write_text
from edgereverie.errors import TrainError
from edgereverie.recipe import Recipe
from edgereverie.records import PreferencePair, Sample, as_json

COMPLETE = "complete"  # a file in a checkpoint, written when all the others are: their SHA-256, by name


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
        with written(path):
            write_text(path, json.dumps(identity | {"samples": len(samples)}, indent=2) + "\n")
        return
    try:
        found = dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError:
        raise TrainError(
            f"{path} is damaged, so nobody knows whose run this is.",
            hint="Give the run another name or --out, or start it again with --force.",
        ) from None
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


def seal(checkpoint: Path) -> None:
    """Flush all its files to the disk, then say that they are complete."""
    (checkpoint / COMPLETE).unlink(missing_ok=True)
    digests = {}
    for path in sorted(checkpoint.iterdir()):
        flush(path)
        if path.is_file():
            digests[path.name] = sha256_of(path)
    write_text(checkpoint / COMPLETE, json.dumps(digests, indent=1) + "\n")


def damage(checkpoint: Path) -> str | None:
    """What is wrong with a complete checkpoint, told by its file; None for nothing."""
    try:
        digests = dict(json.loads((checkpoint / COMPLETE).read_text(encoding="utf-8")))
    except ValueError:
        return f"{COMPLETE} cannot be read"
    for name, digest in digests.items():
        if not (checkpoint / name).is_file():
            return f"{name} is missing"
        if sha256_of(checkpoint / name) != digest:
            return f"{name} is not what was written"
    return None


def remove(checkpoint: Path) -> None:
    """Its mark goes first, so that a kill leaves no half of it that looks whole."""
    (checkpoint / COMPLETE).unlink(missing_ok=True)
    shutil.rmtree(checkpoint)


def last_checkpoint(folder: Path, tell: Callable[[str], None]) -> Path | None:
    """The newest checkpoint that is whole. Those that a kill left incomplete are removed, and, told of, damaged ones too."""
    for path in set(folder.glob("checkpoint-*")) - set(checkpoints(folder)):
        shutil.rmtree(path)
    damaged = []
    while (found := checkpoints(folder)) and (wrong := damage(found[-1])):
        remove(found[-1])
        damaged.append(f"{found[-1]} is damaged ({wrong}) and was removed")
    last = found[-1] if found else None
    for told in damaged:
        tell(f"{told}: the run goes on from {last.name}." if last else f"{told}: the run begins again from its start.")
    return last


def is_last(checkpoint: Path) -> bool:
    """Whether the run had done its last step there. Resumed from it, the Trainer would take one step too many."""
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    return state["global_step"] >= state["max_steps"]


@contextmanager
def whole_or_none(checkpoint: Path) -> Iterator[None]:
    """A checkpoint that cannot be finished is removed: it would keep the room that a full disk needs."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError):
        shutil.rmtree(checkpoint, ignore_errors=True)
        raise


def append(path: Path, line: str) -> None:
    """Add a line, or raise TrainError and leave the file as it was."""
    left = (line + "\n").encode()
    with written(path), path.open("ab", buffering=0) as stream:
        before = stream.seek(0, os.SEEK_END)
        try:
            while left:  # an unbuffered stream may take only the beginning, on a nearly full disk for one
                left = left[stream.write(left) :]
        except OSError:
            with suppress(OSError):
                stream.truncate(before)
            raise


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
