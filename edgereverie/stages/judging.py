"""Judges for benchmarks: a model on this machine, or an OpenAI-compatible endpoint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from edgereverie.errors import BackendError
from edgereverie.evaluation.judging import Declined
from edgereverie.records import Options, Responder, Turn
from edgereverie.stages._console import console
from edgereverie.stages.backbones import open_model
from edgereverie.stages.evaluation import artefact
from edgereverie.stages.generating import TeacherAt, endpoint

if TYPE_CHECKING:
    from edgereverie.runtime.model import Model
    from edgereverie.synthesis.teachers.base import Teacher

AT_ONCE = 4  # requests under way together at an endpoint


@dataclass(frozen=True, slots=True)
class OpenJudge:
    """What ``evaluation.judging`` is handed: who replies, what tells it from others, and how many requests it takes at once."""

    responder: Responder
    identity: str
    at_once: int


@contextmanager
def open_judge(named: TeacherAt) -> Iterator[OpenJudge]:
    """A judge by name, ready to be asked; says where what it is shown goes.

    A key comes from the environment variable that is named. Raises TeacherError where an endpoint cannot be asked.
    """
    if "://" in named.place:
        from edgereverie.synthesis.budget import Budget

        teacher = endpoint(named, Budget())
        where = f"{teacher.remote}, which was named: questions, answers and truths leave this machine for it"
        console.print(f"Judge: {teacher.name} at {where if teacher.remote else 'an endpoint on this machine'}.")
        yield OpenJudge(_Endpoint(teacher), teacher.identity, AT_ONCE)
        return
    with open_model(named.place) as model:
        console.print(f"Judge: {model.name}, a model on this machine.")
        yield OpenJudge(_Local(model), f"{model.name} {artefact(model)}", 1)


class _Asked:
    """A judge for replies alone."""

    name: str

    def score(self, image: Path | None, turns: Sequence[Turn], continuation: str) -> NoReturn:
        raise BackendError(f"{self.name} is asked for replies here, not for probabilities.")


class _Endpoint(_Asked):
    """Whole replies: one that broke off is asked for again before anyone reads it."""

    def __init__(self, teacher: Teacher) -> None:
        self.name = teacher.name
        self._teacher = teacher

    def respond(self, image: Path | None, turns: Sequence[Turn], options: Options) -> Iterator[str]:
        from edgereverie.synthesis.teachers.base import Refused

        try:
            yield self._teacher.ask(image, turns, options).text
        except Refused as error:
            raise Declined(str(error), hint=error.hint) from None


class _Local(_Asked):
    """A model whose memory bounds its replies; what does not fit into it is declined."""

    def __init__(self, model: Model) -> None:
        self.name = model.name
        self._model = model

    def respond(self, image: Path | None, turns: Sequence[Turn], options: Options) -> Iterator[str]:
        room = self._model.engine.context // 2
        try:
            yield from self._model.respond(image, turns, replace(options, max_tokens=min(room, options.max_tokens)))
        except BackendError as error:
            raise Declined(str(error), hint=error.hint) from None
