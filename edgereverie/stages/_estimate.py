"""What an export takes, before it starts: a table for people, and no start on a disk that is too small."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgereverie.errors import ExportError
from edgereverie.stages._console import console, duration
from edgereverie.stages._reference import available_bytes

if TYPE_CHECKING:
    from edgereverie.backbones.base import ModelFolder
    from edgereverie.export.base import Profile
    from edgereverie.export.estimate import Estimate


def estimates(folder: ModelFolder, profiles: Sequence[Profile]) -> list[Estimate]:
    """One for each profile, for this machine."""
    from edgereverie.export.estimate import estimate
    from edgereverie.export.shapes import shapes_of
    from edgereverie.tuning.plan import this_machine

    shapes = shapes_of(folder)
    machine = this_machine("fp32", folder.config["text_config"]["hidden_size"])
    here = {"rate": machine.rate, "resident": machine.fixed, "available": available_bytes()}
    return [estimate(folder, profile, shapes, **here) for profile in profiles]


def tell(found: Sequence[Estimate]) -> None:
    """Print the table."""
    from rich.table import Table

    rows = Table(box=None, pad_edge=False, header_style="dim")
    rows.add_column("export")
    for heading in ("bundle", "disk meanwhile", "memory", "time"):
        rows.add_column(heading, justify="right")
    for one in found:
        cells = (size(one.size), size(one.size + one.temporary), size(one.peak), duration(one.seconds))
        rows.add_row(one.profile, *(f"about {cell}" for cell in cells))
    console.print(rows)


def require_room(found: Sequence[Estimate], out: Path) -> None:
    """Raise ExportError when the disk that ``out`` is on cannot take all bundles and the most that one needs besides."""
    if not found:
        return
    place = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    needed = sum(one.size for one in found) + max(one.temporary for one in found)
    if (free := shutil.disk_usage(place).free) < needed:
        raise ExportError(
            f"{out}: the export takes about {size(needed)} of disk, {size(free)} are free.",
            hint="Make room, name another --out, or export fewer profiles at once.",
        )


def size(count: int) -> str:
    """
    >>> size(360_000), size(8_400_000), size(2_300_000_000)
    ('0.4 MB', '8.4 MB', '2.30 GB')
    """
    return f"{count / 1e6:.1f} MB" if count < 1e9 else f"{count / 1e9:.2f} GB"
