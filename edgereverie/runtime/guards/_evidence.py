"""What the picture says about an answer's claims: grounding, verification, and their fusion into one number.

Everything is measured after the answer is finished and changes nothing in it. The cost is one teacher-forced pass with
the picture, one without, and a short question for each thing that is named; the picture is encoded and prefilled once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgereverie.records import Answer, Claim, Turn, Verdict
from edgereverie.runtime.request import Request
from edgereverie.runtime.scoring import Scored
from edgereverie.runtime.sight import Picture
from edgereverie.text.claims import Mention, claims
from edgereverie.text.english import is_plural

if TYPE_CHECKING:
    from edgereverie.runtime.model import Model


@dataclass(frozen=True, slots=True)
class Fusion:
    """How evidence becomes support: the logistic function of a weighted sum, then two thresholds.

    verification, grounding: weights per nat. Grounding is clipped to +-clip nats first: a single rare word piece can be
    worth more than that, and common words that any text would predict are worth little although they are true, so it may
    tip the scales but not outweigh the question. These defaults are a plain reading of log-odds, not fitted to anything:
    calibration replaces them for one artefact at a time.
    """

    verification: float = 1.0
    grounding: float = 0.25
    bias: float = 0.0
    clip: float = 2.0
    supported: float = 0.7
    contradicted: float = 0.3

    def support(self, evidence: Mapping[str, float]) -> float:
        """In (0, 1), how strongly the picture speaks for the claim. A figure that was not measured counts as 0."""
        nudge = min(max(evidence.get("grounding", 0.0), -self.clip), self.clip)
        logit = self.bias + self.verification * evidence.get("verification", 0.0) + self.grounding * nudge
        return float(1.0 / (1.0 + np.exp(-logit)))

    def verdict(self, support: float) -> Verdict:
        if support >= self.supported:
            return "supported"
        return "contradicted" if support <= self.contradicted else "unverified"


def assess(request: Request, answer: Answer, fusion: Fusion) -> tuple[Claim, ...]:
    """The answer's claims with their evidence (nats):

    grounding: log-probability of the claim's tokens with the picture minus without it, mean per token; grounding_sum: their
        sum. A claim that the language model would make blind scores about 0.
    yes_with_image, yes_without: log-odds of yes over no to "Is there a ...?"; verification: their difference, which cancels a
        leaning to yes or no that has nothing to do with the picture.
    A claim that something is NOT there carries polarity -1, any other 1; verification and grounding are signed so that
    positive speaks for the claim.
    """
    model, image, turns = request.model, request.image, request.turns
    found = claims(request.question, answer.text)
    if image is None or not found:
        return tuple(Claim(m.text, m.start, m.end, m.subject, 0.5, "unverified", {"polarity": _sign(m)}) for m in found)
    seen = model.score_tokens(image, turns, answer.text)
    blind = model.score_tokens(None, turns, answer.text)
    asked: dict[str, dict[str, float]] = {}
    out = []
    for mention in found:
        if mention.subject not in asked:
            asked[mention.subject] = verify(model, image, mention.subject)
        sign = _sign(mention)
        odds = asked[mention.subject]
        evidence = {
            "polarity": sign,
            **odds,
            "verification": sign * odds["verification"],
            **ground(seen, blind, mention),
        }
        support = fusion.support(evidence)
        out.append(
            Claim(mention.text, mention.start, mention.end, mention.subject, support, fusion.verdict(support), evidence)
        )
    return tuple(out)


def verify(model: Model, image: Picture, subject: str) -> dict[str, float]:
    """Ask the short question about one thing, with the picture and without."""
    turns = [Turn("user", existence_question(subject))]
    with_image, without = model.yes_over_no(image, turns), model.yes_over_no(None, turns)
    return {"verification": with_image - without, "yes_with_image": with_image, "yes_without": without}


def existence_question(subject: str) -> str:
    """The short question, worded as models are trained on it.

    >>> existence_question("arrow"), existence_question("jeans")
    ('Is there an arrow in the image?', 'Are there jeans in the image?')
    """
    if is_plural(subject.split()[-1]):
        return f"Are there {subject} in the image?"
    return f"Is there {'an' if subject[0].lower() in 'aeiou' else 'a'} {subject} in the image?"


def ground(seen: Scored, blind: Scored, mention: Mention) -> dict[str, float]:
    """Mean and sum, over the tokens that touch the mention, of log p with the picture minus log p without it."""
    gain = seen.log_probs - blind.log_probs
    inside = [i for i, (start, end) in enumerate(seen.spans) if start < mention.end and end > mention.start]
    if not inside:
        return {}
    return {"grounding": float(gain[inside].mean()), "grounding_sum": float(gain[inside].sum())}


def confidence(claimed: Sequence[Claim], otherwise: float | None) -> float | None:
    """An answer is as sure as its weakest claim."""
    return min((claim.support for claim in claimed), default=otherwise)


def _sign(mention: Mention) -> float:
    return 1.0 if mention.present else -1.0
