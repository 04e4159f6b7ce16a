"""Contrastive decoding where the model is not sure: what it would say without looking is taken off what it says."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass, replace
from math import exp, log
from typing import Literal

import numpy as np
from PIL import Image

from edgereverie.image import open_image, prepare
from edgereverie.records import Answer
from edgereverie.runtime import contrast_formulas as formulas
from edgereverie.runtime.engine import Feed, Stream
from edgereverie.runtime.generation import generate
from edgereverie.runtime.request import Piece, Request, Retraction
from edgereverie.runtime.sampling import log_sum_exp, measured
from edgereverie.text.questions import is_closed

_GREY = (127, 127, 127)
_NEVER = -1e30  # a logit that stays finite whatever it is weighed with


@dataclass(frozen=True, slots=True)
class Contrast:
    """Steps whose likeliest token has less than ``gate`` probability are decided with a second stream; sure ones are plain.

    other: what the second stream sees: ``none`` is no picture, ``blank`` a grey one, ``noised`` the same one with VCD's
        diffusion noise of step ``noise``. It is opened at the first unsure step, and read together with the first while
        steps stay unsure.
    form: ``m3id`` takes more off the longer the answer (decay), ``vcd`` always the same (alpha), ``guided`` is PAI's guidance
        on log-probabilities (gamma), ``adaptive`` ONLY's rule, which adds the streams where they nearly agree (near).
    beta: tokens less than beta times as likely as the likeliest are never said. The defaults are the publications'.

    Questions of yes or no and of choice are answered plainly: there it shifts the answers without telling right ones from
    wrong any better (arXiv 2504.10020). The token record stays the model's own. On drawn scenes no form of it left fewer false
    claims than the plain greedy answer (``benchmarks/guards.py``), so no profile has it.
    """

    name: str = "contrast"
    other: Literal["none", "blank", "noised"] = "none"
    form: Literal["m3id", "vcd", "guided", "adaptive"] = "m3id"
    gate: float = 0.95
    beta: float = 0.1
    alpha: float = 1.0
    decay: float = 0.02
    gamma: float = 1.1
    near: float = 0.1
    noise: int = 500

    def generate(self, request: Request) -> Generator[Piece | Retraction, None, Answer]:
        if reason := self._idle(request):
            answer = yield from generate(request)
            return replace(answer, reason=reason)
        steps = Contrasted(request, self)
        answer = yield from generate(request, steps)
        record = tuple(
            replace(token, log_prob=own[0], margin=own[1], entropy=own[2], rank=own[3])
            for token, own in zip(answer.record, steps.record(token.id for token in answer.record), strict=True)
        )
        sure = exp(sum(token.log_prob for token in record) / len(record)) if record else None
        return replace(answer, record=record, confidence=sure)

    def combined(self, seen: np.ndarray, other: np.ndarray, step: int) -> np.ndarray:
        """The logits that decide, (vocabulary,) float64."""
        if self.form == "m3id":
            return formulas.m3id(seen, other, step, self.decay, self.beta)
        if self.form == "guided":
            return formulas.guided(seen, other, self.gamma, self.beta)
        if self.form == "adaptive":
            return formulas.adaptive(seen, other, self.near, self.beta)
        return formulas.vcd(seen, other, self.alpha, self.beta)

    def _idle(self, request: Request) -> str:
        """Why the answer is a plain one, or nothing."""
        if request.image is None:
            return "contrast: there is no picture to look away from"
        if is_closed(request.question):
            return "contrast: not used where the question lists its answers"
        return "contrast: a grammar decides what can be said" if request.options.grammar else ""


class Contrasted:
    """``generation.Steps`` over two streams. steps, opened: how many tokens were decided, and how many with both."""

    def __init__(self, request: Request, guard: Contrast) -> None:
        self._request, self._guard, self._model = request, guard, request.model
        self._stream, self._seen = self._model.begin(request.image, request.turns)
        self._second: Stream | None = None
        self._unread: list[int] = []  # tokens that the second stream has not read
        self._record: list[tuple[float, float, float, int]] = []
        self.steps = self.opened = 0
        self._open = False
        try:
            self._decide(None)
        except BaseException:
            self.close()
            raise

    def step(self, token: int) -> None:
        self._record.append(measured(self._seen, token, int(self._seen.argmax())))
        room, engine = self._model.sight.room, self._model.engine
        if self._open and self._second is not None and not self._unread:  # unsure steps come in runs
            feeds = [Feed(self._stream, [token]), Feed(self._second, [token])]
            seen, other = room(lambda: engine.feed_many(feeds))
            self._seen = seen[-1]
            self._decide(other[-1])
            return
        self._seen = room(lambda: self._stream.feed([token]))[-1]
        self._unread.append(token)
        self._decide(None)

    def record(self, tokens: Iterable[int]) -> list[tuple[float, float, float, int]]:
        """Of all tokens, the last of which may not have been fed."""
        found = list(tokens)
        if len(found) > len(self._record):
            self._record.append(measured(self._seen, found[-1], int(self._seen.argmax())))
        return self._record[: len(found)]

    def close(self) -> None:
        self._stream.close()
        if self._second is not None:
            self._second.close()

    def _decide(self, other: np.ndarray | None) -> None:
        """``logits`` of the next token. other: the second stream's, where it has read everything."""
        self._open = self._unsure()
        if self._open:
            seen = np.where(self._model.allowed, self._seen.astype(np.float64), _NEVER)
            self.logits = self._guard.combined(seen, self._caught_up() if other is None else other, self.steps)
            self.opened += 1
        else:
            self.logits = self._seen
        self.steps += 1

    def _unsure(self) -> bool:
        """Of the tokens that may be said."""
        seen = self._seen[self._model.allowed]
        return float(seen.max()) - log_sum_exp(seen) < log(self._guard.gate)

    def _caught_up(self) -> np.ndarray:
        """The second stream's logits, after everything that it has not read in one feed."""
        if self._second is None:
            self._second, self._other = self._look_away()
        if self._unread:
            stream, unread = self._second, self._unread
            self._other = self._model.sight.room(lambda: stream.feed(unread))[-1]
            self._unread = []
        return self._other

    def _look_away(self) -> tuple[Stream, np.ndarray]:
        model, request = self._model, self._request
        if self._guard.other == "none":
            return model.begin(None, request.turns)
        if self._guard.other == "blank":  # one for all pictures, so that it stays prefilled
            return model.begin(Image.new("RGB", (model.image.size,) * 2, _GREY), request.turns)
        image = request.image if isinstance(request.image, Image.Image) else open_image(request.image)
        pixels = formulas.noised(prepare(image, model.image), self._guard.noise, request.options.seed)
        features = model.sight.encode(pixels)
        ids, _ = model.prompt(request.image, request.turns)
        stream = model.sight.room(model.engine.open)
        try:
            return stream, model.sight.room(lambda: stream.feed(ids, features))[-1]
        except BaseException:
            stream.close()
            raise


GUARD = Contrast()
