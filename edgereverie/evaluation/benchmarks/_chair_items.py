"""The pictures that CHAIR asks to be described: COCO's, or others with a vocabulary of their own."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgereverie.errors import DataError
from edgereverie.evaluation.answer_files import some
from edgereverie.evaluation.benchmarks._chair_truth import Known, coco_truth, image_id
from edgereverie.evaluation.benchmarks._chair_words import Reader, Synonyms, pattern_reader, synonyms_of
from edgereverie.evaluation.benchmarks.base import Item
from edgereverie.evaluation.rows import json_lines, text_of, value_of
from edgereverie.evaluation.source import Source
from edgereverie.text.objects import ObjectVocabulary

VERSION = 1
PROMPT = "Please describe this image in detail."
ROOM = 512  # tokens, as OPERA and most after it gave; a shorter caption names less and hallucinates less


@dataclass(frozen=True, slots=True)
class Coco:
    """COCO's words. folder: where nltk's data is looked for first."""

    synonyms: Synonyms
    folder: Path


@dataclass(frozen=True, slots=True)
class ChairItem(Item):
    """objects: what the picture holds, in dictionary form. vocabulary: how objects are recognised in captions. captions: of
    people, whose objects count as there, too."""

    objects: frozenset[str]
    vocabulary: ObjectVocabulary | Coco = field(repr=False, compare=False)
    captions: tuple[str, ...] = ()


def true_objects(objects: frozenset[str], captions: Sequence[str], read: Reader) -> frozenset[str]:
    """What is there: the objects, and what people's captions name."""
    return objects.union(name for caption in captions for _, name in read(caption).objects)


def coco_items(source: Source, limit: int | None = None, described: Collection[str] | None = None) -> list[ChairItem]:
    """See ``Chair.items``. described: the pictures that answers are about, which count where no others are asked for.

    Raises DataError for what is missing or broken.
    """
    coco = Coco(synonyms_of(source.file("chair", "synonyms.txt")), source.folder)
    known = coco_truth(source, coco.synonyms.objects)
    listed = source.find("chair", "images.txt")
    if listed:
        ids = _listed(listed, known)[:limit]
    elif described is not None:
        ids = _in_order(known.names.keys() & set(described))
    else:
        ids = _held_out(known.names, limit)
    read = pattern_reader(coco.synonyms)
    items = []
    for id in ids:
        true = known.truth[id]
        told = ", ".join(sorted(true_objects(true.objects, true.captions, read)))
        image = _picture(source, true.image, f"{known.path}: picture {id}")
        items.append(ChairItem(id, image, PROMPT, told, id, true.objects, coco, true.captions, room=ROOM))
    return items


def _in_order(ids: Iterable[str]) -> list[str]:
    return sorted(ids, key=lambda id: (len(id), id))


def _picture(source: Source, name: str, where: str) -> Path:
    """A picture of val2014, or where it is not there but among train2014's, of that."""
    other = name.replace("_val2014_", "_train2014_")
    try:
        return source.picture("chair", name, where)
    except DataError as error:
        try:
            return source.picture("chair", other, where)
        except DataError:
            raise error from None


def _listed(path: Path, known: Known) -> list[str]:
    faults, found = [], dict[str, int]()
    for number, line in enumerate(text_of(path).splitlines(), start=1):
        id = image_id(line.strip())
        if id not in known.names:
            faults.append(f"line {number}: {known.path.name} knows no picture {line.strip()!r}")
        elif found.setdefault(id, number) != number:
            faults.append(f"line {number}: picture {id} stands on line {found[id]} already")
    if faults or not found:
        raise DataError(f"{path}: {some(faults) if faults else 'the file is empty'}.",
                        hint="Name pictures by COCO's ids or file names, one on each line.")  # fmt: skip
    return list(found)


def _held_out(names: Mapping[str, str], limit: int | None) -> list[str]:
    ids = _in_order(id for id, name in names.items() if "_train2014_" not in name)
    if limit is not None:
        random.Random(0).shuffle(ids)
    return ids[:limit]


def own_items(source: Source, path: Path) -> list[ChairItem]:
    """Those of a ``chair.jsonl``. Raises DataError with file and line."""
    rows = json_lines(path)
    number, header = next(rows, (1, {}))
    vocabulary, prompt = _header(header, f"{path}:{number}")
    first_line: dict[str, int] = {}
    items = []
    for number, row in rows:
        where = f"{path}:{number}"
        image = value_of(row, "image", str, where)
        if image in first_line:
            raise DataError(f"{where}: the image {image!r} stands on line {first_line[image]} already.")
        first_line[image] = number
        objects = _objects(value_of(row, "objects", list, where), vocabulary, where)
        file = source.picture("chair", image, where)
        items.append(ChairItem(image, file, prompt, ", ".join(sorted(objects)), image, objects, vocabulary))
    if not items:
        raise DataError(f"{path}: the file lists no images.")
    return items


def _header(header: Mapping[str, Any], where: str) -> tuple[ObjectVocabulary, str]:
    if header.get("edgereverie") != "chair" or header.get("version") != VERSION:
        raise DataError(
            f"{where}: expected the header of a version {VERSION} CHAIR file, found {str(header)[:60]}.",
            hint='The first line is {"edgereverie": "chair", "version": 1, "vocabulary": {...}, "prompt": "..."}.',
        )
    prompt = value_of(header, "prompt", str, where)
    forms = value_of(header, "vocabulary", dict, where)
    for name, surfaces in forms.items():
        if not isinstance(surfaces, list) or not all(isinstance(surface, str) for surface in surfaces):
            raise DataError(f"{where}: the forms of {name!r} should be a list of texts, found {surfaces!r}.")
    try:
        return ObjectVocabulary(forms), prompt
    except DataError as error:
        raise DataError(f"{where}: {error}", hint=error.hint) from None


def _objects(names: list[Any], vocabulary: ObjectVocabulary, where: str) -> frozenset[str]:
    unknown = [name for name in names if name not in vocabulary.objects]
    if unknown:
        raise DataError(f"{where}: the header's vocabulary does not know {', '.join(map(repr, unknown))}.")
    return frozenset(names)
