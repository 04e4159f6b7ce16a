"""How much a client may ask of the server, and what the server was told when it started."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from edgereverie.errors import BackendError

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """What people set comes first. The rest are bounds that honest clients never meet.

    image_bytes, image_pixels: of one picture, encoded and decoded. request_bytes: of a whole body. waiting: questions in the
    queue behind the one that is answered. seconds: from a whole request to the end of its answer, the queue included.

    connections: open at once. header_bytes, header_seconds: of a request's head. idle_seconds: between two requests of one
    connection. upload_seconds: for a body. held_bytes: of all bodies together that are being received or read.
    write_seconds: how long a client may leave sent bytes unread. grace_seconds: what running answers are given when the
    server stops. values: JSON objects, lists and items in a body; fetch_seconds: for a picture at an URL.
    """

    image_bytes: int = 16 * MIB
    image_pixels: int = 50_000_000
    request_bytes: int = 24 * MIB
    waiting: int = 32
    seconds: float = 300.0
    connections: int = 512
    header_bytes: int = 32 * 1024
    header_seconds: float = 10.0
    idle_seconds: float = 30.0
    upload_seconds: float = 60.0
    held_bytes: int = 256 * MIB
    write_seconds: float = 20.0
    grace_seconds: float = 5.0
    values: int = 50_000
    fetch_seconds: float = 15.0


@dataclass(frozen=True, slots=True)
class Settings:
    """host, port: where to listen; port 0 is any free one. key: what clients must send, or None. files: pictures under this
    folder may be named by path. urls: pictures may be fetched from public addresses. guard, max_tokens: where a request
    names none.

    Raises BackendError for an address beyond this machine without a key, and for a folder that is not there.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    key: str | None = field(default=None, repr=False)
    files: Path | None = None
    urls: bool = False
    guard: str = "flag"
    max_tokens: int = 160
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        if self.key is not None and not (
            self.key.isascii() and self.key.isprintable() and self.key.split() == [self.key]
        ):
            raise BackendError(
                "The API key is empty, or holds blanks or characters that no header can carry.",
                hint="Letters, digits and -_ make a good key: python -c 'import secrets; print(secrets.token_urlsafe())'",
            )
        if self.key is None and not self.loopback:
            raise BackendError(
                f"{self.host} can be reached from other machines, and no API key is set.",
                hint="Set EDGEREVERIE_API_KEY or --api-key, or serve on 127.0.0.1 only.",
            )
        if self.files is not None and not self.files.is_dir():
            raise BackendError(f"{self.files}: no such folder.", hint="--allow-files names a folder of pictures.")

    @property
    def loopback(self) -> bool:
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether the name can only mean this machine.

    >>> [is_loopback(host) for host in ("localhost", "127.0.0.1", "::1", "0.0.0.0", "evil.example", "localhost.evil.example")]
    [True, True, True, False, False, False]
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
