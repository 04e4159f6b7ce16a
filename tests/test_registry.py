"""The folder is the list: names without imports, near names suggested, real ImportErrors untouched."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from edgereverie.errors import EdgeReverieError
from edgereverie.registry import Registry, did_you_mean


@pytest.fixture
def plants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """A package ``garden.plants`` with a good entry, one whose import fails, and three files that are no entries."""
    folder = tmp_path / "garden" / "plants"
    folder.mkdir(parents=True)
    (tmp_path / "garden" / "__init__.py").write_text("")
    (folder / "__init__.py").write_text("")
    (folder / "rose.py").write_text("PLANT = 'a rose'\n")
    (folder / "thorn.py").write_text("import no_such_package_anywhere\n")
    (folder / "base.py").write_text("")
    (folder / "_soil.py").write_text("")
    (folder / "notes.txt").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    yield Registry("plant", "garden.plants", "PLANT")
    for name in [name for name in sys.modules if name.partition(".")[0] == "garden"]:
        del sys.modules[name]


def test_names_are_the_files_and_importing_waits(plants: Registry) -> None:
    assert plants.names() == ["rose", "thorn"]
    assert "garden.plants.rose" not in sys.modules
    assert plants.get("rose") == "a rose"
    assert "garden.plants.thorn" not in sys.modules


def test_an_unknown_name_suggests_the_nearest(plants: Registry) -> None:
    with pytest.raises(EdgeReverieError, match=r"Unknown plant 'rosr'\.") as caught:
        plants.get("rosr")
    assert caught.value.hint == "Did you mean 'rose'? Known: rose, thorn."


@pytest.mark.parametrize("name", ["base", "_soil", "notes", "", "../rose", "os.path"])
def test_what_is_no_entry_is_unknown(plants: Registry, name: str) -> None:
    with pytest.raises(EdgeReverieError):
        plants.get(name)


def test_an_entry_that_cannot_be_imported_says_why(plants: Registry) -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_package_anywhere"):
        plants.get("thorn")


def test_entry_points_join_and_win(plants: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    outside = metadata.EntryPoint("tulip", "os.path:sep", "garden.plants")
    monkeypatch.setattr(metadata, "entry_points", lambda group: [outside] if group == "garden.plants" else [])
    assert plants.names() == ["rose", "thorn", "tulip"]
    assert plants.get("tulip") in "/\\"


def test_suggestions() -> None:
    assert did_you_mean("flagg", ["flag", "verify"]) == "Did you mean 'flag'? Known: flag, verify."
    assert did_you_mean("zzz", {"b", "a"}) == "Known: a, b."
