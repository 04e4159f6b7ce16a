"""Model folders to bundles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgereverie.bundle import MANIFEST, Bundle
from edgereverie.errors import BundleError, ExportError, MissingPackage
from edgereverie.stages import _estimate, _origin
from edgereverie.stages._console import console, steps
from edgereverie.stages._proof import Proof, require_scenes
from edgereverie.stages.backbones import model_folder

if TYPE_CHECKING:
    from edgereverie.backbones.base import ModelFolder
    from edgereverie.export.base import Profile

_REPLACE = "Choose another --out, or pass --force to replace it."


def export(
    model: Path | str,
    profiles: Sequence[str],
    out: Path | None = None,
    *,
    prompts: int | None = None,
    scores: int = 0,
    dry_run: bool = False,
    force: bool = False,
    allow_parity_failure: bool = False,
) -> list[Path]:
    """Bundles of a model folder, one per profile, each compared with the model it was made from.

    model: a model folder, ``starter``, a hub id, or an adapter (or its run folder), which is merged first. profiles: names
    of shipped ones, or YAML files. out: the folder for all bundles; by default ``bundles`` beside the model. prompts: how
    many to compare on instead of what the profiles say. scores: so many held-out scenes on which hallucinations are counted,
    too, of model and bundle. dry_run: only say what it would take. Bundles that stand whole are not made again. Raises
    ExportError when a bundle fails its parity bound, and leaves none, unless ``allow_parity_failure``.
    """
    try:
        import torch  # noqa: F401

        from edgereverie.export.base import find_target, load_profile
        from edgereverie.tuning import trainer
    except ImportError as error:
        raise MissingPackage(error.name or "torch", "Exporting", "export") from None
    trainer.quiet()
    chosen = [load_profile(name) for name in profiles]
    if not chosen:
        raise ExportError("No export profile was named.", hint="For example: --profile gguf-q8-0 --profile onnx-int8")
    _require_names(chosen)
    if prompts is not None:
        chosen = [profile.model_copy(update={"prompts": prompts}) for profile in chosen]
    source = str(model)
    if Path(source).exists():
        adapter = _origin.adapter_of(Path(source))
        if adapter is not None and dry_run and not (adapter.parent / "merged").exists():
            source = _base(adapter)  # merged or not, its shapes are the base's
        else:
            source = str(_origin.merged(Path(source)))
    folder = model_folder(source)
    for profile in chosen:
        find_target(folder, profile)
    recipe = _origin.recipe_of(folder.path)
    require_scenes(scores, _origin.is_of_scenes(folder, recipe))
    out = out or (Path("bundles") if source == "starter" else folder.path.parent / "bundles")
    finals = {profile.name: out / f"{_stem(source, folder)}-{profile.name}" for profile in chosen}
    if dry_run:
        _estimate.tell(_estimate.estimates(folder, chosen))
        return []
    made_from = _origin.provenance(folder, source)
    wanted = []
    for profile in chosen:
        stands = not force and _stands(finals[profile.name], profile, made_from, scores, allow_parity_failure)
        if stands:
            console.print(f"export {profile.name}: {finals[profile.name]} is there already")
        else:
            wanted.append(profile)
    if wanted:
        expected = _estimate.estimates(folder, wanted)
        _estimate.tell(expected)
        _estimate.require_room(expected, out)
        most = max(profile.prompts for profile in wanted)
        with Proof(folder, recipe, prompts=most, scores=scores, allow=allow_parity_failure) as proof:
            for profile in wanted:
                _export_one(folder, profile, finals[profile.name], made_from, proof, force)
    return [finals[profile.name] for profile in chosen]


def _export_one(
    folder: ModelFolder, profile: Profile, final: Path, made_from: Mapping[str, Any], proof: Proof, force: bool
) -> None:
    from edgereverie.export.write import export_bundle

    with steps(f"export {profile.name}") as progress:
        bundle = export_bundle(
            folder, profile, final, made_from=made_from, force=force or _is_remains(final), prompts=proof.prompts,
            judge=partial(proof.judge, profile), progress=progress,
        )  # fmt: skip
    size = sum(entry.bytes for entry in bundle.files.values())
    console.print(f"export {profile.name}: {final} ({_estimate.size(size)}), {verdict(bundle.parity)}")


def verdict(parity: Mapping[str, Any]) -> str:
    """A bundle's parity in a line."""
    if parity.get("passed") is None:
        return "never compared with its model"
    shares = {"same top tokens": parity.get("top1"), "of greedy answers begin alike": parity.get("greedy")}
    figures = [f"{share:.1%} {name}" for name, share in shares.items() if share is not None]
    if (kl := parity.get("mean_kl")) is not None:
        figures.append(f"mean divergence {kl:.2g} nats")
    told = ", ".join(figures) + f" on {parity.get('cases', 0)} prompts"
    return told if parity["passed"] else f"NOT LIKE ITS MODEL ({told}): {' '.join(parity.get('faults', []))}"


def _require_names(chosen: Sequence[Profile]) -> None:
    names = [profile.name for profile in chosen]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ExportError(f"The profile {twice[0]!r} was named twice.", hint="Give each profile a name of its own.")


def _base(adapter: Path) -> str:
    from edgereverie.tuning import merge as merging

    return merging.base_of_adapter(adapter)


def _stem(source: str, folder: ModelFolder) -> str:
    if source == "starter":
        return "starter"
    return folder.path.parent.name if folder.path.name in ("merged", "model") else folder.path.name


def _stands(final: Path, profile: Profile, made_from: Mapping[str, Any], scores: int, or_failed: bool) -> bool:
    """Whether a whole bundle of the very same weights, settings and proof is there; or_failed: even if it failed.

    Raises BundleError when something else is there, which is not replaced unasked.
    """
    from edgereverie.export.base import resolved_settings
    from edgereverie.registry import TARGETS

    if not final.exists() or _is_remains(final):
        return False
    try:
        bundle = Bundle.load(final)
    except BundleError as error:
        raise BundleError(f"{final} exists already, and is no whole bundle: {error}", hint=_REPLACE) from None
    told, parity = bundle.made_from, bundle.parity
    same = (
        told.get("weights") == made_from["weights"]
        and told.get("profile") == profile.name
        and told.get("settings") == resolved_settings(TARGETS.get(profile.target), profile)
        and (bundle.target, bundle.quantization) == (profile.target, profile.quantization)
        and parity.get("bound") == profile.parity.model_dump()
        and (parity.get("cases") or 0) >= profile.prompts
        and (parity.get("scores") or {}).get("scenes", 0) >= scores
    )
    if same and (parity.get("passed") or or_failed) and not bundle.faults(strangers=False):
        return True
    raise BundleError(f"{final} exists already, and is not what would be made now.", hint=_REPLACE)


def _is_remains(final: Path) -> bool:
    """Whether a folder is none that anybody would miss: it has no manifest and no file."""
    return final.is_dir() and not (final / MANIFEST).exists() and not any(p.is_file() for p in final.rglob("*"))
