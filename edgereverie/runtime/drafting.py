"""An answer being written: its text and record grow token by token, and their end can be taken back."""

from __future__ import annotations

import time
from math import exp
from typing import Literal

from edgereverie.chat import stop_ids
from edgereverie.records import Answer, Token
from edgereverie.runtime.detokenise import Detokenizer, StopWords
from edgereverie.runtime.generation import require_room
from edgereverie.runtime.request import Request


class Draft:
    """For guards that write an answer otherwise than from its beginning to its end in one go.

    text: without what a stop word may still claim. record: of the text's tokens. ended: how the answer ended, or None while
    it may go on. drawn: tokens that were generated, those that were taken back among them. ends: ids that end an answer.
    Raises BackendError at once when prompt and longest answer do not fit the context.
    """

    def __init__(self, request: Request) -> None:
        self._request, self._started, self._prompt = request, time.perf_counter(), require_room(request)
        self.ends = stop_ids(request.model.tokenizer, request.model.chat)
        self.drawn = 0
        self._empty()

    def _empty(self) -> None:
        chat = self._request.model.chat
        self.text, self.record = "", list[Token]()
        self.ended: Literal["stop", "length"] | None = None
        self._words = Detokenizer(self._request.model.tokenizer, chat.lead, chat.bare)
        self._stops = StopWords(self._request.options.stop)

    @property
    def left(self) -> int:
        """How many more tokens the answer may have."""
        return self._request.options.max_tokens - len(self.record)

    def add(self, token: int, own: tuple[float, float, float, int]) -> str:
        """Append a token; the text that it completes. A stop word ends the answer."""
        self.drawn += 1
        return self._append(token, own)

    def back(self, tokens: int) -> None:
        """Forget all but the first ``tokens`` tokens."""
        kept = self.record[:tokens]
        self._empty()
        for token in kept:
            self._append(token.id, (token.log_prob, token.margin, token.entropy, token.rank))

    def finish(self) -> str:
        """The text that was held back for a stop word or a character that never became whole."""
        if self._stops.found:
            return ""
        rest = self._stops.add(self._words.finish())
        rest += "" if self._stops.found else self._stops.finish()
        self.text += rest
        return rest

    def answer(self, **told: object) -> Answer:
        """The draft as an answer. told: fields that are otherwise than the draft has them."""
        held = self.record
        sure = exp(sum(token.log_prob for token in held) / len(held)) if held else None
        fields: dict = {
            "text": self.text,
            "confidence": sure,
            "backend": self._request.model.engine.backend,
            "tokens": self.drawn,
            "seconds": time.perf_counter() - self._started,
            "record": tuple(held),
            "prompt_tokens": self._prompt,
            "ended": self.ended or "length",
        }
        return Answer(**(fields | told))

    def _append(self, token: int, own: tuple[float, float, float, int]) -> str:
        piece = self._stops.add(self._words.add(token))
        self.record.append(Token(token, len(self.text), len(self.text) + len(piece), *own))
        self.text += piece
        if self._stops.found:
            self.ended = "stop"
        return piece
