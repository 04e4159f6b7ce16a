"""A picture from the web, where the server was told to fetch: from public addresses only, within bounds of size and time."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
from collections.abc import Callable
from urllib.parse import SplitResult, urljoin, urlsplit

import h11

from edgereverie.server.limits import Limits
from edgereverie.server.refusal import Refusal

_REDIRECTS = 3
_PORTS = {"http": 80, "https": 443}


def is_public(address: str) -> bool:
    """Whether the address is one of the internet's, and not this machine's, a private network's or a cloud's own.

    >>> [is_public(a) for a in ("93.184.215.14", "10.0.0.1", "127.0.0.1", "169.254.169.254", "100.64.0.1", "::ffff:10.0.0.1")]
    [True, False, False, False, False, False]
    >>> is_public("64:ff9b::a00:1"), is_public("2002:a00:1::"), is_public("2606:2800:21f:cb07:6820:80da:af6b:8b2c")
    (False, False, True)
    """
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour
        if inner is not None:
            return is_public(str(inner))
        if found in ipaddress.ip_network("64:ff9b::/96") or found.teredo is not None:
            return False
    return found.is_global and not found.is_multicast


async def fetched(url: str, limits: Limits, allowed: Callable[[str], bool] = is_public) -> bytes:
    """The picture's bytes. allowed: which addresses may be asked.

    A name is looked up once, and the connection goes to the address that was checked: a name that changes its meaning in
    between gains nothing. Every redirection is checked like the first URL. Raises Refusal.
    """
    try:
        async with asyncio.timeout(limits.fetch_seconds):
            for _ in range(_REDIRECTS + 1):
                target = await _get(_parts(url), limits, allowed)
                if isinstance(target, bytes):
                    return target
                url = urljoin(url, target)
    except TimeoutError:
        raise _refused("The picture's URL took too long.") from None
    except (OSError, h11.RemoteProtocolError, h11.LocalProtocolError) as error:
        raise _refused(f"The picture's URL cannot be read ({type(error).__name__}).") from None
    raise _refused("The picture's URL redirects too often.")


def _parts(url: str) -> SplitResult:
    """Raises Refusal for what is no plain web address."""
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
        (host or "").encode("idna")
    except (ValueError, UnicodeError):
        raise _refused("The picture's URL cannot be understood.") from None
    if parts.scheme not in _PORTS or not host or parts.username or parts.password or not url.isascii():
        raise _refused("A picture's URL is http or https, with a host and without a user, in ASCII.")
    if not url.isprintable() or " " in url:
        raise _refused("The picture's URL holds blanks or control characters.")
    if not _is_own_port(parts.scheme, port):
        raise _refused("The picture's URL must use its scheme's own port.")
    return parts


def _is_own_port(scheme: str, port: int | None) -> bool:
    """Other ports are other services', and a picture's URL is no way to reach them."""
    return port in (None, _PORTS[scheme])


async def _get(parts: SplitResult, limits: Limits, allowed: Callable[[str], bool]) -> bytes | str:
    """The content, or where it redirects to."""
    assert parts.hostname is not None
    loop, port = asyncio.get_running_loop(), parts.port or _PORTS[parts.scheme]
    found = await loop.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    addresses = [str(where[0]) for *_, where in found]
    if not addresses or not all(allowed(address) for address in addresses):
        raise _refused("The picture's URL leads to an address that is not public.", code="url_not_allowed")
    secure = ssl.create_default_context() if parts.scheme == "https" else None
    reader, writer = await asyncio.open_connection(
        addresses[0], port, ssl=secure, server_hostname=parts.hostname if secure else None
    )
    try:
        return await _exchange(reader, writer, parts, limits)
    finally:
        with contextlib.suppress(Exception):
            writer.transport.abort()


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, parts: SplitResult, limits: Limits
) -> bytes | str:
    http = h11.Connection(h11.CLIENT)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = [("Host", parts.netloc), ("User-Agent", "edgereverie"), ("Accept", "image/*"), ("Connection", "close")]
    writer.write(http.send(h11.Request(method="GET", target=target, headers=headers)))
    writer.write(http.send(h11.EndOfMessage()))
    await writer.drain()
    content = bytearray()
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(await reader.read(1 << 16))
        elif isinstance(event, h11.Response):
            if event.status_code in (301, 302, 303, 307, 308):
                return dict(event.headers).get(b"location", b"").decode("latin-1")
            if event.status_code != 200:
                raise _refused(f"The picture's URL answers with status {event.status_code}.")
        elif isinstance(event, h11.Data):
            content += event.data
            if len(content) > limits.image_bytes:
                raise _refused(f"The picture has more than {limits.image_bytes:,} bytes.", code="image_too_large")
        elif isinstance(event, (h11.EndOfMessage, h11.ConnectionClosed)):
            return bytes(content)


def _refused(message: str, *, code: str = "invalid_image_url") -> Refusal:
    return Refusal(413 if code == "image_too_large" else 400, message, param="messages", code=code)
