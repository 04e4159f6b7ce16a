"""Files and folders that are whole or not there, and the paths that may stand in a manifest."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgereverie.errors import BundleError

_CHUNK = 1 << 20
_PART = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.+-]*[A-Za-z0-9_+-])?")
_DEVICES = re.compile(
    r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE
)  # files of these names are Windows' own
_LONGEST = 200


def is_plain(path: str) -> bool:
    """Whether a relative path means the same file, inside the folder it is relative to, on every system.

    >>> [is_plain(path) for path in ("model.gguf", "onnx/decoder_q4.onnx_data")]
    [True, True]
    >>> any(is_plain(path) for path in ("", "../x", "/x", "a//b", "a/./b", ".x", "x.", "C:x", "a\\\\b", "~/x", "nul.txt"))
    False
    """
    parts = path.split("/")
    return len(path) <= _LONGEST and all(_PART.fullmatch(part) and not _DEVICES.fullmatch(part) for part in parts)


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write beside, flush to disk, then rename: the file has its old content or the new one, never half of it."""
    with whole_file(path) as beside, beside.open("w", encoding="utf-8", newline="\n") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


@contextmanager
def whole_file(final: Path) -> Iterator[Path]:
    """A path to write to, renamed to ``final`` when the block ends well, and removed when it fails."""
    beside = final.with_name(f".{final.name}.part")
    try:
        yield beside
        beside.replace(final)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def new_folder(final: Path, *, replace: bool = False) -> Iterator[Path]:
    """A folder to fill, renamed to ``final`` when the block ends well, and removed when it fails.

    What a killed run left behind is removed first, or put back where it had taken the old folder away already. Raises
    BundleError when ``final`` exists and ``replace`` is False.
    """
    beside, former = final.with_name(f".{final.name}.part"), final.with_name(f".{final.name}.old")
    if former.exists() and not final.exists():
        former.rename(final)
    if final.exists() and not replace:
        raise BundleError(f"{final} exists already.", hint="Choose another place, or pass --force to replace it.")
    made = [folder for folder in final.parents if not folder.exists()]
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        for left in (beside, former):
            if left.exists():
                shutil.rmtree(left)
        beside.mkdir()
        yield beside
        if final.exists():
            final.rename(former)
        beside.rename(final)
        shutil.rmtree(former, ignore_errors=True)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        with suppress(OSError):  # one that holds something stays
            for folder in made:
                folder.rmdir()
