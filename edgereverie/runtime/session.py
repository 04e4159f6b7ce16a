"""One conversation about one picture: ask, read the answer as it comes, look at its claims, ask again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from edgereverie.records import Answer, Options, Turn
from edgereverie.registry import GUARDS
from edgereverie.runtime.guards.base import Guard
from edgereverie.runtime.model import Model


class Session:
    """Keeps the picture and the turns. ``answer`` is the last answer with its claims, None before the first.

    What streams is the model's own text; the guard looks at it when it is finished. A guard that takes claims back leaves
    its text in ``answer``, and that text is what the conversation goes on with.
    """

    def __init__(self, model: Model, guard: str | Guard = "none", options: Options | None = None) -> None:
        self.model = model
        self.guard: Guard = GUARDS.get(guard) if isinstance(guard, str) else guard
        self.options = options or Options()
        self.image: Path | None = None
        self.turns: tuple[Turn, ...] = ()
        self.answer: Answer | None = None

    def see(self, path: Path) -> None:
        """Look at another picture; the conversation begins anew. Raises DataError when it cannot be read."""
        self.model.look(path)
        self.image = path
        self.clear()

    def clear(self) -> None:
        """Forget the conversation, keep the picture."""
        self.turns, self.answer = (), None

    def ask(self, text: str) -> Iterator[str]:
        """The answer, piece by piece; ``answer`` is there once the last piece was taken.

        An answer that was not read to its end is not part of the conversation. An empty answer ends the conversation's
        memory of this question too: a chat format has no empty turns.
        """
        turns = (*self.turns, Turn("user", text))
        self.answer = None
        record: list[float] = []
        pieces: list[str] = []
        started = time.perf_counter()
        for piece in self.model.stream(self.image, turns, self.options, record):
            pieces.append(piece)
            yield piece
        seconds = time.perf_counter() - started
        self.answer = self.model.finish(self.image, turns, "".join(pieces), record, seconds, self.guard)
        if self.answer.text.strip():
            self.turns = (*turns, Turn("assistant", self.answer.text))
