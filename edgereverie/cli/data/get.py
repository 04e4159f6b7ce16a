"""``edgereverie data get``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgereverie.cli.console import complain

if TYPE_CHECKING:
    from edgereverie.data.catalogue import File, Item
    from edgereverie.data.get import Got, Unpacked


def get(
    names: Annotated[list[str] | None, typer.Argument(help="What to get; nothing lists all there is.")] = None,
    out: Annotated[Path, typer.Option(help="Folder; each data set gets a folder of its own in it.")] = Path("data"),
    offline: Annotated[bool, typer.Option("--offline", help="Only say what belongs where.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Fetch anew what is there already.")] = False,
    unpack: Annotated[bool, typer.Option("--unpack", help="Unpack archives where their content belongs.")] = False,
) -> None:
    """Get data sets and benchmark files from their official sources, whole and unaltered.

    Their licences are shown before anything is fetched. A download that breaks off goes on where it was. Hashes are compared
    with the known ones, or with what came the first time. With --offline or HF_HUB_OFFLINE=1, it says what to place where.
    Benchmarks are found by `edgereverie eval --data OUT` and `edgereverie score --data OUT`.

    Example: edgereverie data get pope chair coco-val2014 --unpack
    """
    from edgereverie import stages
    from edgereverie.data.catalogue import catalogue, item

    if not names:
        for name, entry in catalogue().items():
            print(f"{name}\n    {entry.what}\n    licence: {entry.licence}")
        return
    wanted = {name: item(name) for name in names}
    offline = offline or stages.is_offline()
    lacking = 0
    for name, entry in wanted.items():
        folder = out / (entry.folder or name)
        print(f"{name}: {entry.what}\n  licence: {entry.licence}\n  page: {entry.page}")
        if offline:
            lacking += _say_what_is_missing(entry, folder)
        if not offline or not _missing(entry, folder):
            for got in stages.get_data(name, folder, force=force and not offline):
                print(f"  {_told(got)}")
            _unpack(name, entry, folder, wanted=unpack)
        if entry.then:
            print(f"  next: {entry.then}")
    if lacking:
        complain(f"error: {lacking} files are missing, and this run is offline.",
                 "hint: Place them as said above, or run the same command with a network.")  # fmt: skip
        raise typer.Exit(1)


def _missing(entry: Item, folder: Path) -> bool:
    from edgereverie.data.get import missing

    return bool(missing(entry, folder))


def _say_what_is_missing(entry: Item, folder: Path) -> int:
    from edgereverie.data.get import missing

    files = missing(entry, folder)
    for file in files:
        print(f"  missing: {folder / file.path}\n    from {file.url} ({file.size})")
        if file.sha256:
            print(f"    sha256 {file.sha256}")
        if file.unpack is not None:
            print(f"    an archive: --unpack puts {_content(file, folder)}")
    return len(files)


def _unpack(name: str, entry: Item, folder: Path, *, wanted: bool) -> None:
    from edgereverie import stages

    if wanted:
        for found in stages.unpack_data(name, folder):
            print(f"  {_told_of_unpacking(found)}")
        return
    for file in entry.files:
        if file.unpack is not None:
            print(f"  {file.path} is an archive: --unpack puts {_content(file, folder)}")


def _content(file: File, folder: Path) -> str:
    return f"{'its pictures' if file.flat else 'its content'} into {folder / (file.unpack or '')}"


def _told_of_unpacking(found: Unpacked) -> str:
    told = "unpacked before" if found.files is None else f"{found.files:,} files unpacked"
    return f"{found.archive}: {told}, {found.into}"


def _told(got: Got) -> str:
    state = "fetched" if got.fetched else "there already"
    proof = "hash as known" if got.checked else "hash noted for the next time"
    return f"{got.path}: {state}, {got.bytes:,} bytes, {proof} ({got.sha256[:12]})"
