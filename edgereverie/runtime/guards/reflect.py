"""The tuned model judges its own answer, says why it may be wrong, and answers once more; at most one of both is kept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from edgereverie.data.sources.reverie import EXPLAIN_WRONG
from edgereverie.records import Answer, Turn
from edgereverie.runtime.generation import generate
from edgereverie.runtime.guards._figures import noted
from edgereverie.runtime.guards.base import ABSTENTION
from edgereverie.runtime.request import Request
from edgereverie.runtime.sampling import log_softmax, log_sum_exp
from edgereverie.runtime.scoring import spellings
from edgereverie.runtime.sight import Picture

if TYPE_CHECKING:
    from tokenizers import Tokenizer

ORDERS = ("Is this answer right or wrong?", "Is this answer wrong or right?")


@dataclass(frozen=True, slots=True)
class Reflect:
    """Reflection with a REVERIE-tuned model (arXiv 2407.11422), one revision at most.

    The verdict is the log-odds of "right" over "wrong" to a question about the answer, averaged over both orders of the two
    words; claims get what the picture adds to it as the figure ``reflection``. An answer is doubted when the model calls it
    wrong with the picture, and does so the more for it: by more than -``cut`` nats. Then it writes why the answer is wrong,
    in at most ``rationale_tokens`` tokens and in the words of training, and answers again with that in its context. The
    second answer is taken when it is not doubted, its reflection exceeds the first's by ``margin`` nats and its grounding
    (nats per token that the picture adds) is no lower. When both are doubted the answer abstains, and the rationale is the
    reason.

    Of use only where the verdict tells right answers from wrong: measure that first (``benchmarks/reflection.py``). The
    starter's, tuned with reasons but never asked for a verdict, is hardly better than chance, so no profile has the guard.
    """

    name: str = "reflect"
    cut: float = 0.0
    margin: float = 0.5
    rationale_tokens: int = 64

    def apply(self, request: Request, answer: Answer) -> Answer:
        if request.image is None or answer.abstained or not answer.text.strip():
            return answer
        if not _can_be_asked_about(request, answer.text):
            return answer
        first = judged(request, answer.text)
        if not self._doubted(first):
            return noted(request, answer, "reflection", first.gain)
        why = self.why_wrong(request, answer.text)
        again = self.again(request, answer.text, why) if why else ""
        if not again or again == answer.text.strip() or not _can_be_asked_about(request, again):
            return noted(request, answer, "reflection", first.gain)
        second, draft, reason = judged(request, again), answer.draft or answer.text, f"reflect: {why}"
        if self._doubted(second):
            return replace(answer, text=ABSTENTION, claims=(), abstained=True, draft=draft, reason=reason)
        if second.gain < first.gain + self.margin or grounding(request, again) < grounding(request, answer.text):
            return noted(request, answer, "reflection", first.gain)
        changed = replace(answer, text=again, claims=(), record=(), draft=draft, reason=reason)
        return noted(request, changed, "reflection", second.gain)

    def _doubted(self, found: Verdict) -> bool:
        return found.seen < 0 and found.gain < self.cut

    def why_wrong(self, request: Request, text: str) -> str:
        """The rationale against an answer, as training elicits it."""
        turns = (*request.turns, Turn("assistant", text), Turn("user", EXPLAIN_WRONG.format(answer=text)))
        return _said(request, turns, self.rationale_tokens)

    def again(self, request: Request, text: str, why: str) -> str:
        """The second answer, with the first and its rationale before it."""
        turns = (
            *request.turns,
            Turn("assistant", text),
            Turn("user", EXPLAIN_WRONG.format(answer=text)),
            Turn("assistant", why),
            Turn("user", request.question),
        )
        return _said(request, turns, request.options.max_tokens)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How much rather a model calls an answer right than wrong, in nats: with the picture, and without it."""

    seen: float
    blind: float

    @property
    def gain(self) -> float:
        """What the picture adds: a leaning to either word that has nothing to do with it cancels out."""
        return self.seen - self.blind


def judged(request: Request, text: str) -> Verdict:
    """The model's own verdict on an answer, the mean of both orders."""
    model = request.model
    right, wrong = _spelt(model.tokenizer, "right"), _spelt(model.tokenizer, "wrong")
    asked = [(*request.turns, Turn("assistant", text), Turn("user", order)) for order in ORDERS]

    def leaning(image: Picture) -> float:
        rows = [log_softmax(logits) for logits in model.first_logits_many(image, asked)]
        return sum(log_sum_exp(row[right]) - log_sum_exp(row[wrong]) for row in rows) / len(rows)

    return Verdict(leaning(request.image), leaning(None))


def _can_be_asked_about(request: Request, text: str) -> bool:
    """Whether a question about the answer fits the context, and the answer a conversation: control tokens have no place."""
    model = request.model
    if any(token in text for token in model.chat.control):
        return False
    asked = (*request.turns, Turn("assistant", text), Turn("user", ORDERS[0]))
    return len(model.prompt(request.image, asked)[0]) <= model.engine.context


def grounding(request: Request, text: str) -> float:
    """Nats per token that the picture adds to the answer's likelihood."""
    seen = request.model.score_tokens(request.image, request.turns, text)
    blind = request.model.score_tokens(None, request.turns, text)
    return float((seen.log_probs - blind.log_probs).mean())


def _said(request: Request, turns: tuple[Turn, ...], most: int) -> str:
    """The model's plain words, greedy; empty where the context has no room for all that they may be."""
    ids, _ = request.model.prompt(request.image, turns)
    if len(ids) + most > request.model.engine.context:
        return ""
    options = replace(request.options, temperature=0.0, max_tokens=most, grammar="")
    writing = generate(replace(request, turns=turns, options=options))
    while True:
        try:
            next(writing)
        except StopIteration as end:
            text = end.value.text.strip()
            return "" if any(token in text for token in request.model.chat.control) else text


@lru_cache(maxsize=16)
def _spelt(tokenizer: Tokenizer, word: str) -> np.ndarray:
    return spellings(tokenizer, word)


GUARD = Reflect()
