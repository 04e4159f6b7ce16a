"""``bundle.json``: what a bundle is, read strictly, and sealed so that an edited figure is noticed."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edgereverie.bundle._files import is_plain, sha256_of, write_text
from edgereverie.errors import BundleError
from edgereverie.records import ImageSpec

MANIFEST = "bundle.json"
DESCRIBING = ("card", "card_data")  # roles of files that tell of the artefact and are no part of it: see bundle.carded
FORMAT = 2
_SEAL = "sha256"
MOST_BYTES = 16 << 20  # of a manifest; those that exports write have a few kilobytes
_SHA256 = re.compile(r"[0-9a-f]{64}")
_AGAIN = "Copy it again from where it came, or export it again."


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
    ``embed``, ``decoder``, ``tokenizer``, ``probe``. made_from: recipe, base, adapter, licences and package versions.
    parity: the verdict of the comparison with the model it was made from. calibration: thresholds and their guarantee, if
    any.
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
        """Read a manifest; files are not looked at. Raises BundleError when it is missing, damaged, edited, of another
        format, or names a file outside the bundle.
        """
        path = folder / MANIFEST
        if path.is_symlink():
            raise BundleError(f"{path}: the manifest is a link.", hint="Copy the bundle with links followed: cp -rL")
        try:
            if path.stat().st_size > MOST_BYTES:
                raise ValueError(f"it has {path.stat().st_size:,} bytes")
            return cls.read(folder, path.read_bytes())
        except FileNotFoundError:
            raise BundleError(
                f"{folder}: not a bundle, it has no {MANIFEST}.",
                hint="Make one with: edgereverie export MODEL --profile gguf-q8-0",
            ) from None
        except (OSError, ValueError) as error:
            raise BundleError(
                f"{path}: the manifest cannot be read ({error}).", hint="Export the bundle again."
            ) from None

    @classmethod
    def read(cls, folder: Path, content: bytes) -> Bundle:
        """The bundle that these bytes of a manifest tell of, wherever its files are. Raises as ``load``."""
        path = folder / MANIFEST
        try:
            data = json.loads(content.decode("utf-8"))
        except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
            raise BundleError(
                f"{path}: the manifest cannot be read ({error}).", hint="Export the bundle again."
            ) from None
        try:
            if data["format"] != FORMAT:
                raise BundleError(
                    f"{path}: bundle format {data['format']!r}; this version reads format {FORMAT}.",
                    hint="Export the bundle again with this version.",
                )
            sealed = data.pop(_SEAL)
            bundle = cls(folder, **_values(data))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise BundleError(
                f"{path}: the manifest lacks or misspells {error}.", hint="Export the bundle again."
            ) from None
        _check_paths(bundle)
        if sealed != _seal(data):
            raise BundleError(
                f"{path}: the manifest was edited after it was written: its {_SEAL} is not that of its content.",
                hint=_AGAIN,
            )
        return bundle

    def file(self, role: str) -> Path:
        """Path of the file in that role. Raises BundleError when there is none, or when it is a link."""
        if role not in self.files:
            raise BundleError(
                f"{self.folder}: the bundle has no {role!r} file.",
                hint=f"It has: {', '.join(sorted(self.files))}. Export it again.",
            )
        path = self.folder
        for part in self.files[role].path.split("/"):
            path = path / part
            if path.is_symlink():
                raise BundleError(
                    f"{self.folder}: the {role!r} file {self.files[role].path!r} is a link, which may lead outside the bundle.",
                    hint="Copy the bundle with links followed: cp -rL",
                )
        return path

    def faults(self, *, hashes: bool = True, strangers: bool = True) -> list[str]:
        """Everything wrong with the bundle, one sentence each; empty when it is whole.

        Manifest and lengths; what a target must have; and that neither a GGUF nor an ONNX file makes a runtime read beyond
        the files of the bundle. hashes=False leaves the files' contents at that, which is what every run does before it
        loads a bundle. strangers: files that the manifest does not list are faults, too.
        """
        from edgereverie.bundle import _layout

        found = self._manifest_faults()
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
        if hashes and self.parity.get("passed", True) is None:
            found.append("Its comparison with the model was not finished.")
        if self.calibration is not None and (told := self.calibration.get("artefact")) != self.fingerprint():
            found.append(
                f"Its calibration is for artefact {str(told)[:12]}, this is {self.fingerprint()[:12]}: calibrate it anew."
            )
        if hashes and not found:
            found += self._card_faults()
        found += _layout.faults(self)
        return found + (_layout.strangers(self) if hashes and strangers else [])

    def check(self, *, hashes: bool = True) -> None:
        """Raise BundleError that lists all faults, if there are any."""
        if found := self.faults(hashes=hashes):
            raise BundleError(
                "\n".join([f"{self.folder}: the bundle is damaged."] + [f"  - {fault}" for fault in found]), hint=_AGAIN
            )

    def fingerprint(self) -> str:
        """SHA-256 over all roles and hashes but those that describe: what calibration and reports name this artefact by."""
        lines = sorted(f"{role} {entry.sha256}" for role, entry in self.files.items() if role not in DESCRIBING)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def text(self) -> str:
        """The manifest as it stands in the file, with its seal."""
        data = {"format": FORMAT} | {key: value for key, value in asdict(self).items() if key != "folder"}
        sealed = data | {_SEAL: _seal(data)}
        return json.dumps(sealed, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def write(self) -> None:
        """Write the manifest into ``folder``; the last step of an export. Raises BundleError for a path that is not plain."""
        _check_paths(self)
        write_text(self.folder / MANIFEST, self.text())

    def _card_faults(self) -> list[str]:
        """A card of another artefact; one that a new calibration made stale is none, and is told by ``bundle.carded``."""
        from edgereverie.bundle import carded

        try:
            card = carded.read(self)
        except BundleError as error:
            return [str(error)]
        if card is None or (told := card["artefact"]["fingerprint"]) == self.fingerprint():
            return []
        return [
            f"Its hallucination card is of artefact {told[:12]}, this is {self.fingerprint()[:12]}: measure it anew."
        ]

    def _manifest_faults(self) -> list[str]:
        path = self.folder / MANIFEST
        if not path.is_file():
            return [f"{MANIFEST} is missing."]
        if path.read_bytes() != self.text().encode():
            return [f"{MANIFEST} is not as it was written."]
        return []


def describe_file(folder: Path, path: str) -> BundleFile:
    full = folder / path
    return BundleFile(path, full.stat().st_size, sha256_of(full))


def _seal(data: Mapping[str, Any]) -> str:
    """SHA-256 of the manifest's values, however they are laid out."""
    plain = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(plain.encode()).hexdigest()


def _check_paths(bundle: Bundle) -> None:
    """Raise BundleError for a path that may leave the bundle, or two that some systems take for one."""
    taken = {MANIFEST.casefold(): MANIFEST}
    for role, entry in bundle.files.items():
        if not is_plain(entry.path):
            raise BundleError(
                f"{bundle.folder}: the path {entry.path!r} of the {role!r} file lies outside the bundle or is no plain one.",
                hint="Do not use this bundle: its manifest was tampered with.",
            )
        other = taken.setdefault(entry.path.casefold(), entry.path)
        if other != entry.path or entry.path == MANIFEST:
            raise BundleError(
                f"{bundle.folder}: {entry.path!r} ({role}) and {other!r} are one file where case does not count.",
                hint="Do not use this bundle: its manifest was tampered with.",
            )


def _values(data: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest's values in the types they must have. Raises KeyError or ValueError with the key's name."""
    known = {
        "format",
        "name",
        "target",
        "quantization",
        "chat",
        "image",
        "context",
        "files",
        "made_from",
        "parity",
        "calibration",
    }
    for key in [*data, *known]:
        if key not in data or key not in known:
            raise KeyError(key)
    kinds = {
        "name": str,
        "target": str,
        "quantization": str,
        "chat": str,
        "context": int,
        "made_from": dict,
        "parity": dict,
    }
    for key, kind in kinds.items():
        _require(type(data[key]) is kind, key)
    _require(data["calibration"] is None or isinstance(data["calibration"], dict), "calibration")
    _require(data["context"] > 0, "context")
    files = dict(_files(data["files"]))
    return {key: data[key] for key in (*kinds, "calibration")} | {"image": _image(data["image"]), "files": files}


def _files(listed: Mapping[str, Any]) -> Iterator[tuple[str, BundleFile]]:
    for role, entry in listed.items():
        file = BundleFile(**entry)
        _require(type(file.path) is str and type(file.bytes) is int and file.bytes >= 0, f"files.{role}")
        _require(type(file.sha256) is str and bool(_SHA256.fullmatch(file.sha256)), f"files.{role}.sha256")
        yield role, file


def _image(told: Mapping[str, Any]) -> ImageSpec:
    image = ImageSpec(**told | {key: tuple(told[key]) for key in ("mean", "std")})
    whole = all(type(value) is int for value in (image.size, image.patch, image.dropped))
    _require(whole and 0 < image.patch <= image.size and image.fit in ("pad", "crop"), "image")
    _require(image.dropped >= 0 and image.tokens > 0, "image")
    channels = (*image.mean, *image.std)
    _require(len(channels) == 6 and all(type(v) in (int, float) and math.isfinite(v) for v in channels), "image")
    _require(all(value > 0 for value in image.std), "image.std")
    return image


def _require(holds: bool, key: str) -> None:
    if not holds:
        raise ValueError(f"{key!r}")
