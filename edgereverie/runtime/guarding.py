"""Guards put together: at most one decides how the answer is generated, the others look at it when it is finished."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import takewhile

from edgereverie.errors import BackendError
from edgereverie.records import Answer
from edgereverie.registry import GUARDS
from edgereverie.runtime.calibration.applying import apply_rules
from edgereverie.runtime.generation import generate
from edgereverie.runtime.guards.base import AnswerGuard, DecodingGuard, Guard
from edgereverie.runtime.request import Done, Event, Piece, Request, Retraction

Guarding = str | Guard | Sequence[Guard]


def chosen(guards: Guarding) -> tuple[DecodingGuard | None, tuple[AnswerGuard, ...]]:
    """The guard that generates, if one does, and those that look at what was generated, in the order of their names.

    Raises BackendError for two guards that both generate, RegistryError for a name that is not known.

    >>> chosen("none")
    (None, ())
    """
    if isinstance(guards, str):
        guards = [GUARDS.get(name.strip()) for name in guards.split(",") if name.strip() != "none"]
    found = [guards] if not isinstance(guards, Sequence) else list(guards)
    decoding = [guard for guard in found if isinstance(guard, DecodingGuard)]
    if len(decoding) > 1:
        raise BackendError(
            f"The guards {' and '.join(guard.name for guard in decoding)} both decide how the answer is generated.",
            hint="Name one of them; flag, verify and reflect go with either.",
        )
    return (decoding[0] if decoding else None), tuple(guard for guard in found if isinstance(guard, AnswerGuard))


def guarded(request: Request, guards: Guarding) -> Iterator[Event]:
    """The answer as it comes. What a guard changes in text that was shown is taken back before the new text comes."""
    return _events(request, *chosen(guards))


def _events(request: Request, decoding: DecodingGuard | None, looking: Sequence[AnswerGuard]) -> Iterator[Event]:
    started = time.perf_counter()
    answer = yield from (decoding.generate(request) if decoding else generate(request))
    shown, names = answer.text, () if decoding is None else (decoding.name,)
    for guard in looking:
        answer = guard.apply(request, replace(answer, guards=names))
        yield from _shown_anew(shown, answer)
        shown, names = answer.text, (*names, guard.name)
    answer = apply_rules(request, replace(answer, guards=names), act=False)
    yield Done(replace(answer, seconds=time.perf_counter() - started))


def _shown_anew(shown: str, answer: Answer) -> Iterator[Event]:
    if shown == answer.text:
        return
    kept = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(shown, answer.text, strict=False)))
    if kept < len(shown):
        yield Retraction(kept, answer.reason)
    if kept < len(answer.text):
        yield Piece(answer.text[kept:])
