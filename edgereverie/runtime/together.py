"""Many short questions about one picture at once: the weights are read once for all of them, the picture's prefix is shared."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from edgereverie.records import Turn
from edgereverie.runtime.engine import CacheFull, Feed, Stream

if TYPE_CHECKING:
    from edgereverie.runtime.model import Model
    from edgereverie.runtime.sight import Picture

_AT_ONCE = 8  # streams; with the prefixes of the last pictures and an answer under way they fit every engine


def first_logits_many(model: Model, image: Picture, questions: Sequence[Sequence[Turn]]) -> list[np.ndarray]:
    """Logits of the first token of each question's answer, (vocabulary,) float32, each in a conversation of its own.

    An engine that cannot branch without copying computes them one after the other, which is quicker there.
    """
    if not model.engine.branching:
        return [model.first_logits(image, turns) for turns in questions]
    prompts = [model.prompt(image, turns) for turns in questions]
    found: list[np.ndarray] = []
    for beginning, same in groupby(prompts, key=lambda prompt: tuple(prompt[0][: prompt[1]])):
        rests = [ids[cut:] for ids, cut in same]
        for start in range(0, len(rests), _AT_ONCE):
            found += _branches(model, image, beginning, rests[start : start + _AT_ONCE])
    return found


def _branches(
    model: Model, image: Picture, beginning: tuple[int, ...], rests: Sequence[Sequence[int]]
) -> list[np.ndarray]:
    """Where they do not fit the cache together, in two halves, down to one by one, which makes room for itself."""
    if len(rests) == 1:
        stream, logits = model.run(image, [*beginning, *rests[0]], len(beginning))
        stream.close()
        return [logits[-1]]
    prefix = model.sight.prefix(image, beginning) if image is not None else None
    streams: list[Stream] = []
    try:
        for _ in rests:
            streams.append(model.engine.open() if prefix is None else prefix.fork())
        feeds = [Feed(stream, rest) for stream, rest in zip(streams, rests, strict=True)]
        return [rows[-1] for rows in model.engine.feed_many(feeds)]
    except CacheFull:
        pass
    finally:
        for stream in streams:
            stream.close()
    half = len(rests) // 2
    return [*_branches(model, image, beginning, rests[:half]), *_branches(model, image, beginning, rests[half:])]
