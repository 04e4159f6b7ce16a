"""Models behind OpenAI-compatible servers: one that is measured, and one that judges."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgereverie.errors import TeacherError
from edgereverie.records import Answer, Options, Turn
from edgereverie.stages._console import console

if TYPE_CHECKING:
    from edgereverie.evaluation.benchmarks.base import Answerer
    from edgereverie.synthesis.teachers.openai import OpenAi

BACKEND = "openai"


def is_server(place: str) -> bool:
    """Whether it is an address, and neither a folder nor a name."""
    return "://" in place


def key_in(variable: str | None) -> str | None:
    """The key that an environment variable holds. Raises TeacherError where it holds none."""
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise TeacherError(
            f"The environment variable {variable} holds no key.", hint=f"Set it first: export {variable}=..."
        )
    return key


def server_at(place: str, model: str | None, key_name: str | None) -> OpenAi:
    """The server's client. model: by default the one that it serves. Pictures that leave this machine are told of."""
    from edgereverie.synthesis.teachers.openai import OpenAi, only_model

    key = key_in(key_name)
    server = OpenAi(place, model or only_model(place, key, key_name), key=key, key_name=key_name)
    if server.remote:
        console.print(f"Pictures leave this machine for {server.remote}, which was named.")
    return server


def requesting(server: OpenAi, remarks: Counter[str]) -> Answerer:
    """The server as one hand. What it refuses to answer is an empty answer that says so, counted in ``remarks``."""

    def answer(image: Path | None, questions: Sequence[str], room: int) -> list[Answer]:
        return [_answer(server, image, question, room, remarks) for question in questions]

    return answer


def _answer(server: OpenAi, image: Path | None, question: str, room: int, remarks: Counter[str]) -> Answer:
    from edgereverie.synthesis.teachers.base import Refused

    started = time.perf_counter()
    try:
        reply = server.ask(image, [Turn("user", question)], Options(max_tokens=room))
    except Refused as refusal:
        remarks["questions that the server refused, scored as empty answers"] += 1
        return Answer("", abstained=True, backend=BACKEND, reason=str(refusal))
    return Answer(
        reply.text,
        backend=BACKEND,
        tokens=reply.tokens_out or 0,
        prompt_tokens=reply.tokens_in or 0,
        seconds=time.perf_counter() - started,
        ended="length" if reply.cut else "stop",
    )


class ServedJudge:
    """A server as a judge: what it refuses to judge is declined, so that the rest is judged all the same."""

    def __init__(self, server: OpenAi) -> None:
        self._server = server
        self.name, self.identity = server.name, server.identity

    def respond(self, image: Path | None, turns: Sequence[Turn], options: Options) -> Iterator[str]:
        from edgereverie.evaluation.judging import Declined
        from edgereverie.synthesis.teachers.base import Refused

        try:
            yield self._server.ask(image, turns, options).text
        except Refused as refusal:
            raise Declined(str(refusal), hint=refusal.hint) from None

    def score(self, image: Path | None, turns: Sequence[Turn], continuation: str) -> float:
        return self._server.score(image, turns, continuation)
