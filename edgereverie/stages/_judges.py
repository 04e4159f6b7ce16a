"""Who judges answers that no rule can score: a model on this machine, a server, or what one of them said before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgereverie.errors import DataError
from edgereverie.records import Options, Turn
from edgereverie.stages._answerers import Asked, artefact, require_possible
from edgereverie.stages._console import bar
from edgereverie.stages._served import ServedJudge, is_server, server_at
from edgereverie.stages.backbones import open_model

if TYPE_CHECKING:
    from edgereverie.evaluation.benchmarks.base import Benchmark, BenchmarkResult, Item
    from edgereverie.evaluation.run import Judging, Questions
    from edgereverie.runtime.model import Model


@dataclass(frozen=True, slots=True)
class JudgeAt:
    """A judge by name. place: a server's address, a bundle, a model folder, or ``starter``; empty where ``said``, a file with
    what a judge said before, stands for it. model, key: as for a server that is measured. at_once: requests to a server that
    are under way together.
    """

    place: str = ""
    said: Path | None = None
    model: str | None = None
    key: str | None = None
    at_once: int = 1


def require_judge(judge: JudgeAt | None, asked: Sequence[Questions], models: int) -> None:
    """Raise DataError before anything is loaded when a way of scoring needs a judge that is not there, or has two."""
    needed = [f"{one.benchmark.name}/{way}" for one in asked for way in one.judged()]
    if judge is None:
        if needed:
            raise DataError(
                f"{', '.join(needed)}: these answers are scored by a judge, and none was named.",
                hint="Name one with --judge, or what it said with --judgements.",
            )
        return
    if not needed:
        raise DataError("A judge was named, and nothing that is asked needs one.", hint="Leave it out.")
    if judge.said is None:
        require_possible(judge.place, Asked(key=judge.key))
    elif judge.place:
        raise DataError("A judge and a file of judgements were named.", hint="Name one of them.")
    elif len(needed) * models > 1:
        raise DataError(
            f"One file holds the judgements of one model's answers, scored in one way; there are {models} models, and "
            f"{', '.join(needed)}.",
            hint="Evaluate them one by one.",
        )
    elif not judge.said.exists():
        raise DataError(f"{judge.said}: no such file.", hint="Name the file with the judge's replies.")


@contextmanager
def judging(judge: JudgeAt, journals: Path, label: str) -> Iterator[Judging]:
    """Ask the judge, each of its replies kept in ``journals``, or read what it said."""
    from edgereverie.evaluation.judging import judge_answers, score_prepared

    if judge.said is not None:
        said = judge.said
        yield lambda benchmark, way, items, texts: score_prepared(benchmark, way, items, said, texts)
        return
    with _responder(judge) as responder:

        def ask(benchmark: Benchmark, way: str, items: Sequence[Item], texts: Mapping[str, str]) -> BenchmarkResult:
            path = journals / f"{label}-{benchmark.name}-{way}.jsonl".replace("/", "_").replace(" ", "_")
            with bar(f"{responder.name} judges {label}: {benchmark.name}/{way}") as progress:
                return judge_answers(
                    benchmark, way, items, texts, responder, path, identity=responder.identity,
                    at_once=judge.at_once if is_server(judge.place) else 1, progress=progress,
                )  # fmt: skip

        yield ask


class _LocalJudge:
    """A loaded model as a judge: what it cannot be asked, for its length, is declined."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.name, self.identity = model.name, f"{model.name} {artefact(model)} {model.engine.backend}"

    def respond(self, image: Path | None, turns: Sequence[Turn], options: Options) -> Iterator[str]:
        from edgereverie.errors import BackendError
        from edgereverie.evaluation.judging import Declined
        from edgereverie.runtime.generation import require_room
        from edgereverie.runtime.request import Request

        try:
            require_room(Request(self._model, image, tuple(turns), options))
        except BackendError as error:
            raise Declined(str(error), hint=error.hint) from None
        self._model.forget()
        return self._model.respond(image, turns, options)

    def score(self, image: Path | None, turns: Sequence[Turn], continuation: str) -> float:
        return self._model.score(image, turns, continuation)


@contextmanager
def _responder(judge: JudgeAt) -> Iterator[ServedJudge | _LocalJudge]:
    if is_server(judge.place):
        yield ServedJudge(server_at(judge.place, judge.model, judge.key))
        return
    with open_model(judge.place) as model:
        yield _LocalJudge(model)
