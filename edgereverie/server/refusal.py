"""What is refused, in the form that OpenAI's clients read: a status, a sentence, and which field it is about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgereverie.errors import EdgeReverieError

_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


class Refusal(Exception):
    """Becomes the response. param: the request's field at fault. code: one word that programs can test for."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.param, self.headers = status, code, param, dict(headers or {})

    def body(self) -> dict[str, Any]:
        kind = _TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


def told(error: EdgeReverieError) -> str:
    """The error and its hint as one text."""
    return f"{error} {error.hint}" if error.hint else str(error)


def busy(message: str, seconds: int, *, status: int = 503, code: str = "overloaded") -> Refusal:
    """Not now; worth asking again after ``seconds``."""
    return Refusal(status, message, code=code, headers={"Retry-After": str(seconds)})
