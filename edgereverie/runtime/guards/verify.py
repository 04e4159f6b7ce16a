"""Takes back what the picture contradicts: claims are dropped, a wrong yes or no is turned, an empty answer abstains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from edgereverie.records import Answer, Claim, Turn
from edgereverie.runtime.guards._evidence import Fusion, assess, confidence
from edgereverie.runtime.guards._rewrite import without
from edgereverie.runtime.request import Request
from edgereverie.text.claims import claims
from edgereverie.text.questions import asked_object, says_yes

ABSTENTION = "I am not sure what the image shows."


@dataclass(frozen=True, slots=True)
class Verify:
    """``flag``, and then the answer without its contradicted claims.

    A yes or no to "Is there a ...?" is turned only when the verdict on that very claim is ``contradicted``; ``unverified``
    leaves it alone. What else such an answer claims, when that is contradicted, is dropped and the bare yes or no stays.
    Other answers lose the contradicted list items or sentences. When nothing is left, the answer is ABSTENTION with
    ``abstained`` set. No text is generated, so nothing new can be claimed, and the claims that stay keep the evidence that
    was measured in the answer as the model gave it.
    """

    name: str = "verify"
    fusion: Fusion = field(default_factory=Fusion)

    def apply(self, request: Request, answer: Answer) -> Answer:
        turns = request.turns
        found = assess(request, answer, self.fusion)
        wrong = [claim for claim in found if claim.verdict == "contradicted"]
        checked = replace(answer, claims=found, confidence=confidence(found, answer.confidence))
        if not wrong:
            return checked
        said_yes, asked = says_yes(answer.text), asked_object(turns[-1].text)
        if said_yes is not None and asked is not None:
            return self._yes_or_no(checked, asked.subject, said_yes)
        text = without(answer.text, found, wrong)
        if not text:
            return replace(checked, text=ABSTENTION, claims=(), abstained=True, draft=answer.text)
        kept = _placed(text, [claim for claim in found if claim not in wrong], turns)
        return replace(
            checked, text=text, claims=kept, confidence=confidence(kept, answer.confidence), draft=answer.text
        )

    def _yes_or_no(self, answer: Answer, asked: str, said_yes: bool) -> Answer:
        """The bare yes or no, turned when the claim that it makes is contradicted."""
        claim = next(claim for claim in answer.claims if claim.subject in (asked, asked.split()[-1]))
        evidence, support = dict(claim.evidence), claim.support
        if claim.verdict == "contradicted":
            said_yes = not said_yes
            # Grounding belongs to the words that were said, and these were not.
            evidence = {name: value for name, value in evidence.items() if not name.startswith("grounding")}
            evidence |= {"polarity": -evidence["polarity"], "verification": -evidence["verification"]}
            support = self.fusion.support(evidence)
        text = "Yes." if said_yes else "No."
        bare = replace(
            claim,
            text=text[:-1],
            start=0,
            end=len(text) - 1,
            support=support,
            verdict=self.fusion.verdict(support),
            evidence=evidence,
        )
        return replace(answer, text=text, claims=(bare,), confidence=support, draft=answer.text)


def _placed(text: str, kept: Sequence[Claim], turns: Sequence[Turn]) -> tuple[Claim, ...]:
    """The kept claims at their places in the new text."""
    known = {claim.subject: claim for claim in kept}
    return tuple(
        replace(known[found.subject], text=found.text, start=found.start, end=found.end)
        for found in claims(turns[-1].text, text)
        if found.subject in known
    )


GUARD = Verify()
