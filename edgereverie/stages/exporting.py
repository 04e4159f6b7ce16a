"""Model folders to bundles."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgereverie.bundle import MANIFEST, Bundle, sha256_of
from edgereverie.errors import ExportError, MissingPackage
from edgereverie.stages._console import console
from edgereverie.stages._probes import probe_prompts
from edgereverie.stages.backbones import model_folder, open_model
from edgereverie.stages.tuning import merge

if TYPE_CHECKING:
    from edgereverie.backbones.base import ModelFolder
    from edgereverie.export.base import Profile


def export(
    model: Path | str,
    profiles: Sequence[str],
    out: Path | None = None,
    *,
    force: bool = False,
    allow_parity_failure: bool = False,
) -> list[Path]:
    """Bundles of a model folder, one per profile, each compared with the model it was made from.

    model: a model folder, ``starter``, a hub id, or an adapter (or its run folder), which is merged first. out: the folder
    for all bundles; by default ``bundles`` beside the model. Raises ExportError when a bundle fails its parity bound, and
    leaves none, unless ``allow_parity_failure``.
    """
    try:
        import torch  # noqa: F401

        from edgereverie.export.base import find_target, load_profile
        from edgereverie.export.write import export_bundle
        from edgereverie.tuning import trainer
    except ImportError as error:
        raise MissingPackage(error.name or "torch", "Exporting", "export") from None
    trainer.quiet()
    source = _merged(Path(model)) if not isinstance(model, str) or Path(model).exists() else model
    folder = model_folder(str(source))
    out = out or (Path("bundles") if source == "starter" else folder.path.parent / "bundles")
    chosen = [load_profile(name) for name in profiles]
    if not chosen:
        raise ExportError("No export profile was named.", hint="For example: --profile gguf-q8-0 --profile onnx-int8")
    for profile in chosen:
        find_target(folder, profile)
    made_from = _provenance(folder, str(source))
    written = []
    for profile in chosen:
        final = out / f"{_bundle_stem(str(source), folder)}-{profile.name}"
        if final.exists() and not force and _finished(final, made_from, or_failed=allow_parity_failure):
            console.print(f"export {profile.name}: {final} is there already")
            written.append(final)
            continue
        with console.status(f"export {profile.name}"):
            bundle = export_bundle(
                folder, profile, final, made_from=made_from, force=force,
                prompts=partial(probe_prompts, folder),
                judge=partial(_judge, folder, profile, allow_parity_failure),
            )  # fmt: skip
        size = sum(entry.bytes for entry in bundle.files.values()) / 1e6
        console.print(f"export {profile.name}: {final} ({size:.1f} MB)")
        written.append(final)
    return written


def _merged(path: Path) -> Path:
    """The model folder behind a path: itself, a run's merged model, or an adapter merged now."""
    if (path / "config.json").is_file():
        return path
    for run in (path, path.parent):
        if (run / "run.json").is_file():
            if (run / "model" / "config.json").is_file():
                return run / "model"
            return run / "merged" if (run / "merged" / "config.json").is_file() else merge(run / "adapter")
    return path


def _bundle_stem(source: str, folder: ModelFolder) -> str:
    if source == "starter":
        return "starter"
    return folder.path.parent.name if folder.path.name in ("merged", "model") else folder.path.name


def _provenance(folder: ModelFolder, source: str) -> dict[str, Any]:
    weights = {
        path.name if path.parent == folder.path else f"{path.parent.name}/{path.name}": sha256_of(path)
        for path in folder.files()
    }
    merged = folder.path / "merge.json"
    told = json.loads(merged.read_text(encoding="utf-8")) if merged.is_file() else {}
    return {"model": "starter" if source == "starter" else folder.path.name, "weights": weights, **told}


def _finished(final: Path, made_from: dict[str, Any], *, or_failed: bool) -> bool:
    """A whole bundle of the very same weights needs no second export; or_failed: even if it failed its parity bound."""
    if not (final / MANIFEST).is_file():
        return False
    bundle = Bundle.load(final)
    return (
        bundle.made_from.get("weights") == made_from["weights"]
        and bool(bundle.parity.get("passed") or or_failed)
        and not bundle.faults()
    )


def _judge(folder: ModelFolder, profile: Profile, allow_parity_failure: bool, bundle: Bundle) -> dict[str, Any]:
    """Compare the bundle with its model in their runtimes. Raises ExportError when it fails and may not."""
    from edgereverie.export.parity import compare

    with (
        open_model(str(folder.path), precise=True) as reference,
        open_model(str(bundle.folder), precise=True) as exported,
    ):
        parity = compare(reference.engine, exported.engine, probe_prompts(folder), profile.parity)
    if not allow_parity_failure:
        parity.require()
    return parity.as_json()
