"""Parts of speech by nltk's averaged perceptron: greedy, left to right, over the words around and the two tags before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import numpy as np


class Tagger:
    """weights: feature -> tag -> weight. certain: the tag of words that have but one. tags: all of them.

    Scores are summed in float64 in the features' order, as nltk sums them, so that near ties fall the same way.
    """

    def __init__(
        self, weights: Mapping[str, Mapping[str, float]], certain: Mapping[str, str], tags: Sequence[str]
    ) -> None:
        self._weights = weights
        self._certain = certain
        self._tags = sorted(tags, reverse=True)  # of equal scores the last name wins, and argmax takes the first
        self._place = {tag: number for number, tag in enumerate(self._tags)}
        self._rows: dict[str, np.ndarray | None] = {}
        self._predict = lru_cache(maxsize=1 << 17)(self._predicted)

    def tag(self, words: Sequence[str]) -> list[str]:
        """The Penn Treebank tag of each word, in order."""
        tags = self.tag_at(words, range(len(words)))
        return [tags[place] for place in range(len(words))]

    def tag_at(self, words: Sequence[str], places: Iterable[int]) -> dict[int, str]:
        """The same tags for some of the words alone, by their places: what they do not hang on is left out."""
        window = ["-START-", "-START2-", *map(_shape, words), "-END-", "-END2-"]
        tags = {-2: "-START2-", -1: "-START-"}
        needed = set(places)
        for place in range(len(words) - 1, -1, -1):
            if place in needed and words[place] not in self._certain:
                needed.update((place - 1, place - 2))
        for place in sorted(needed - tags.keys()):
            word = words[place]
            tags[place] = self._certain.get(word) or self._predict(
                word, window[place], window[place + 1], window[place + 3], window[place + 4], tags[place - 1],
                tags[place - 2],
            )  # fmt: skip
        return tags

    def _predicted(self, word: str, left2: str, left: str, right: str, right2: str, last: str, before: str) -> str:
        shape = _shape(word)
        features = (
            "bias", f"i suffix {word[-3:]}", f"i pref1 {word[:1]}", f"i-1 tag {last}", f"i-2 tag {before}",
            f"i tag+i-2 tag {last} {before}", f"i word {shape}", f"i-1 tag+i word {last} {shape}", f"i-1 word {left}",
            f"i-1 suffix {left[-3:]}", f"i-2 word {left2}", f"i+1 word {right}", f"i+1 suffix {right[-3:]}",
            f"i+2 word {right2}",
        )  # fmt: skip
        scores = np.zeros(len(self._tags))
        for feature in features:
            row = self._rows[feature] if feature in self._rows else self._row(feature)
            if row is not None:
                scores += row
        return self._tags[int(scores.argmax())]

    def _row(self, feature: str) -> np.ndarray | None:
        row = None
        if feature in self._weights:
            row = np.zeros(len(self._tags))
            for tag, weight in self._weights[feature].items():
                row[self._place[tag]] = weight
        self._rows[feature] = row
        return row


def _shape(word: str) -> str:
    if "-" in word and word[0] != "-":
        return "!HYPHEN"
    if word[:1].isdigit():
        return "!YEAR" if len(word) == 4 and word.isdigit() else "!DIGITS"
    return word.lower()
