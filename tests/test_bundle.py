"""A bundle either is whole or says what is wrong, and nothing half-written is left behind."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edgereverie.bundle import MANIFEST, Bundle, BundleFile, describe_file, new_folder, sha256_of, write_text
from edgereverie.errors import BundleError


def edit(bundle: Bundle, change: Callable[[dict], None], *, sealed: bool = True) -> None:
    """Change the manifest as a forger would: with a seal that fits."""
    path = bundle.folder / MANIFEST
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    if sealed:
        data.pop("sha256", None)
        plain = json.dumps(data, sort_keys=True, separators=(",", ":"))
        data["sha256"] = hashlib.sha256(plain.encode()).hexdigest()
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def test_what_is_written_is_read_back(small_bundle: Bundle) -> None:
    assert Bundle.load(small_bundle.folder) == small_bundle
    assert small_bundle.faults() == []
    small_bundle.check()


def test_a_forged_seal_is_the_one_that_is_written(small_bundle: Bundle) -> None:
    """What the tests below forge would pass, were it not for what they change."""
    before = (small_bundle.folder / MANIFEST).read_bytes()
    edit(small_bundle, lambda data: None)
    assert (small_bundle.folder / MANIFEST).read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data["parity"].update(top1=0.99),
        lambda data: data["parity"].update(passed=False),
        lambda data: data.update(context=4096),
        lambda data: data["made_from"].update(base="other"),
        lambda data: data["image"].update(mean=[0.5, 0.5, 0.51]),
        lambda data: data.update(quantization="Q4_0"),
        lambda data: data.update(calibration={}),
        lambda data: data.update(sha256="0" * 64),
    ],
)
def test_an_edited_figure_is_noticed(small_bundle: Bundle, change: Callable[[dict], None]) -> None:
    edit(small_bundle, change, sealed=False)
    with pytest.raises(BundleError, match="was edited after it was written"):
        Bundle.load(small_bundle.folder)


def test_a_manifest_laid_out_otherwise_loads_and_is_no_whole_bundle(small_bundle: Bundle) -> None:
    path = small_bundle.folder / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8"))), encoding="utf-8")
    assert Bundle.load(small_bundle.folder).faults() == ["bundle.json is not as it was written."]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.update(context="512"), "context"),
        (lambda data: data.update(context=0), "context"),
        (lambda data: data.update(context=True), "context"),
        (lambda data: data.update(more=1), "more"),
        (lambda data: data["files"]["model"].update(bytes=-1), "files.model"),
        (lambda data: data["files"]["model"].update(sha256="zz"), "files.model.sha256"),
        (lambda data: data["files"]["model"].update(mode=7), "mode"),
        (lambda data: data["image"].update(patch=0), "image"),
        (lambda data: data["image"].update(std=[1, 1, 0]), "image.std"),
        (lambda data: data["image"].update(mean=[1, 1]), "image"),
        (lambda data: data["image"].update(dropped=10_000), "image"),
        (lambda data: data.update(parity=[]), "parity"),
        (lambda data: data.update(files=[]), "manifest"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named(small_bundle: Bundle, change: Callable[[dict], None], message: str) -> None:
    edit(small_bundle, change)
    with pytest.raises(BundleError, match=message):
        Bundle.load(small_bundle.folder)


def test_a_manifest_without_end_is_refused(small_bundle: Bundle) -> None:
    path = small_bundle.folder / MANIFEST
    path.write_text("[" * 100_000, encoding="utf-8")
    with pytest.raises(BundleError, match="cannot be read"):
        Bundle.load(small_bundle.folder)
    with path.open("wb") as stream:
        stream.truncate(1 << 30)  # takes no room on disk, and would take a gigabyte of memory
    with pytest.raises(BundleError, match="1,073,741,824 bytes"):
        Bundle.load(small_bundle.folder)


def test_a_bundle_that_was_never_judged_is_not_whole(small_bundle: Bundle) -> None:
    replace(small_bundle, parity={"passed": None}).write()
    bundle = Bundle.load(small_bundle.folder)
    assert bundle.faults() == ["Its comparison with the model was not finished."]
    assert bundle.faults(hashes=False) == [], "the comparison itself has to load it"


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


@pytest.mark.parametrize(
    "path",
    ["../secret", "/etc/passwd", "a/../../secret", "C:/x", "a\\..\\b", "", ".", "..", "model.gguf/", "./model.gguf", "a//b",
     ".hidden", "x\0y", "x\n", "nul", "COM1.gguf", "model.gguf.", "model.gguf ", "~", "x" * 300, "\u0430.gguf", "a/"],
)  # fmt: skip
def test_a_path_that_leaves_the_bundle_is_refused_at_once(small_bundle: Bundle, path: str) -> None:
    edit(small_bundle, lambda data: data["files"]["model"].update(path=path))
    with pytest.raises(BundleError, match="lies outside the bundle"):
        Bundle.load(small_bundle.folder)


def test_a_link_that_leaves_the_bundle_is_refused(small_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"x")
    small_bundle.file("model").unlink()
    (small_bundle.folder / "model.gguf").symlink_to(tmp_path / "elsewhere")
    bundle = Bundle.load(small_bundle.folder)
    for ask in (bundle.check, lambda: bundle.file("model")):
        with pytest.raises(BundleError, match="is a link, which may lead outside the bundle"):
            ask()


def test_a_linked_folder_inside_and_a_linked_manifest_are_refused(small_bundle: Bundle, tmp_path: Path) -> None:
    (small_bundle.folder / "model.gguf").rename(tmp_path / "model.gguf")
    (small_bundle.folder / "deep").symlink_to(tmp_path)
    edit(small_bundle, lambda data: data["files"]["model"].update(path="deep/model.gguf"))
    with pytest.raises(BundleError, match="is a link"):
        Bundle.load(small_bundle.folder).check()
    manifest = small_bundle.folder / MANIFEST
    manifest.rename(tmp_path / "elsewhere.json")
    manifest.symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(BundleError, match="the manifest is a link"):
        Bundle.load(small_bundle.folder)


@pytest.mark.parametrize("path", ["MODEL.gguf", "Tokenizer.json", "bundle.json", "Bundle.JSON"])
def test_two_paths_that_are_one_file_on_some_systems_are_refused(small_bundle: Bundle, path: str) -> None:
    edit(small_bundle, lambda data: data["files"]["mmproj"].update(path=path))
    with pytest.raises(BundleError, match="one file where case does not count"):
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
    with pytest.raises(BundleError, match="format 99; this version reads format 2"):
        Bundle.load(small_bundle.folder)


def test_a_folder_without_manifest_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"it has no bundle\.json") as caught:
        Bundle.load(tmp_path)
    assert "edgereverie export" in (caught.value.hint or "")


def test_an_absent_role_lists_those_that_exist(small_bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="no 'decoder' file") as caught:
        small_bundle.file("decoder")
    assert "mmproj, model, probe_features" in (caught.value.hint or "")


def test_the_fingerprint_follows_contents_and_roles_only(small_bundle: Bundle) -> None:
    renamed = replace(small_bundle, name="other", parity={})
    assert renamed.fingerprint() == small_bundle.fingerprint()
    files = dict(small_bundle.files)
    files["model"], files["tokenizer"] = files["tokenizer"], files["model"]
    swapped = replace(small_bundle, files=files)
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


def test_a_replacement_that_was_killed_halfway_gives_the_old_folder_back(tmp_path: Path) -> None:
    """Killed when the old folder had been moved aside and the new one had not taken its place yet."""
    for name in (".out.old", ".out.part"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    with pytest.raises(BundleError, match="exists already"), new_folder(tmp_path / "out"):
        pass
    assert (tmp_path / "out" / "file").read_text() == ".out.old"
    with new_folder(tmp_path / "out", replace=True) as folder:
        (folder / "file").write_text("new")
    assert (tmp_path / "out" / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_folders_made_on_the_way_go_with_a_failure(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), new_folder(tmp_path / "a" / "b" / "out"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_text_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    write_text(path, "old\n")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "new \udc80")
    assert path.read_bytes() == b"old\n"
    assert [found.name for found in tmp_path.iterdir()] == ["x.txt"]
