"""What a guard is: it reads a finished answer, asks the picture about its claims, and returns an answer that says so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from edgereverie.records import Answer, Turn

if TYPE_CHECKING:
    from edgereverie.runtime.model import Model, Picture


class Guard(Protocol):
    """A strategy against hallucination: what ``GUARD`` in a module of ``runtime.guards`` is.

    It changes nothing in how the answer is generated, works from logits alone and so on every backend alike.
    """

    name: str

    def apply(self, model: Model, image: Picture, turns: Sequence[Turn], answer: Answer) -> Answer:
        """turns: the conversation up to the question that ``answer`` answers."""
        ...
