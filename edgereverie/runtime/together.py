"""Many questions about one picture at once: the weights are read once for all of them, the picture's prefix is shared."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from edgereverie.records import Answer, Options, Turn
from edgereverie.runtime.drafting import Draft
from edgereverie.runtime.engine import CacheFull, Feed, Stream
from edgereverie.runtime.request import Request
from edgereverie.runtime.sampling import choose_each

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


def answers_together(
    model: Model, image: Picture, questions: Sequence[Sequence[Turn]], options: Options
) -> list[Answer]:
    """The plain answer to each question, in a conversation of its own, a token of each at a time.

    As many at once as surely fit the engine's context. Without a grammar, which follows one answer. Of equal logits the same
    tokens are made as by ``generation.generate``; an engine's last bits may differ, since it sums a batch in another order.
    seconds: an equal share of what all took.
    """
    drafts = [Draft(Request(model, image, tuple(turns), options)) for turns in questions]
    pairs = list(zip(drafts, [model.prompt(image, turns) for turns in questions], strict=True))
    found: list[Answer] = []
    for _, same in groupby(pairs, key=lambda pair: tuple(pair[1][0][: pair[1][1]])):
        asked = list(same)
        cut = 0 if image is None else _shared([ids for _, (ids, _) in asked], at_least=asked[0][1][1])
        beginning, rests = tuple(asked[0][1][0][:cut]), [(draft, ids[cut:]) for draft, (ids, _) in asked]
        for group in _portions(rests, model.engine.context - len(beginning), options.max_tokens):
            found += _written(model, image, beginning, group, options)
    return found


def _shared(prompts: Sequence[Sequence[int]], at_least: int) -> int:
    """How many tokens all of several prompts begin with, not counting the last one of any: it is fed for its logits.

    >>> _shared([[7, 7, 1, 2, 9], [7, 7, 1, 3, 9]], at_least=2), _shared([[7, 7, 1, 2, 9]], at_least=2)
    (3, 2)
    """
    if len(prompts) == 1:
        return at_least
    shortest = min(map(len, prompts)) - 1
    return next(
        (at for at in range(at_least, shortest) if len({ids[at] for ids in prompts}) > 1), max(at_least, shortest)
    )


def _portions(
    rests: Sequence[tuple[Draft, list[int]]], room: int, most: int
) -> list[Sequence[tuple[Draft, list[int]]]]:
    """Groups of about equal size, whose questions and longest answers fit ``room`` tokens."""
    each = most + max(len(rest) for _, rest in rests)
    lanes = max(1, min(_AT_ONCE, room // each))
    size = -(-len(rests) // -(-len(rests) // lanes))
    return [rests[start : start + size] for start in range(0, len(rests), size)]


def _written(
    model: Model,
    image: Picture,
    beginning: tuple[int, ...],
    group: Sequence[tuple[Draft, list[int]]],
    options: Options,
) -> list[Answer]:
    """The drafts, written to their ends behind one beginning."""
    started = time.perf_counter()
    prefix = model.sight.prefix(image, beginning) if image is not None else None
    streams: list[Stream] = []
    try:
        for _ in group:
            streams.append(model.sight.room(model.engine.open if prefix is None else prefix.fork, prefix))
        feeds = [Feed(stream, rest) for stream, (_, rest) in zip(streams, group, strict=True)]
        lanes = [(draft, np.random.default_rng(options.seed)) for draft, _ in group]
        while feeds:
            fed = model.sight.room(partial(model.engine.feed_many, feeds), prefix)
            drafts, rngs = zip(*lanes, strict=True)
            chosen = choose_each(
                [rows[-1] for rows in fed], model.allowed, options, [draft.record for draft in drafts], rngs
            )
            going = [
                (Feed(feed.stream, [token]), lane)
                for feed, lane, (token, own) in zip(feeds, lanes, chosen, strict=True)
                if _goes_on(lane[0], token, own)
            ]
            feeds, lanes = [feed for feed, _ in going], [lane for _, lane in going]
    finally:
        for stream in streams:
            stream.close()
    for draft, _ in group:
        draft.finish()
    share = (time.perf_counter() - started) / len(group)
    return [draft.answer(seconds=share) for draft, _ in group]


def _goes_on(draft: Draft, token: int, own: tuple[float, float, float, int]) -> bool:
    """Append the token; whether more follow."""
    if token in draft.ends:
        draft.ended = "stop"
        return False
    draft.add(token, own)
    return draft.ended is None and draft.left > 0
