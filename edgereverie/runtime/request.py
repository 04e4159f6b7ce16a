"""What is asked, and what comes while it is answered."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgereverie.records import Answer, Options, Turn

if TYPE_CHECKING:
    from edgereverie.runtime.model import Model
    from edgereverie.runtime.sight import Picture


@dataclass(frozen=True, slots=True)
class Request:
    """One question to one model. turns: the conversation, which ends with the question."""

    model: Model
    image: Picture
    turns: tuple[Turn, ...]
    options: Options = field(default_factory=Options)

    @property
    def question(self) -> str:
        return self.turns[-1].text


@dataclass(frozen=True, slots=True)
class Piece:
    """More text of the answer, in whole characters."""

    text: str


@dataclass(frozen=True, slots=True)
class Retraction:
    """What was shown is taken back down to its first ``length`` characters. why: in words, for the reader."""

    length: int
    why: str = ""


@dataclass(frozen=True, slots=True)
class Done:
    """The answer is finished: ``answer.text`` is what the pieces, less what was taken back, have shown."""

    answer: Answer


Event = Piece | Retraction | Done
