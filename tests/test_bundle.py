"""A bundle either is whole or says what is wrong, and nothing half-written is left behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edgereverie.bundle import MANIFEST, Bundle, BundleFile, describe_file, new_folder, sha256_of, write_text
from edgereverie.errors import BundleError


def edit(bundle: Bundle, change: Callable[[dict], None]) -> None:
    path = bundle.folder / MANIFEST
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data), encoding="utf-8")


def test_what_is_written_is_read_back(small_bundle: Bundle) -> None:
    assert Bundle.load(small_bundle.folder) == small_bundle
    assert small_bundle.faults() == []
    small_bundle.check()


def test_sha256_is_the_published_one(tmp_path: Path) -> None:
    """The example of FIPS 180-2, appendix B.1: the digest of "abc"."""
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256_of(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert describe_file(tmp_path, "x") == BundleFile("x", 3, sha256_of(tmp_path / "x"))


def test_one_changed_byte_is_found_by_its_hash_alone(small_bundle: Bundle) -> None:
    path = small_bundle.file("model")
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    assert small_bundle.faults(hashes=False) == []
    (fault,) = small_bundle.faults()
    assert fault.startswith("model.gguf (model) was changed: its SHA-256 is ")


def test_truncated_and_missing_files_are_found_without_hashing_and_told_together(small_bundle: Bundle) -> None:
    path = small_bundle.file("model")
    path.write_bytes(path.read_bytes()[:-1])
    small_bundle.file("tokenizer").unlink()
    with pytest.raises(BundleError) as caught:
        small_bundle.check(hashes=False)
    assert "model.gguf (model) has 203 bytes, the manifest says 204." in str(caught.value)
    assert "tokenizer.json (tokenizer) is missing." in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "a/../../secret"])
def test_a_path_that_leaves_the_bundle_is_refused_at_once(small_bundle: Bundle, path: str) -> None:
    edit(small_bundle, lambda data: data["files"]["model"].update(path=path))
    with pytest.raises(BundleError, match="lies outside the bundle"):
        Bundle.load(small_bundle.folder)


def test_a_link_that_leaves_the_bundle_is_refused(small_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"x")
    small_bundle.file("model").unlink()
    (small_bundle.folder / "model.gguf").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match="lies outside"):
        Bundle.load(small_bundle.folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": 1}', "\x00", '"bundle"', "{} {}"])
def test_a_damaged_manifest_is_one_clear_error(small_bundle: Bundle, text: str) -> None:
    (small_bundle.folder / MANIFEST).write_text(text, encoding="utf-8")
    with pytest.raises(BundleError, match=MANIFEST):
        Bundle.load(small_bundle.folder)


def test_a_manifest_that_is_no_text_is_an_error(small_bundle: Bundle) -> None:
    (small_bundle.folder / MANIFEST).write_bytes(b"\xff\xfe\x80")
    with pytest.raises(BundleError, match="cannot be read"):
        Bundle.load(small_bundle.folder)


@pytest.mark.parametrize("key", ["name", "target", "quantization", "chat", "image", "context", "files", "made_from"])
def test_a_lacking_key_is_named(small_bundle: Bundle, key: str) -> None:
    edit(small_bundle, lambda data: data.pop(key))
    with pytest.raises(BundleError, match=key):
        Bundle.load(small_bundle.folder)


def test_another_format_is_refused(small_bundle: Bundle) -> None:
    edit(small_bundle, lambda data: data.update(format=99))
    with pytest.raises(BundleError, match="format 99; this version reads format 1"):
        Bundle.load(small_bundle.folder)


def test_a_folder_without_manifest_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"it has no bundle\.json") as caught:
        Bundle.load(tmp_path)
    assert "edgereverie export" in (caught.value.hint or "")


def test_an_absent_role_lists_those_that_exist(small_bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="no 'mmproj' file") as caught:
        small_bundle.file("mmproj")
    assert "model, tokenizer" in (caught.value.hint or "")


def test_the_fingerprint_follows_contents_and_roles_only(small_bundle: Bundle) -> None:
    renamed = replace(small_bundle, name="other", parity={})
    assert renamed.fingerprint() == small_bundle.fingerprint()
    swapped = replace(
        small_bundle, files={"model": small_bundle.files["tokenizer"], "tokenizer": small_bundle.files["model"]}
    )
    assert swapped.fingerprint() != small_bundle.fingerprint()


def test_a_folder_appears_when_it_is_complete(tmp_path: Path) -> None:
    final = tmp_path / "deep" / "out"
    with new_folder(final) as folder:
        (folder / "file").write_text("x")
        assert not final.exists()
    assert (final / "file").read_text() == "x"
    assert sorted(path.name for path in final.parent.iterdir()) == ["out"]


def test_a_failure_leaves_nothing_and_keeps_what_was(tmp_path: Path) -> None:
    final = tmp_path / "out"
    with new_folder(final) as folder:
        (folder / "file").write_text("old")

    def fail() -> None:
        with new_folder(final, replace=True) as folder:
            (folder / "file").write_text("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert (final / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_existing_folder_is_not_replaced_unasked(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(BundleError, match="exists already"), new_folder(tmp_path / "out"):
        pass
    (tmp_path / ".out.part").mkdir()
    (tmp_path / ".out.part" / "rest of a killed run").write_text("")
    with new_folder(tmp_path / "out", replace=True):
        pass
    assert list((tmp_path / "out").iterdir()) == []


def test_text_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    write_text(path, "old\n")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "new \udc80")
    assert path.read_bytes() == b"old\n"
    assert [found.name for found in tmp_path.iterdir()] == ["x.txt"]
