"""The model that bundles are compared with, in 32 bit, also where 32 bits of all its weights have no room."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from edgereverie.stages.backbones import open_model

if TYPE_CHECKING:
    from edgereverie.backbones.base import ModelFolder
    from edgereverie.runtime.engine import Engine

_SPARE = 0.85  # share of the free memory that weights may take


@contextmanager
def reference_engine(folder: ModelFolder) -> Iterator[Engine]:
    """The model in PyTorch on the CPU or a card, its products in 32 bit."""
    if 4 * _weights(folder) > _SPARE * available_bytes():
        from edgereverie.runtime.backends.hf import HfEngine

        yield HfEngine(folder.load_widened(), folder.context)
        return
    with open_model(str(folder.path), precise=True) as model:
        yield model.engine


def _weights(folder: ModelFolder) -> int:
    from edgereverie.export.shapes import shapes_of

    return shapes_of(folder).total


def available_bytes() -> int:
    """Memory that is free or can be freed; a terabyte where the system does not tell."""
    path = Path("/proc/meminfo")
    lines = path.read_text(encoding="ascii", errors="replace").splitlines() if path.is_file() else []
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return found[0] if found else 1 << 40
