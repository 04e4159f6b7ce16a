"""What a guard is: something that makes an answer say less that is not in the picture, or says which parts are not."""

from __future__ import annotations

from collections.abc import Generator
from typing import Protocol, runtime_checkable

from edgereverie.records import Answer
from edgereverie.runtime.request import Piece, Request, Retraction

ABSTENTION = "I am not sure what the image shows."  # the text of an answer that abstains


@runtime_checkable
class AnswerGuard(Protocol):
    """Looks at a finished answer, asks the picture about it, and returns an answer that says so."""

    name: str

    def apply(self, request: Request, answer: Answer) -> Answer:
        """answer: the model's, or what the guards before this one made of it. Its text may change; ``draft`` then keeps
        the model's own, and ``reason`` tells why."""
        ...


@runtime_checkable
class DecodingGuard(Protocol):
    """Decides how the answer is generated."""

    name: str

    def generate(self, request: Request) -> Generator[Piece | Retraction, None, Answer]:
        """The answer piece by piece, with what is taken back on the way; returns it whole."""
        ...


Guard = AnswerGuard | DecodingGuard
