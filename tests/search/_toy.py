"""A model whose next-token probabilities are written down, for searches that can be followed by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgereverie.records import Turn
from edgereverie.search.beams import View

END, PERIOD, A, B, C = range(5)
WORDS = ("", ".", " ant", " bee", " cow")
Rule = Callable[[tuple[int, ...], bool], Mapping[int, float]]


class ToyStream:
    """Probabilities by a rule over the answer's tokens so far. It knows how many streams are open, and what was fed."""

    def __init__(self, voice: ToyVoice, seen: bool, fed: Sequence[int] = ()) -> None:
        self.voice, self.seen, self.fed, self.open = voice, seen, list(fed), True
        voice.open_now += 1
        voice.most_open = max(voice.most_open, voice.open_now)

    @property
    def length(self) -> int:
        return self.voice.prompt + len(self.fed)

    def row(self) -> np.ndarray:
        chances = self.voice.rule(tuple(self.fed), self.seen)
        row = np.full(len(WORDS), -60.0, np.float32)
        for token, chance in chances.items():
            row[token] = np.log(chance)
        return row

    def feed(self, ids: Sequence[int], features: Any = None, *, logits: str = "last") -> np.ndarray:
        assert self.open and len(ids) and self.length + len(ids) <= self.voice.context
        self.voice.feeds += 1
        self.voice.fed += len(ids)
        rows = []
        for token in ids:
            self.fed.append(int(token))
            rows.append(self.row())
        return np.stack(rows if logits == "all" else rows[-1:])

    def fork(self) -> ToyStream:
        assert self.open
        return ToyStream(self.voice, self.seen, self.fed)

    def close(self) -> None:
        assert self.open, "closed twice"
        self.open = False
        self.voice.open_now -= 1


class ToyVoice:
    """The search's Voice over a rule: (answer so far, is the picture there) -> probability of each token."""

    ends, periods = frozenset((END,)), frozenset((PERIOD,))

    def __init__(self, rule: Rule, context: int = 512, prompt: int = 3) -> None:
        self.rule, self.context, self.prompt = rule, context, prompt
        self.allowed = np.ones(len(WORDS), dtype=bool)
        self.feeds = self.fed = self.open_now = self.most_open = 0

    def open(self, image: Path | None, turns: Sequence[Turn]) -> View:
        stream = ToyStream(self, image is not None)
        return View(stream, stream.row())

    def step(self, streams: Sequence[ToyStream], ids: Sequence[int]) -> list[np.ndarray]:
        """One feed, however many streams."""
        before = self.feeds
        rows = [stream.feed([token])[-1] for stream, token in zip(streams, ids, strict=True)]
        self.feeds = before + 1
        return rows

    def text(self, ids: Sequence[int]) -> str:
        return "".join(WORDS[token] for token in ids)


def by_last(table: Mapping[int | None, Mapping[int, float]]) -> Rule:
    """A rule that looks at the last token only; None is the beginning."""
    return lambda fed, seen: table[fed[-1] if fed else None]


def drawn(seed: int) -> Rule:
    """Random probabilities that depend on every token so far, and on the picture."""

    def rule(fed: tuple[int, ...], seen: bool) -> Mapping[int, float]:
        rng = np.random.default_rng([seed, seen, *fed])
        chances = rng.dirichlet(np.full(len(WORDS), 0.7)) * [0.1, 1, 1, 1, 1]
        return dict(enumerate((chances / chances.sum()).clip(1e-6)))

    return rule
