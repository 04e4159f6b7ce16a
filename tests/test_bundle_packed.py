"""A packed bundle is the same bytes each time, and unpacks to the same bundle or to nothing."""

from __future__ import annotations

import hashlib
import os
import random
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edgereverie.bundle import MANIFEST, Bundle
from edgereverie.bundle.differences import differences
from edgereverie.bundle.packed import pack, unpack
from edgereverie.errors import BundleError


def rebuilt(source: Path, out: Path, change: Callable[[str, bytes, zipfile.ZipInfo], bytes | None]) -> Path:
    """The packed file with its entries changed; None leaves one out."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(out, "w") as new:
        for information in old.infolist():
            content = change(information.filename, old.read(information.filename), information)
            if content is not None:
                new.writestr(information, content)
    return out


def gone(tmp_path: Path, before: set[str]) -> None:
    assert {path.name for path in tmp_path.iterdir()} == before


def test_packed_twice_the_bytes_are_the_same_and_unpacked_the_bundle_is(small_bundle: Bundle, tmp_path: Path) -> None:
    first = pack(small_bundle, tmp_path / "one.zip")
    for path in small_bundle.folder.iterdir():
        os.utime(path, (1, 1))
        path.chmod(0o600)
    again = pack(Bundle.load(small_bundle.folder), tmp_path / "two.zip")
    assert first.read_bytes() == again.read_bytes()
    done: list[tuple[int, int]] = []
    bundle = unpack(first, tmp_path / "out", progress=lambda *told: done.append(told))
    assert replace(bundle, folder=small_bundle.folder) == small_bundle and bundle.faults() == []
    assert done[-1][0] == done[-1][1] == sum(file.bytes for file in small_bundle.files.values())
    assert pack(bundle, tmp_path / "three.zip").read_bytes() == first.read_bytes()
    for path in (tmp_path / "out").iterdir():
        assert path.read_bytes() == (small_bundle.folder / path.name).read_bytes()
    assert differences(bundle, small_bundle) == []


def test_it_is_a_plain_zip(small_bundle: Bundle, tmp_path: Path) -> None:
    with zipfile.ZipFile(pack(small_bundle, tmp_path / "x.zip")) as packed:
        assert packed.testzip() is None
        names = packed.namelist()
        assert names == [MANIFEST, *sorted(file.path for file in small_bundle.files.values())]
        assert {one.date_time for one in packed.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_a_damaged_bundle_is_not_packed(small_bundle: Bundle, tmp_path: Path) -> None:
    content = bytearray(small_bundle.file("model").read_bytes())
    content[-1] ^= 1
    small_bundle.file("model").write_bytes(content)
    with pytest.raises(BundleError, match=r"model\.gguf is not what the manifest says"):
        pack(small_bundle, tmp_path / "x.zip")
    gone(tmp_path, {"small"})


def test_nothing_is_replaced_unasked(small_bundle: Bundle, tmp_path: Path) -> None:
    packed = pack(small_bundle, tmp_path / "x.zip")
    with pytest.raises(BundleError, match="exists already"):
        pack(small_bundle, packed)
    pack(small_bundle, packed, force=True)
    with pytest.raises(BundleError, match="exists already"):
        unpack(packed, small_bundle.folder)
    unpack(packed, small_bundle.folder, force=True).check()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("a file outside", lambda name, content, info: content if name != "model.gguf" else _named(info, "../evil", content)),
        ("an absolute one", lambda name, content, info: content if name != "model.gguf" else _named(info, "/tmp/evil", content)),
        ("other case", lambda name, content, info: content if name != "model.gguf" else _named(info, "Model.gguf", content)),
        ("a missing file", lambda name, content, info: None if name == "tokenizer.json" else content),
        ("a longer file", lambda name, content, info: content + b"x" * (name == "model.gguf")),
        ("a changed file", lambda name, content, info: content.replace(b"version", b"Version") if "token" in name else content),
        ("no manifest", lambda name, content, info: None if name == MANIFEST else content),
        ("another manifest", lambda name, content, info: content.replace(b"small", b"other") if name == MANIFEST else content),
    ],
)  # fmt: skip
def test_a_crafted_file_leaves_nothing_behind(small_bundle: Bundle, tmp_path: Path, name: str, change) -> None:
    packed = rebuilt(pack(small_bundle, tmp_path / "x.zip"), tmp_path / "crafted.zip", change)
    with pytest.raises(BundleError):
        unpack(packed, tmp_path / "out")
    gone(tmp_path, {"small", "x.zip", "crafted.zip"})
    assert not Path("/tmp/evil").exists()


def _named(information: zipfile.ZipInfo, name: str, content: bytes) -> bytes:
    information.filename = name
    return content


def test_strangers_doubles_links_and_compressed_entries_are_refused(small_bundle: Bundle, tmp_path: Path) -> None:
    source = pack(small_bundle, tmp_path / "x.zip").read_bytes()
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    bomb = zipfile.ZipInfo("bomb")
    bomb.compress_type = zipfile.ZIP_DEFLATED
    for entry, content in ((zipfile.ZipInfo("more.txt"), b"x"), (link, b"/etc/passwd"), (bomb, bytes(10_000_000))):
        path = tmp_path / "crafted.zip"
        path.write_bytes(source)
        with zipfile.ZipFile(path, "a") as packed:
            packed.writestr(entry, content)
        with pytest.raises(BundleError, match=r"disagree about|compressed, encrypted or there twice"):
            unpack(path, tmp_path / "out")
    path.write_bytes(source)
    with zipfile.ZipFile(path, "a") as packed, pytest.warns(UserWarning, match="Duplicate name"):
        packed.writestr(zipfile.ZipInfo("model.gguf"), b"other")
    with pytest.raises(BundleError, match="there twice"):
        unpack(path, tmp_path / "out")
    gone(tmp_path, {"small", "x.zip", "crafted.zip"})


def test_every_corruption_of_a_packed_file_is_refused_or_changes_nothing(small_bundle: Bundle, tmp_path: Path) -> None:
    """Bytes that say nothing (a version of the maker, a date) may change; then what comes out is right all the same."""
    source = pack(small_bundle, tmp_path / "x.zip").read_bytes()
    rng, refusals = random.Random(3), 0
    path, out = tmp_path / "crafted.zip", tmp_path / "out"
    for number in range(90):
        content = bytearray(source)
        at = rng.randrange(len(content))
        if number % 3 == 0:
            content[at] ^= 1 << rng.randrange(8)
        elif number % 3 == 1:
            del content[at:]
        else:
            content[at:at] = rng.randbytes(rng.randrange(1, 9))
        path.write_bytes(content)
        try:
            bundle = unpack(path, out, force=True)
        except BundleError:
            refusals += 1
            assert not out.exists()
            continue
        assert replace(bundle, folder=small_bundle.folder) == small_bundle and bundle.faults() == []
        import shutil

        shutil.rmtree(out)
    assert refusals > 45


def test_what_is_no_packed_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such file"):
        unpack(tmp_path / "none.zip", tmp_path / "out")
    (tmp_path / "x.zip").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(BundleError, match="not a packed bundle"):
        unpack(tmp_path / "x.zip", tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "y.zip", "w") as packed:
        packed.writestr("readme", "x")
    with pytest.raises(BundleError, match=r"it holds no bundle\.json"):
        unpack(tmp_path / "y.zip", tmp_path / "out")
    gone(tmp_path, {"x.zip", "y.zip"})


def test_a_full_disk_leaves_no_packed_file_and_no_folder(small_bundle: Bundle, tmp_path: Path, file_size_limit) -> None:
    packed = pack(small_bundle, tmp_path / "x.zip")
    with file_size_limit(150), pytest.raises(OSError, match="File too large"):
        pack(small_bundle, tmp_path / "y.zip")
    with file_size_limit(150), pytest.raises((OSError, BundleError)):
        unpack(packed, tmp_path / "out")
    gone(tmp_path, {"small", "x.zip"})


def test_differences_name_the_key_and_both_values(small_bundle: Bundle) -> None:
    model = replace(small_bundle.files["model"], bytes=5, sha256=hashlib.sha256(b"x").hexdigest())
    other = replace(
        small_bundle, folder=Path("elsewhere"), quantization="Q4_0", files=dict(small_bundle.files) | {"model": model},
        parity={"passed": True, "top1": 0.5, "bound": {"min_top1": 0.4}},
    )  # fmt: skip
    sha = small_bundle.files["model"].sha256[:12]
    assert differences(small_bundle, other) == [
        ("quantization", "Q8_0", "Q4_0"),
        ("files.model", f"204 bytes, {sha}", "5 bytes, 2d711642b726"),
        ("parity.top1", 1.0, 0.5),
        ("parity.cases", 4, None),
        ("parity.bound.min_top1", None, 0.4),
    ]
