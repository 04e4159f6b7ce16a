"""What is really in COCO's pictures: objects that somebody made ready, or COCO's own instances and captions of 2014.

    gt_objects.json[.gz]      {"42": ["dog", "person"], ...}: objects by image id, as other scorers keep them
    instances_val2014.json  captions_val2014.json  (and the same of train2014)      COCO's annotations, streamed once

COCO's files have a gigabyte, of which CHAIR needs a hundredth: the names of each picture's instances and its five captions.
They are kept in ``chair/coco2014.jsonl.gz`` with the hashes of the files that they come from, and made anew when one of
those has another size.
"""

from __future__ import annotations

import gzip
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgereverie.bundle import sha256_of, whole_file
from edgereverie.errors import DataError
from edgereverie.evaluation.rows import parsed, text_of, value_of
from edgereverie.evaluation.source import Source

PREPARED = ("gt_objects.json", "gt_objects.json.gz")
KEPT = "coco2014.jsonl.gz"
PARTS = ("val2014", "train2014")
VERSION = 1
_NUMBER = re.compile(r"(?:.*/)?(?:COCO_[a-z]+\d{4}_)?(\d+)(?:\.\w+)?")


@dataclass(frozen=True, slots=True)
class Truth:
    """One picture. objects: those that are known to be there. captions: what people wrote, whose objects count too."""

    image: str
    objects: frozenset[str]
    captions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Known:
    """All pictures whose truth is known, by image id. path: the file that tells it. names: of the pictures' files."""

    path: Path
    names: Mapping[str, str]
    truth: Mapping[str, Truth]


def image_id(name: str | int) -> str:
    """COCO's id of a picture, from its file name or the id itself; any other name as it is.

    >>> image_id("COCO_val2014_000000000042.jpg"), image_id(42), image_id("042"), image_id("cat.png")
    ('42', '42', '42', 'cat.png')
    """
    number = _NUMBER.fullmatch(str(name))
    return str(int(number[1])) if number else str(name)


def coco_truth(source: Source, objects: Mapping[str, str]) -> Known:
    """What the pictures hold. objects: word -> the object that it means.

    Raises DataError that says what is missing, broken or of an unknown name.
    """
    prepared = source.find("chair", *PREPARED)
    if prepared:
        truth = _prepared(prepared, frozenset(objects.values()))
        return Known(prepared, {id: one.image for id, one in truth.items()}, truth)
    kept = _kept(source)
    if kept is None:
        raise DataError(
            f"{source.folder}: neither {PREPARED[0]} nor COCO's instances_val2014.json and captions_val2014.json are here.",
            hint=f"`edgereverie data get coco-annotations-2014 --out {source.folder}` fetches them; unpack the archive there.",
        )
    rows = _Rows(kept, objects)
    return Known(kept, rows.names, rows)


def _prepared(path: Path, known: frozenset[str]) -> dict[str, Truth]:
    told = parsed(text_of(path), str(path))
    if not isinstance(told, dict) or not told:
        raise DataError(f'{path}: expected {{"image id": ["object", ...], ...}}, found {str(told)[:60]}.')
    faults, truth = [], {}
    for name, found in told.items():
        if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
            faults.append(f"{name}: {str(found)[:60]} is no list of objects")
        elif unknown := [one for one in found if one not in known]:
            faults.append(f"{name}: {', '.join(map(repr, unknown))} are not among the objects of synonyms.txt")
        elif image_id(name) in truth:
            faults.append(f"{name} stands twice")
        else:
            truth[image_id(name)] = Truth(_val_name(name), frozenset(found))
    if faults:
        raise DataError(f"{path}: {len(faults)} pictures cannot be read: {'; '.join(faults[:10])}.")
    return truth


def _val_name(name: str) -> str:
    return f"COCO_val2014_{int(name):012d}.jpg" if name.isdigit() else name


def _kept(source: Source) -> Path | None:
    """The small file, made where it is not there or COCO's files have changed."""
    files = {name: path for name in _names() if (path := _find(source, name))}
    kept = source.find("chair", KEPT)
    made_of = _header(kept) if kept else {}
    if kept and all(made_of.get(name, {}).get("bytes") == path.stat().st_size for name, path in files.items()):
        return kept
    if not {"instances_val2014.json", "captions_val2014.json"} <= files.keys():
        return kept
    return _make(source.folder / "chair" / KEPT, files)


def _names() -> list[str]:
    return [f"{kind}_{part}.json" for part in PARTS for kind in ("instances", "captions")]


def _find(source: Source, name: str) -> Path | None:
    for folder in ("chair", "coco-annotations-2014"):
        if found := source.find(folder, name, f"annotations/{name}"):
            return found
    return None


def _header(kept: Path) -> dict[str, Any]:
    try:
        with gzip.open(kept, "rt", encoding="utf-8") as stream:
            header = json.loads(stream.readline())
    except (OSError, EOFError, ValueError):
        header = None
    if not isinstance(header, dict) or (header.get("edgereverie"), header.get("version")) != ("chair-coco", VERSION):
        raise DataError(
            f"{kept}:1: expected the header of a version {VERSION} file.", hint="Remove the file; it is made anew."
        )
    return value_of(header, "from", dict, f"{kept}:1")


def _make(kept: Path, files: Mapping[str, Path]) -> Path:
    made_of = {name: {"bytes": path.stat().st_size, "sha256": sha256_of(path)} for name, path in files.items()}
    kept.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(kept) as beside, beside.open("wb") as raw:
        packed = gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0)  # the same bytes each time
        with packed, io.TextIOWrapper(packed, encoding="utf-8", newline="\n") as stream:
            header = {"edgereverie": "chair-coco", "version": VERSION, "from": made_of}
            for row in (header, *_annotated(files)):
                stream.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")
    return kept


def _annotated(files: Mapping[str, Path]) -> Iterator[dict[str, Any]]:
    from edgereverie.data.annotations import read_annotations

    for part in PARTS:
        instances, captions = files.get(f"instances_{part}.json"), files.get(f"captions_{part}.json")
        if (instances is None) != (captions is None):
            raise DataError(f"Of instances_{part}.json and captions_{part}.json only one is here; CHAIR counts both.")
        if instances:
            for picture in read_annotations(instances, captions=captions):
                names = sorted({thing.name for thing in picture.things})
                yield {"image": picture.image, "objects": names, "captions": picture.captions}


class _Rows(Mapping[str, Truth]):
    """The small file's pictures by id, each read when it is asked for: a run is about some hundreds of 123,000."""

    def __init__(self, kept: Path, objects: Mapping[str, str]) -> None:
        self._kept, self._objects = kept, objects
        lines = text_of(kept).split("\n")[1:]
        named = {line.split('"', 4)[3]: (number, line) for number, line in enumerate(lines, start=2) if line}
        self.names = {image_id(name): name for name in named}
        self._lines = {image_id(name): place for name, place in named.items()}

    def __getitem__(self, id: str) -> Truth:
        number, line = self._lines[id]
        where = f"{self._kept}:{number}"
        row = parsed(line, where)
        names = value_of(row, "objects", list, where)
        if unknown := [name for name in names if name not in self._objects]:
            raise DataError(f"{where}: synonyms.txt does not know {', '.join(map(repr, unknown))}.")
        captions = tuple(value_of(row, "captions", list, where))
        return Truth(value_of(row, "image", str, where), frozenset(self._objects[name] for name in names), captions)

    def __iter__(self) -> Iterator[str]:
        return iter(self._lines)

    def __len__(self) -> int:
        return len(self._lines)
