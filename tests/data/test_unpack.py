"""Archives: their content gets its place whole, and nothing that is unsafe or broken leaves a trace."""

from __future__ import annotations

import json
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from edgereverie.data import unpack as unpacking
from edgereverie.data.catalogue import File, Item
from edgereverie.data.get import LOCK, get, unpacked
from edgereverie.data.unpack import unpack
from edgereverie.errors import DataError


def archive(path: Path, content: Mapping[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as packed:
        for name, data in content.items():
            packed.writestr(name, data)
    return path


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_folder_that_wraps_everything_is_left_out_and_so_is_litter(tmp_path: Path) -> None:
    packed = archive(tmp_path / "mm-vet.zip", {
        "mm-vet/": b"", "mm-vet/mm-vet.json": b"{}", "mm-vet/images/v1_0.png": b"1", "mm-vet/.DS_Store": b"x",
        "__MACOSX/mm-vet/._mm-vet.json": b"x",
    })  # fmt: skip
    out = tmp_path / "out"
    assert unpack(packed, out) == 2
    assert tree(out) == {"mm-vet.json": b"{}", "images/v1_0.png": b"1"}


def test_content_that_nothing_wraps_stays_as_it_is(tmp_path: Path) -> None:
    packed = archive(tmp_path / "x.zip", {"VD/chart/0_0.png": b"1", "VS/map/0_1.png": b"2"})
    unpack(packed, tmp_path / "out")
    assert tree(tmp_path / "out") == {"VD/chart/0_0.png": b"1", "VS/map/0_1.png": b"2"}


def test_flat_takes_the_pictures_alone(tmp_path: Path) -> None:
    packed = archive(
        tmp_path / "x.zip", {"data/image/AMBER_1.jpg": b"1", "data/more/AMBER_2.JPG": b"2", "data/a.json": b"{}"}
    )
    assert unpack(packed, tmp_path / "out", flat=True) == 2
    assert tree(tmp_path / "out") == {"AMBER_1.jpg": b"1", "AMBER_2.JPG": b"2"}


def test_what_lies_there_stays(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "answers.json").write_bytes(b"mine")
    (tmp_path / "out" / "a.json").write_bytes(b"old")
    unpack(archive(tmp_path / "x.zip", {"a.json": b"new", "b/c.json": b"1"}), tmp_path / "out")
    assert tree(tmp_path / "out") == {"answers.json": b"mine", "a.json": b"new", "b/c.json": b"1"}


def link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"../x.json": b"1"}, "could leave the folder"),
        ({"a/../../x.json": b"1"}, "could leave the folder"),
        ({"/etc/x.json": b"1"}, "could leave the folder"),
        ({"a//x.json": b"1"}, "could leave the folder"),
        ({"C:x.json": b"1"}, "could leave the folder"),
        ({"a\\..\\x.json": b"1"}, "could leave the folder"),
        ({"a\u202ex.json": b"1"}, "characters that no file's name"),
        ({link("a.json"): b"/etc/passwd"}, "is a link"),
        ({"a/x.png": b"1", "b/X.PNG": b"2"}, None),
        ({"a/x.png": b"1", "a/X.png": b"2"}, "would be one file"),
        ({}, "holds no files"),
        ({"__MACOSX/a": b"1"}, "holds no files"),
    ],
)
def test_what_is_not_safe_is_refused_and_leaves_nothing(
    tmp_path: Path, content: Mapping[str | zipfile.ZipInfo, bytes], told: str | None
) -> None:
    packed, out = archive(tmp_path / "x.zip", content), tmp_path / "sub" / "out"
    if told is None:
        assert unpack(packed, out) == 2
        with pytest.raises(DataError, match="would be one file"):
            unpack(packed, tmp_path / "flat", flat=True)
        return
    with pytest.raises(DataError, match=told):
        unpack(packed, out)
    assert [path.name for path in tmp_path.iterdir()] == ["x.zip"]


def test_a_damaged_archive_leaves_nothing(tmp_path: Path) -> None:
    packed = archive(tmp_path / "x.zip", {"a.json": b"1" * 100, "b.json": b"2" * 100}, zipfile.ZIP_STORED)
    whole = packed.read_bytes()
    for broken in (whole[:50], whole.replace(b"2" * 100, b"2" * 99 + b"3"), b"<html>", b""):
        packed.write_bytes(broken)
        with pytest.raises(DataError, match="not a zip archive that can be read"):
            unpack(packed, tmp_path / "out")
        assert [path.name for path in tmp_path.iterdir()] == ["x.zip"]


def test_what_is_larger_than_the_disk_is_refused_before_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = archive(tmp_path / "x.zip", {"a.json": b"0" * 10_000_000})  # ten thousand bytes packed
    monkeypatch.setattr(unpacking.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 9_000_000}))
    with pytest.raises(DataError, match=r"unpacks to 10,000,000 bytes, and .* has 9,000,000 free"):
        unpack(packed, tmp_path / "out")
    monkeypatch.setattr(unpacking, "MOST_BYTES", 1_000)
    with pytest.raises(DataError, match="it would unpack to 10,000,000 bytes"):
        unpack(packed, tmp_path / "out")


def test_what_a_killed_run_left_is_no_obstacle(tmp_path: Path) -> None:
    packed = archive(tmp_path / "x.zip", {"a.json": b"1"})
    left = tmp_path / "out" / "..x.zip.unpacked.part"
    left.mkdir(parents=True)
    (left / "half.json").write_bytes(b"{")
    unpack(packed, tmp_path / "out")
    assert tree(tmp_path / "out") == {"a.json": b"1"} and [p.name for p in (tmp_path / "out").iterdir()] == ["a.json"]


def test_an_entry_s_archives_are_unpacked_once_for_each_content(tmp_path: Path) -> None:
    entry = Item(what="w", licence="l", page="https://p", files=[
        File(path="x.zip", url="https://example.org/x.zip", unpack="images"),
        File(path="y.json", url="https://example.org/y.json"),
    ])  # fmt: skip
    with pytest.raises(DataError, match="no such file"):
        unpacked(entry, tmp_path)
    (tmp_path / "y.json").write_bytes(b"{}")
    for content in (b"1", b"2"):
        archive(tmp_path / "x.zip", {"a.png": content})
        (tmp_path / LOCK).unlink(missing_ok=True)
        get(entry, tmp_path)
        assert [(found.into, found.files) for found in unpacked(entry, tmp_path)] == [(tmp_path / "images", 1)]
        assert (tmp_path / "images" / "a.png").read_bytes() == content
        assert [found.files for found in unpacked(entry, tmp_path)] == [None]
    noted = json.loads((tmp_path / LOCK).read_text())["files"]["x.zip"]
    assert noted["unpacked"] == noted["sha256"]
