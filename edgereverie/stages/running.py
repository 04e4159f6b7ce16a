"""How fast a model answers on this machine, what each guard costs on top, and what it gains to look at a picture once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from edgereverie.errors import BackendError
from edgereverie.records import Options, Turn
from edgereverie.stages._console import console
from edgereverie.stages.backbones import open_model

if TYPE_CHECKING:
    from edgereverie.runtime.model import Model
    from edgereverie.runtime.sight import Picture

DESCRIBE = "Describe the image."
QUESTIONS = tuple(f"Is there a {name} in the image?" for name in ("ring", "star", "moon", "heart", "cross", "drop"))


@dataclass(frozen=True, slots=True)
class Way:
    """One way to answer. seconds: the median. ratio: to the way that it is measured against, the median of the rounds'.

    first_ratio: the same with the look at the picture on both sides, as for its first question. tokens: generated, in the
    last round.
    """

    name: str
    seconds: float
    ratio: float
    first_ratio: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Running:
    """look: seconds to encode and prefill a picture. ways: ``plain`` first, then each guard against it. once: seconds for
    QUESTIONS about one picture that is looked at once. apart: where each looks anew. gain: how many times longer that takes.
    """

    backend: str
    device: str
    look: float
    ways: tuple[Way, ...]
    once: float
    apart: float
    gain: float


def interleaved(cases: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """What each case measures, round by round, so that whatever else the machine does falls on all of them; the first round
    warms up and is left out.
    """
    found: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(rounds + 1):
        for name, measure in cases.items():
            value = measure()
            if number:
                found[name].append(value)
    return found


def ratio(of: Iterable[float], to: Iterable[float]) -> float:
    """The median of the rounds' ratios.

    >>> ratio([2.0, 6.0, 4.0], [1.0, 2.0, 4.0])
    2.0
    """
    return float(median(a / b for a, b in zip(of, to, strict=True)))


def bench_run(
    model: str,
    image: Path | None = None,
    *,
    guards: Sequence[str] = ("flag", "verify"),
    max_tokens: int = 60,
    rounds: int = 5,
    backend: str = "auto",
    device: str = "auto",
) -> Running:
    """The model's speed on a picture, or on a drawn one. Raises as ``open_model`` does, and for fewer than one round."""
    if rounds < 1:
        raise BackendError("No round would measure nothing.", hint="Measure at least one.")
    with open_model(model, backend=backend, device=device) as loaded:
        console.print(f"bench {loaded.name}: {loaded.engine.backend} on {loaded.engine.device}")
        return running(loaded, image or _drawn(), guards=guards, max_tokens=max_tokens, rounds=rounds)


def running(
    model: Model, image: Picture, *, guards: Sequence[str] = (), max_tokens: int = 60, rounds: int = 5
) -> Running:
    """The same of a model that is open; ``max_tokens`` of a description, and eight of each answer to QUESTIONS."""
    options, tokens = Options(max_tokens=max_tokens), {}

    def describe(guard: str) -> float:
        started = time.perf_counter()
        tokens[guard] = model.answer(image, [Turn("user", DESCRIBE)], options, guard).tokens
        return time.perf_counter() - started

    def look() -> float:
        model.sight.close()
        started = time.perf_counter()
        model.look(image)
        return time.perf_counter() - started

    def asked(anew: bool) -> float:
        model.sight.close()
        started = time.perf_counter()
        for question in QUESTIONS:
            if anew:
                model.sight.close()
            model.answer(image, [Turn("user", question)], Options(max_tokens=8))
        return time.perf_counter() - started

    cases: dict[str, Callable[[], float]] = {"look": look, "plain": lambda: describe("none")}
    cases |= {guard: lambda guard=guard: describe(guard) for guard in guards}
    cases |= {"once": lambda: asked(False), "apart": lambda: asked(True)}
    # Each round begins with a look, so that no description has to look first.
    times = interleaved(cases, rounds)

    def way(name: str, guard: str) -> Way:
        first = {name: np.add(times[name], times["look"]) for name in (name, "plain")}
        against = ratio(times[name], times["plain"]), ratio(first[name], first["plain"])
        return Way(name, median(times[name]), *against, tokens[guard])

    return Running(
        backend=model.engine.backend,
        device=model.engine.device,
        look=median(times["look"]),
        ways=(way("plain", "none"), *(way(guard, guard) for guard in guards)),
        once=median(times["once"]),
        apart=median(times["apart"]),
        gain=ratio(times["apart"], times["once"]),
    )


def _drawn() -> Picture:
    from edgereverie.data.scenes.draw import draw_scene
    from edgereverie.data.scenes.world import make_scene

    return draw_scene(make_scene("bench/0", 0.5))
