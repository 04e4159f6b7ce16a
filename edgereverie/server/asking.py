"""What a chat completion request may say: OpenAI's fields that this server honours, and its own.

These classes are both the check and the description in ``/openapi.json``. A field that would change the answer and is not
honoured here is refused by name; one that changes nothing for one model on one machine is accepted and ignored.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema


def _off(value: bool) -> bool:
    if value:
        raise ValueError("this server does not offer it")
    return value


Off = Annotated[bool, AfterValidator(_off), WithJsonSchema({"type": "boolean", "const": False})]
Stop = Annotated[str, Field(min_length=1, max_length=200)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class TextPart(_Strict):
    type: Literal["text"]
    text: str


class ImageUrl(_Strict):
    url: str = Field(
        min_length=1,
        description="data:image/...;base64,... always. file:///... or a relative path where the server allows a folder; "
        "https://... where it allows fetching. What the picture is, is read from its bytes.",
    )
    detail: Literal["auto", "low", "high"] | None = Field(None, description="Ignored: the model has one geometry.")


class ImagePart(_Strict):
    type: Literal["image_url"]
    image_url: ImageUrl


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class Message(_Strict):
    """System first, then user and assistant in turn, the user last. Neighbours of one role are joined."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[Part], Field(min_length=1, max_length=64)]
    name: str | None = Field(None, description="Ignored.")
    # What an answer's message carries when it is sent back as it came.
    refusal: None = None
    annotations: None = None
    audio: None = None
    function_call: None = None
    tool_calls: None = None


class StreamOptions(_Strict):
    include_usage: bool = Field(False, description="One more chunk at the end, with usage and no choices.")
    include_obfuscation: bool = Field(False, description="Ignored.")
    edgereverie_events: bool = Field(
        False,
        description="Send text as soon as there is any, even where a guard may take it back. A chunk that takes text back has "
        "an empty delta and edgereverie.retraction: cut the text shown so far to its first `length` code points.",
    )


class ResponseFormat(_Strict):
    type: Literal["text", "json_object"]


class ChatRequest(_Strict):
    model: str = Field(min_length=1)
    messages: Annotated[list[Message], Field(min_length=1, max_length=256)]
    guard: str | None = Field(
        None, description="Guards with commas between them, or none; the server's default where it is left out."
    )
    max_tokens: Annotated[int, Field(ge=1, le=1 << 20)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=1 << 20)] | None = Field(
        None, description="The same as max_tokens, and stronger."
    )
    temperature: Annotated[float, Field(ge=0, le=2)] | None = Field(
        None, description="0, which is greedy, if left out."
    )
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=4)] | None = None
    seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)] | None = Field(
        None, description="Drawn anew for each request if left out."
    )
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = Field(None, description="json_object where the backend knows grammars.")
    n: Annotated[int, Field(ge=1, le=1)] | None = None
    # Honoured at the one value that changes nothing.
    presence_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    frequency_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    logprobs: Off | None = None
    modalities: Annotated[list[Literal["text"]], Field(max_length=1)] | None = None
    # Nothing here depends on them.
    user: str | None = Field(None, description="Ignored.")
    store: bool | None = Field(None, description="Ignored: nothing is stored.")
    metadata: dict[str, Any] | None = Field(None, description="Ignored.")
    service_tier: str | None = Field(None, description="Ignored.")
    safety_identifier: str | None = Field(None, description="Ignored.")
    prompt_cache_key: str | None = Field(None, description="Ignored.")
