"""A model folder becomes a bundle, whole or not at all."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from edgereverie.backbones.base import ModelFolder
from edgereverie.bundle import Bundle, describe_file, new_folder
from edgereverie.errors import ExportError
from edgereverie.export.base import Case, Job, Profile, Progress, find_target, resolved_settings, silent
from edgereverie.export.prompt import write_prompt
from edgereverie.export.weights import Weights

_VERSIONED = (
    "edgereverie",
    "torch",
    "transformers",
    "gguf",
    "llama-cpp-python",
    "onnx",
    "onnx-ir",
    "onnxruntime",
    "tokenizers",
)


def export_bundle(
    folder: ModelFolder,
    profile: Profile,
    out: Path,
    *,
    made_from: Mapping[str, Any],
    prompts: Callable[[], Sequence[Case]] = list,
    force: bool = False,
    judge: Callable[[Bundle], Mapping[str, Any]] | None = None,
    progress: Progress = silent,
) -> Bundle:
    """Write ``folder`` as ``profile`` says to the new folder ``out``.

    made_from: recipe, base and adapter, as the caller knows them; the profile, its resolved settings and package versions
    are added. prompts: for targets that look at activations (see ``Job``). force: replace ``out``. judge: compares the
    bundle, which still stands beside and does not pass its check yet, with its model; what it returns joins the bundle's
    parity, and what it raises leaves no bundle. The folder is renamed last, so a run that is killed leaves none either.
    Raises ExportError before any weight is loaded when the model cannot leave this way, and when the disk is full.
    """
    target = find_target(folder, profile)
    try:
        with new_folder(out, replace=force) as beside:
            files = target.write(Job(folder, Weights(folder), profile, beside, prompts, progress))
            files |= write_prompt(beside, folder.chat)
            progress("checking", 0.9)
            bundle = Bundle(
                folder=beside,
                name=f"{folder.backbone.name}-{profile.name}",
                target=target.name,
                quantization=profile.quantization,
                chat=folder.chat.name,
                image=folder.image,
                context=folder.context,
                files={role: describe_file(beside, path) for role, path in sorted(files.items())},
                made_from=dict(made_from)
                | {"profile": profile.name, "settings": resolved_settings(target, profile), "versions": _versions()},
                parity=target.inspect(folder, beside, files) | ({} if judge is None else {"passed": None}),
            )
            bundle.write()
            if judge is not None:
                progress("comparing with the model", 0.95)
                bundle = replace(bundle, parity=dict(bundle.parity) | dict(judge(bundle)))
                bundle.write()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ExportError(
                f"{out}: the disk is full; nothing was left behind.",
                hint="Make room, or export to another disk; --dry-run says how much it takes.",
            ) from None
        raise ExportError(f"{out}: cannot be written ({error}).") from error
    progress("done", 1.0)
    return replace(bundle, folder=out)


def _versions() -> dict[str, str]:
    found = {}
    for package in _VERSIONED:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
