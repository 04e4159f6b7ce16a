"""Where the recipes and export profiles lie that come with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

_PACKAGE = Path(__file__).parent


def shipped(kind: Literal["recipes", "export"]) -> Path:
    """The folder of shipped recipes, or the one of export profiles and runners: in a wheel, or in a checkout."""
    installed = _PACKAGE / f"_{kind}"
    return installed if installed.is_dir() else _PACKAGE.parent / kind


def shipped_recipes() -> list[str]:
    """Names of the shipped recipes, such as ``starter/reverie``: ``load_recipe`` takes them as they are."""
    folder = shipped("recipes")
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.glob("*/*.yaml"))


def shipped_profiles() -> list[str]:
    """Names of the shipped export profiles, such as ``gguf-q8-0``."""
    return sorted(path.stem for path in (shipped("export") / "profiles").glob("*.yaml"))
