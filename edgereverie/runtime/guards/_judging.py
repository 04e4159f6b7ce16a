"""What the picture says about an answer that is still being written, sentence by sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgereverie.records import Claim, Token, Turn
from edgereverie.runtime.engine import Stream
from edgereverie.runtime.fusion import fusion_of
from edgereverie.runtime.guards._evidence import existence_question
from edgereverie.runtime.request import Request
from edgereverie.runtime.sampling import log_softmax
from edgereverie.text.claims import Mention, claims


class Judge:
    """The claims of a growing answer. Cheap: log-probabilities with the picture come from the answer's own record, those
    without it from a second stream that reads along, and each thing is asked about once.

    Everything of it is opened when the first claim comes. Close it.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._blind: Stream | None = None
        self._prompt = 0
        self._rows: dict[int, np.ndarray] = {}  # logits after so many tokens of the answer, where a sentence began
        self._gains: list[float] = []  # of each token of the answer that the second stream has read
        self._odds: dict[str, dict[str, float]] = {}

    def judged(self, text: str, record: Sequence[Token], begin: int, mark: int) -> tuple[Claim, ...]:
        """The claims of ``text`` from character ``begin`` on, which ``mark`` tokens stand before. record: of the whole text."""
        found = [mention for mention in claims(self._request.question, text) if mention.start >= begin]
        if not found or self._request.image is None:
            return ()
        self._read(record[:mark])
        self._read(record)
        self._ask(list(dict.fromkeys(mention.subject for mention in found)))
        fusion, out = fusion_of(self._request), []
        for mention in found:
            evidence = self._evidence(mention, record)
            support = fusion.support(evidence)
            out.append(
                Claim(
                    mention.text,
                    mention.start,
                    mention.end,
                    mention.subject,
                    support,
                    fusion.verdict(support),
                    evidence,
                )
            )
        return tuple(out)

    def back(self, tokens: int) -> None:
        """The answer has been taken back to so many tokens, where a sentence began."""
        if self._blind is not None and len(self._gains) > tokens:
            self._blind.rewind(self._prompt + tokens)
            del self._gains[tokens:]

    def close(self) -> None:
        if self._blind is not None:
            self._blind.close()

    def _read(self, record: Sequence[Token]) -> None:
        model = self._request.model
        if self._blind is None:
            self._blind, self._rows[0] = model.begin(None, self._request.turns)
            self._prompt = self._blind.length
        stream, new = self._blind, record[len(self._gains) :]
        if not new:
            return
        ids = [token.id for token in new]
        fed = model.sight.room(lambda: stream.feed(ids, logits="all"))
        rows = [self._rows[len(self._gains)], *fed]
        for token, row in zip(new, rows, strict=False):
            self._gains.append(token.log_prob - float(log_softmax(row)[token.id]))
        self._rows[len(self._gains)] = rows[-1]

    def _ask(self, subjects: Sequence[str]) -> None:
        new = [subject for subject in subjects if subject not in self._odds]
        asked = [[Turn("user", existence_question(subject))] for subject in new]
        model = self._request.model
        seen = model.yes_over_no_many(self._request.image, asked)
        blind = model.yes_over_no_many(None, asked)
        for subject, one, other in zip(new, seen, blind, strict=True):
            self._odds[subject] = {"yes_with_image": one, "yes_without": other, "verification": one - other}

    def _evidence(self, mention: Mention, record: Sequence[Token]) -> Mapping[str, float]:
        sign = 1.0 if mention.present else -1.0
        odds = self._odds[mention.subject]
        figures = {"polarity": sign, **odds, "verification": sign * odds["verification"]}
        inside = [at for at, token in enumerate(record) if token.start < mention.end and token.end > mention.start]
        if not inside:
            return figures
        gains, held = [self._gains[at] for at in inside], [record[at] for at in inside]
        return figures | {
            "log_prob_mean": float(np.mean([token.log_prob for token in held])),
            "log_prob_min": min(token.log_prob for token in held),
            "margin_min": min(token.margin for token in held),
            "grounding": float(np.mean(gains)),
            "grounding_min": min(gains),
            "grounding_sum": float(sum(gains)),
            "length": float(len(inside)),
        }
