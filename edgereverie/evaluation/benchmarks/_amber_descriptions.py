"""AMBER's generative part: what a free description names, covers and makes up (Wang et al., 2023).

    CHAIR   hallucinated mentions among the mentions of known objects        Cover   the picture's objects that were named
    Hal     descriptions with a hallucination                                Cog     targets that the model did make up

The official scorer's order of steps is kept, since it shows in the figures: a word that stands for several objects counts for
the first whose synonyms hold it, else the first of that name, so that of objects listed twice one is never covered; a
hallucinated word marks its own target, and the first target that is like it; a word like an object of the picture covers it
and is no hallucination, but marks the target all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from edgereverie.evaluation.benchmarks._amber_files import START, AmberItem, Words
from edgereverie.evaluation.benchmarks._amber_questions import rounded
from edgereverie.evaluation.benchmarks.base import Mark, Tally, per_unit
from edgereverie.evaluation.nltk_data import english
from edgereverie.evaluation.similarities import Similarity
from edgereverie.evaluation.statistics import Metric, ratio

COLUMNS = (
    "mentions", "hallucinated_mentions", "objects", "covered_objects", "targets", "met_targets",
    "descriptions", "clean_descriptions", "words",
)  # fmt: skip
ALIKE = 0.8


@dataclass(frozen=True, slots=True)
class Findings:
    """What a description names. named: known words in order; wrong: those that are hallucinated; covered, met: places among the
    picture's objects and its targets."""

    named: tuple[str, ...]
    wrong: tuple[str, ...]
    covered: frozenset[int]
    met: frozenset[int]


class _Entries:
    """Objects with their synonyms, as one list: first all synonyms, object by object, then the objects themselves."""

    def __init__(self, names: Sequence[str], related: Mapping[str, Sequence[str]]) -> None:
        pairs = [(word, place) for place, name in enumerate(names) for word in related[name]]
        pairs += [(name, place) for place, name in enumerate(names)]
        self.first: dict[str, int] = {}
        for word, place in pairs:
            self.first.setdefault(word, place)

    def like(self, noun: str, similarity: Similarity) -> int | None:
        """The first object with a word that is like the noun; words that come again change nothing."""
        return next((place for word, place in self.first.items() if similarity(noun, word) > ALIKE), None)


def findings(nouns: Iterable[str], item: AmberItem, similarity: Similarity) -> Findings:
    """What the official scorer makes of a description's nouns, in dictionary form and in order.

    >>> words = Words({"man": ("guy",), "dog": (), "cat": ()}, frozenset({"man", "guy", "dog", "cat"}), frozenset())
    >>> item = AmberItem("1", None, "", "", "", objects=("man",), targets=("dog",), words=words)
    >>> findings(["guy", "dog", "hat", "cat"], item, lambda one, other: one == other)
    Findings(named=('guy', 'dog', 'cat'), wrong=('dog', 'cat'), covered=frozenset({0}), met=frozenset({0}))
    """
    words = item.words
    objects, targets = _Entries(item.objects, words.related), _Entries(item.targets, words.related)
    named = tuple(noun for noun in nouns if noun in words.known)
    wrong, covered, met = [], set(), set()
    for noun in named:
        if noun in words.safe:
            continue
        if noun in objects.first:
            covered.add(objects.first[noun])
            continue
        met |= {targets.first.get(noun), targets.like(noun, similarity)} - {None}
        like = objects.like(noun, similarity)
        if like is None:
            wrong.append(noun)
        else:
            covered.add(like)
    return Findings(named, tuple(wrong), frozenset(covered), frozenset(met))


def count_descriptions(
    items: Sequence[AmberItem], texts: Mapping[str, str], similarity: Similarity
) -> tuple[tuple[Tally, ...], list[Mark]]:
    """The tally ``generative``, none without items, and the marks. Raises what a similarity raises without its model."""
    if items:
        similarity("dog", "dog")  # loads what it takes: that it is missing shows even where no word must be compared
    rows, marks = [], []
    for item in items:
        found = findings(_nouns(texts[item.id], item.words), item, similarity)
        rows.append(_row(item, found, texts[item.id]))
        marks.append(_mark(item, found))
    units, counts = per_unit([item.unit for item in items], rows, len(COLUMNS))
    return ((Tally("generative", units, COLUMNS, counts, len(items)),) if items else ()), marks


@lru_cache(maxsize=1 << 14)  # ways of scoring read the same descriptions
def _nouns(text: str, words: Words) -> tuple[str, ...]:
    reader = english(words.folder)
    told = reader.words(text)
    tagged = zip(told, reader.tags(told), strict=True)
    return tuple(reader.lemma(word) for word, tag in tagged if tag.startswith("NN"))


def _row(item: AmberItem, found: Findings, text: str) -> tuple[int, ...]:
    return (len(found.named), len(found.wrong), len(item.objects), len(found.covered), len(item.targets),
            len(found.met), 1, int(not found.wrong), len(text.split()))  # fmt: skip


def _mark(item: AmberItem, found: Findings) -> Mark:
    told = {
        "not in the picture": found.wrong,
        "covered": [item.objects[place] for place in sorted(found.covered)],
    }
    note = "; ".join(f"{what}: {', '.join(dict.fromkeys(words))}" for what, words in told.items() if words)
    read = ", ".join(dict.fromkeys(found.named)) or "nothing"
    return Mark(item.id, read, float(not found.wrong), float(len(found.wrong)), note)


def _column(counts: np.ndarray, name: str) -> np.ndarray:
    return np.asarray(counts[..., COLUMNS.index(name)], np.float64)


def _share(top: str, bottom: str, start_of: Callable[[np.ndarray], Any]) -> Callable[[np.ndarray], np.ndarray]:
    """A percentage whose denominator begins at ``start_of(counts)``."""
    return lambda counts: _column(counts, top) / (_column(counts, bottom) + start_of(counts)) * 100


def metrics(start_of: Callable[[np.ndarray], Any], finish: Callable[[np.ndarray], np.ndarray]) -> tuple[Metric, ...]:
    """start_of: what the denominators hold beside the counts. finish: what becomes of a percentage before it is told."""

    def told(percentage: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
        return lambda counts: finish(percentage(counts)) / 100

    clean = _share("clean_descriptions", "descriptions", start_of)
    return (
        Metric("chair", "CHAIR", told(_share("hallucinated_mentions", "mentions", start_of)), better="lower"),
        Metric("cover", "Cover", told(_share("covered_objects", "objects", start_of))),
        Metric("hal", "Hal", told(lambda counts: 100 - clean(counts)), better="lower"),
        Metric("cog", "Cog", told(_share("met_targets", "targets", start_of)), better="lower"),
        Metric("words", "Words per description",
               lambda counts: ratio(_column(counts, "words"), _column(counts, "descriptions")), better=None, share=False),
    )  # fmt: skip


OFFICIAL = metrics(lambda counts: START, rounded)
# lmms-eval begins anew with every picture, and adds up: each one brings a start of its own; nothing is rounded.
LMMS = metrics(lambda counts: START * _column(counts, "descriptions"), lambda percentage: percentage)
