"""A bundle in one file, for people who send files: an uncompressed zip, the same bytes whenever and wherever it is made.

Unpacking believes nothing but the manifest, which comes first: only the files it lists, each of the length and hash that it
says, into a folder that gets its name when all of them are right. So no entry can leave the folder, stand for another file,
or grow beyond what was declared.
"""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from edgereverie.bundle._files import new_folder, whole_file
from edgereverie.bundle._manifest import MANIFEST, MOST_BYTES, Bundle
from edgereverie.errors import BundleError

Progress = Callable[[int, int], None]  # bytes done, bytes in all

_CHUNK = 1 << 20
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # of a zip; the same for every file
_PLAIN_FILE = 0o100644 << 16
_UNIX = 3
_ENCRYPTED = 1
_DISTRUST = "Ask for the file again where it came from; edgereverie bundle pack makes it."


def pack(bundle: Bundle, out: Path, *, force: bool = False, progress: Progress | None = None) -> Path:
    """Write the bundle into the file ``out``, hashing as it reads. Raises BundleError for a damaged bundle; no file stays."""
    if out.exists() and not force:
        raise BundleError(f"{out} exists already.", hint="Choose another place, or pass --force to replace it.")
    bundle.check(hashes=False)
    total = sum(entry.bytes for entry in bundle.files.values())
    done = 0
    with whole_file(out) as beside, zipfile.ZipFile(beside, "w", zipfile.ZIP_STORED) as packed:
        packed.writestr(_entry(MANIFEST), bundle.text())
        for role, entry in sorted(bundle.files.items(), key=lambda item: item[1].path):
            if entry.path in packed.NameToInfo:  # two roles may share a file
                continue
            information = _entry(entry.path)
            information.file_size = entry.bytes
            with bundle.file(role).open("rb") as source, packed.open(information, "w") as target:
                for size in _copied(source, target, entry.bytes, entry.sha256, f"{bundle.folder}: {entry.path}"):
                    done += size
                    if progress:
                        progress(done, total)
    return out


def unpack(packed: Path, out: Path, *, force: bool = False, progress: Progress | None = None) -> Bundle:
    """The bundle of a packed file in the new folder ``out``, checked as it is written.

    Raises BundleError, and leaves nothing behind, for anything that ``pack`` would not have written.
    """
    try:
        with zipfile.ZipFile(packed) as source:
            told = _read(source, packed, out)
            total = sum(entry.bytes for entry in told.files.values())
            _require_room(out, total)
            with new_folder(out, replace=force) as beside:
                done = 0
                for path, entry in {entry.path: entry for entry in told.files.values()}.items():
                    (beside / path).parent.mkdir(parents=True, exist_ok=True)
                    with source.open(path) as stream, (beside / path).open("xb") as target:
                        for size in _copied(stream, target, entry.bytes, entry.sha256, f"{packed}: {path}"):
                            done += size
                            if progress:
                                progress(done, total)
                bundle = Bundle.read(beside, source.read(MANIFEST))
                bundle.write()
                bundle.check(hashes=False)
    except FileNotFoundError:
        raise BundleError(f"{packed}: no such file.") from None
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError, OverflowError) as error:
        raise BundleError(f"{packed}: not a packed bundle, or damaged ({error}).", hint=_DISTRUST) from None
    return Bundle.load(out)


def _entry(path: str) -> zipfile.ZipInfo:
    information = zipfile.ZipInfo(path, _EARLIEST)
    information.create_system, information.external_attr = _UNIX, _PLAIN_FILE
    return information


def _read(source: zipfile.ZipFile, packed: Path, out: Path) -> Bundle:
    """The manifest, once the list of entries is exactly the one that it asks for."""
    entries = {}
    for information in source.infolist():
        plain = information.compress_type == zipfile.ZIP_STORED and information.compress_size == information.file_size
        if not plain or information.flag_bits & _ENCRYPTED or information.filename in entries:
            raise BundleError(
                f"{packed}: {information.filename!r} is compressed, encrypted or there twice, which no packed bundle has.",
                hint=_DISTRUST,
            )
        entries[information.filename] = information.file_size
    if sum(entries.values()) > packed.stat().st_size:
        raise BundleError(f"{packed}: its entries lie across one another.", hint=_DISTRUST)
    if not 0 < entries.get(MANIFEST, 0) <= MOST_BYTES:
        raise BundleError(f"{packed}: it holds no {MANIFEST}, so it is no packed bundle.", hint=_DISTRUST)
    told = Bundle.read(out, source.read(MANIFEST))
    expected = {entry.path: entry.bytes for entry in told.files.values()}
    del entries[MANIFEST]
    if entries != expected:
        odd = sorted(path for path in {*entries, *expected} if entries.get(path) != expected.get(path))
        raise BundleError(
            f"{packed}: entries and manifest disagree about {', '.join(map(repr, odd[:4]))} ({len(odd)} in all).",
            hint=_DISTRUST,
        )
    return told


def _require_room(out: Path, total: int) -> None:
    place = next(folder for folder in out.absolute().parents if folder.exists())
    if (free := shutil.disk_usage(place).free) < total:
        raise BundleError(
            f"{out}: the bundle takes {total / 1e9:.2f} GB, {free / 1e9:.2f} GB are free.",
            hint="Make room, or name another place.",
        )


def _copied(source: IO[bytes], target: IO[bytes], size: int, sha256: str, name: str) -> Iterator[int]:
    """Copy ``size`` bytes and no more; yields how many were copied at a time. Raises BundleError unless the hash is right."""
    digest, left = hashlib.sha256(), size
    while left and (chunk := source.read(min(_CHUNK, left))):
        digest.update(chunk)
        target.write(chunk)
        left -= len(chunk)
        yield len(chunk)
    if left or digest.hexdigest() != sha256:
        raise BundleError(f"{name} is not what the manifest says: it was changed or cut short.", hint=_DISTRUST)
