"""An answer as server-sent events. OpenAI's clients only append, so text that a guard may take back waits until it is final."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from edgereverie.runtime.request import Done, Event, Piece
from edgereverie.server.connection import Connection
from edgereverie.server.reading import Asked
from edgereverie.server.refusal import Refusal, busy
from edgereverie.server.replies import Completion, event

_SIGN_OF_LIFE = b": still at work\n\n"  # a comment, which clients skip and proxies take for activity
_SIGN_SECONDS = 10.0


@asynccontextmanager
async def in_time(until: float) -> AsyncIterator[None]:
    """until: on the loop's clock."""
    try:
        async with asyncio.timeout_at(until):
            yield
    except TimeoutError:
        raise busy("The answer takes longer than this server allows.", 10, code="timeout") from None


@dataclass(frozen=True, slots=True)
class Stream:
    """Sends one answer. The response begins with the first event, so that what is refused until then has its status."""

    connection: Connection
    completion: Completion
    request: Asked

    async def send(self, events: AsyncIterator[Event], until: float) -> None:
        """Raises Refusal only while no response was begun; later faults are events of the stream."""
        async with in_time(until):
            happened = await anext(events)
        await self.connection.begin(200, "text/event-stream; charset=utf-8", {"X-Accel-Buffering": "no"})
        await self.connection.write(self.completion.opening())
        try:
            async with in_time(until):
                await self._happened(happened)
                while not isinstance(happened, Done):
                    happened = await self._next(events)
                    await self._happened(happened)
        except Refusal as refusal:
            await self.connection.write(event(json.dumps(refusal.body()).encode()))
        else:
            await self.connection.write(event(b"[DONE]"))
        await self.connection.end()

    async def _next(self, events: AsyncIterator[Event]) -> Event:
        coming = asyncio.ensure_future(anext(events))
        try:
            while not (await asyncio.wait({coming}, timeout=_SIGN_SECONDS))[0]:
                await self.connection.write(_SIGN_OF_LIFE)
            return coming.result()
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)

    async def _happened(self, happened: Event) -> None:
        live = self.request.live or self.request.events
        if isinstance(happened, Done):
            if not live and happened.answer.text:
                await self.connection.write(self.completion.piece(happened.answer.text))
            await self.connection.write(self.completion.ending(happened.answer))
            if self.request.usage:
                await self.connection.write(self.completion.usage(happened.answer))
        elif live and isinstance(happened, Piece):
            await self.connection.write(self.completion.piece(happened.text))
        elif live:
            await self.connection.write(self.completion.retraction(happened))
