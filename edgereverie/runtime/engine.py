"""The one contract that every backend fulfils: pictures become features, tokens become logits, prefixes are shared.

Everything above this line (generation, scoring, guards) is written once against it, so for equal logits every backend
decides equally.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

import numpy as np


class Stream(Protocol):
    """One growing token sequence with its cache.

    ``feed`` appends tokens; image tokens among ``ids`` take their rows from ``features`` in order. ``fork`` shares what
    was fed so far and costs next to nothing; ``rewind`` forgets everything after the first ``length`` tokens.
    """

    length: int

    def feed(self, ids: Sequence[int], features: np.ndarray | None = None, *, logits: Literal["last", "all"] = "last") -> np.ndarray:
        """Append tokens. Returns float32 logits (1, vocabulary) after the last one, or (len(ids), vocabulary) after each.

        Raises BackendError when the context would overflow, or features and image tokens differ in number.
        """
        ...

    def fork(self) -> Stream: ...

    def rewind(self, length: int) -> None: ...

    def close(self) -> None:
        """Give the cache back. A closed stream is not used again; closing twice is harmless."""
        ...


class Engine(Protocol):
    """A loaded model. image_token: the id that features replace. context: most tokens a stream may hold."""

    backend: str
    vocabulary: int
    context: int
    image_token: int

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        """(3, side, side) float32, prepared by image.prepare -> (image tokens, width) float32 features."""
        ...

    def open(self) -> Stream:
        """An empty stream. Several may live at once."""
        ...

    def close(self) -> None: ...


class Backend(Protocol):
    """A runtime: what ``BACKEND`` in a module of ``runtime.backends`` is.

    targets: what it runs: ``gguf`` and ``onnx`` bundles, or ``torch`` for a model folder. packages: what it imports.
    """

    name: str
    targets: tuple[str, ...]
    packages: tuple[str, ...]

    def load(self, path: Path, *, precise: bool = False) -> Engine:
        """Load a bundle (or, for ``torch``, a model folder). precise: keep caches and sums in 32 bit, for comparisons."""
        ...
