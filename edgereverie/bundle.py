"""A bundle: an exported model in one folder, with a manifest that says what it is and proves that nothing changed.

    my-model-q8_0/
        bundle.json          the manifest: roles, hashes, how to feed it, what it was made from, the parity verdict
        model.gguf ...       the files it lists; nothing else belongs here

A runtime needs this folder and nothing besides: no torch, no hub, no guessing. Folders are written beside their final
place and renamed when they are complete, so a bundle either is whole or is not there.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edgereverie.errors import BundleError
from edgereverie.records import ImageSpec

MANIFEST = "bundle.json"
FORMAT = 1
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class BundleFile:
    """One file: its path relative to the bundle, its length in bytes and its SHA-256."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Bundle:
    """An exported model on disk.

    target: the export target that wrote it (``gguf``, ``onnx``), which names the backend that runs it.
    quantization: as upstream spells it (``Q8_0``, ``Q4_K_M``, ``int4``, ``fp32``). chat: name of the chat format.
    context: longest sequence in tokens, image tokens counted. files: by role, such as ``model``, ``mmproj``, ``vision``,
    ``embed``, ``decoder``, ``tokenizer``, ``probe``. made_from: recipe, base, adapter and package versions. parity: the
    verdict of the comparison with the model it was made from. calibration: thresholds and their guarantee, if any.
    """

    folder: Path
    name: str
    target: str
    quantization: str
    chat: str
    image: ImageSpec
    context: int
    files: Mapping[str, BundleFile]
    made_from: Mapping[str, Any] = field(default_factory=dict)
    parity: Mapping[str, Any] = field(default_factory=dict)
    calibration: Mapping[str, Any] | None = None

    @classmethod
    def load(cls, folder: Path) -> Bundle:
        """Read a manifest. Raises BundleError when it is missing, damaged, or of another format; hashes are not checked."""
        path = folder / MANIFEST
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise BundleError(
                f"{folder}: not a bundle, it has no {MANIFEST}.",
                hint="Make one with: edgereverie export MODEL --profile gguf-q8-0",
            ) from None
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise BundleError(
                f"{path}: the manifest cannot be read ({error}).", hint="Export the bundle again."
            ) from None
        try:
            if data["format"] != FORMAT:
                raise BundleError(
                    f"{path}: bundle format {data['format']!r}; this version reads format {FORMAT}.",
                    hint="Export the bundle again with this version.",
                )
            image = data["image"] | {"mean": tuple(data["image"]["mean"]), "std": tuple(data["image"]["std"])}
            files = {role: BundleFile(**entry) for role, entry in data["files"].items()}
            bundle = cls(
                folder=folder,
                name=data["name"],
                target=data["target"],
                quantization=data["quantization"],
                chat=data["chat"],
                image=ImageSpec(**image),
                context=int(data["context"]),
                files=files,
                made_from=data["made_from"],
                parity=data["parity"],
                calibration=data["calibration"],
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise BundleError(
                f"{path}: the manifest lacks or misspells {error}.", hint="Export the bundle again."
            ) from None
        for role in bundle.files:
            bundle.file(role)
        return bundle

    def file(self, role: str) -> Path:
        """Path of the file in that role. Raises BundleError when there is none, or when its path leaves the bundle."""
        if role not in self.files:
            raise BundleError(
                f"{self.folder}: the bundle has no {role!r} file.",
                hint=f"It has: {', '.join(sorted(self.files))}. Export it again.",
            )
        path = (self.folder / self.files[role].path).resolve()
        if not path.is_relative_to(self.folder.resolve()) or Path(self.files[role].path).is_absolute():
            raise BundleError(
                f"{self.folder}: the {role!r} file {self.files[role].path!r} lies outside the bundle.",
                hint="Do not use this bundle: its manifest was tampered with.",
            )
        return path

    def faults(self, *, hashes: bool = True) -> list[str]:
        """Everything wrong with the files, one sentence each; empty when the bundle is whole.

        hashes=False compares lengths only, which is what every run does before it loads a bundle.
        """
        found = []
        for role, entry in self.files.items():
            path = self.file(role)
            if not path.is_file():
                found.append(f"{entry.path} ({role}) is missing.")
            elif (size := path.stat().st_size) != entry.bytes:
                found.append(f"{entry.path} ({role}) has {size:,} bytes, the manifest says {entry.bytes:,}.")
            elif hashes and (digest := sha256_of(path)) != entry.sha256:
                found.append(
                    f"{entry.path} ({role}) was changed: its SHA-256 is {digest[:12]}..., the manifest says "
                    f"{entry.sha256[:12]}..."
                )
        return found

    def check(self, *, hashes: bool = True) -> None:
        """Raise BundleError that lists all faults, if there are any."""
        if found := self.faults(hashes=hashes):
            raise BundleError(
                "\n".join([f"{self.folder}: the bundle is damaged."] + [f"  - {fault}" for fault in found]),
                hint="Copy it again from where it came, or export it again.",
            )

    def fingerprint(self) -> str:
        """SHA-256 over all roles and hashes: what calibration and reports name this artefact by."""
        lines = sorted(f"{role} {entry.sha256}" for role, entry in self.files.items())
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def write(self) -> None:
        """Write the manifest into ``folder``; the last step of an export."""
        data = {"format": FORMAT} | {key: value for key, value in asdict(self).items() if key != "folder"}
        write_text(self.folder / MANIFEST, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def describe_file(folder: Path, path: str) -> BundleFile:
    full = folder / path
    return BundleFile(path, full.stat().st_size, sha256_of(full))


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write beside, flush to disk, then rename: the file has its old content or the new one, never half of it."""
    beside = path.with_name(f".{path.name}.part")
    try:
        with beside.open("w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def new_folder(final: Path, *, replace: bool = False) -> Iterator[Path]:
    """A folder to fill, renamed to ``final`` when the block ends well, and removed when it fails.

    A half-filled folder that a killed run left behind is removed first. Raises BundleError when ``final`` exists and
    ``replace`` is False.
    """
    if final.exists() and not replace:
        raise BundleError(f"{final} exists already.", hint="Choose another place, or pass --force to replace it.")
    final.parent.mkdir(parents=True, exist_ok=True)
    beside = final.with_name(f".{final.name}.part")
    if beside.exists():
        shutil.rmtree(beside)
    beside.mkdir()
    try:
        yield beside
        if final.exists():
            shutil.rmtree(final)
        beside.rename(final)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
