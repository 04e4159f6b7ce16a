"""Sockets: who may connect, what happens to each connection, and how the server stops."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from edgereverie.errors import BackendError
from edgereverie.runtime.model import Model
from edgereverie.server.connection import Connection, Gone, Head, Held
from edgereverie.server.limits import Settings
from edgereverie.server.refusal import Refusal, busy
from edgereverie.server.routes import Routes
from edgereverie.server.worker import Worker

_log = logging.getLogger(__name__)
_TURNED_AWAY = 64  # connections beyond the limit that are told so; more are just closed


@dataclass(slots=True)
class Server:
    """The model behind a socket. ``async with Server(...) as server`` listens; leaving stops, running answers first.

    address: (host, port), once it listens. The model is taken over, and closed in the end.
    """

    model: Model
    settings: Settings
    worker: Worker = field(init=False)
    address: tuple[str, int] = field(init=False)
    _routes: Routes = field(init=False)
    _listener: asyncio.Server = field(init=False)
    _held: Held = field(init=False)
    _idle: set[asyncio.Task[Any]] = field(default_factory=set)
    _open: set[asyncio.Task[Any]] = field(default_factory=set)
    _stopping: bool = False

    async def __aenter__(self) -> Server:
        settings = self.settings
        self._held = Held(settings.limits.held_bytes)
        try:
            self._listener = await asyncio.start_server(self._connected, settings.host, settings.port, backlog=1024)
        except OSError as error:
            self.model.close()
            raise BackendError(
                f"{settings.host}:{settings.port} cannot be listened on ({error.strerror or error}).",
                hint="Another program may have it; --port 0 takes a free one.",
            ) from None
        host, port, *_ = self._listener.sockets[0].getsockname()
        self.address = (host, port)
        self.worker = Worker(self.model, settings.limits.waiting)
        self._routes = Routes(self.model, settings, self.worker)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping = True
        self._listener.close()
        for task in self._idle:
            task.cancel()
        if self._open:
            await asyncio.wait(self._open, timeout=self.settings.limits.grace_seconds)
        for task in self._open:
            task.cancel()
        if self._open:
            await asyncio.wait(self._open, timeout=self.settings.limits.grace_seconds)
        self._routes.close()
        if not await asyncio.to_thread(self.worker.close):
            _log.warning("The model is still computing and was left to itself.")

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        most = self.settings.limits.connections
        if self._stopping or len(self._open) >= most + _TURNED_AWAY:
            writer.transport.abort()
            return
        self._open.add(task)
        connection = Connection(reader, writer, self.settings.limits, self._held)
        try:
            if len(self._open) > most:
                await refuse(connection, busy("The server has as many connections as it takes.", 2))
            else:
                await self._converse(connection, task)
        except Gone:
            connection.abort()
        except asyncio.CancelledError:  # the server stops; nobody awaits this task
            connection.abort()
        except Exception:
            _log.exception("A connection failed in a way that was not foreseen.")
            connection.abort()
        finally:
            try:
                await connection.close()
            except asyncio.CancelledError:
                pass
            finally:
                self._open.discard(task)

    async def _converse(self, connection: Connection, task: asyncio.Task[Any]) -> None:
        first = True
        while not self._stopping:
            self._idle.add(task)
            try:
                head = await connection.head(first=first)
            except Refusal as refusal:
                await refuse(connection, refusal)
                return
            finally:
                self._idle.discard(task)
            if head is None:
                return
            await self._respond(connection, head)
            if not connection.again():
                return
            first = False

    async def _respond(self, connection: Connection, head: Head) -> None:
        try:
            if not head.brings_body:
                await connection.body(head)
            answer = self._routes.admit(head)
            # No name here keeps the body: it goes when it was read, long before the answer is finished.
            await _while_there(connection, answer(connection, await connection.body(head) if head.brings_body else b""))
        except Refusal as refusal:
            await refuse(connection, refusal)
        except (Gone, asyncio.CancelledError):
            raise
        except Exception:
            _log.exception("A request failed in a way that was not foreseen.")
            await refuse(connection, Refusal(500, "The server failed; its log says why.", code="internal_error"))
        finally:
            connection.release()


async def _while_there(connection: Connection, answering: Any) -> None:
    """Run it; stop it when the client leaves, which raises Gone."""
    work, left = asyncio.ensure_future(answering), asyncio.ensure_future(connection.gone())
    try:
        await asyncio.wait((work, left), return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise Gone
        work.result()
    finally:
        for task in (work, left):
            task.cancel()
        await asyncio.gather(work, left, return_exceptions=True)


async def refuse(connection: Connection, refusal: Refusal) -> None:
    """The refusal as a response, unless one was begun already: then only breaking off says that something is wrong."""
    if not connection.answerable:
        raise Gone
    content = json.dumps(refusal.body()).encode()
    await connection.respond(refusal.status, content, "application/json", refusal.headers)


async def serve(model: Model, settings: Settings, ready: Callable[[Server], None] = lambda _: None) -> None:
    """Serve until SIGINT or SIGTERM. ready: called once it listens. A second signal does not wait for answers."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    with contextlib.ExitStack() as signals:
        for number in (signal.SIGINT, signal.SIGTERM):
            signals.callback(_on_signal(loop, number, stop.set))
        async with Server(model, settings) as server:
            ready(server)
            await stop.wait()


def _on_signal(
    loop: asyncio.AbstractEventLoop, number: signal.Signals, action: Callable[[], None]
) -> Callable[[], None]:
    """Have ``action`` run in the loop at the first such signal; the next one does what it did before. Returns the undoing."""
    before = signal.getsignal(number)

    def noticed(*_: object) -> None:
        signal.signal(number, before)
        loop.call_soon_threadsafe(action)

    signal.signal(number, noticed)
    return lambda: signal.signal(number, before)
