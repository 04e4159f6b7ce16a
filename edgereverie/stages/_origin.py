"""Where a model comes from: the folder to export, the run that made it, and whose licences bind it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgereverie.bundle import sha256_of
from edgereverie.errors import EdgeReverieError, ExportError
from edgereverie.recipe import Recipe, load_recipe
from edgereverie.stages._console import console
from edgereverie.stages.tuning import merge

if TYPE_CHECKING:
    from edgereverie.backbones.base import ModelFolder

_DEEPEST = 8  # runs upon runs


def adapter_of(path: Path) -> Path | None:
    """The adapter behind a path that is no model folder itself: the folder, or a run's. None where there is none."""
    if (path / "config.json").is_file():
        return None
    return next((at for at in (path, path / "adapter") if (at / "adapter_config.json").is_file()), None)


def merged(path: Path) -> Path:
    """The model folder behind a path: itself, a run's model, or an adapter's merged one.

    An adapter is merged now unless ``merged`` beside it was made of this very adapter. Raises ExportError when another
    model stands there.
    """
    if (path / "model" / "config.json").is_file() and (path / "run.json").is_file():
        return path / "model"
    adapter = adapter_of(path)
    if adapter is None:
        return path
    out = adapter.parent / "merged"
    if not out.exists():
        return merge(adapter, out)
    if _told(out).get("adapter") != sha256_of(adapter / "adapter_model.safetensors"):
        raise ExportError(
            f"{out} was not made of {adapter}, which is another adapter by now.",
            hint=f"edgereverie merge {adapter} --force",
        )
    console.print(f"merge {adapter}: {out} is there already")
    return out


def run_of(folder: Path) -> Path | None:
    """The run folder that a model lies in: of its training, or of the rounds it was made in."""
    for run in (folder.parent, folder.parent.parent):
        if (run / "run.json").is_file() and (run / "recipe.yaml").is_file():
            return run
    return None


def recipe_of(folder: Path) -> Recipe | None:
    """The recipe by which a model was tuned, if it lies in its run and the recipe still reads."""
    run = run_of(folder)
    if run is None:
        return None
    try:
        return load_recipe(run / "recipe.yaml")
    except EdgeReverieError as error:
        console.print(f"  {run / 'recipe.yaml'} cannot be read ({str(error).splitlines()[0]})")
        return None


def is_of_scenes(folder: ModelFolder, recipe: Recipe | None) -> bool:
    """Whether what the model was tuned on, or pretrained on, are drawn scenes, of which the truth is known."""
    return recipe.data.scenes is not None if recipe is not None else folder.backbone.name == "starter"


def provenance(folder: ModelFolder, named: str) -> dict[str, Any]:
    """What a bundle says that it was made from: weights, base, adapter, recipe and licences. named: as the caller asked.

    Nothing in it depends on where the folders lie, or when they were made.
    """
    weights = {
        path.name if path.parent == folder.path else f"{path.parent.name}/{path.name}": sha256_of(path)
        for path in folder.files()
    }
    run = run_of(folder.path)
    told = {"model": named if _is_published(named) else folder.path.name, "weights": weights} | _told(folder.path)
    if run is not None:
        told["recipe"] = json.loads((run / "run.json").read_text(encoding="utf-8")).get("recipe")
    return told | {"licences": list(licences(folder.path, named))}


def licences(path: Path, named: str, depth: int = 0) -> Iterator[dict[str, Any]]:
    """Whose licences bind a model, from the base up: {"of": "base" | "language model" | "data", "name", "licence"}.

    What nobody stated is said to be so.
    """
    from edgereverie.backbones._catalogue import catalogue
    from edgereverie.tuning import card

    run = run_of(path)
    recipe = recipe_of(path)
    if recipe is None or run is None or depth >= _DEEPEST:
        known = next((one for one in catalogue() if one.id == named), None)
        name = named if known or _is_published(named) else path.name
        yield {"of": "base", "name": name, "licence": known.licence if known else card.NOT_STATED}
        if known and known.base_licence:
            yield {"of": "language model", "name": name, "licence": known.base_licence}
        return
    base = recipe.backbone.model
    yield from licences(Path(base), base, depth + 1)
    for result in ("adapter", "model", "train/adapter", "train/model"):
        readme = path.parent / result / "README.md"
        if readme.is_file():
            for source, licence, count in card.read_sources(readme):
                yield {"of": "data", "name": source, "licence": licence, "records": count}
            return


def _is_published(name: str) -> bool:
    """``starter``, or an id of the hub that is no folder here."""
    return name == "starter" or (name.count("/") == 1 and not Path(name).exists())


def _told(folder: Path) -> dict[str, Any]:
    """What merging noted about a model: base, adapter and their parity."""
    note = folder / "merge.json"
    return json.loads(note.read_text(encoding="utf-8")) if note.is_file() else {}
