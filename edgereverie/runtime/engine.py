"""The one contract that every backend fulfils: pictures become features, tokens become logits, prefixes are shared.

Everything above this line (generation, scoring, guards) is written once against it, so for equal logits every backend
decides equally.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NoReturn, Protocol

import numpy as np

from edgereverie.errors import BackendError, MissingPackage
from edgereverie.runtime.grammar import Constraint


class CacheFull(BackendError):
    """All streams together hold more than the engine can keep. Closing some of them makes room."""


class Stream(Protocol):
    """One growing token sequence with its cache.

    ``feed`` appends tokens; image tokens among ``ids`` take their rows from ``features`` in order. ``fork`` shares what
    was fed so far and costs next to nothing; ``rewind`` forgets everything after the first ``length`` tokens.
    """

    length: int

    def feed(
        self, ids: Sequence[int], features: np.ndarray | None = None, *, logits: Literal["last", "all"] = "last"
    ) -> np.ndarray:
        """Append tokens. Returns float32 logits (1, vocabulary) after the last one, or (len(ids), vocabulary) after each.

        Raises BackendError when the context would overflow, or features and image tokens differ in number.
        """
        ...

    def fork(self) -> Stream: ...

    def rewind(self, length: int) -> None: ...

    def close(self) -> None:
        """Give the cache back. A closed stream is not used again; closing twice is harmless."""
        ...


@dataclass(frozen=True, slots=True)
class Feed:
    """Tokens for one stream."""

    stream: Stream
    ids: Sequence[int]
    logits: Literal["last", "all"] = "last"


class Engine(Protocol):
    """A loaded model. image_token: the id that features replace. context: most tokens a stream may hold.

    device: what it computes on, ``cpu`` or ``cuda``. grammar: whether ``constraint`` knows grammars. branching: whether
    ``feed_many`` computes several forks of one beginning together without a copy of it; else they are quicker one by one.
    """

    backend: str
    device: str
    vocabulary: int
    context: int
    image_token: int
    grammar: bool
    branching: bool

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        """(3, side, side) float32, prepared by image.prepare -> (image tokens, width) float32 features."""
        ...

    def open(self) -> Stream:
        """An empty stream. Several may live at once."""
        ...

    def feed_many(self, feeds: Sequence[Feed]) -> list[np.ndarray]:
        """Feed several streams of this engine at once: text tokens only, each stream once. Returns what ``Stream.feed``
        returns for each, in their order; computed together, which reads the weights once instead of once a stream.

        When it raises, no stream has changed.
        """
        ...

    def constraint(self, grammar: str) -> Constraint:
        """One answer's grammar: ``json``, or GBNF. Raises BackendError for one that cannot be read, and where ``grammar``
        is False; see ``no_grammar``.
        """
        ...

    def close(self) -> None: ...


class Backend(Protocol):
    """A runtime: what ``BACKEND`` in a module of ``runtime.backends`` is.

    targets: what it runs: ``gguf`` and ``onnx`` bundles, or ``torch`` for a model folder. packages: what it imports, and
    extra: the extra of edgereverie that installs them.
    """

    name: str
    targets: tuple[str, ...]
    packages: tuple[str, ...]
    extra: str

    def load(self, path: Path, *, precise: bool = False, device: str = "auto") -> Engine:
        """Load a bundle (or, for ``torch``, a model folder). precise: keep caches and sums in 32 bit, for comparisons.

        device: ``cpu``, ``cuda``, or ``auto`` for the first that works.
        """
        ...

    def lacks_cuda(self) -> str:
        """Why it cannot compute on CUDA, in words; empty where it should. Imports its packages."""
        ...


def require_packages(backend: Backend) -> None:
    """Raise MissingPackage for the first of the backend's packages that is not installed; imports none of them."""
    for package in backend.packages:
        if find_spec(package) is None:
            raise MissingPackage(package, f"The {backend.name} backend", backend.extra)


def check_feed(engine: Engine, length: int, ids: Sequence[int], features: np.ndarray | None) -> np.ndarray:
    """What every backend refuses before it touches its cache: the ids as an int64 array when all is well.

    Raises BackendError for nothing to feed, ids outside the vocabulary, an overflowing context, and image tokens and
    feature rows that differ in number.
    """
    array = np.asarray(ids, dtype=np.int64)
    if array.ndim != 1 or array.size == 0:
        raise BackendError("There are no tokens to feed.")
    least, most = int(array.min()), int(array.max())
    if least < 0 or most >= engine.vocabulary:
        stranger = least if least < 0 else most
        raise BackendError(
            f"Token id {stranger} is outside the model's vocabulary of {engine.vocabulary:,}.",
            hint="tokenizer.json and the weights must be of the same model.",
        )
    if length + array.size > engine.context:
        raise BackendError(
            f"The conversation needs {length + array.size:,} tokens, the model's context holds {engine.context:,}.",
            hint="Shorten the conversation, or start a new one.",
        )
    places = int(np.count_nonzero(array == engine.image_token))
    rows = 0 if features is None else len(features)
    if places != rows:
        raise BackendError(
            f"The text holds {places} image tokens, the picture gave {rows} feature rows.",
            hint="Encode the picture and write the prompt with the same bundle's image geometry.",
        )
    return array


def check_feeds(engine: Engine, feeds: Sequence[Feed]) -> list[np.ndarray]:
    """``check_feed`` for each; and each stream is open, this engine's own, and there once. Raises BackendError."""
    if len({id(feed.stream) for feed in feeds}) < len(feeds):
        raise BackendError("One stream was given twice.", hint="Feed each stream once; fork it for two continuations.")
    if any(getattr(feed.stream, "engine", None) is not engine for feed in feeds):
        raise BackendError("A stream belongs to another model.", hint="Feed it through the model that opened it.")
    return [check_feed(engine, feed.stream.length, feed.ids, None) for feed in feeds]


def no_grammar(engine: Engine) -> NoReturn:
    """``Engine.constraint`` of an engine that knows none."""
    raise BackendError(
        f"The backend {engine.backend!r} knows no grammars.",
        hint="llamacpp does: export the model as a GGUF bundle, or leave the grammar out.",
    )


def feed_in_turn(engine: Engine, feeds: Sequence[Feed]) -> list[np.ndarray]:
    """``Engine.feed_many`` for an engine that computes one stream at a time."""
    check_feeds(engine, feeds)
    lengths = [feed.stream.length for feed in feeds]
    out: list[np.ndarray] = []
    try:
        for feed in feeds:
            out.append(feed.stream.feed(feed.ids, logits=feed.logits))
    except BackendError:
        for feed, length in zip(feeds[: len(out)], lengths, strict=False):
            feed.stream.rewind(length)
        raise
    return out
