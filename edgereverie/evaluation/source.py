"""Where a benchmark's files and pictures lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from os.path import isabs, isdir
from pathlib import Path

from edgereverie.errors import DataError
from edgereverie.image import resolve_under
from edgereverie.registry import did_you_mean


@dataclass(frozen=True, slots=True)
class Source:
    """Files of benchmarks in one folder, each in the folder itself or in one that bears the benchmark's name.

    images: the folder of the pictures, where it is another than ``images`` beside the files. pictures: whether they must be
    there; answers that exist are scored without them. splits: only these parts of a benchmark; empty for all.
    """

    folder: Path
    images: Path | None = None
    pictures: bool = True
    splits: tuple[str, ...] = ()

    def chosen(self, splits: Sequence[str]) -> list[str]:
        """Those of a benchmark's splits that are wanted. Raises DataError for one that it does not have."""
        for name in self.splits:
            if name not in splits:
                raise DataError(f"There is no split {name!r}.", hint=did_you_mean(name, splits))
        return [name for name in splits if name in self.splits or not self.splits]

    def find(self, benchmark: str, *names: str) -> Path | None:
        """The first of the names that is there."""
        places = [root / name for name in names for root in (self.folder / benchmark, self.folder)]
        return next((place for place in places if place.is_file()), None)

    def file(self, benchmark: str, *names: str) -> Path:
        """The same. Raises DataError that says what belongs where, and how to get it."""
        found = self.find(benchmark, *names)
        if found is None:
            raise DataError(
                f"{self.folder / benchmark / names[0]}: no such file.",
                hint=f"`edgereverie data get {benchmark} --out {self.folder} --unpack` fetches it or says where it comes from.",
            )
        return found

    def picture(self, benchmark: str, name: str, where: str) -> Path:
        """The picture ``name``. Raises DataError that starts with ``where`` (file:line) when it must be there and is not."""
        roots = (self.images,) if self.images else _beside(self.folder, benchmark)
        if name and not self.pictures and not (".." in name or isabs(name) or any(map(isdir, roots))):
            return roots[-1] / name  # nothing there that a link could lead out of, and nothing to look at on the disk
        places = [_under(root, name, where) for root in roots]
        found = next((place for place in places if place.is_file()), None)
        if found is None and self.pictures:
            raise DataError(
                f"{where}: the picture {name!r} is not in {' or '.join(map(str, roots))}.",
                hint="Put the pictures there, or name their folder with --images.",
            )
        return found or places[-1]


@lru_cache
def _beside(folder: Path, benchmark: str) -> tuple[Path, ...]:
    return folder / benchmark / "images", folder / "images"


def _under(root: Path, name: str, where: str) -> Path:
    try:
        return resolve_under(root, name)
    except DataError as error:
        raise DataError(f"{where}: {error}", hint=error.hint) from None
