"""The reference of preference methods: the model as it was, by switching its adapter off, or by figures kept from the start."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor, nn

from edgereverie.backbones.base import ModelFolder
from edgereverie.bundle import sha256_of, write_text
from edgereverie.errors import DataError, TrainError
from edgereverie.records import as_json
from edgereverie.tuning.pairs import Pairs
from edgereverie.tuning.run_folder import append, written

_KEPT = "reference.jsonl"


@contextmanager
def adapter_off(model: nn.Module) -> Iterator[None]:
    """Inside, the model answers as it did before its adapter: whole parts that train beside it are the base's too."""
    wrapped = next((part for part in model.modules() if isinstance(part, PeftModel)), None)
    if wrapped is None:
        raise TrainError(
            "There is no adapter to switch off, so the reference would be the model that trains.",
            hint="Set train.parts.language_model to lora, or train.preference.reference to kept.",
        )
    with _at_rest(wrapped), wrapped.disable_adapter():
        yield


@contextmanager
def _at_rest(model: nn.Module) -> Iterator[None]:
    """Inside, nothing is dropped out.

    4-bit layers stay in training mode: on CPUs with AVX-512, bitsandbytes 0.50 packs a layer's weights anew when it first
    runs in eval mode, for good, and from then on no gradient passes through its product (nn/modules.py, Linear4bit).
    """
    training = model.training
    model.eval()
    for part in model.modules():
        if type(getattr(part, "weight", None)).__name__ == "Params4bit":
            part.training = True
    try:
        yield
    finally:
        model.train(training)


def fingerprint(dataset: Pairs, folder: ModelFolder, precision: str, settings: Mapping[str, Any]) -> str:
    """What the kept figures depend on: the weights, the words as the model reads them, the pictures and their geometry, and
    the method's own ``settings``.
    """
    digest = hashlib.sha256(json.dumps([as_json(folder.image), folder.chat.name, precision, settings]).encode())
    for path in folder.files():
        digest.update(sha256_of(path).encode())
    for pair in dataset.pairs:
        for side in (pair.chosen, pair.rejected):
            digest.update(side.ids.tobytes() + side.learned.tobytes())
    for image in sorted({pair.chosen.image for pair in dataset.pairs if pair.chosen.image is not None}):
        try:
            digest.update(sha256_of(image).encode())
        except OSError as error:
            name = next(pair.id for pair in dataset.pairs if pair.chosen.image == image)
            raise DataError(
                f"Record {name!r}: {image}: the image cannot be read ({error.strerror}).", hint="Put the image back."
            ) from None
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept for each pair. names: of its figures. figures: (pairs, names), of a model and a batch."""

    names: tuple[str, ...]
    figures: Callable[[nn.Module, Mapping[str, Any]], Tensor]


def kept_reference(
    model: nn.Module,
    dataset: Pairs,
    collate: Callable[..., Mapping[str, Any]],
    out: Path,
    identity: str,
    batch_size: int,
    kept: Kept,
    progress: Callable[[int, int], None],
) -> np.ndarray:
    """The figures of each pair under ``model`` as it is now. (pairs, names) float32.

    Kept in ``out``/reference.jsonl, a line for each pair behind one with ``identity``: a run that was killed goes on there.
    Raises TrainError when the file belongs to other weights or other data.
    """
    path = out / _KEPT
    found = _read(path, identity, len(dataset), kept.names)
    device = next(model.parameters()).device
    with _at_rest(model):
        if not path.is_file() or not path.stat().st_size:
            append(path, json.dumps({"edgereverie": "reference", "fingerprint": identity}))
        for start in range(0, len(dataset), batch_size):
            batched = range(start, min(start + batch_size, len(dataset)))
            missing = [index for index in batched if np.isnan(found[index, 0])]
            if missing:
                # The whole batch, also where a kill left half of it: what a pair shares its batch with shows in the last bits.
                batch = _moved(collate([dataset[index] for index in batched]), device)
                with torch.no_grad():
                    computed = dict(zip(batched, kept.figures(model, batch).tolist(), strict=True))
                for index in missing:
                    found[index] = computed[index]
                    append(path, json.dumps(_row(identity, index, dataset[index].id, kept.names, computed[index])))
            progress(batched.stop, len(dataset))
    return found


def _moved(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    return {
        key: _moved(value, device) if isinstance(value, Mapping) else value.to(device) for key, value in batch.items()
    }


def _row(identity: str, pair: int, name: str, names: Sequence[str], values: Sequence[float]) -> dict[str, Any]:
    """A line of the file. check: of what it says and of whose it is."""
    row = {"pair": pair, "id": name} | dict(zip(names, values, strict=True))
    return row | {"check": hashlib.sha256(json.dumps([identity, row]).encode()).hexdigest()[:16]}


def _read(path: Path, identity: str, pairs: int, names: Sequence[str]) -> np.ndarray:
    """What a stopped run has left. A torn last line is cut off, damaged ones are left out and told of.

    Raises TrainError when the first line is another run's.
    """
    found = np.full((pairs, len(names)), np.nan, dtype=np.float32)
    if not path.is_file():
        return found
    raw = path.read_bytes()
    lines = raw[: raw.rfind(b"\n") + 1].decode("utf-8", errors="replace").splitlines()
    if lines and (_parsed(lines[0]) or {}).get("fingerprint") != identity:
        raise TrainError(
            f"{path}: these log-probabilities were computed with other weights, other data or another precision.",
            hint="Delete the file to have them computed anew, or give the run another --out.",
        )
    kept = lines[:1]
    for line in lines[1:]:
        row = _parsed(line) or {}
        try:
            pair, values = row["pair"], [row[name] for name in names]
            if row == _row(identity, pair, row["id"], names, values):
                found[pair] = values
                kept.append(line)
        except (KeyError, IndexError, TypeError, ValueError):
            continue
    if damaged := len(lines) - len(kept):
        told = f"{path}: {damaged} damaged {'lines are' if damaged > 1 else 'line is'} computed anew."
        warnings.warn(told, RuntimeWarning, stacklevel=3)
    if (whole := "".join(f"{line}\n" for line in kept)).encode() != raw:
        with written(path):
            write_text(path, whole)
    return found


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None
