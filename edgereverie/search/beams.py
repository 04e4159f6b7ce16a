"""Sentences of one model that differ: diverse beam search (arXiv 1610.02424) with as many groups as beams.

The published search (``num_beams=5, num_beam_groups=5, diversity_penalty=3.0``) has one beam in each group, so each group is
a greedy search whose scores are lowered by the groups before it: at step t, by ``diversity`` for each of them that chose the
same token at its own step t (Hamming diversity). A group therefore needs nothing of the later ones, and one stream at a time
is enough; where groups still agree, they share what was computed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from edgereverie.records import Turn


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
    chosen: defaultdict[int, Counter[int]] = defaultdict(Counter)  # step -> tokens of the groups so far
    known: dict[tuple[int, ...], np.ndarray] = {(): view.row}
    return [_group(view, voice, chosen, known, diversity, most, unended) for _ in range(groups)]


def _group(
    view: View,
    voice: Voice,
    chosen: defaultdict[int, Counter[int]],
    known: dict[tuple[int, ...], np.ndarray],
    diversity: float,
    most: int,
    unended: bool,
) -> Beam:
    ids: list[int] = []
    log_probs: list[float] = []
    score, fed, stream = 0.0, 0, None
    try:
        for step in range(most):
            if (row := known.get(tuple(ids))) is None:
                # Tokens that an earlier group chose, too, were not fed yet: they go in together with the first new one.
                stream = view.stream.fork() if stream is None else stream
                row = known[tuple(ids)] = stream.feed(ids[fed:])[-1]
                fed = len(ids)
            own = log_softmax(row)
            held = np.where(voice.allowed, own, -np.inf)
            if unended and not ids:
                held[list(voice.ends)] = -np.inf
            for token, times in chosen[step].items():
                held[token] -= diversity * times
            token = int(held.argmax())
            chosen[step][token] += 1
            ids.append(token)
            log_probs.append(float(own[token]))
            score += float(held[token])
            if token in voice.ends or token in voice.periods:
                break
    finally:
        if stream is not None:
            stream.close()
    return Beam(tuple(ids), tuple(log_probs), score / len(ids), ids[-1] in voice.ends)


def log_softmax(row: np.ndarray) -> np.ndarray:
    """Log-probabilities (vocabulary,) float64.

    >>> np.exp(log_softmax(np.log(np.array([1.0, 3.0])))).round(6).tolist()
    [0.25, 0.75]
    """
    wide = row.astype(np.float64)
    wide -= wide.max()
    return wide - np.log(np.exp(wide).sum())
