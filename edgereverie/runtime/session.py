"""One conversation about one picture: ask, read the answer as it comes, look at its claims, ask again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from edgereverie.records import Answer, Options, Turn
from edgereverie.runtime.guarding import Guarding, chosen
from edgereverie.runtime.model import Model
from edgereverie.runtime.request import Done, Event, Request


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question and its answer. image: the picture that they are about. checked: whether its claims were looked for."""

    image: Path | None
    question: str
    answer: Answer
    checked: bool


class Session:
    """Keeps the picture and what was said. ``answer`` is the last answer, None before the first and while one is stopped.

    What guards change in text that was shown comes as a Retraction; the conversation goes on with the finished answer.
    ``guards`` and ``options`` may be changed between questions.
    """

    def __init__(self, model: Model, guards: Guarding = "none", options: Options | None = None) -> None:
        self.model = model
        self.guards = guards
        self.options = options or Options()
        self.image: Path | None = None
        self.exchanges: tuple[Exchange, ...] = ()
        self.answer: Answer | None = None
        self._before: tuple[Exchange, ...] = ()

    @property
    def transcript(self) -> tuple[Exchange, ...]:
        """All that was asked and answered, forgotten conversations too."""
        return self._before + self.exchanges

    @property
    def turns(self) -> tuple[Turn, ...]:
        """What the model is told of the conversation. Exchanges with an empty answer are left out: a chat format has no
        empty turns."""
        told = (exchange for exchange in self.exchanges if exchange.answer.text.strip())
        return tuple(
            turn for said in told for turn in (Turn("user", said.question), Turn("assistant", said.answer.text))
        )

    def see(self, path: Path) -> None:
        """Look at another picture; the conversation begins anew. Raises DataError when it cannot be read."""
        self.model.look(path)
        self.image = path
        self.clear()

    def clear(self) -> None:
        """Forget the conversation, keep the picture."""
        self._before, self.exchanges, self.answer = self.transcript, (), None

    def ask(self, text: str) -> Iterator[Event]:
        """The answer as it comes; ``answer`` is there once the last event was taken.

        Neither an answer that was not read to its end nor its question is part of the conversation.
        """
        self.answer = None
        for event in self.model.events(self.image, (*self.turns, Turn("user", text)), self.options, self.guards):
            if isinstance(event, Done):
                self.answer = event.answer
                said = Exchange(self.image, text, event.answer, checked=bool(event.answer.claims))
                self.exchanges = (*self.exchanges, said)
            yield event

    def checked(self) -> Answer | None:
        """The last answer with its claims: looked for now, where no guard has found any."""
        if self.answer is None or self.exchanges[-1].checked:
            return self.answer
        last, before = self.exchanges[-1], self.exchanges[:-1]
        self.exchanges = before
        turns = (*self.turns, Turn("user", last.question))
        try:
            _, (flag,) = chosen("flag")
            last = replace(
                last, answer=flag.apply(Request(self.model, self.image, turns, self.options), last.answer), checked=True
            )
        finally:
            self.exchanges = (*before, last)
        self.answer = last.answer
        return self.answer
