"""Answers in the words of OpenAI's chat completions, with what the picture says about them in the field ``edgereverie``.

These classes build the responses and describe them in ``/openapi.json``, so that one cannot stray from the other.
"""

from __future__ import annotations

import math
import secrets
import time
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from edgereverie.records import Answer, Claim, as_json
from edgereverie.runtime.evidence import why
from edgereverie.runtime.request import Retraction


class _Reply(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ClaimReply(_Reply):
    """One checkable statement in the answer. start, end: code points of the text."""

    text: str
    start: int
    end: int
    subject: str
    kind: str
    statement: str
    support: float = Field(ge=0, le=1)
    verdict: Literal["supported", "contradicted", "unverified"]
    evidence: dict[str, float]
    why: str = Field(description="The verdict's grounds in words.")

    @classmethod
    def of(cls, claim: Claim) -> ClaimReply:
        measured = {name: value for name, value in claim.evidence.items() if math.isfinite(value)}  # JSON has no others
        return cls(**as_json(replace(claim, evidence=measured)), why=why(claim))


class Extension(_Reply):
    """What the answer says about itself. draft: the model's own words where a guard changed them. reason: why it abstained,
    or what a guard changed. guarantee: the calibrated rule that holds; empty where none does."""

    claims: list[ClaimReply]
    confidence: float | None
    abstained: bool
    guards: list[str]
    draft: str | None
    reason: str
    guarantee: str
    seconds: float
    backend: str

    @classmethod
    def of(cls, answer: Answer) -> Extension:
        claims = [ClaimReply.of(claim) for claim in answer.claims]
        names = ("confidence", "abstained", "draft", "reason", "guarantee", "seconds", "backend")
        return cls(claims=claims, guards=list(answer.guards), **{name: getattr(answer, name) for name in names})


class Usage(_Reply):
    """Tokens of prompt and picture, and of the answer as the model gave it; what guards ask besides is not counted."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int

    @classmethod
    def of(cls, answer: Answer) -> Usage:
        return cls(
            prompt_tokens=answer.prompt_tokens,
            completion_tokens=answer.tokens,
            total_tokens=answer.prompt_tokens + answer.tokens,
        )


class AnswerMessage(_Reply):
    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class Choice(_Reply):
    index: Literal[0] = 0
    message: AnswerMessage
    finish_reason: Literal["stop", "length"]
    logprobs: None = None


class ChatCompletion(_Reply):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    edgereverie: Extension


class Delta(_Reply):
    role: Literal["assistant"] | None = None
    content: str | None = None

    @model_serializer(mode="wrap")
    def _only_what_is_new(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in dump(self).items() if value is not None}


class ChunkChoice(_Reply):
    index: Literal[0] = 0
    delta: Delta
    finish_reason: Literal["stop", "length"] | None = None
    logprobs: None = None


class RetractionReply(_Reply):
    """Cut the text shown so far to its first ``length`` code points."""

    length: int
    why: str


class Retracting(_Reply):
    retraction: RetractionReply


class ChatChunk(_Reply):
    """One event of a stream. edgereverie stands in the chunk that has a finish_reason, and in chunks that take text back."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None
    edgereverie: Extension | Retracting | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer's identity, and its responses."""

    model: str
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, answer: Answer) -> bytes:
        choice = Choice(message=AnswerMessage(content=answer.text), finish_reason=answer.ended)
        return self._json(ChatCompletion, [choice], usage=Usage.of(answer), edgereverie=Extension.of(answer))

    def opening(self) -> bytes:
        return self._chunk(Delta(role="assistant", content=""))

    def piece(self, text: str) -> bytes:
        return self._chunk(Delta(content=text))

    def retraction(self, taken: Retraction) -> bytes:
        reply = RetractionReply(length=taken.length, why=taken.why)
        return self._chunk(Delta(), edgereverie=Retracting(retraction=reply))

    def ending(self, answer: Answer) -> bytes:
        return self._chunk(Delta(), answer.ended, edgereverie=Extension.of(answer))

    def usage(self, answer: Answer) -> bytes:
        return event(self._json(ChatChunk, [], usage=Usage.of(answer)))

    def _chunk(self, delta: Delta, ended: Literal["stop", "length"] | None = None, **more: Any) -> bytes:
        return event(self._json(ChatChunk, [ChunkChoice(delta=delta, finish_reason=ended)], **more))

    def _json(self, kind: type[_Reply], choices: list[Any], **more: Any) -> bytes:
        reply = kind(id=self.id, created=self.created, model=self.model, choices=choices, **more)
        return reply.model_dump_json().encode()


def event(data: bytes) -> bytes:
    """One server-sent event. JSON has no line breaks, so one line is enough."""
    return b"data: " + data + b"\n\n"


class ErrorFields(_Reply):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorReply(_Reply):
    error: ErrorFields


class ServedLimits(_Reply):
    image_bytes: int
    image_pixels: int
    request_bytes: int


class ServedModel(_Reply):
    """guards: names that ``guard`` in a request takes, the one in use where it names none first."""

    guards: list[str]
    backend: str
    context: int
    max_tokens: int
    limits: ServedLimits


class ModelReply(_Reply):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["edgereverie"] = "edgereverie"
    edgereverie: ServedModel


class ModelList(_Reply):
    object: Literal["list"] = "list"
    data: list[ModelReply]


class Health(_Reply):
    """load: questions that are answered or wait."""

    status: Literal["ok"] = "ok"
    model: str
    load: int
