"""What the picture says about an answer that is still being written, sentence by sentence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgereverie.records import Claim, Token
from edgereverie.runtime.engine import Stream
from edgereverie.runtime.evidence import evidence_of, questioned
from edgereverie.runtime.fusion import fusion_of
from edgereverie.runtime.request import Request
from edgereverie.runtime.sampling import log_softmax
from edgereverie.runtime.scoring import Scored
from edgereverie.text.claims import claims


class Judge:
    """The claims of a growing answer. Cheap: log-probabilities with the picture come from the answer's own record, those
    without it from a second stream that reads along, and each question is put once.

    Everything of it is opened when the first claim comes. Close it.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._blind: Stream | None = None
        self._prompt = 0
        self._rows: dict[int, np.ndarray] = {}  # logits after so many tokens of the answer, where a sentence began
        self._blind_log_probs: list[float] = []  # of the tokens of the answer that the second stream has read
        self._odds: dict[str, dict[str, float]] = {}

    def judged(self, text: str, record: Sequence[Token], begin: int, mark: int) -> tuple[Claim, ...]:
        """The claims of ``text`` from character ``begin`` on, which ``mark`` tokens stand before. record: of the whole text."""
        request, fusion = self._request, fusion_of(self._request)
        every = claims(request.question, text)
        found = [(index, one) for index, one in enumerate(every) if one.start >= begin]
        if not found or request.image is None:
            return ()
        self._read(record[:mark])
        self._read(record)
        new = [one for _, one in found if one.question not in self._odds]
        self._odds |= questioned(request, new, negation=fusion.negation)
        spans = tuple((token.start, token.end) for token in record)
        margins = np.array([token.margin for token in record])
        seen = Scored(np.array([token.log_prob for token in record]), spans, margins)
        blind, out = np.array(self._blind_log_probs), []
        for index, one in found:
            told = evidence_of(every, index, seen, blind, self._odds)
            support = fusion.support(told, one.kind)
            out.append(
                Claim(one.text, one.start, one.end, one.subject, support, fusion.verdict(support), told, one.kind,
                      one.statement)
            )  # fmt: skip
        return tuple(out)

    def back(self, tokens: int) -> None:
        """The answer has been taken back to so many tokens, where a sentence began."""
        if self._blind is not None and len(self._blind_log_probs) > tokens:
            self._blind.rewind(self._prompt + tokens)
            del self._blind_log_probs[tokens:]

    def close(self) -> None:
        if self._blind is not None:
            self._blind.close()

    def _read(self, record: Sequence[Token]) -> None:
        model = self._request.model
        if self._blind is None:
            self._blind, self._rows[0] = model.begin(None, self._request.turns)
            self._prompt = self._blind.length
        stream, new = self._blind, record[len(self._blind_log_probs) :]
        if not new:
            return
        ids = [token.id for token in new]
        fed = model.sight.room(lambda: stream.feed(ids, logits="all"))
        rows = [self._rows[len(self._blind_log_probs)], *fed]
        for token, row in zip(new, rows, strict=False):
            self._blind_log_probs.append(float(log_softmax(row)[token.id]))
        self._rows[len(self._blind_log_probs)] = rows[-1]
