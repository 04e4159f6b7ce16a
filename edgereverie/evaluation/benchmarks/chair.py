"""CHAIR: how many of the objects that a caption names are not in the picture (Rohrbach et al., EMNLP 2018).

    folder/chair.jsonl     header: {"edgereverie": "chair", "version": 1, "vocabulary": {"ring": ["ring", "rings"]},
                           "prompt": "Describe the image."}, then {"image": "0001.png", "objects": ["ring"]} per image
    folder/images/

CHAIR_i counts mentions, CHAIR_s captions, recall distinct objects. Both rates fall when a model says less, so words
and objects per caption stand beside them. Mentions are found by the header's table of forms as it stands: no stemmer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgereverie.errors import DataError
from edgereverie.evaluation.answer_files import by_id
from edgereverie.evaluation.benchmarks.base import Benchmark, Counted, Item, Mark, Tally, Variant, per_unit
from edgereverie.evaluation.rows import json_lines, rows_of, value_of
from edgereverie.evaluation.source import Source
from edgereverie.evaluation.statistics import Metric, ratio
from edgereverie.text.objects import ObjectVocabulary

VERSION = 1
COLUMNS = (
    "mentions", "hallucinated_mentions", "captions", "hallucinated_captions", "true_objects", "named_objects", "words",
)  # fmt: skip


def _quotient(top: str, bottom: str) -> Any:
    i, j = COLUMNS.index(top), COLUMNS.index(bottom)
    return lambda counts: ratio(counts[..., i], counts[..., j])


@dataclass(frozen=True, slots=True)
class ChairItem(Item):
    """objects: what the picture holds, in dictionary form. vocabulary: how objects are recognised in captions."""

    objects: frozenset[str]
    vocabulary: ObjectVocabulary = field(repr=False)


METRICS = (
    Metric("chair_i", "CHAIR_i", _quotient("hallucinated_mentions", "mentions"), better="lower"),
    Metric("chair_s", "CHAIR_s", _quotient("hallucinated_captions", "captions"), better="lower"),
    Metric("recall", "Recall", _quotient("named_objects", "true_objects")),
    Metric("words", "Words per caption", _quotient("words", "captions"), better=None, share=False),
    Metric("objects", "Objects per caption", _quotient("mentions", "captions"), better=None, share=False),
)


class Chair(Benchmark):
    """Captions, scored against the objects that are really there."""

    name = "chair"
    max_tokens = 160

    def __init__(self) -> None:
        self.variants = {"table": Variant("the header's table of forms, as it stands", METRICS, _count)}

    def items(self, source: Source, limit: int | None = None) -> list[ChairItem]:
        """One captioning request for each image; the id is the image's name."""
        path = source.file("chair", "chair.jsonl")
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
        return items[:limit]

    def answers(self, path: Path, items: Sequence[ChairItem]) -> dict[str, str]:
        """Rows with ``image_id`` (or ``image``) and ``caption``."""
        ids = ("image_id", "image", "id")
        return by_id(
            rows_of(path),
            items,
            lambda row: next((str(row[key]) for key in ids if isinstance(row.get(key), (int, str))), None),
            ("caption", "text"),
        )


def _count(items: Sequence[ChairItem], texts: Mapping[str, str]) -> Counted:
    rows = [count(texts[item.id], item.objects, item.vocabulary) for item in items]
    units, counts = per_unit([item.unit for item in items], rows, len(COLUMNS))
    marks = tuple(_mark(item, texts[item.id]) for item in items)
    return Counted((Tally("", units, COLUMNS, counts, len(items)),), marks)


def _mark(item: ChairItem, caption: str) -> Mark:
    named = [mention.object for mention in item.vocabulary.mentions(caption)]
    wrong = [name for name in named if name not in item.objects]
    note = f"not in the picture: {', '.join(dict.fromkeys(wrong))}" if wrong else ""
    return Mark(item.id, ", ".join(dict.fromkeys(named)), float(not wrong), float(len(wrong)), note)


def count(caption: str, objects: frozenset[str], vocabulary: ObjectVocabulary) -> np.ndarray:
    """One caption's counts, in the order of COLUMNS.

    >>> shapes = ObjectVocabulary({"ring": ["ring", "rings"], "star": ["star", "stars"]})
    >>> count("A ring, a star and two rings.", frozenset({"ring"}), shapes).tolist()
    [3, 1, 1, 1, 1, 1, 7]
    """
    named = [mention.object for mention in vocabulary.mentions(caption)]
    wrong = sum(name not in objects for name in named)
    found, words = len(objects & set(named)), len(caption.split())
    return np.array([len(named), wrong, 1, wrong > 0, len(objects), found, words], np.int64)


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


BENCHMARK = Chair()
