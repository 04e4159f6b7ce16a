"""Zip archives of data sets, taken apart without trusting them.

No entry leaves its folder, is a link, is locked, or takes another's name, and all is checked against its checksum before it gets
its place. What archives wrap around their content, a folder that all of it shares, is left out; so is what systems put into them.
"""

from __future__ import annotations

import shutil
import stat
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from edgereverie.bundle import new_folder
from edgereverie.errors import DataError

MOST_BYTES = 200 << 30  # larger than any data set that is known here
PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif")
_ENCRYPTED = 1
_CHUNK = 1 << 20
Progress = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of an archive and where it goes, relative to the folder it is unpacked into."""

    info: zipfile.ZipInfo
    path: PurePosixPath


def unpack(archive: Path, out: Path, *, flat: bool = False, progress: Progress | None = None) -> int:
    """The archive's files in the folder ``out``, among those that are there; how many they are.

    flat: pictures alone, without their folders. Everything is written beside first, and moved when all of it is right. Raises
    DataError for an archive that is broken, unsafe, or larger than the disk has room for.
    """
    try:
        with zipfile.ZipFile(archive) as source:
            entries = entries_of(archive, source, flat=flat)
            _require_room(archive, out, sum(entry.info.file_size for entry in entries))
            with new_folder(out / f".{archive.name}.unpacked", replace=True) as beside:
                _write(archive, source, entries, beside, progress)
                for entry in entries:
                    target = out / entry.path
                    target.parent.mkdir(parents=True, exist_ok=True)
                    (beside / entry.path).replace(target)
            shutil.rmtree(out / f".{archive.name}.unpacked")
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise DataError(f"{archive}: not a zip archive that can be read ({error}).", hint="Fetch it again.") from None
    return len(entries)


def entries_of(archive: Path, source: zipfile.ZipFile, *, flat: bool = False) -> list[Entry]:
    """The files in it and their places. Raises DataError that names the first entry which is not safe."""
    infos = [info for info in source.infolist() if not info.is_dir() and not _is_litter(info.filename)]
    for info in infos:
        _check(archive, info)
    paths = [PurePosixPath(info.filename) for info in infos]
    if flat:
        kept = [(info, PurePosixPath(path.name)) for info, path in zip(infos, paths, strict=True)
                if path.suffix.lower() in PICTURES]  # fmt: skip
    else:
        shared = _shared(paths)
        kept = [(info, path.relative_to(shared)) for info, path in zip(infos, paths, strict=True)]
    taken: dict[str, str] = {}
    for info, path in kept:
        other = taken.setdefault(str(path).casefold(), info.filename)
        if other != info.filename:
            raise DataError(f"{archive}: {other!r} and {info.filename!r} would be one file.")
    if len({info.filename for info, _ in kept}) != len(kept):
        raise DataError(f"{archive}: it holds a file twice.")
    if not kept:
        raise DataError(f"{archive}: it holds no {'pictures' if flat else 'files'}.")
    return [Entry(info, path) for info, path in kept]


def _check(archive: Path, info: zipfile.ZipInfo) -> None:
    name, mode = info.filename, info.external_attr >> 16
    parts = name.split("/")
    if name.startswith("/") or "\\" in name or ":" in name or any(part in ("", ".", "..") for part in parts):
        raise DataError(
            f"{archive}: the entry {name!r} could leave the folder.", hint="Do not unpack it by other means."
        )
    if not name.isprintable():
        raise DataError(f"{archive}: the entry {name!r} has characters that no file's name should have.")
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise DataError(
            f"{archive}: the entry {name!r} is a link or a device.", hint="Do not unpack it by other means."
        )
    if info.flag_bits & _ENCRYPTED:
        raise DataError(f"{archive}: the entry {name!r} is locked with a password.")


def _is_litter(name: str) -> bool:
    """What file managers leave in archives."""
    path = PurePosixPath(name)
    return path.parts[:1] == ("__MACOSX",) or path.name in (".DS_Store", "Thumbs.db", "desktop.ini")


def _shared(paths: list[PurePosixPath]) -> PurePosixPath:
    """The folder that all of them are in."""
    folders = [path.parent.parts for path in paths]
    shared: list[str] = []
    for parts in zip(*folders, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return PurePosixPath(*shared)


def _require_room(archive: Path, out: Path, size: int) -> None:
    if size > MOST_BYTES:
        raise DataError(f"{archive}: it would unpack to {size:,} bytes.", hint="No data set known here is so large.")
    place = next(folder for folder in (out, *out.parents) if folder.is_dir())
    free = shutil.disk_usage(place).free
    if size > free:
        raise DataError(f"{archive}: it unpacks to {size:,} bytes, and {place} has {free:,} free.", hint="Make room.")


def _write(
    archive: Path, source: zipfile.ZipFile, entries: list[Entry], beside: Path, progress: Progress | None
) -> None:
    total, done = sum(entry.info.file_size for entry in entries), 0
    for entry in entries:
        target = beside / entry.path
        target.parent.mkdir(parents=True, exist_ok=True)
        for size in _copied(archive, source, entry, target):
            done += size
            if progress:
                progress(done, total)


def _copied(archive: Path, source: zipfile.ZipFile, entry: Entry, target: Path) -> Iterator[int]:
    """The bytes written, chunk by chunk; zipfile compares the checksum at the end, and reads no more than was declared."""
    written = 0
    with source.open(entry.info) as stream, target.open("xb") as out:
        while chunk := stream.read(_CHUNK):
            written += len(chunk)
            out.write(chunk)
            yield len(chunk)
    if written != entry.info.file_size:
        raise DataError(f"{archive}: {entry.info.filename!r} has {written:,} bytes, not as many as are declared.")
