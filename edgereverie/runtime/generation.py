"""From a prompt to an answer, token by token; what a decoding guard changes is where the logits come from."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from edgereverie.chat import stop_ids
from edgereverie.errors import BackendError
from edgereverie.records import Answer, Token
from edgereverie.runtime.detokenise import Detokenizer, StopWords
from edgereverie.runtime.engine import Stream
from edgereverie.runtime.request import Piece, Request
from edgereverie.runtime.sampling import check_options, choose

if TYPE_CHECKING:
    from edgereverie.runtime.model import Model


class Steps(Protocol):
    """Where the next token comes from. logits: (vocabulary,), after everything that was fed so far."""

    logits: np.ndarray

    def step(self, token: int) -> None:
        """Feed the chosen token; ``logits`` are the next one's from now on."""
        ...

    def close(self) -> None: ...


class Plain:
    """The model's own logits, from one stream, which it owns."""

    def __init__(self, model: Model, stream: Stream, logits: np.ndarray) -> None:
        self._model, self.stream, self.logits = model, stream, logits

    def step(self, token: int) -> None:
        self.logits = self._model.sight.room(lambda: self.stream.feed([token]))[-1]

    def close(self) -> None:
        self.stream.close()


def require_room(request: Request) -> int:
    """How many tokens the prompt has. Raises BackendError for a request that cannot be answered: options or turns that mean
    nothing, several pictures, a grammar that the backend does not know, prompt and longest answer that overflow the context.
    """
    model = request.model
    check_options(request.options)
    _check_question(request)
    if request.options.grammar:
        model.engine.constraint(request.options.grammar).close()
    ids, _ = model.prompt(request.image, request.turns)
    if len(ids) + request.options.max_tokens > model.engine.context:
        raise BackendError(
            f"The conversation has {len(ids):,} tokens and the answer may take {request.options.max_tokens:,}; the model's "
            f"context holds {model.engine.context:,}.",
            hint="Ask for fewer tokens, or start a new conversation.",
        )
    return len(ids)


def _check_question(request: Request) -> None:
    if isinstance(request.image, Sequence):
        raise BackendError(
            f"{len(request.image)} pictures were given; a model looks at one.",
            hint="Ask about each of them, or lay them side by side in one picture.",
        )
    if not request.turns:
        raise BackendError("Nothing is asked: the conversation is empty.", hint="End it with a question.")
    if request.turns[-1].role != "user":
        raise BackendError(
            f"The conversation ends with the {request.turns[-1].role}'s turn.",
            hint="End it with the user's question; the model speaks next.",
        )
    if not request.question.strip():
        raise BackendError("The question is empty.", hint='Ask something, for instance "Describe the image."')


def generate(request: Request, steps: Steps | None = None) -> Generator[Piece, None, Answer]:
    """The answer piece by piece, and at the end (``yield from`` returns it) as a whole, with a record of its tokens.

    steps: taken over and closed; the model's own logits where none are given. confidence: the geometric mean of the
    tokens' probabilities.
    """
    started = time.perf_counter()
    model, options = request.model, request.options
    prompt_tokens = require_room(request)
    rng, stops = np.random.default_rng(options.seed), stop_ids(model.tokenizer, model.chat)
    grammar = model.engine.constraint(options.grammar) if options.grammar else None
    text, words = Detokenizer(model.tokenizer, model.chat.lead, model.chat.bare), StopWords(options.stop)
    record: list[Token] = []
    said, ended = "", "length"
    steps = steps or Plain(model, *model.begin(request.image, request.turns))
    try:
        for step in range(options.max_tokens):
            token, measured = choose(steps.logits, model.allowed, options, record, rng, grammar)
            if token in stops:
                ended = "stop"
                break
            piece = words.add(text.add(token))
            record.append(Token(token, len(said), len(said) + len(piece), *measured))
            if piece:
                said += piece
                yield Piece(piece)
            if words.found:
                ended = "stop"
                break
            if step + 1 < options.max_tokens:
                if grammar:
                    grammar.accept(token)
                steps.step(token)
    finally:
        steps.close()
        if grammar:
            grammar.close()
    if not words.found and (rest := words.add(text.finish()) + ("" if words.found else words.finish())):
        said += rest
        yield Piece(rest)
    sure = float(np.exp(np.mean([token.log_prob for token in record]))) if record else None
    return Answer(
        said,
        confidence=sure,
        backend=model.engine.backend,
        tokens=len(record),
        seconds=time.perf_counter() - started,
        record=tuple(record),
        prompt_tokens=prompt_tokens,
        ended=ended,
    )
