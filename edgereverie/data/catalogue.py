"""Where data sets and benchmark files come from officially: their addresses, licences, and hashes where they are known."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from edgereverie.bundle._files import is_plain
from edgereverie.errors import DataError
from edgereverie.registry import did_you_mean
from edgereverie.strict_yaml import StrictModel, load_model

Text = Annotated[str, Field(min_length=1)]


def _https(url: str) -> str:
    if not url.startswith("https://"):
        raise ValueError("should start with https://")
    return url


def _inside(path: str) -> str:
    if not is_plain(path):
        raise ValueError("should be a path inside the entry's folder, in plain letters")
    return path


def _folder(path: str) -> str:
    return path if path == "." else _inside(path)


class File(StrictModel):
    """One file. bytes, sha256: exact, or None where not known. about: the size that its page tells, in words.

    unpack: the folder inside the entry's that an archive's content belongs in, ``.`` for the entry's own. flat: its pictures
    alone, without the folders they are packed in.
    """

    path: Annotated[Text, AfterValidator(_inside)]
    url: Annotated[Text, AfterValidator(_https)]
    bytes: Annotated[int, Field(gt=0)] | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    about: Text | None = None
    unpack: Annotated[Text, AfterValidator(_folder)] | None = None
    flat: bool = False

    @property
    def size(self) -> str:
        """How large it is, as far as that is known."""
        return self.about or (f"{self.bytes:,} bytes" if self.bytes is not None else "size not known")


class Item(StrictModel):
    """A data set or benchmark. page: where its owner describes it. folder: where it belongs, by default a folder of its own name.
    then: what people do next, or have to get elsewhere."""

    what: Text
    licence: Text
    page: Annotated[Text, AfterValidator(_https)]
    files: Annotated[list[File], Field(min_length=1)]
    folder: Annotated[Text, AfterValidator(_inside)] | None = None
    then: Text | None = None


class Catalogue(StrictModel):
    items: dict[str, Item]


@cache
def catalogue() -> dict[str, Item]:
    """What can be fetched, by name."""
    return load_model(Path(__file__).with_name("catalogue.yaml"), Catalogue).items


def item(name: str) -> Item:
    """The entry of that name. Raises DataError with the nearest ones when there is none."""
    known = catalogue()
    if name not in known:
        raise DataError(f"Nothing called {name!r} is in the catalogue.", hint=did_you_mean(name, known))
    return known[name]
