"""Model folders: find them, list what is published, make a mixture of experts of one, load one to answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgereverie.bundle import new_folder, write_text
from edgereverie.errors import MissingPackage
from edgereverie.records import as_json

if TYPE_CHECKING:
    from edgereverie.backbones.base import ModelFolder
    from edgereverie.runtime.model import Model


def model_folder(name: str, *, revision: str | None = None) -> ModelFolder:
    """``starter``, a folder, or a hub id (downloaded when it is not cached) as a checked model folder."""
    from edgereverie.backbones import starter
    from edgereverie.backbones.base import open_folder

    return starter.shipped() if name == "starter" else open_folder(name, revision=revision)


def models() -> list[dict[str, Any]]:
    """The published models that load as they are, a row each: counts, licences, export targets, and bytes to tune and run."""
    from edgereverie.backbones._catalogue import catalogue
    from edgereverie.backbones._sizes import parameters, running_bytes, tuning_bytes
    from edgereverie.registry import BACKBONES

    rows = []
    for model in catalogue():
        counts, targets = parameters(model.config), BACKBONES.get(model.backbone).adapter_targets
        named = {name: getattr(model, name) for name in ("id", "backbone", "layout", "chat", "licence", "base_licence")}
        rows.append(
            named
            | {
                "parameters": counts.total,
                "active": counts.active,
                "exports": list(model.exports),
                "tune_bytes": tuning_bytes(model.config, targets),
                "run_bytes": running_bytes(model.config, model.exports),
            }
        )
    return rows


def upcycle(
    model: str,
    out: Path | None = None,
    *,
    layers: str = "sparse",
    experts: int = 4,
    top_k: int = 2,
    seed: int = 0,
    force: bool = False,
) -> Path:
    """A dense model as a MoE-LLaVA in the new folder ``out``, with the figures of its likeness in ``upcycle.json``.

    layers, experts, top_k, seed: see ``backbones._upcycle.upcycled``. Raises BackboneError when its outputs differ.
    """
    from edgereverie.stages._console import console
    from edgereverie.stages._probes import probe_batches

    folder = model_folder(model)
    try:
        import torch  # noqa: F401

        from edgereverie.backbones import _upcycle
    except ImportError as error:
        raise MissingPackage(error.name or "torch", "Upcycling", "train") from None
    out = out or Path(f"{folder.path.name}-{experts}e")
    choices = {"layers": layers, "experts": experts, "top_k": top_k, "seed": seed}
    told = f"{experts} experts, {top_k} of them for each token, layers: {layers}"
    with new_folder(out, replace=force) as beside:
        with console.status(f"upcycle {folder.path.name}: {told}"):
            _upcycle.write_upcycled(folder, beside, **choices)
            likeness = _upcycle.compare(folder, model_folder(str(beside)), probe_batches(folder))
        _upcycle.require_alike(likeness)
        record = {"base": folder.path.name} | choices | {"likeness": as_json(likeness)}
        write_text(beside / "upcycle.json", json.dumps(record, indent=2) + "\n")
    console.print(f"upcycle {folder.path.name}: {told}")
    console.print(
        f"  likeness: largest logit difference {likeness.max_logit_diff:.2e} of {likeness.scale:.1f} "
        f"({likeness.precision}), same top token at {likeness.top1:.1%} of {likeness.positions} positions"
    )
    return out


def open_model(path: str, *, backend: str = "auto", precise: bool = False, device: str = "auto") -> Model:
    """A bundle, a model folder, ``starter``, or a hub id that was downloaded before, ready to answer: offline.

    backend, precise, device: see ``Model.load``. Use it as a context manager, or close it.
    """
    from edgereverie.backbones._hub import cache_only, fetch
    from edgereverie.runtime.model import Model

    with cache_only():
        if path == "starter":
            from edgereverie.backbones import starter

            source = starter.shipped().path
        elif path.count("/") == 1 and not Path(path).exists():
            source = fetch(path)
        else:
            return Model.load(Path(path), backend, precise, device)
        model = Model.load(source, backend, precise, device)
        model.name = path
        return model
