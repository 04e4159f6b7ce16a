"""Pictures made to harm, and names of files that lead elsewhere: the right status, and the next question is answered."""

from __future__ import annotations

import asyncio
import base64
import io
import os
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from edgereverie.server.fetching import fetched
from edgereverie.server.limits import Limits
from edgereverie.server.refusal import Refusal

from ._serving import Actor, Running, data_uri, played, png, running, showing

Serving = Callable[..., Running]


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bomb(width: int, height: int) -> bytes:
    """A PNG of one grey, one bit a pixel: some kilobytes that become width x height pixels."""
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((1 + (width + 7) // 8) * height), 9)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")


def enlarged() -> bytes:
    """A small PNG whose head says 9000 x 9000."""
    whole, head = png(), struct.pack(">IIBBBBB", 9000, 9000, 8, 2, 0, 0, 0)
    return whole[:8] + _chunk(b"IHDR", head) + whole[33:]


def texts() -> bytes:
    """A PNG whose comment of 100 MB takes 100 kB."""
    comment = b"c\0\0" + zlib.compress(bytes(100_000_000), 9)
    whole = png()
    return whole[:33] + _chunk(b"zTXt", comment) + whole[33:]


def animated(kind: str) -> bytes:
    out = io.BytesIO()
    frames = [Image.new("RGB", (20, 20), (number, 0, 0)) for number in range(60)]
    frames[0].save(out, kind, save_all=True, append_images=frames[1:])
    return out.getvalue()


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
JPEG = png((200, 200), "blue", "JPEG")
PICTURES = {
    "a bomb": (bomb(20_000, 20_000), 413, "image_too_large"),
    "100 megapixels": (bomb(10_000, 10_000), 413, "image_too_large"),
    "a strip": (bomb(40_000, 1), 413, "image_too_large"),
    "a pole": (bomb(1, 40_000), 413, "image_too_large"),
    "a lie about its size": (enlarged(), 413, "image_too_large"),
    "a comment that grows": (texts(), 400, "invalid_image"),
    "a JPEG cut short": (JPEG[: len(JPEG) // 2], 400, "invalid_image"),
    "a PNG cut short": (png((500, 500))[:60], 400, "invalid_image"),
    "SVG": (SVG, 400, "invalid_image"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 400, "invalid_image"),
    "text": (b"a ring, I swear", 400, "invalid_image"),
    "nothing": (b"", 400, "invalid_image"),
    "zeros": (bytes(1000), 400, "invalid_image"),
}  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(Actor(*played("Yes."))) as found:
        yield found


@pytest.mark.parametrize("name", PICTURES)
def test_a_bad_picture_is_refused(server: Running, name: str) -> None:
    content, status, code = PICTURES[name]
    reply = server.chat(showing(data_uri(content)))
    assert (reply.status, reply.error["code"], reply.error["param"]) == (status, code, "messages"), reply.error
    assert server.chat(showing(data_uri(png()))).status == 200


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_seen(kind: str) -> None:
    actor = Actor(*played("Yes."))
    with running(actor) as server:
        assert server.chat(showing(data_uri(animated(kind)))).status == 200
    assert max(actor.asked[0][0].getpixel((48, 48))) < 10


def test_what_a_picture_is_its_bytes_say(server: Running) -> None:
    """Many clients write image/jpeg before everything; the decoder is chosen by the content, from a fixed list."""
    assert server.chat(showing(data_uri(png(), "image/jpeg"))).status == 200


@pytest.mark.parametrize(
    "url",
    [
        "data:text/html;base64," + base64.b64encode(png()).decode(),
        "data:image/png," + base64.b64encode(png()).decode(),
        "data:image/png;base64",
        "data:image/png;base64,%%%%",
        "data:image/png;base64," + base64.b64encode(png()).decode()[:-3],
        "data:image/png;base64," + base64.urlsafe_b64encode(b"\xfb\xff" * 9).decode(),
        "data:image/png;base64,é",
        "data:;base64,",
        "data:",
    ],
    ids=lambda url: url[:30],
)
def test_a_data_uri_that_is_none(server: Running, url: str) -> None:
    reply = server.chat(showing(url))
    assert (reply.status, reply.error["code"]) == (400, "invalid_image")


def test_a_picture_of_too_many_bytes() -> None:
    with running(Actor(*played("Yes.")), image_bytes=1000) as server:
        assert server.chat(showing(data_uri(bytes(1001)))).status == 413
        assert server.chat(showing(data_uri(png()))).status == 200


def test_a_large_photograph_within_the_limits(server: Running) -> None:
    assert server.chat(showing(data_uri(png((4000, 3000), kind="JPEG")))).status == 200


# Files


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures, and beside it what must not be read."""
    place = tmp_path_factory.mktemp("files")
    inside = place / "inside"
    (inside / "sub").mkdir(parents=True)
    (inside / "ring.png").write_bytes(png())
    (inside / "sub" / "two words.png").write_bytes(png())
    (inside / "notes.txt").write_text("no picture")
    (place / "secret.png").write_bytes(png())
    (inside / "link.png").symlink_to(place / "secret.png")
    (inside / "up").symlink_to(place)
    (inside / "fine.png").symlink_to(inside / "ring.png")
    os.mkfifo(inside / "pipe.png")
    return inside


@pytest.fixture(scope="module")
def sharing(shared: Path) -> Iterator[Running]:
    with running(Actor(*played("Yes.")), files=shared) as found:
        yield found


@pytest.mark.parametrize(
    "name", ["ring.png", "sub/two words.png", "file:sub/two%20words.png", "fine.png", "./ring.png"]
)
def test_a_file_of_the_folder(sharing: Running, name: str) -> None:
    assert sharing.chat(showing(name)).status == 200


def test_a_file_by_its_whole_url(sharing: Running, shared: Path) -> None:
    assert sharing.chat(showing(f"file://{shared}/ring.png")).status == 200
    assert sharing.chat(showing(f"file://localhost{shared}/sub/two%20words.png")).status == 200


@pytest.mark.parametrize(
    "name",
    [
        "../secret.png",
        "sub/../../secret.png",
        "link.png",
        "up/secret.png",
        "file:../secret.png",
        "file:%2e%2e/secret.png",
        "file:%2e%2e%2fsecret.png",
        "%2e%2e/secret.png",
        "..\\secret.png",
        "/etc/passwd",
        "file:///etc/passwd",
        "file:////etc/passwd",
        "file://evil.example/ring.png",
        "//evil.example/ring.png",
        "\\\\evil.example\\ring.png",
        "file:ring.png%00.txt",
        "ring.png\0",
        "ring.png\r\nX: y",
        "file:///dev/zero",
        "pipe.png",
        "sub",
        ".",
        "missing.png",
        "a" * 5000,
        "ftp://evil.example/ring.png",
        "gopher://localhost:70/x",
        "file:ring.png?x",
        "ring.png:stream",
    ],
    ids=lambda name: name[:30].encode("unicode_escape").decode(),
)
def test_a_name_that_leads_elsewhere(sharing: Running, name: str) -> None:
    """One answer for all of them: whether a file exists outside is nobody's business."""
    reply = sharing.chat(showing(name))
    assert (reply.status, reply.error["code"]) == (400, "file_not_found")
    assert reply.error["message"] == "There is no such picture in the allowed folder."


def test_a_file_that_is_no_picture(sharing: Running) -> None:
    assert sharing.chat(showing("notes.txt")).error["code"] == "invalid_image"


def test_no_file_is_read_unless_a_folder_is_allowed(server: Running, shared: Path) -> None:
    reply = server.chat(showing(f"file://{shared}/ring.png"))
    assert (reply.status, reply.error["code"]) == (400, "files_not_allowed")


# URLs


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/a.png", "https://example.com/a.png", "HTTP://[::1]/a.png"])
def test_no_url_is_fetched_unless_told(server: Running, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: object) -> bytes:
        raise AssertionError("fetched")

    monkeypatch.setattr("edgereverie.server.routes.fetched", never)
    reply = server.chat(showing(url))
    assert (reply.status, reply.error["code"]) == (400, "urls_not_allowed")


class Site:
    """A web server on this machine that sends the given bytes to whoever connects."""

    def __init__(self, *answers: bytes, pause: float = 0.0) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.heard: list[bytes] = []
        self._thread = threading.Thread(target=self._serve, args=(answers, pause))
        self._thread.start()

    def _serve(self, answers: tuple[bytes, ...], pause: float) -> None:
        for answer in answers:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client:
                self.heard.append(client.recv(1 << 16))
                try:
                    for start in range(0, len(answer), 1 << 16 if not pause else 10):
                        client.sendall(answer[start : start + (1 << 16 if not pause else 10)])
                        time.sleep(pause)
                except OSError:
                    pass

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)


def _ok(content: bytes, head: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\n" + head + b"Content-Length: %d\r\n\r\n" % len(content) + content


@pytest.fixture
def any_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sites in tests cannot have port 80; the port as such is looked at by one test of its own."""
    from edgereverie.server import fetching

    monkeypatch.setattr(fetching, "_is_own_port", lambda *_: True)


def _fetch(url: str, allowed: Callable[[str], bool] = lambda _: True, **limits: float) -> bytes:
    return asyncio.run(fetched(url, Limits(**limits), allowed))


def test_a_picture_from_the_web(any_port: None) -> None:
    moved = b"HTTP/1.1 302 Found\r\nLocation: /there.png?x=1\r\nContent-Length: 0\r\n\r\n"
    with Site(moved, _ok(png())) as site:
        assert _fetch(f"{site.url}/here.png") == png()
    assert site.heard[0].startswith(b"GET /here.png HTTP/1.1\r\n")
    assert site.heard[1].startswith(b"GET /there.png?x=1 HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "invalid_image_url"),
        (b"nonsense\r\n\r\n", "invalid_image_url"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", "invalid_image_url"),
        (_ok(bytes(2000)), "image_too_large"),
        (b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n", "invalid_image_url"),
        (b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", "invalid_image_url"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", "invalid_image_url"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_site_that_misbehaves(any_port: None, answer: bytes, code: str) -> None:
    with Site(*[answer] * 5) as site, pytest.raises(Refusal) as refused:
        _fetch(f"{site.url}/a.png", image_bytes=1000)
    assert refused.value.code == code


def test_a_site_that_drips(any_port: None) -> None:
    with Site(_ok(png()), pause=0.2) as site, pytest.raises(Refusal, match="too long"):
        _fetch(f"{site.url}/a.png", fetch_seconds=0.5)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "169.254.169.254", "10.1.2.3", "[::ffff:7f00:1]"]
)
def test_an_address_that_is_not_public_is_not_asked(host: str) -> None:
    with pytest.raises(Refusal) as refused:
        asyncio.run(fetched(f"http://{host}/a.png", Limits()))
    assert refused.value.code == "url_not_allowed"


def test_a_redirection_into_this_machine_is_not_followed(any_port: None) -> None:
    """The first site counts as public here; where it sends us does not."""
    with Site(_ok(png())) as inner:
        moved = f"HTTP/1.1 302 Found\r\nLocation: {inner.url}/\r\nContent-Length: 0\r\n\r\n".encode()
        seen: list[str] = []
        with Site(moved) as outer, pytest.raises(Refusal) as refused:
            _fetch(outer.url, allowed=lambda address: seen.append(address) or len(seen) == 1)
        assert refused.value.code == "url_not_allowed"
        assert inner.heard == []


@pytest.mark.parametrize(
    "url",
    [
        "http://user:key@example.com/",
        "http://example.com:22/",
        "http:///a",
        "http://",
        "http://a b/",
        "http://x\r\ny/",
        "http://[/",
    ],
)
def test_a_url_that_is_no_plain_address(url: str) -> None:
    with pytest.raises(Refusal) as refused:
        asyncio.run(fetched(url, Limits()))
    assert refused.value.code == "invalid_image_url"
