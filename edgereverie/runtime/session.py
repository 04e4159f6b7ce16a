"""One conversation about one picture: ask, read the answer as it comes, look at its claims, ask again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgereverie.records import Answer, Options, Turn
from edgereverie.runtime.guarding import Guarding
from edgereverie.runtime.model import Model
from edgereverie.runtime.request import Done, Event


class Session:
    """Keeps the picture and the turns. ``answer`` is the last answer with its claims, None before the first.

    What guards change in text that was shown comes as a Retraction; the conversation goes on with the finished answer.
    """

    def __init__(self, model: Model, guards: Guarding = "none", options: Options | None = None) -> None:
        self.model = model
        self.guards = guards
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

    def ask(self, text: str) -> Iterator[Event]:
        """The answer as it comes; ``answer`` is there once the last event was taken.

        An answer that was not read to its end is not part of the conversation. An empty answer ends the conversation's
        memory of this question too: a chat format has no empty turns.
        """
        turns = (*self.turns, Turn("user", text))
        self.answer = None
        for event in self.model.events(self.image, turns, self.options, self.guards):
            if isinstance(event, Done):
                self.answer = event.answer
                if self.answer.text.strip():
                    self.turns = (*turns, Turn("assistant", self.answer.text))
            yield event
