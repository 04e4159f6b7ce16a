"""From a body's bytes to a question: JSON read strictly, its fields checked, messages made turns, at most one picture."""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from pydantic import ValidationError

from edgereverie.errors import EdgeReverieError
from edgereverie.records import Options, Turn
from edgereverie.registry import GUARDS
from edgereverie.runtime.guarding import chosen
from edgereverie.runtime.model import Model
from edgereverie.server.asking import ChatRequest, ImagePart, Message, TextPart
from edgereverie.server.limits import Settings
from edgereverie.server.refusal import Refusal, told

_LONGEST_TOKEN = 64  # characters; a text with fewer tokens than characters / this does not exist outside mischief

_CALIBRATED = "abstain"  # its rules are a calibration's
_LIVE = {"flag", "contrast"}  # these change nothing that was shown; any other guard, known or not, may


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that is sound as far as can be told without its picture. url: where that is, None where there is none.

    live: no guard takes text back. events: the client asked for text as soon as there is any, and for what is taken back.
    """

    turns: tuple[Turn, ...]
    url: str | None
    options: Options
    guards: str
    live: bool
    stream: bool
    usage: bool
    events: bool


def asked(body: bytes, model: Model, settings: Settings) -> Asked:
    """Raises Refusal with the field that is wrong."""
    request = _checked(parsed(body, settings.limits.values))
    if request.model != model.name:
        raise Refusal(
            404,
            f"The model {request.model!r} is not served here; {model.name!r} is.",
            param="model",
            code="model_not_found",
        )
    streams = request.stream_options
    if streams is not None and not request.stream:
        raise Refusal(400, "stream_options goes with stream: true only.", param="stream_options")
    turns, url = _conversation(request.messages)
    _require_length(turns, model)
    guards = settings.guard if request.guard is None else request.guard
    return Asked(
        turns,
        url,
        _options(request, model, settings),
        guards,
        _are_live(guards, model),
        bool(request.stream),
        streams is not None and streams.include_usage,
        streams is not None and streams.edgereverie_events,
    )


def parsed(body: bytes, values: int) -> Any:
    """The body as JSON. Refuses what JSON does not know (NaN), what means two things (a key twice) and what costs too much.

    values: most objects, lists, items and members. They are counted before anything is built: a few bytes in a body become
    a hundred in memory. Commas inside texts count too, and no honest text has so many.
    """
    if not body:
        raise Refusal(400, "The request has no body; a JSON object was expected.")
    if sum(body.count(mark) for mark in (b"{", b"[", b",", b":")) > values:
        raise Refusal(413, f"The JSON has more than {values:,} values.", code="request_too_large")
    try:
        text = body.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant, parse_float=_finite)
    except UnicodeDecodeError:
        raise Refusal(400, "The body is not UTF-8.", code="invalid_json") from None
    except RecursionError:
        raise Refusal(400, "The JSON is nested too deeply.", code="invalid_json") from None
    except ValueError as error:
        raise Refusal(400, f"The body is not JSON: {error}.", code="invalid_json") from None
    return value


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has the same key twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number in JSON")


def _finite(digits: str) -> float:
    if not math.isfinite(value := float(digits)):
        raise ValueError("a number is too large")
    return value


def _checked(value: Any) -> ChatRequest:
    try:
        return ChatRequest.model_validate(value)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False, include_context=False)
        # Of several alternatives, the one that fits furthest is the one that was meant; a wrong type fits least.
        first = max(faults, key=lambda fault: (len(fault["loc"]), not fault["type"].endswith("_type")))
        place = _place(first["loc"], value)
        if first["type"] == "extra_forbidden":
            raise Refusal(
                400, f"{place}: this server does not know that field.", param=place, code="unknown_parameter"
            ) from None
        raise Refusal(
            400, f"{place or 'The body'}: {first['msg']}.", param=place or None, code="invalid_value"
        ) from None


def _place(path: Sequence[int | str], value: Any) -> str:
    """The field in the request itself; pydantic's path also names the alternatives that it tried.

    >>> path = ("messages", 0, "content", "list[tagged-union[TextPart,ImagePart]]", 0, "text", "text")
    >>> _place(path, {"messages": [{"content": [{"type": "text"}]}]})
    'messages[0].content[0].text'
    """
    out = ""
    for position, step in enumerate(path):
        last = position == len(path) - 1
        if isinstance(step, int) and isinstance(value, list):
            out, value = f"{out}[{step}]", value[step]
        elif isinstance(step, str) and isinstance(value, dict) and (step in value or last):
            out, value = f"{out}.{step}" if out else step, value.get(step)
    return out[:200]


def _conversation(messages: Sequence[Message]) -> tuple[tuple[Turn, ...], str | None]:
    """Neighbours of one role become one turn, a line break between their texts. Wherever the picture stands, the model sees
    it before the first question: that is how such models are trained."""
    urls: list[str] = []
    turns = []
    for role, group in groupby(messages, key=lambda message: "system" if message.role == "developer" else message.role):
        texts = []
        for message in group:
            parts = (
                [TextPart(type="text", text=message.content)] if isinstance(message.content, str) else message.content
            )
            texts += [part.text for part in parts if isinstance(part, TextPart)]
            found = [part.image_url.url for part in parts if isinstance(part, ImagePart)]
            if found and role != "user":
                raise Refusal(
                    400, f"A picture in a message of the {role}: only the user shows pictures.", param="messages"
                )
            urls += found
        turns.append(Turn(role, "\n".join(texts)))
    if len(urls) > 1:
        raise Refusal(
            400,
            f"The request has {len(urls)} pictures; this model looks at one.",
            param="messages",
            code="too_many_images",
        )
    if turns[-1].role != "user":
        raise Refusal(400, "The last message must be the user's.", param="messages")
    try:
        "".join(turn.text for turn in turns).encode("utf-8")
    except UnicodeEncodeError:
        raise Refusal(400, "A text holds half of a surrogate pair, which is no character.", param="messages") from None
    return tuple(turns), (urls[0] if urls else None)


def _require_length(turns: Sequence[Turn], model: Model) -> None:
    """Tokenizing is linear, but not free: what cannot fit by far is refused before."""
    length = sum(len(turn.text) for turn in turns)
    if length > model.engine.context * _LONGEST_TOKEN:
        raise Refusal(
            400,
            f"The messages have {length:,} characters; the model's context holds {model.engine.context:,} tokens.",
            param="messages",
            code="context_length_exceeded",
        )


def _options(request: ChatRequest, model: Model, settings: Settings) -> Options:
    grammar = ""
    if request.response_format is not None and request.response_format.type == "json_object":
        if not model.engine.grammar:
            raise Refusal(
                400,
                f"The backend {model.engine.backend!r} cannot promise JSON.",
                param="response_format",
                code="unsupported_value",
            )
        grammar = "json"
    stop = (request.stop,) if isinstance(request.stop, str) else tuple(request.stop or ())
    return Options(
        max_tokens=request.max_completion_tokens or request.max_tokens or settings.max_tokens,
        temperature=request.temperature or 0.0,
        top_p=1.0 if request.top_p is None else request.top_p,
        seed=secrets.randbits(63) if request.seed is None else request.seed & ((1 << 64) - 1),
        stop=stop,
        grammar=grammar,
    )


def available(model: Model) -> list[str]:
    """Names of the guards that this model can be asked with."""
    return [name for name in GUARDS.names() if name != _CALIBRATED or model.calibration is not None]


def _are_live(guards: str, model: Model) -> bool:
    """Whether an answer under these guards may be sent piece by piece to a client that cannot take text back."""
    try:
        decoding, looking = chosen(guards)
    except EdgeReverieError as error:
        raise Refusal(400, told(error), param="guard", code="invalid_value") from None
    names = {guard.name for guard in (decoding, *looking) if guard is not None}
    if _CALIBRATED in names and model.calibration is None:
        raise Refusal(
            400,
            f"The guard {_CALIBRATED!r} follows a calibration's rules, and {model.name!r} was not calibrated.",
            param="guard",
            code="unsupported_value",
        )
    return names <= _LIVE
