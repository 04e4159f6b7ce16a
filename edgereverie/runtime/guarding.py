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
from edgereverie.runtime.guards._figures import carried, with_figures
from edgereverie.runtime.guards.base import AnswerGuard, DecodingGuard, Guard
from edgereverie.runtime.profiles import PROFILES
from edgereverie.runtime.request import Done, Event, Piece, Request, Retraction

Guarding = str | Guard | Sequence[Guard]
# Who finds other words comes before who judges the words that are there; verify judges as flag does and goes on.
_ORDER = ("agree", "reflect", "flag", "verify", "abstain")


def named(guards: str) -> list[Guard]:
    """The guards of a list of names with commas between them; a profile's name stands for its guards.

    Raises EdgeReverieError for a name that is not known, BackendError for one that comes twice.
    """
    names: list[str] = []
    for name in (part.strip() for part in guards.split(",")):
        for one in PROFILES.get(name, (name,)):
            if one in names:
                raise BackendError(f"The guard {one!r} is named twice.", hint="Name each guard once.")
            names.append(one)
    return [GUARDS.get(name) for name in names if name != "none"]


def chosen(guards: Guarding) -> tuple[DecodingGuard | None, tuple[AnswerGuard, ...]]:
    """The guard that generates, if one does, and those that look at what was generated, in the order in which they do.

    Raises BackendError for two guards that both generate, and for agree beside one that does.

    >>> chosen("none")
    (None, ())
    >>> [guard.name for guard in chosen("verify,reflect")[1]]
    ['reflect', 'verify']
    """
    found = named(guards) if isinstance(guards, str) else list(guards) if isinstance(guards, Sequence) else [guards]
    decoding = [guard for guard in found if isinstance(guard, DecodingGuard)]
    looking = [guard for guard in found if isinstance(guard, AnswerGuard)]
    if len(decoding) > 1:
        raise BackendError(
            f"The guards {' and '.join(guard.name for guard in decoding)} both decide how the answer is generated.",
            hint="Name one of them; flag, verify and reflect go with either.",
        )
    names = [guard.name for guard in looking]
    if decoding and "agree" in names:
        raise BackendError(
            f"The guard agree draws the model's own answers, and {decoding[0].name} makes others.",
            hint="Name one of them; flag, verify and reflect go with either.",
        )
    if "verify" in names and "flag" in names:
        looking = [guard for guard in looking if guard.name != "flag"]
    looking.sort(key=lambda guard: _ORDER.index(guard.name) if guard.name in _ORDER else len(_ORDER))
    return (decoding[0] if decoding else None), tuple(looking)


def guarded(request: Request, guards: Guarding) -> Iterator[Event]:
    """The answer as it comes. What a guard changes in text that was shown is taken back before the new text comes."""
    return _events(request, *chosen(guards))


def looked_at(request: Request, answer: Answer, looking: Sequence[AnswerGuard]) -> Answer:
    """The same for an answer that is there: the model's own, without a decoding guard."""
    *_, last = _looks(request, answer, (), looking, time.perf_counter() - answer.seconds)
    assert isinstance(last, Done)
    return last.answer


def _events(request: Request, decoding: DecodingGuard | None, looking: Sequence[AnswerGuard]) -> Iterator[Event]:
    started = time.perf_counter()
    answer = yield from (decoding.generate(request) if decoding else generate(request))
    yield from _looks(request, answer, () if decoding is None else (decoding.name,), looking, started)


def _looks(
    request: Request, answer: Answer, names: tuple[str, ...], looking: Sequence[AnswerGuard], started: float
) -> Iterator[Event]:
    shown = answer.text
    for guard in looking:
        if not answer.abstained:  # else there is nothing left to judge
            answer = _after(request, guard, replace(answer, guards=names))
            yield from _shown_anew(shown, answer)
        shown, names = answer.text, (*names, guard.name)
    answer = apply_rules(request, replace(answer, guards=names), act=False)
    yield Done(replace(answer, seconds=time.perf_counter() - started))


def _after(request: Request, guard: AnswerGuard, before: Answer) -> Answer:
    """What the guard makes of the answer. What guards before it said of the answer, and the model's own text, stay."""
    answer = guard.apply(request, before)
    if figures := carried(before):
        answer = with_figures(request, answer, figures)
    if before.reason and answer.reason != before.reason:
        answer = replace(answer, reason="; ".join(filter(None, (before.reason, answer.reason))))
    return replace(answer, draft=before.draft) if before.draft is not None else answer


def _shown_anew(shown: str, answer: Answer) -> Iterator[Event]:
    if shown == answer.text:
        return
    kept = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(shown, answer.text, strict=False)))
    if kept < len(shown):
        yield Retraction(kept, answer.reason)
    if kept < len(answer.text):
        yield Piece(answer.text[kept:])
