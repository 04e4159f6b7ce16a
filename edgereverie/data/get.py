"""Files of the catalogue on this machine: fetched or found, and the same as ever.

Each folder holds ``edgereverie.lock.json``, which notes the SHA-256 of what was fetched first. Where the catalogue knows no
hash, the next fetch is compared with that, so that a file which its owner changes in silence is noticed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgereverie.bundle import write_text
from edgereverie.data.catalogue import File, Item
from edgereverie.data.download import Progress, Wanted, download, hash_of
from edgereverie.data.unpack import unpack
from edgereverie.errors import DataError

LOCK = "edgereverie.lock.json"
Fetch = Callable[[Wanted, Progress | None], tuple[str, int]]


def no_bar(_: str) -> AbstractContextManager[None]:
    return nullcontext()


@dataclass(frozen=True, slots=True)
class Got:
    """A file that is there now. fetched: by this call; else it was found. checked: against a hash known before."""

    path: Path
    sha256: str
    bytes: int
    fetched: bool
    checked: bool


@dataclass(frozen=True, slots=True)
class Unpacked:
    """An archive whose content is in ``into`` now. files: how many were written, None where they had been before."""

    archive: Path
    into: Path
    files: int | None


def get(
    item: Item,
    folder: Path,
    *,
    force: bool = False,
    bar: Callable[[str], AbstractContextManager[Progress | None]] = no_bar,
    fetch: Fetch = download,
) -> list[Got]:
    """All files of a catalogue entry in ``folder``. Those that are there are compared with their hash and left alone.

    force: fetch anew what is there, and forget the hash noted for it. bar: makes a progress bar in bytes for a file's name.
    Raises DataError when a file cannot be had, or is another than before.
    """
    found = []
    for file in item.files:
        with bar(file.path) as progress:
            found.append(_get(file, folder, force, progress, fetch))
    return found


def unpacked(
    item: Item, folder: Path, *, bar: Callable[[str], AbstractContextManager[Progress | None]] = no_bar
) -> list[Unpacked]:
    """The archives of an entry, each unpacked where its content belongs; one that was unpacked before is left alone.

    Raises DataError for an archive that is not there, broken or unsafe.
    """
    found = []
    for file in item.files:
        if file.unpack is None:
            continue
        archive, into = folder / file.path, folder / file.unpack
        if not archive.is_file():
            raise DataError(f"{archive}: no such file.", hint="Get it first, or place it there.")
        noted = _lock(folder).get(file.path, {})
        if noted.get("unpacked") is not None and noted["unpacked"] == noted.get("sha256") and into.is_dir():
            found.append(Unpacked(archive, into, None))
            continue
        with bar(f"unpacking {file.path}") as progress:
            found.append(Unpacked(archive, into, unpack(archive, into, flat=file.flat, progress=progress)))
        _note(folder, file, {"unpacked": noted.get("sha256")})
    return found


def _get(file: File, folder: Path, force: bool, progress: Progress | None, fetch: Fetch) -> Got:
    out = folder / file.path
    noted = {} if force else _lock(folder).get(file.path, {})
    known = file.sha256 or noted.get("sha256")
    if out.exists() and not force:
        digest, size = hash_of(out, progress), out.stat().st_size
        if known is not None and digest != known:
            raise DataError(
                f"{out}: its SHA-256 is {digest}, expected was {known}.",
                hint="Move the file away, or pass --force to fetch it anew.",
            )
        got = Got(out, digest, size, fetched=False, checked=known is not None)
    else:
        digest, size = fetch(Wanted(file.url, out, known, file.bytes), progress)
        got = Got(out, digest, size, fetched=True, checked=known is not None)
    _note(folder, file, {"sha256": got.sha256, "bytes": got.bytes, "url": file.url})
    return got


def missing(item: Item, folder: Path) -> list[File]:
    """The files of an entry that are not in ``folder``."""
    return [file for file in item.files if not (folder / file.path).is_file()]


def _lock(folder: Path) -> dict[str, Any]:
    path = folder / LOCK
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))["files"])
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: the lock file cannot be read ({error}).", hint="Remove it; hashes are noted anew then."
        ) from None


def _note(folder: Path, file: File, facts: dict[str, Any]) -> None:
    """Add what is known of a file to the lock file."""
    files = _lock(folder)
    entry = {**files.get(file.path, {}), **facts}
    if files.get(file.path) != entry:
        files[file.path] = entry
        write_text(folder / LOCK, json.dumps({"files": files}, indent=2) + "\n")
