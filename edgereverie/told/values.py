"""An answer as JSON: the names of the records, with each claim's evidence in words beside its figures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, get_args

from edgereverie.records import Answer, ClaimKind, Verdict, as_json
from edgereverie.told.parts import Why, figures


def _object(required: Mapping[str, Any], **optional: Any) -> dict[str, Any]:
    properties = {**required, **optional}
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


_COUNT, _TEXT, _SHARE = {"type": "integer", "minimum": 0}, {"type": "string"}, {"type": ["number", "null"]}
_CLAIM = _object({
    "text": _TEXT | {"description": "the words that claim it: answer.text[start:end]"},
    "start": _COUNT, "end": _COUNT,
    "kind": {"enum": list(get_args(ClaimKind))},
    "subject": _TEXT | {"description": "the object that it is about, in its dictionary form"},
    "statement": _TEXT | {"description": "the claim as a sentence of its own; may be empty"},
    "support": _SHARE | {"description": "in [0, 1]: how strongly the picture supports it"},
    "verdict": {"enum": list(get_args(Verdict))},
    "why": _TEXT | {"description": "the evidence in words"},
    "evidence": {"type": "object", "additionalProperties": _SHARE, "description": "the figures behind it, by name"},
})  # fmt: skip
_TOKEN = _object({
    "id": _COUNT, "start": _COUNT, "end": _COUNT, "log_prob": _SHARE, "margin": _SHARE, "entropy": _SHARE, "rank": _COUNT,
})  # fmt: skip
SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Answer",
    "description": "What a model said about a picture, and what the picture says about that. No value is NaN or infinite.",
    **_object({
        "text": _TEXT,
        "abstained": {"type": "boolean", "description": "true when text says that the model does not know"},
        "confidence": _SHARE | {"description": "in [0, 1], of the answer as a whole; null where nothing tells it"},
        "claims": {"type": "array", "items": _CLAIM},
        "draft": {"type": ["string", "null"], "description": "the model's own text, where a guard changed it"},
        "reason": _TEXT | {"description": "why it abstained, or what was changed and why"},
        "guarantee": _TEXT | {"description": "the calibrated rule that holds for this answer; empty where none does"},
        "guards": {"type": "array", "items": _TEXT},
        "ended": {"enum": ["stop", "length"], "description": "length: cut at the longest that was allowed"},
        "backend": _TEXT,
        "prompt_tokens": _COUNT, "tokens": _COUNT | {"description": "generated"},
        "seconds": {"type": "number", "minimum": 0},
    }, record={"type": "array", "items": _TOKEN,
               "description": "one for each generated token; start and end count in the draft, or in text without one"}),
}  # fmt: skip


def json_of(answer: Answer, why: Why = figures, *, record: bool = False) -> dict[str, Any]:
    """The answer as plain JSON values, as SCHEMA has it.

    record: with log-probability and margin of every token, which is most of its size. A figure that is not finite is null.
    """
    values = finite(as_json(answer))
    for claim, row in zip(answer.claims, values["claims"], strict=True):
        row["why"] = why(claim)
    names = SCHEMA["properties"]
    for row in values["claims"]:
        ordered = {name: row[name] for name in _CLAIM["properties"]}
        row.clear()
        row.update(ordered)
    return {name: values[name] for name in names if name != "record" or record}


def finite(value: Any) -> Any:
    """The same JSON values, with null for numbers that JSON does not have.

    >>> finite({"a": [1.5, float("nan")]})
    {'a': [1.5, None]}
    """
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
