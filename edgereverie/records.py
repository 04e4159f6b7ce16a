"""The records that flow from stage to stage: plain, frozen, standard library only.

``Sample`` and ``PreferencePair`` are what people tune on, ``Answer`` with its ``Claim``s is what a model says,
``Prediction`` and ``Score`` are what evaluation makes of it. ``Responder`` is the one contract that stages hand to
each other when one needs the other's model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

Role = Literal["system", "user", "assistant"]
Polarity = Literal["positive", "negative"]
Manipulation = Literal["nonexistent", "existent", "knowledge"]
Verdict = Literal["supported", "contradicted", "unverified"]
ClaimKind = Literal["object", "attribute", "count", "position", "relation"]


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation. ``text`` holds no image marker: the sample's image stands before its first turn."""

    role: Role
    text: str


@dataclass(frozen=True, slots=True)
class Sample:
    """One conversation to learn from.

    turns: user and assistant alternating, the assistant last; every assistant turn is learned.
    rationale: what the last assistant turn is, when it is a rationale: ``positive`` says why the answer is right,
        ``negative`` why a confusing one is wrong. The two reflections of one answer are two samples with a common
        beginning, never one conversation: a shared context leaks one into the other (REVERIE, its ablation of layouts).
    polarity, manipulation: LRV-Instruction's labels, None where the source does not tell.
    task: what kind of question it is, in the source's words; empty where the source does not tell.
    image: path relative to the image root, or None for a text-only sample.
    """

    id: str
    image: str | None
    turns: tuple[Turn, ...]
    rationale: Polarity | None = None
    polarity: Polarity | None = None
    manipulation: Manipulation | None = None
    task: str = ""
    source: str = ""
    licence: str = ""


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """A prompt with a preferred and a dispreferred answer.

    turns: the prompt, ending with a user turn. reason: how the rejected answer came about (``co-occurrence``,
    ``attribute``, ``relation``, ``sampled`` ...). margin: reward of chosen minus rejected, where the source has one.
    rejected_image: another picture for the rejected side, or None when both see ``image``.
    """

    id: str
    image: str | None
    turns: tuple[Turn, ...]
    chosen: str
    rejected: str
    reason: str = ""
    margin: float | None = None
    rejected_image: str | None = None
    source: str = ""
    licence: str = ""


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """How a picture becomes the vision tower's input; everything a runtime needs and nothing to guess.

    size: side of the square input in pixels. patch: side of a patch in pixels. mean, std: per channel, for values in
    [0, 1]. fit: ``pad`` to a square with the mean colour, or ``crop`` the centre after resizing the shorter side.
    dropped: patches that the language model does not see; LLaVA drops a tower's first token, which in a SigLIP is a patch.
    tokens: image tokens that it sees.
    """

    size: int
    patch: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    fit: Literal["pad", "crop"] = "pad"
    dropped: int = 0

    @property
    def tokens(self) -> int:
        return (self.size // self.patch) ** 2 - self.dropped


@dataclass(frozen=True, slots=True)
class Claim:
    """One checkable statement inside an answer: ``text`` stands at ``answer.text[start:end]``.

    subject: the object that it is about, in its dictionary form. kind: what is claimed of it; ``object`` claims that it is
    there. statement: the claim as a sentence of its own. support: in [0, 1], how strongly the picture supports it; a
    calibrated probability where the answer names a guarantee. evidence: the figures behind it, by name (see
    ``runtime.evidence``).
    """

    text: str
    start: int
    end: int
    subject: str
    support: float
    verdict: Verdict
    evidence: Mapping[str, float] = field(default_factory=dict)
    kind: ClaimKind = "object"
    statement: str = ""


@dataclass(frozen=True, slots=True)
class Token:
    """One generated token: the text that it completed stands at ``text[start:end]`` of what was generated.

    log_prob: under the model at temperature 1, nats. margin: log-probability of the likeliest token minus that of the
    second. entropy: of the whole distribution, nats. rank: 0 for the likeliest.
    """

    id: int
    start: int
    end: int
    log_prob: float
    margin: float
    entropy: float
    rank: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said about a picture, and what the picture says about that.

    draft: the model's own text where a guard changed it. record: of the draft's tokens. tokens, prompt_tokens: generated
    and read. guards: the names of those that were at work. reason: why it abstained, or what a guard changed and why.
    guarantee: the calibrated rule that holds for this answer, in words; empty where none does. ended: ``length`` when the
    answer was cut at the longest that was allowed.
    """

    text: str
    claims: tuple[Claim, ...] = ()
    abstained: bool = False
    confidence: float | None = None
    backend: str = ""
    tokens: int = 0
    seconds: float = 0.0
    draft: str | None = None
    record: tuple[Token, ...] = ()
    prompt_tokens: int = 0
    guards: tuple[str, ...] = ()
    reason: str = ""
    guarantee: str = ""
    ended: Literal["stop", "length"] = "stop"

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Prediction:
    """An answer to one sample or benchmark question, by its id."""

    id: str
    answer: Answer


@dataclass(frozen=True, slots=True)
class Score:
    """One metric: value, two-sided 95 % interval, and how many items it was measured on."""

    metric: str
    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class Options:
    """How to generate. temperature 0 is greedy; stop words end the answer and are not part of it.

    top_k, top_p, min_p: keep only the k likeliest tokens, the likeliest that together have probability p, those with at
    least p times the likeliest one's; 0, 1 and 0 keep all. repetition_penalty: divides positive and multiplies negative
    logits of tokens that the answer already has; 1 is none. grammar: ``json``, or a grammar in GBNF, that the answer must
    follow, where the backend knows grammars.
    """

    max_tokens: int = 160
    temperature: float = 0.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    grammar: str = ""


class Responder(Protocol):
    """Anything that answers questions about pictures: a bundle, a model in training, a remote server."""

    name: str

    def respond(self, image: Path | None, turns: Sequence[Turn], options: Options) -> Iterator[str]:
        """Yield the answer piece by piece. turns end with a user turn."""
        ...

    def score(self, image: Path | None, turns: Sequence[Turn], continuation: str) -> float:
        """Log-probability of ``continuation`` as the next assistant turn, end-of-turn left out, in nats."""
        ...


def as_json(record: Any) -> Any:
    """The record as plain JSON values: tuples become lists, None and empty fields are kept.

    >>> as_json(Turn("user", "Is there a ring?"))
    {'role': 'user', 'text': 'Is there a ring?'}
    """
    if isinstance(record, Mapping):
        return {str(key): as_json(value) for key, value in record.items()}
    if isinstance(record, (list, tuple)):
        return [as_json(value) for value in record]
    slots = getattr(type(record), "__dataclass_fields__", None)
    if slots is not None:
        return {name: as_json(getattr(record, name)) for name in slots}
    return record
