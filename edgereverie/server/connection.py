"""One client's connection: HTTP/1.1 by h11, with a bound on everything that a client can make the server wait for or hold."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from urllib.parse import unquote

import h11

from edgereverie.server.limits import Limits
from edgereverie.server.refusal import Refusal, busy

_READ = 1 << 16
_UNSENT = 1 << 16  # bytes that wait in this process for a slow reader; the system keeps some more
_LINGER_SECONDS = 2.0
_ALWAYS = (
    ("Cache-Control", "no-store"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
)


class Gone(Exception):
    """The client closed the connection, broke it, or does not read: nobody is there to answer."""


@dataclass(frozen=True, slots=True)
class Head:
    """A request without its body. path: without its query, %-escapes undone. headers: names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]

    @property
    def brings_body(self) -> bool:
        return "transfer-encoding" in self.headers or self.headers.get("content-length", "0") != "0"


@dataclass(slots=True)
class Held:
    """Bytes of bodies that all connections hold together."""

    most: int
    bytes: int = 0

    def take(self, size: int) -> None:
        if self.bytes + size > self.most:
            raise busy("Too many large requests are being received.", 2)
        self.bytes += size


class Connection:
    """Reads one request after the other and writes their responses. Not for two requests at once."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limits: Limits, held: Held) -> None:
        self._reader, self._writer, self._limits, self._held = reader, writer, limits, held
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.header_bytes)
        self._taken = 0
        self._bodiless = False
        writer.transport.set_write_buffer_limits(high=_UNSENT)

    # Reading

    async def head(self, *, first: bool) -> Head | None:
        """The next request; None when the client is done. A client that begins one and does not finish it is refused."""
        wait = self._limits.header_seconds if first else self._limits.idle_seconds
        try:
            if not self._http.trailing_data[0]:
                async with asyncio.timeout(wait):
                    await self._receive()
            async with asyncio.timeout(self._limits.header_seconds):
                event = await self._event()
        except TimeoutError:
            if self._http.trailing_data[0]:
                raise Refusal(408, "The request's head took too long.", code="timeout") from None
            return None
        if not isinstance(event, h11.Request):
            return None
        self._bodiless = event.method == b"HEAD"
        if event.http_version not in (b"1.0", b"1.1"):
            raise Refusal(505, "HTTP/1.1 and HTTP/1.0 are spoken here.")
        names = [name for name, _ in event.headers]
        if b"transfer-encoding" in names and b"content-length" in names:
            raise Refusal(400, "A request has a Content-Length or a Transfer-Encoding, not both.")
        headers = {name.decode("ascii"): value.decode("latin-1") for name, value in event.headers}
        path = event.target.decode("ascii").partition("?")[0]
        return Head(event.method.decode("ascii"), unquote(path), headers)

    async def body(self, head: Head) -> bytes:
        """All of it. Raises Refusal when it is larger, or comes slower, than is allowed."""
        most = self._limits.request_bytes
        if int(head.headers.get("content-length", "0")) > most:
            raise _too_large(most)
        parts: list[bytes] = []
        try:
            async with asyncio.timeout(self._limits.upload_seconds):
                while not isinstance(event := await self._event(), h11.EndOfMessage):
                    if not isinstance(event, h11.Data):
                        raise Gone
                    self._take(len(event.data))
                    if self._taken > most:
                        raise _too_large(most)
                    parts.append(bytes(event.data))
        except TimeoutError:
            raise Refusal(408, "The request's body took too long.", code="timeout") from None
        return b"".join(parts)

    def _take(self, size: int) -> None:
        self._held.take(size)
        self._taken += size

    def release(self) -> None:
        """The body was read, and is no longer held."""
        self._held.bytes -= self._taken
        self._taken = 0

    async def gone(self) -> None:
        """Returns when the client has left. What it sends ahead meanwhile is kept, up to a bound."""
        with contextlib.suppress(OSError):
            while data := await self._reader.read(_READ):
                self._http.receive_data(data)
                if len(self._http.trailing_data[0]) > self._limits.header_bytes:
                    return

    async def _event(self) -> object:
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                raise Refusal(error.error_status_hint, f"This is not HTTP as it is spoken here: {error}.") from None
            if event is not h11.NEED_DATA:
                return event
            if self._http.they_are_waiting_for_100_continue:
                await self._send(h11.InformationalResponse(status_code=100, headers=[]))
            await self._receive()

    async def _receive(self) -> None:
        try:
            self._http.receive_data(await self._reader.read(_READ))
        except OSError:
            raise Gone from None
        except RuntimeError:  # h11: data after the end of the connection
            raise Gone from None

    # Writing

    async def respond(self, status: int, content: bytes, kind: str, headers: Mapping[str, str]) -> None:
        """A whole response."""
        await self.begin(status, kind, {"Content-Length": str(len(content))} | dict(headers))
        if content and not self._bodiless:
            await self.write(content)
        await self.end()

    async def begin(self, status: int, kind: str, headers: Mapping[str, str]) -> None:
        fields: list[tuple[str, str]] = [("Date", formatdate(usegmt=True)), ("Content-Type", kind), *_ALWAYS]
        fields += headers.items()
        if self._http.their_state is not h11.DONE:
            fields.append(("Connection", "close"))
        await self._send(h11.Response(status_code=status, reason=_reason(status), headers=_encoded(fields)))

    async def write(self, content: bytes) -> None:
        await self._send(h11.Data(data=content))

    async def end(self) -> None:
        await self._send(h11.EndOfMessage())

    async def _send(self, event: h11.Event) -> None:
        try:
            data = self._http.send(event)
        except h11.LocalProtocolError as error:
            raise Gone from error
        if not data:
            return
        try:
            self._writer.write(data)
            async with asyncio.timeout(self._limits.write_seconds):
                await self._writer.drain()
        except (OSError, TimeoutError):
            self.abort()
            raise Gone from None

    @property
    def answerable(self) -> bool:
        """Whether no response was begun yet, so that one can be."""
        return self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE)

    def again(self) -> bool:
        """Ready for the next request of this connection; False when it must be closed."""
        if (self._http.our_state, self._http.their_state) != (h11.DONE, h11.DONE):
            return False
        self._http.start_next_cycle()
        return True

    def abort(self) -> None:
        self._writer.transport.abort()

    async def close(self) -> None:
        """Let the last bytes arrive, within bounds: closing over unread data would take the response back."""
        self.release()
        try:
            if self._may_still_send() and self._writer.can_write_eof():
                self._writer.write_eof()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LINGER_SECONDS):
                        while await self._reader.read(_READ):
                            pass
            self._writer.close()
            async with asyncio.timeout(self._limits.write_seconds):
                await self._writer.wait_closed()
        except (OSError, TimeoutError):
            self.abort()
        except asyncio.CancelledError:
            self.abort()
            raise

    def _may_still_send(self) -> bool:
        """Whether a response was sent before its request was read to the end."""
        return self._http.our_state is not h11.IDLE and self._http.their_state in (h11.IDLE, h11.SEND_BODY, h11.ERROR)


def _too_large(most: int) -> Refusal:
    return Refusal(413, f"The request is larger than {most:,} bytes.", code="request_too_large")


def _reason(status: int) -> bytes:
    return HTTPStatus(status).phrase.encode("ascii")


def _encoded(fields: Sequence[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("ascii"), value.encode("latin-1")) for name, value in fields]
