"""What a model thinks of a text that stands already: teacher forcing, and yes against no."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgereverie.chat import render, tokenize
from edgereverie.records import Turn
from edgereverie.runtime.sampling import log_softmax

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from edgereverie.runtime.model import Model
    from edgereverie.runtime.sight import Picture


@dataclass(frozen=True, slots=True)
class Scored:
    """A text under teacher forcing. log_probs: nats per token. spans: where each token's characters stand in the text.
    margins: log-probability of the likeliest token minus that of the second, nats per token.
    """

    log_probs: np.ndarray
    spans: tuple[tuple[int, int], ...]
    margins: np.ndarray


def score_text(model: Model, image: Picture, turns: Sequence[Turn], text: str) -> Scored:
    """A text as the next answer, in the tokens that training would make of it, from one pass."""
    ids, spans = continuation(model, turns, text, image=image is not None)
    return score_ids(model, image, turns, ids, spans)


def score_ids(
    model: Model, image: Picture, turns: Sequence[Turn], ids: Sequence[int], spans: tuple[tuple[int, int], ...]
) -> Scored:
    """Tokens as the next answer, from one pass."""
    rows = log_softmax(_logits(model, image, turns, ids))
    return Scored(rows[np.arange(len(ids)), ids], spans, margins_of(rows))


def log_probs(model: Model, image: Picture, turns: Sequence[Turn], ids: Sequence[int]) -> np.ndarray:
    """Their log-probabilities alone, (n,) nats: for a whole answer, what else stands in the rows would cost as much again."""
    if not ids:
        return np.empty(0)
    rows = _logits(model, image, turns, ids)
    rows = rows - rows.max(axis=1, keepdims=True)
    return rows[np.arange(len(ids)), ids] - np.log(np.exp(rows).sum(axis=1, dtype=np.float64))


def _logits(model: Model, image: Picture, turns: Sequence[Turn], ids: Sequence[int]) -> np.ndarray:
    """(n, vocabulary): before each of the tokens."""
    prompt, cut = model.prompt(image, turns)
    stream, logits = model.run(image, [*prompt, *ids[:-1]], cut, every=True)
    stream.close()
    return logits[len(prompt) - 1 - cut :]


def margins_of(rows: np.ndarray) -> np.ndarray:
    """(n, vocabulary) logits or log-probabilities -> (n,): the largest minus the second."""
    second, first = np.partition(rows, -2, axis=1)[:, -2:].T
    return first - second


def continuation(
    model: Model, turns: Sequence[Turn], text: str, *, image: bool
) -> tuple[list[int], tuple[tuple[int, int], ...]]:
    """An answer's token ids as training sees them, and their characters' places in ``text``."""
    chat = model.chat
    pieces = render(chat, [*turns, Turn("assistant", text)], image=image)
    begin = sum(len(piece) for piece, _ in pieces[:-1]) + len(chat.answer(text)) - len(text)
    tokens = tokenize(model.tokenizer, chat, pieces, model.engine.image_token)
    inside = [token for token in tokens if token[3] == len(pieces) - 1][:-1]  # without the one that ends it
    # A blank prefix that the tokenizer itself puts before the first word has no width; it is the answer's all the same.
    spans = tuple((max(0, start - begin), max(0, stop - begin)) for _, start, stop, _ in inside)
    return [token for token, *_ in inside], spans


def spellings(tokenizer: Tokenizer, word: str) -> np.ndarray:
    """Ids of the tokens that are this word alone, with or without capitals and the blank before it."""
    found = [i for token, i in tokenizer.get_vocab().items() if token.strip("▁Ġ ").lower() == word]
    if not found:  # a vocabulary without the word: the first piece of it has to stand for it
        found = [tokenizer.encode(word.capitalize(), add_special_tokens=False).ids[0]]
    return np.array(sorted(found))
