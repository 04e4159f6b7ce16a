"""What is served where, and to whom."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import TypeVar

from edgereverie.runtime.model import Model
from edgereverie.runtime.request import Done, Event
from edgereverie.server.connection import Connection, Head
from edgereverie.server.description import describe
from edgereverie.server.fetching import fetched
from edgereverie.server.limits import Settings, is_loopback
from edgereverie.server.page import POLICY, files
from edgereverie.server.pictures import decoded, from_folder, inline
from edgereverie.server.reading import Asked, asked, available
from edgereverie.server.refusal import Refusal, busy
from edgereverie.server.replies import Completion, Health, ModelList, ModelReply, ServedLimits, ServedModel
from edgereverie.server.streaming import Stream, in_time
from edgereverie.server.worker import Question, Worker

T = TypeVar("T")
JSON = "application/json"
Answering = Callable[[Connection, bytes], Awaitable[None]]


class Routes:
    """Paths and methods. One thread reads requests and another decodes pictures, one after the other: what is decoded at a
    time is one picture, and a question without one need not wait for it."""

    def __init__(self, model: Model, settings: Settings, worker: Worker) -> None:
        self._model, self._settings, self._worker = model, settings, worker
        self._reading = ThreadPoolExecutor(1, "edgereverie-reading")
        self._looking = ThreadPoolExecutor(1, "edgereverie-looking")
        self._fetching = asyncio.Semaphore(4)
        self._models = _served(model, settings)
        described = describe(model, settings, available(model))
        self._table: dict[str, tuple[str, Answering]] = {
            "/v1/chat/completions": ("POST", self._chat),
            "/v1/models": ("GET", self._fixed(ModelList(data=[self._models]).model_dump_json().encode(), JSON)),
            f"/v1/models/{model.name}": ("GET", self._fixed(self._models.model_dump_json().encode(), JSON)),
            "/health": ("GET", self._health),
            "/openapi.json": ("GET", self._fixed(described, JSON)),
        }
        for path, (content, kind) in files().items():
            self._table[path] = ("GET", self._fixed(content, kind, {"Content-Security-Policy": POLICY}))

    def close(self) -> None:
        for threads in (self._reading, self._looking):
            threads.shutdown(wait=False, cancel_futures=True)

    def admit(self, head: Head) -> Answering:
        """What answers it. Raises Refusal for what can be refused before its body was read."""
        self._require_host(head)
        if head.path not in self._table:
            if head.path.startswith("/v1/"):
                self._require_key(head)
            if head.path.startswith("/v1/models/"):
                raise Refusal(404, f"Only {self._model.name!r} is served here.", param="model", code="model_not_found")
            raise Refusal(404, "There is nothing at this path.", code="not_found")
        method, answering = self._table[head.path]
        if head.method not in ((method, "HEAD") if method == "GET" else (method,)):
            allowed = {"Allow": "GET, HEAD" if method == "GET" else method}
            raise Refusal(405, f"This path answers {allowed['Allow']}.", code="method_not_allowed", headers=allowed)
        if head.path.startswith("/v1/"):
            self._require_key(head)
        if method == "POST":
            kind = head.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != JSON:  # also keeps other sites' forms out: a browser asks first before it sends JSON elsewhere
                raise Refusal(415, f"Content-Type must be {JSON}.", code="unsupported_media_type")
            self._worker.require_room()
        return answering

    def _require_host(self, head: Head) -> None:
        """A page elsewhere that has its own name point to this machine (DNS rebinding) sends that name as the host."""
        if not self._settings.loopback:
            return
        host = head.headers.get("host", "")
        found = re.fullmatch(r"\[([^\[\]]+)\](?::\d*)?|([^:]+)(?::\d*)?", host)
        name = (found[1] or found[2]) if found else ""
        if not is_loopback(name):
            raise Refusal(403, "This server answers to localhost only.", code="host_not_allowed")

    def _require_key(self, head: Head) -> None:
        key = self._settings.key
        if key is None:
            return
        kind, _, given = head.headers.get("authorization", "").partition(" ")
        # Hashes first: then the comparison takes as long whatever was sent, however long.
        same = hmac.compare_digest(_hash(given.strip()), _hash(key))
        if kind.lower() != "bearer" or not same:
            raise Refusal(
                401,
                "The API key is missing or wrong: send it as Authorization: Bearer KEY.",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )

    # Answers

    @staticmethod
    def _fixed(content: bytes, kind: str, headers: dict[str, str] | None = None) -> Answering:
        async def answer(connection: Connection, body: bytes) -> None:
            await connection.respond(200, content, kind, headers or {})

        return answer

    async def _health(self, connection: Connection, body: bytes) -> None:
        if not self._worker.alive:
            raise busy("The server is stopping.", 5)
        found = Health(model=self._model.name, load=self._worker.load)
        await connection.respond(200, found.model_dump_json().encode(), JSON, {})

    async def _chat(self, connection: Connection, body: bytes) -> None:
        until = asyncio.get_running_loop().time() + self._settings.limits.seconds
        with self._worker.place():
            async with in_time(until):
                request = await _in(self._reading, partial(asked, body, self._model, self._settings))
                question = await self._question(request)
            # What was sent is not needed any more, and others may be waiting for its room.
            del body
            request = replace(request, url=None)
            connection.release()
            completion = Completion(self._model.name)
            async with aclosing(self._worker.answer(question)) as events:
                if request.stream:
                    await Stream(connection, completion, request).send(events, until)
                    return
                async with in_time(until):
                    done = await _last(events)
            await connection.respond(200, completion.whole(done.answer), JSON, {})

    async def _question(self, request: Asked) -> Question:
        settings, url = self._settings, request.url
        picture = None
        if url is not None:
            scheme = url[:6].lower().partition(":")[0]
            if scheme == "data":
                read = partial(inline, url, settings.limits)
            elif scheme in ("http", "https"):
                content = await self._fetch(url)
                read = partial(bytes, content)
            else:
                read = partial(from_folder, url, settings.files, settings.limits)
            look = partial(decoded, spec=self._model.image, limits=settings.limits)
            picture = await _in(self._looking, lambda: look(read()))
        return Question(picture, request.turns, request.options, request.guards)

    async def _fetch(self, url: str) -> bytes:
        if not self._settings.urls:
            raise Refusal(
                400,
                "This server fetches no URLs; send the picture as a data: URI.",
                param="messages",
                code="urls_not_allowed",
            )
        async with self._fetching:
            return await fetched(url, self._settings.limits)


async def _in(threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(threads, work)


async def _last(events: AsyncIterator[Event]) -> Done:
    async for event in events:
        if isinstance(event, Done):
            return event
    raise AssertionError("an answer ended without its last event")


def _served(model: Model, settings: Settings) -> ModelReply:
    limits = settings.limits
    known = ServedModel(
        guards=[settings.guard, *(name for name in available(model) if name != settings.guard)],
        backend=model.engine.backend,
        context=model.engine.context,
        max_tokens=settings.max_tokens,
        limits=ServedLimits(
            image_bytes=limits.image_bytes, image_pixels=limits.image_pixels, request_bytes=limits.request_bytes
        ),
    )
    return ModelReply(id=model.name, created=int(time.time()), edgereverie=known)


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
