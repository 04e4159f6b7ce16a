"""A loaded model as what a search of sentences needs: on every backend, with each picture read once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgereverie.chat import stop_ids
from edgereverie.records import Turn
from edgereverie.runtime.detokenise import Detokenizer
from edgereverie.runtime.engine import Feed, Stream
from edgereverie.runtime.model import Model
from edgereverie.runtime.sight import Picture
from edgereverie.search.beams import View

_BLANKS = "▁ĠĊ \n"  # how tokenizers write blanks and line breaks


class ModelVoice:
    """``search.beams``' Voice. Pictures stay prefilled as they do for every other question to the model."""

    def __init__(self, model: Model) -> None:
        self._model = model
        tokens = model.tokenizer.get_vocab(with_added_tokens=True)
        self.context = model.engine.context
        self.ends = stop_ids(model.tokenizer, model.chat)
        self.periods = frozenset(number for token, number in tokens.items() if token.strip(_BLANKS) == ".")
        # Besides what no answer may hold, control tokens: training refuses texts with them.
        self.allowed = model.allowed.copy()
        self.allowed[[tokens[token] for token in model.chat.control if token in tokens]] = False
        self.allowed[list(self.ends)] = True

    def text(self, ids: Sequence[int]) -> str:
        words = Detokenizer(self._model.tokenizer, self._model.chat.lead, self._model.chat.bare)
        return "".join(map(words.add, ids)) + words.finish()

    def open(self, image: Picture, turns: Sequence[Turn]) -> View:
        return View(*self._model.begin(image, turns))

    def step(self, streams: Sequence[Stream], ids: Sequence[int]) -> list[np.ndarray]:
        feeds = [Feed(stream, [token]) for stream, token in zip(streams, ids, strict=True)]
        fed = self._model.sight.room(lambda: self._model.engine.feed_many(feeds))
        return [logits[-1] for logits in fed]
