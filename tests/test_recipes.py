"""Every recipe and export profile that ships is valid, and says what it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgereverie.recipe import load_recipe, shipped, shipped_recipes
from edgereverie.shipped import shipped_profiles


def test_there_are_some() -> None:
    assert "starter/reverie" in shipped_recipes()
    assert shipped_profiles()


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_shipped_recipe_is_valid(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name
    assert set(recipe.export.profiles) <= set(shipped_profiles())


@pytest.mark.parametrize("name", shipped_recipes())
def test_its_header_holds_the_command_that_runs_it(name: str) -> None:
    lines = (shipped("recipes") / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    header = [line for line in lines if line.startswith("#")]
    assert lines[0].startswith("# "), "the first line says what the recipe is; `recipes list` shows it"
    # A recipe for one's own data is copied first, to fill in the paths.
    commands = (f"edgereverie train {name}", f"edgereverie recipes copy {name} ")
    assert any(command in line for line in header for command in commands)


def test_names_of_runs_do_not_collide() -> None:
    names = [load_recipe(name).name for name in shipped_recipes()]
    assert len(set(names)) == len(names)


def test_an_installed_package_finds_its_own_folder_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "edgereverie"
    (package / "_recipes" / "starter").mkdir(parents=True)
    (package / "_recipes" / "starter" / "mine.yaml").write_text("name: mine\n")
    monkeypatch.setattr("edgereverie.shipped._PACKAGE", package)
    assert shipped("recipes") == package / "_recipes"
    assert shipped_recipes() == ["starter/mine"]
    assert shipped("export") == tmp_path / "export"
