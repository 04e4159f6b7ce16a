"""Short open answers that the model is not sure of: it is asked several times over, and the majority counts."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgereverie.chat import stop_ids
from edgereverie.records import Answer, Options
from edgereverie.runtime.detokenise import Detokenizer, StopWords
from edgereverie.runtime.engine import Feed, Stream
from edgereverie.runtime.guards._figures import noted
from edgereverie.runtime.guards.base import ABSTENTION
from edgereverie.runtime.request import Request
from edgereverie.runtime.sampling import choose
from edgereverie.text.questions import is_closed

_NUMBERS = {
    word: str(value)
    for value, words in enumerate(
        ("none zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    )
    for word in words.split()
}
_ARTICLES = frozenset(("a", "an", "the"))


@dataclass(frozen=True, slots=True)
class Agree:
    """An answer of at most ``short`` tokens whose confidence is under ``undecided`` is drawn ``samples`` times.

    The draws run side by side on one prefilled picture. Answers that read alike are one (``alike``). A cluster with at least
    the share ``majority`` is the answer, with its share as the confidence; without one the answer abstains. Claims get the
    figure ``agreement``: the share of draws that read like the answer. Yes-or-no and choice questions are left alone, for
    their odds say the same without drawing, and so is what a grammar forms.
    """

    name: str = "agree"
    samples: int = 5
    temperature: float = 0.7
    majority: float = 0.6
    undecided: float = 0.8
    short: int = 12

    def apply(self, request: Request, answer: Answer) -> Answer:
        sure = answer.confidence is None or answer.confidence >= self.undecided
        if sure or answer.abstained or not answer.text.strip() or is_closed(request.question):
            return answer
        if len(answer.record) > self.short or request.options.grammar:
            return answer
        said = self._draws(request)
        counts = Counter(alike(text) for text in said)
        top, number = counts.most_common(1)[0]
        share = number / len(said)
        told = f"of {len(said)} draws {number} agree, over {len(counts)} answers (entropy {entropy(counts):.2f} nats)"
        if share < self.majority:
            return replace(
                answer, text=ABSTENTION, claims=(), abstained=True, confidence=share, draft=answer.draft or answer.text,
                reason=f"agree: {told}",
            )  # fmt: skip
        if top == alike(answer.text):
            return noted(request, replace(answer, confidence=share), "agreement", share)
        chosen = Counter(text for text in said if alike(text) == top).most_common(1)[0][0]
        changed = replace(
            answer, text=chosen, claims=(), confidence=share, draft=answer.draft or answer.text, reason=f"agree: {told}"
        )  # fmt: skip
        return noted(request, changed, "agreement", share)

    def _draws(self, request: Request) -> list[str]:
        """The texts, each of at most twice ``short`` tokens; a longer one agrees with no short answer."""
        model = request.model
        options = replace(
            request.options, temperature=self.temperature, max_tokens=min(2 * self.short, request.options.max_tokens)
        )  # fmt: skip
        stream, row = model.begin(request.image, request.turns)
        streams = [stream]
        try:
            for _ in range(self.samples - 1):
                streams.append(model.sight.room(stream.fork))
            drawn = _lockstep(request, options, streams, row)
        finally:
            for one in streams:
                one.close()
        return [_text(request, ids) for ids in drawn]


def alike(text: str) -> str:
    """What an answer comes down to: small letters, no articles, no punctuation, numbers as figures (VQA's normalisation).

    >>> alike("A red ring."), alike("red  ring"), alike("Two."), alike("It's 3.5!")
    ('red ring', 'red ring', '2', 'its 3.5')
    """
    bare = re.sub(r"(?<!\d)\.|\.(?!\d)|[^\w\s.]", lambda match: "" if match.group() in "'’." else " ", text.lower())
    return " ".join(_NUMBERS.get(word, word) for word in bare.split() if word not in _ARTICLES)


def entropy(counts: Counter[str]) -> float:
    """Of the clusters' shares, in nats: discrete semantic entropy (Farquhar et al., Nature 2024).

    >>> round(entropy(Counter(a=4, b=1)), 6) == round(-(0.8 * math.log(0.8) + 0.2 * math.log(0.2)), 6)
    True
    """
    total = counts.total()
    return -sum(number / total * math.log(number / total) for number in counts.values())


def _lockstep(request: Request, options: Options, streams: Sequence[Stream], row: np.ndarray) -> list[list[int]]:
    """Each stream's tokens; all that still go on are fed together."""
    model, ends = request.model, stop_ids(request.model.tokenizer, request.model.chat)
    rngs = [np.random.default_rng([options.seed, at]) for at in range(len(streams))]
    drawn: list[list[int]] = [[] for _ in streams]
    rows = dict.fromkeys(range(len(streams)), row)
    for step in range(options.max_tokens):
        for at in list(rows):
            token, _ = choose(rows[at], model.allowed, options, (), rngs[at])
            if token in ends:
                del rows[at]
            else:
                drawn[at].append(token)
        if not rows or step + 1 == options.max_tokens:
            break
        feeds = [Feed(streams[at], [drawn[at][-1]]) for at in rows]
        fed = model.sight.room(lambda feeds=feeds: model.engine.feed_many(feeds))
        rows = {at: logits[-1] for at, logits in zip(rows, fed, strict=True)}
    return drawn


def _text(request: Request, ids: Sequence[int]) -> str:
    chat, stops = request.model.chat, StopWords(request.options.stop)
    words = Detokenizer(request.model.tokenizer, chat.lead, chat.bare)
    text = stops.add("".join(map(words.add, ids)) + words.finish())
    return text if stops.found else text + stops.finish()


GUARD = Agree()
