"""The server's own description, OpenAPI 3.1, from the classes that check requests and build responses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from edgereverie import __version__
from edgereverie.runtime.model import Model
from edgereverie.server.asking import ChatRequest
from edgereverie.server.limits import Settings
from edgereverie.server.replies import ChatChunk, ChatCompletion, ErrorReply, Health, ModelList, ModelReply

_REFUSALS = {
    400: "The request is wrong; error.param names the field.",
    401: "The API key is missing or wrong.",
    403: "The Host header names another machine.",
    404: "No such model or path.",
    405: "Another method is needed; Allow names it.",
    408: "The request came too slowly.",
    413: "The request or its picture is too large.",
    415: "The body is not application/json.",
    429: "The queue is full; Retry-After says when to ask again.",
    431: "The request's head is too large.",
    500: "The model failed.",
    503: "The server is stopping, overloaded, or the answer took longer than is allowed.",
}


def describe(model: Model, settings: Settings, guards: Sequence[str]) -> bytes:
    """As JSON."""
    schemas: dict[str, Any] = {}
    chat = _schema(ChatRequest, schemas)
    properties = schemas["ChatRequest"]["properties"]
    properties["model"]["const"] = model.name
    properties["guard"]["description"] += f" Known: {', '.join(guards)}. Default: {settings.guard}."
    for name in ("max_tokens", "max_completion_tokens"):
        properties[name]["description"] = f"Longest answer; {settings.max_tokens} if neither is given."
    answered = {
        "description": "The answer; a stream of ChatChunk events where stream is true.",
        "content": {
            "application/json": {"schema": _schema(ChatCompletion, schemas)},
            "text/event-stream": {"schema": _events(_schema(ChatChunk, schemas), _schema(ErrorReply, schemas))},
        },
    }
    body = {"required": True, "content": {"application/json": {"schema": chat}}}
    found = _answered(ModelReply, schemas)
    name = {"name": "model", "in": "path", "required": True, "schema": {"const": model.name}}
    paths = {
        "/v1/chat/completions": {
            "post": _operation("chat", "Answer a question about a picture", answered, 408, 413, 415, 429, 500)
            | {"requestBody": body}
        },
        "/v1/models": {"get": _operation("models", "The model that is served", _answered(ModelList, schemas))},
        "/v1/models/{model}": {"get": _operation("model", "The same by its name", found) | {"parameters": [name]}},
        "/health": {"get": _operation("health", "Whether the server answers", _answered(Health, schemas))},
    }
    described = {
        "openapi": "3.1.0",
        "info": {
            "title": "edgereverie",
            "version": __version__,
            "description": "Chat completions in OpenAI's form, with every claim's evidence in the field edgereverie.",
        },
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
    }
    if settings.key is not None:
        for path, operations in paths.items():
            if path.startswith("/v1/"):
                for operation in operations.values():
                    operation["security"] = [{"key": []}]
    return json.dumps(described).encode()


def _schema(kind: type[BaseModel], schemas: dict[str, Any]) -> dict[str, str]:
    """A reference to the class, which stands among ``schemas`` then, with all that it needs."""
    found = kind.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(found.pop("$defs", {}))
    schemas[kind.__name__] = found
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


def _events(*contents: dict[str, str]) -> dict[str, Any]:
    """Of each event in the stream, as OpenAPI describes server-sent ones."""
    content = {"anyOf": list(contents)}
    json_text = {"type": "string", "contentMediaType": "application/json", "contentSchema": content}
    data = {"anyOf": [{"const": "[DONE]"}, json_text]}
    return {"type": "object", "properties": {"data": data}, "required": ["data"]}


def _answered(kind: type[BaseModel], schemas: dict[str, Any]) -> dict[str, Any]:
    return {"description": "It.", "content": {"application/json": {"schema": _schema(kind, schemas)}}}


def _operation(name: str, summary: str, answered: dict[str, Any], *refusals: int) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/ErrorReply"}
    refused = {
        str(status): {"description": _REFUSALS[status], "content": {"application/json": {"schema": schema}}}
        for status in sorted({400, 401, 403, 404, 405, 431, 503, *refusals})
    }
    return {"operationId": name, "summary": summary, "responses": {"200": answered} | refused}
