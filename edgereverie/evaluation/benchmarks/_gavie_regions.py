"""What people wrote about GAVIE's pictures: phrases with boxes, from the authors' extract or from Visual Genome itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from edgereverie.data.annotations import visual_genome
from edgereverie.data.rows import Tally
from edgereverie.errors import DataError
from edgereverie.evaluation.rows import parsed, text_of, value_of

EXTRACT, WHOLE = "vg_annotation.json", visual_genome.FILES["regions"]


@dataclass(frozen=True, eq=False)
class Regions:
    """Lines for a judge by picture, read when the first is asked for: Visual Genome's file has 700 MB.

    path: ``vg_annotation.json``, {"2356371": [{"caption", "bbox": [x, y, width, height]}]}, or ``region_descriptions.json``.
    pictures: the numbers of those that are wanted.
    """

    path: Path | None
    pictures: frozenset[int] = field(repr=False)

    def of(self, picture: str) -> str:
        """A line for each region. Raises DataError when there is none, or no file."""
        if self.path is None:
            raise DataError(
                f"A judge of GAVIE needs {EXTRACT} or {WHOLE}, and neither is there.",
                hint="`edgereverie data get visual-genome-annotations` fetches the second; unpack it beside the questions.",
            )
        if not self._lines.get(int(picture)):
            raise DataError(f"{self.path}: nothing is told of picture {picture}.", hint="Get the whole file.")
        return "\n".join(self._lines[int(picture)])

    @cached_property
    def _lines(self) -> dict[int, list[str]]:
        assert self.path is not None
        return _extract(self.path) if self.path.name == EXTRACT else _whole(self.path, self.pictures)


def _extract(path: Path) -> dict[int, list[str]]:
    rows = parsed(text_of(path), str(path))
    if not isinstance(rows, dict):
        raise DataError(f"{path}: expected an object of regions by picture, found {type(rows).__name__}.")
    found = {}
    for picture, regions in rows.items():
        if not picture.isdecimal() or not isinstance(regions, list):
            raise DataError(f"{path}, {picture!r}: expected a picture's number with its list of regions.")
        found[int(picture)] = [
            _extract_line(region, f"{path}, {picture!r}, region {n}") for n, region in enumerate(regions, 1)
        ]
    return found


def _extract_line(region: Any, where: str) -> str:
    if not isinstance(region, Mapping):
        raise DataError(f"{where}: expected a JSON object, found {type(region).__name__}.")
    box = value_of(region, "bbox", list, where)
    if len(box) != 4 or not all(type(side) in (int, float) for side in box):
        raise DataError(f"{where}: 'bbox' should be x, y, width and height, found {box!r}.")
    return _line(value_of(region, "caption", str, where), *box)


def _whole(path: Path, pictures: frozenset[int]) -> dict[int, list[str]]:
    found = {}
    for one in visual_genome.read({"regions": path}, None, Tally(), pictures):
        number = int(Path(one.image).stem)
        found[number] = [_line(region.phrase, *region.box) for region in one.regions if region.box is not None]
    return found


def _line(phrase: str, x: float, y: float, width: float, height: float) -> str:
    """Unlike the authors' script, which prints the width twice.

    >>> _line("a red kite", 4, 8, 20, 30)
    'a red kite X:4 Y:8 Width:20 Height:30'
    """
    return f"{' '.join(phrase.split())} X:{x:g} Y:{y:g} Width:{width:g} Height:{height:g}"
