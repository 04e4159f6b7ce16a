"""What AMBER asks, and what is true: its queries, annotations and words, read strictly.

    amber/query_all.json           {"id", "image", "query"}; or the files of single tasks and dimensions, as the authors cut them
    amber/annotations.json         entry n belongs to the question with id n: {"id", "type", "truth", "hallu"}
    amber/relation.json            every word that counts as an object, with the words that say the same
    amber/safe_words.txt           words that are never held against a description, one to a line
    amber/metrics.txt              where the scorer's counters start; need not be there

All may be packed by gzip, and the queries may lie in ``query/``, as in the authors' repository.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgereverie.errors import DataError
from edgereverie.evaluation.answer_files import some
from edgereverie.evaluation.benchmarks.base import Item
from edgereverie.evaluation.rows import parsed, rows_of, text_of, value_of
from edgereverie.evaluation.source import Source

ATTRIBUTES = ("state", "number", "action")
DIMENSIONS = ("existence", "attribute", "relation")
QUESTIONS = ("existence", *ATTRIBUTES, "relation")
SPLITS = {
    "existence": ("existence",),
    **{kind: (kind,) for kind in ATTRIBUTES},
    "attribute": ATTRIBUTES,
    "relation": ("relation",),
    "discriminative": QUESTIONS,
    "generative": ("description",),
}
"""The kinds of question in each split, parts before the whole that the authors report them in."""

_KINDS = {
    "generative": "description",
    "discriminative-hallucination": "existence",
    "discriminative-attribute-state": "state",
    "discriminative-attribute-number": "number",
    "discriminative-attribute-action": "action",
    "discriminative-relation": "relation",
    "relation": "relation",
}
_WORDS_OF_AN_ANSWER, _WORDS_OF_A_DESCRIPTION = 16, 512
START = 0.001
"""Every denominator starts here, so that none is zero: part of the rule, and the second digit of small splits feels it."""


@dataclass(frozen=True, slots=True, eq=False)
class Words:
    """related: the words that say the same as each object. known: all that count as objects. safe: never hallucinated. folder:
    where nltk's data are looked for first."""

    related: Mapping[str, tuple[str, ...]]
    known: frozenset[str]
    safe: frozenset[str]
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class AmberItem(Item):
    """label: is yes the right answer? Of a description: objects, all that the picture holds, and targets, what a model may
    well make up; both may name a thing twice."""

    label: bool = False
    objects: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    words: Words | None = field(default=None, repr=False)


def read_items(source: Source, limit: int | None) -> list[AmberItem]:
    """The questions of the chosen splits, ids as in the files; limit: those about the first so many pictures."""
    chosen = source.chosen(list(SPLITS))
    kinds = {kind for split in chosen for kind in SPLITS[split]}
    annotations = list(rows_of(_file(source, "annotations.json")))
    _check_starts(source)
    words = _words(source) if "description" in kinds else None
    first: dict[int, str] = {}
    items, pictures = [], {}
    for where, row in _queries(source):
        id = value_of(row, "id", int, where)
        if id in first:
            raise DataError(f"{where}: the id {id} stands at {first[id]} already.")
        first[id] = where
        place, truth = _annotation(annotations, id, where)
        kind = _KINDS[truth["type"]]
        if kind not in kinds:
            continue
        picture = value_of(row, "image", str, where)
        if picture not in pictures:
            if limit is not None and len(pictures) == limit:
                continue
            pictures[picture] = source.picture("amber", picture, where)
        told = (str(id), pictures[picture], value_of(row, "query", str, where))
        items.append(_described(told, picture, truth, words, place) if words and kind == "description"
                     else _asked(told, picture, truth, kind, place))  # fmt: skip
    if missing := [split for split in source.splits if not any(item.kind in SPLITS[split] for item in items)]:
        raise DataError(f"{source.folder}: AMBER's files hold no questions of {some(missing)}.")
    if not items:
        raise DataError(f"{source.folder}: AMBER's files hold no questions.")
    return items


def _asked(told: tuple[str, Path, str], picture: str, truth: Mapping[str, Any], kind: str, where: str) -> AmberItem:
    label = value_of(truth, "truth", str, where)
    if label not in ("yes", "no"):
        raise DataError(f"{where}: the truth is {label!r}, expected 'yes' or 'no'.")
    id, image, question = told
    split = "attribute" if kind in ATTRIBUTES else kind
    return AmberItem(id, image, question, label, picture, label == "yes",
                     split=split, kind=kind, room=_WORDS_OF_AN_ANSWER)  # fmt: skip


def _described(
    told: tuple[str, Path, str], picture: str, truth: Mapping[str, Any], words: Words, where: str
) -> AmberItem:
    objects, targets = (tuple(value_of(truth, key, list, where)) for key in ("truth", "hallu"))
    if unknown := [name for name in (*objects, *targets) if name not in words.related]:
        raise DataError(f"{where}: relation.json does not know {some([repr(name) for name in unknown])}.")
    id, image, question = told
    return AmberItem(id, image, question, ", ".join(objects), picture, False, objects, targets, words,
                     split="generative", kind="description", room=_WORDS_OF_A_DESCRIPTION)  # fmt: skip


def _annotation(annotations: Sequence[tuple[str, dict[str, Any]]], id: int, where: str) -> tuple[str, dict[str, Any]]:
    """The id-th annotation, as the scorer takes it: by place."""
    if not 1 <= id <= len(annotations):
        raise DataError(f"{where}: the id is {id}, and annotations.json has {len(annotations)} entries.")
    place, truth = annotations[id - 1]
    if truth.get("id") != id:
        raise DataError(f"{place}: the id is {truth.get('id')!r}, expected {id}: entries are taken by their place.")
    if (kind := value_of(truth, "type", str, place)) not in _KINDS:
        raise DataError(f"{place}: unknown type {kind!r}; expected one of {', '.join(_KINDS)}.")
    return place, truth


def _queries(source: Source) -> Iterator[tuple[str, dict[str, Any]]]:
    """Of the file that holds all, or of the largest parts that are there."""

    def find(name: str) -> Path | None:
        return source.find("amber", f"{name}.json", f"{name}.json.gz", f"query/{name}.json")

    asked = find("query_discriminative")
    parts = [find("query_generative"), asked] if asked else [
        find("query_generative"), *(find(f"query_discriminative-{name}") for name in DIMENSIONS)
    ]  # fmt: skip
    whole = find("query_all")
    found = [whole] if whole else [path for path in parts if path]
    for path in found or [_file(source, "query_all.json")]:
        yield from rows_of(path)


def _words(source: Source) -> Words:
    path = _file(source, "relation.json")
    table = parsed(text_of(path), str(path))
    if not isinstance(table, dict) or not all(
        isinstance(others, list) and all(isinstance(word, str) for word in others) for others in table.values()
    ):
        raise DataError(f"{path}: expected an object that gives each word a list of words.")
    related = {word: tuple(others) for word, others in table.items()}
    safe = text_of(_file(source, "safe_words.txt")).replace("\r\n", "\n").split("\n")
    known = frozenset(related).union(*related.values())
    return Words(related, known, frozenset(safe), source.folder)


def _check_starts(source: Source) -> None:
    """The scorer evaluates metrics.txt as code; here it is compared with what it holds."""
    path = source.find("amber", "metrics.txt", "metrics.txt.gz")
    for number, line in enumerate(text_of(path).splitlines() if path else (), start=1):
        name, sign, value = (part.strip() for part in line.partition("="))
        expected = {"num": str(START), "score": "0"}.get(name.rpartition("_")[2])
        if line.strip() and (not sign or value != expected):
            raise DataError(
                f"{path}:{number}: found {line.strip()[:60]!r}, expected {name[:40]}={expected or '...'}: "
                "published figures start there.",
                hint="Take the official metrics.txt, or remove the file.",
            )


def _file(source: Source, name: str) -> Path:
    return source.file("amber", name, f"{name}.gz")
