"""An engine that computes everything and then says a given text, so that what guards cost is measured on words and not on a
random model's noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgereverie.runtime.engine import Engine, Feed, Stream
from edgereverie.runtime.model import Model

SURE, UNSURE, EVERY = 0.97, 0.45, 5


class Replay:
    """``engine``, whose answers begin behind the token ``begin`` and consist of the tokens ``says``.

    The logits are those that were computed, but for the next word's, which is raised until it has probability SURE, and
    UNSURE at every EVERYth word, of those that are ``allowed``: there the gate of contrastive decoding opens. Scored texts
    keep their logits.
    """

    def __init__(self, engine: Engine, begin: int, says: Sequence[int], allowed: np.ndarray) -> None:
        self._engine, self.begin, self.says, self.allowed = engine, begin, tuple(says), allowed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def open(self) -> ReplayStream:
        return ReplayStream(self, self._engine.open())

    def feed_many(self, feeds: Sequence[Feed]) -> list[np.ndarray]:
        found = self._engine.feed_many([Feed(feed.stream.inner, feed.ids, feed.logits) for feed in feeds])
        return [feed.stream.said(feed.ids, rows, feed.logits) for feed, rows in zip(feeds, found, strict=True)]


@dataclass(eq=False)
class ReplayStream:
    """places: where the answer began, of each answer in the conversation."""

    engine: Replay
    inner: Stream
    places: tuple[int, ...] = ()

    @property
    def length(self) -> int:
        return self.inner.length

    def feed(self, ids: Sequence[int], features: np.ndarray | None = None, *, logits: str = "last") -> np.ndarray:
        return self.said(ids, self.inner.feed(ids, features, logits=logits), logits)

    def said(self, ids: Sequence[int], rows: np.ndarray, logits: str) -> np.ndarray:
        start = self.length - len(ids)
        self.places += tuple(start + at + 1 for at, token in enumerate(ids) if token == self.engine.begin)
        if logits == "last" and self.places and (said := self.length - self.places[-1]) < len(self.engine.says):
            sure = UNSURE if said % EVERY == EVERY - 1 else SURE
            raise_to(rows[0], self.engine.says[said], sure, self.engine.allowed)
        return rows

    def fork(self) -> ReplayStream:
        return ReplayStream(self.engine, self.inner.fork(), self.places)

    def rewind(self, length: int) -> None:
        self.inner.rewind(length)
        self.places = tuple(place for place in self.places if place <= length)

    def close(self) -> None:
        self.inner.close()


def raise_to(logits: np.ndarray, token: int, probability: float, allowed: np.ndarray) -> None:
    """Set one logit, in place, so that of the tokens that are allowed (bool), it has this probability, or what it takes to
    be the likeliest.

    >>> row = np.zeros(5, np.float32)
    >>> raise_to(row, 2, 0.5, np.arange(5) < 4)
    >>> (np.exp(row[:4]) / np.exp(row[:4]).sum()).round(3).tolist()
    [0.167, 0.167, 0.5, 0.167]
    """
    logits[token] = -np.inf
    others = logits[allowed]
    top = others.max()
    wanted = np.log(np.exp(others - top).sum()) + np.log(probability / (1 - probability))
    logits[token] = top + max(wanted, 0.05)


def replaying(model: Model, text: str) -> Model:
    """``model``, which says ``text`` and then ends its turn. Both close the one engine."""
    from edgereverie.chat import stop_ids
    from edgereverie.records import Turn

    begin = model.prompt(None, [Turn("user", "?")])[0][-1]
    says = model.tokenizer.encode(text, add_special_tokens=False).ids
    end = min(stop_ids(model.tokenizer, model.chat))
    engine = Replay(model.engine, begin, [*says, end], model.allowed)
    return Model(engine, model.tokenizer, model.chat, model.image, model.name, model.bundle)
