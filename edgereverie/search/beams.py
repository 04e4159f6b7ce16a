"""Sentences of one model that differ: diverse beam search (arXiv 1610.02424) with as many groups as beams.

The published search (``num_beams=5, num_beam_groups=5, diversity_penalty=3.0``) has one beam in each group, so each group is
a greedy search whose scores are lowered by the groups before it: at step t, by ``diversity`` for each of them that chose the
same token at its own step t (Hamming diversity). All groups go a step together: one after the other they choose, then what
they chose is computed in one feed, which reads the weights once. Where groups still agree, they are one stream.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from edgereverie.records import Turn

Ids = tuple[int, ...]


class Stream(Protocol):
    """A growing token sequence with its cache: the part of the runtime's contract that a search needs."""

    length: int

    def feed(self, ids: Sequence[int], *, logits: Literal["last", "all"] = "last") -> np.ndarray:
        """Append tokens. Returns float32 logits (1, vocabulary) behind the last, or (len(ids), vocabulary) behind each."""
        ...

    def fork(self) -> Stream: ...

    def close(self) -> None: ...


class Voice(Protocol):
    """A model that is searched.

    context: most tokens that a stream may hold. ends: tokens that end an answer. periods: tokens that end a sentence.
    allowed: (vocabulary,) bool, tokens that an answer may hold, its ends among them.
    """

    context: int
    ends: frozenset[int]
    periods: frozenset[int]
    allowed: np.ndarray

    def open(self, image: Path | None, turns: Sequence[Turn]) -> View:
        """A new stream that holds picture and prompt, where the answer begins. The caller closes it."""
        ...

    def text(self, ids: Sequence[int]) -> str:
        """The answer that these tokens are, from its beginning."""
        ...

    def step(self, streams: Sequence[Stream], ids: Sequence[int]) -> list[np.ndarray]:
        """Append a token to each stream, computed together; the logits behind each, (vocabulary,) float32."""
        ...


@dataclass(slots=True)
class View:
    """A stream and the logits behind its last token, (vocabulary,) float32."""

    stream: Stream
    row: np.ndarray

    def fork(self) -> View:
        return View(self.stream.fork(), self.row)

    def follow(self, ids: Sequence[int]) -> None:
        """Append tokens to the stream itself."""
        self.row = self.stream.feed(ids)[-1]

    def log_prob(self, ids: Sequence[int]) -> float:
        """Log-probability of these tokens as what comes next, in nats; the stream stays where it is."""
        rows = [self.row]
        if len(ids) > 1:
            stream = self.stream.fork()
            try:
                rows += list(stream.feed(ids[:-1], logits="all"))
            finally:
                stream.close()
        return sum(float(log_softmax(row)[token]) for row, token in zip(rows, ids, strict=True))

    def close(self) -> None:
        self.stream.close()


@dataclass(frozen=True, slots=True)
class Beam:
    """One group's sentence. ids: its tokens, the one that ended it among them. ended: that one ends the whole answer.

    log_probs: of each token under the model, in nats. score: their sum with the penalties taken off, divided by their
    number: transformers' ``sequences_scores`` at length penalty 1.
    """

    ids: tuple[int, ...]
    log_probs: tuple[float, ...]
    score: float
    ended: bool


def diverse_beams(
    view: View, voice: Voice, *, groups: int, diversity: float, most: int, unended: bool = False
) -> list[Beam]:
    """A sentence of each group, of at most ``most`` tokens: to a period, an end of the answer, or cut off.

    unended: an answer may not end at once, because there is none yet.
    """
    found = [_Growing() for _ in range(groups)]
    rows, streams = (
        {(): log_softmax(view.row)},
        dict[Ids, Stream](),
    )  # behind what groups have said so far; all of them forks
    try:
        for step in range(most):
            chosen: Counter[int] = Counter()
            for group in found:
                if not group.done:
                    group.choose(rows[group.ids], voice, chosen, diversity, unended=unended and not step)
            going = list(dict.fromkeys(group.ids for group in found if not group.done))
            if not going or step + 1 == most:
                break
            _branch(view, streams, going)
            fed = voice.step([streams[ids] for ids in going], [ids[-1] for ids in going])
            rows = {ids: log_softmax(row) for ids, row in zip(going, fed, strict=True)}
    finally:
        for stream in streams.values():
            stream.close()
    return [
        Beam(group.ids, tuple(group.log_probs), group.score / len(group.ids), group.ids[-1] in voice.ends)
        for group in found
    ]


@dataclass(slots=True)
class _Growing:
    """One group's sentence so far. score: with the penalties taken off."""

    ids: Ids = ()
    log_probs: list[float] = field(default_factory=list)
    score: float = 0.0
    done: bool = False

    def choose(
        self, own: np.ndarray, voice: Voice, chosen: Counter[int], diversity: float, *, unended: bool
    ) -> None:  # fmt: skip
        """The next token. own: log-probabilities. chosen: what the groups before took at this step, and now this one."""
        held = np.where(voice.allowed, own, -np.inf)
        if unended:
            held[list(voice.ends)] = -np.inf
        for token, times in chosen.items():
            held[token] -= diversity * times
        token = int(held.argmax())
        chosen[token] += 1
        self.ids += (token,)
        self.log_probs.append(float(own[token]))
        self.score += float(held[token])
        self.done = token in voice.ends or token in voice.periods


def _branch(view: View, streams: dict[Ids, Stream], going: Sequence[Ids]) -> None:
    """A stream for each beginning that goes on, its last token not fed yet: the parent's own for the first, forks for others."""
    before, heirs = dict(streams), dict[Ids, Stream]()
    for ids in going:
        parent = ids[:-1]
        if parent in heirs:
            streams[ids] = heirs[parent].fork()
        elif parent in before:
            streams[ids] = heirs[parent] = streams.pop(parent)
        else:
            streams[ids] = heirs[parent] = view.stream.fork()
    for ids in before.keys() - heirs.keys():
        streams.pop(ids).close()


def log_softmax(row: np.ndarray) -> np.ndarray:
    """Log-probabilities (vocabulary,) float64.

    >>> np.exp(log_softmax(np.log(np.array([1.0, 3.0])))).round(6).tolist()
    [0.25, 0.75]
    """
    wide = row.astype(np.float64)
    wide -= wide.max()
    return wide - np.log(np.exp(wide).sum())
