"""The tuned model judges its own answer, says why it may be wrong, and answers once more; at most one of both is kept."""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgereverie.data.sources.reverie import EXPLAIN_WRONG
from edgereverie.records import Answer, Turn
from edgereverie.runtime.generation import generate
from edgereverie.runtime.guards._figures import noted
from edgereverie.runtime.guards.base import ABSTENTION
from edgereverie.runtime.request import Request
from edgereverie.runtime.sampling import log_softmax, log_sum_exp
from edgereverie.runtime.scoring import spellings

ORDERS = ("Is this answer right or wrong?", "Is this answer wrong or right?")


@dataclass(frozen=True, slots=True)
class Reflect:
    """Reflection with a REVERIE-tuned model (arXiv 2407.11422), one revision at most.

    The verdict is the log-odds of "right" over "wrong" to a question about the answer, with the picture minus without it,
    averaged over both orders of the two words; claims get it as the figure ``reflection``. Under ``cut`` nats the model
    writes why the answer is wrong, in at most ``rationale_tokens`` tokens and in the words of training, and answers again
    with that in its context. The second answer is taken when its verdict is over the cut, exceeds the first by ``margin``
    nats and its grounding (nats per token that the picture adds) is no lower. When both are under the cut the answer
    abstains, and the rationale is the reason.

    Of use only where the verdict tells right answers from wrong: measure that first (``benchmarks/guards.py``).
    """

    name: str = "reflect"
    cut: float = 0.0
    margin: float = 0.5
    rationale_tokens: int = 64

    def apply(self, request: Request, answer: Answer) -> Answer:
        if request.image is None or answer.abstained or not answer.text.strip():
            return answer
        first = verdict(request, answer.text)
        if first >= self.cut:
            return noted(request, answer, "reflection", first)
        why = self._why_wrong(request, answer.text)
        again = self._again(request, answer.text, why) if why else ""
        if not again or again == answer.text.strip():
            return noted(request, answer, "reflection", first)
        second = verdict(request, again)
        if second < self.cut:
            return replace(
                answer, text=ABSTENTION, claims=(), abstained=True, draft=answer.draft or answer.text,
                reason=f"reflect: {why}",
            )  # fmt: skip
        if second < first + self.margin or grounding(request, again) < grounding(request, answer.text):
            return noted(request, answer, "reflection", first)
        changed = replace(
            answer, text=again, claims=(), draft=answer.draft or answer.text, reason=f"reflect: {why}"
        )  # fmt: skip
        return noted(request, changed, "reflection", second)

    def _why_wrong(self, request: Request, text: str) -> str:
        turns = (*request.turns, Turn("assistant", text), Turn("user", EXPLAIN_WRONG.format(answer=text)))
        return _said(request, turns, self.rationale_tokens)

    def _again(self, request: Request, text: str, why: str) -> str:
        """The second answer, with the first and its rationale before it."""
        turns = (
            *request.turns,
            Turn("assistant", text),
            Turn("user", EXPLAIN_WRONG.format(answer=text)),
            Turn("assistant", why),
            Turn("user", request.question),
        )
        return _said(request, turns, request.options.max_tokens)


def verdict(request: Request, text: str) -> float:
    """How much rather the model calls the answer right than wrong, in nats, for having seen the picture."""
    model = request.model
    right, wrong = spellings(model.tokenizer, "right"), spellings(model.tokenizer, "wrong")
    asked = [(*request.turns, Turn("assistant", text), Turn("user", order)) for order in ORDERS]
    found = []
    for image, sign in ((request.image, 1.0), (None, -1.0)):
        for logits in model.first_logits_many(image, asked):
            log_probs = log_softmax(logits)
            found.append(sign * (log_sum_exp(log_probs[right]) - log_sum_exp(log_probs[wrong])))
    return sum(found) / len(ORDERS)


def grounding(request: Request, text: str) -> float:
    """Nats per token that the picture adds to the answer's likelihood."""
    seen = request.model.score_tokens(request.image, request.turns, text)
    blind = request.model.score_tokens(None, request.turns, text)
    return float((seen.log_probs - blind.log_probs).mean())


def _said(request: Request, turns: tuple[Turn, ...], most: int) -> str:
    """The model's plain words, greedy; empty where the context has no room for them."""
    ids, _ = request.model.prompt(request.image, turns)
    most = min(most, request.model.engine.context - len(ids))
    if most < 1:
        return ""
    options = replace(request.options, temperature=0.0, max_tokens=most, grammar="")
    writing = generate(replace(request, turns=turns, options=options))
    while True:
        try:
            next(writing)
        except StopIteration as end:
            return end.value.text.strip()


GUARD = Reflect()
