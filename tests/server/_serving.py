"""A server in a thread of this process, a model that plays a part, and a client that speaks bytes."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from PIL import Image

from edgereverie.backbones.starter import IMAGE
from edgereverie.records import Answer, Claim, Options, Turn
from edgereverie.runtime.request import Done, Event, Piece, Retraction
from edgereverie.server.limits import Limits, Settings
from edgereverie.server.listening import Server

ASK = [{"role": "user", "content": "Is there a ring?"}]


class Actor:
    """A model at the contract of its events: plays what it is given. Remembers what it was asked."""

    name, image, backend, context = "actor", IMAGE, "scripted", 2048

    def __init__(self, *events: Event | Exception, pause: float = 0.0) -> None:
        self.script, self.pause = events, pause
        self.asked: list[tuple[Any, tuple[Turn, ...], Options, str]] = []
        self.engine, self.closed, self.stopped = self, False, 0
        self.grammar, self.calibration = False, None

    def events(self, image: Any, turns: tuple[Turn, ...], options: Options, guards: str) -> Iterator[Event]:
        self.asked.append((image, turns, options, guards))
        if self.script and isinstance(self.script[0], Exception):
            raise self.script[0]
        return self._play(guards)

    def _play(self, guards: str) -> Iterator[Event]:
        try:
            for event in self.script:
                time.sleep(self.pause)
                if isinstance(event, Exception):
                    raise event
                yield (
                    replace(event, answer=replace(event.answer, guards=(guards,))) if isinstance(event, Done) else event
                )
        finally:
            self.stopped += 1

    def close(self) -> None:
        self.closed = True


def played(text: str, **more: Any) -> list[Event]:
    """The events of an answer that nothing takes back."""
    words = text.split(" ")
    pieces = [Piece(word if index == 0 else f" {word}") for index, word in enumerate(words)]
    return [*pieces, Done(Answer(text, tokens=len(words), prompt_tokens=7, backend="scripted", **more))]


def mended() -> list[Event]:
    """A guard's doing: the star is taken back, and of what stays each verdict occurs once."""
    text, why = "There is a red ring, a moon and perhaps a square.", "The picture shows no star."
    claims = tuple(
        Claim(
            word,
            text.index(word),
            text.index(word) + len(word),
            word.split()[-1],
            support,
            verdict,
            {
                "polarity": 1.0,
                "verification": odds,
                "yes_with_image": odds - 0.5,
                "yes_without": -0.5,
                "grounding": odds / 2,
            },
            statement=f"There is a {word}.",
        )
        for word, support, verdict, odds in (
            ("red ring", 0.96, "supported", 3.2),
            ("moon", 0.08, "contradicted", -2.4),
            ("square", 0.51, "unverified", 0.1),
        )
    )
    answer = Answer(
        text,
        claims,
        confidence=0.08,
        draft="There is a star.",
        reason=why,
        tokens=12,
        prompt_tokens=40,
        backend="scripted",
        guarantee="At most 1 kept claim in 20 is wrong.",
    )
    return [Piece("There is"), Piece(" a star."), Retraction(8, why), Piece(text[8:]), Done(answer)]


class Running:
    """A server that runs. ``get``, ``post`` and ``raw`` talk to it."""

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        self.server, self.loop = server, loop
        self.host, self.port = server.address

    def connect(self, timeout: float = 20) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout)

    def raw(self, data: bytes, timeout: float = 20) -> bytes:
        """Send these bytes, and read until the server closes."""
        with self.connect(timeout) as client:
            client.sendall(data)
            return read_all(client)

    def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, timeout: float = 20
    ) -> Reply:
        content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        fields = {"Host": f"localhost:{self.port}", "Connection": "close", "Content-Length": str(len(content))}
        if body is not None:
            fields["Content-Type"] = "application/json"
        fields |= headers or {}
        head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return Reply(self.raw(head.encode("latin-1") + b"\r\n" + content, timeout))

    def get(self, path: str, **headers: str) -> Reply:
        return self.call("GET", path, headers=headers)

    def chat(self, messages: Any = None, timeout: float = 20, **fields: Any) -> Reply:
        body = {"model": self.server.model.name, "messages": ASK if messages is None else messages} | fields
        return self.call("POST", "/v1/chat/completions", body, timeout=timeout)

    def settled(self, what: Callable[[], bool], seconds: float = 10) -> bool:
        """Whether it comes true in time."""
        until = time.monotonic() + seconds
        while not what() and time.monotonic() < until:
            time.sleep(0.01)
        return what()

    def idle(self) -> bool:
        server = self.server
        return not server._open and server.worker.load == 0 and server._held.bytes == 0


class Reply:
    """A response's bytes, taken apart."""

    def __init__(self, data: bytes) -> None:
        head, _, body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        assert first.startswith("HTTP/1.1 "), data[:200]
        self.status = int(first.split()[1])
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        self.body = dechunked(body) if self.headers.get("transfer-encoding") == "chunked" else body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        assert set(self.json) == {"error"} and set(self.json["error"]) == {"message", "type", "param", "code"}
        return self.json["error"]

    @property
    def events(self) -> list[Any]:
        lines = [block for block in self.body.decode().split("\n\n") if block and not block.startswith(":")]
        assert all(line.startswith("data: ") for line in lines), lines
        return [line if line == "data: [DONE]" else json.loads(line[6:]) for line in lines]


def dechunked(body: bytes) -> bytes:
    out = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        out, body = out + body[: int(size, 16)], body[int(size, 16) + 2 :]
    return out


def read_all(client: socket.socket) -> bytes:
    out = b""
    while data := client.recv(1 << 16):
        out += data
    return out


@contextmanager
def running(model: Any, **settings: Any) -> Iterator[Running]:
    """A server with this model on a free port; other keywords are Settings, or Limits."""
    limits = {name: settings.pop(name) for name in list(settings) if name in Limits.__dataclass_fields__}
    told = Settings(port=0, limits=Limits(**limits), **settings)
    ready, box, loop = threading.Event(), [], asyncio.new_event_loop()

    async def serve() -> None:
        stop = asyncio.Event()
        async with Server(model, told) as server:
            box.extend([server, stop])
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), name="test-server")
    thread.start()
    assert ready.wait(10)
    server, stop = box
    try:
        yield Running(server, loop)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)
        assert not thread.is_alive()
        loop.close()


def png(size: tuple[int, int] = (40, 30), colour: str = "red", kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, kind)
    return out.getvalue()


def data_uri(content: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def showing(url: str, question: str = "Is there a ring?") -> list[Any]:
    """Messages with a picture."""
    parts = [{"type": "text", "text": question}, {"type": "image_url", "image_url": {"url": url}}]
    return [{"role": "user", "content": parts}]
