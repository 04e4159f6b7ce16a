"""Clients that are many, slow, cut off or hostile: each gets its status, the others their answers, and nothing is left behind."""

from __future__ import annotations

import gc
import io
import json
import os
import random
import re
import socket
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from edgereverie.runtime.model import Model

from ._serving import ASK, Actor, Reply, Running, data_uri, played, png, read_all, running, showing

Serving = Callable[..., Running]
HEAD = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def _request(model: str = "actor", **fields: object) -> bytes:
    body = json.dumps({"model": model, "messages": ASK} | fields).encode()
    return f"{HEAD}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def nothing_is_left() -> Iterator[None]:
    """No more descriptors and threads afterwards than before, once everything in the test has been closed."""
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("needs /proc to count descriptors")
    descriptors, threads = _descriptors(), threading.active_count()
    yield
    until = time.monotonic() + 5
    while (_descriptors() > descriptors or threading.active_count() > threads) and time.monotonic() < until:
        time.sleep(0.05)
    assert _descriptors() <= descriptors
    assert threading.active_count() <= threads


# Many


def test_200_at_once(nothing_is_left: None, saying: Callable[..., Model]) -> None:
    """All connections are open before the first request is sent; every one gets the answer."""
    model = saying("Yes, there is a ring.")
    with running(model, waiting=200) as server:
        clients = [server.connect(60) for _ in range(200)]
        for client in clients:
            client.sendall(_request("scripted", guard="none"))
        replies = []
        for client in clients:
            replies.append(Reply(read_all(client)))
            client.close()
        assert [reply.status for reply in replies] == [200] * 200
        assert {reply.json["choices"][0]["message"]["content"] for reply in replies} == {"Yes, there is a ring."}
        assert server.settled(server.idle)
        assert not model.engine.live


def test_200_streams_with_pictures_at_once(nothing_is_left: None, saying: Callable[..., Model]) -> None:
    model = saying("Yes, there is a ring.")
    with running(model, waiting=200) as server:

        def ask(number: int) -> str:
            picture = data_uri(png((20 + number % 7, 20)))
            *chunks, end = server.chat(showing(picture), stream=True, guard="flag").events
            assert end == "data: [DONE]"
            return "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)

        with ThreadPoolExecutor(200) as pool:
            assert set(pool.map(ask, range(200))) == {"Yes, there is a ring."}
        assert server.settled(server.idle)
        assert len(model.engine.live) == len(model.sight._prefixes) <= 4
    assert not model.engine.live


def test_a_full_queue_says_when_to_come_back(serving: Serving) -> None:
    actor = Actor(*played("one two three four"), pause=0.2)
    server = serving(actor, waiting=2)
    clients = [server.connect() for _ in range(3)]
    for number, client in enumerate(clients):
        client.sendall(_request(guard="none"))
        assert server.settled(lambda wanted=number + 1: server.server.worker.load == wanted)
    reply = server.chat()
    assert (reply.status, reply.error["code"], reply.error["type"]) == (429, "queue_full", "rate_limit_error")
    assert int(reply.headers["retry-after"]) > 0
    assert server.get("/health").json == {"status": "ok", "model": "actor", "load": 3}
    assert [Reply(read_all(client)).status for client in clients] == [200] * 3
    for client in clients:
        client.close()


def test_one_connection_too_many(serving: Serving) -> None:
    server = serving(Actor(*played("Yes.")), connections=3)
    clients = [server.connect() for _ in range(3)]
    assert server.settled(lambda: len(server.server._open) == 3)
    reply = server.chat()  # whose request is on its way already
    assert (reply.status, reply.error["code"]) == (503, "overloaded")
    assert int(reply.headers["retry-after"]) > 0
    for client in clients:
        client.close()
    assert server.settled(lambda: not server.server._open)
    assert server.get("/health").status == 200


# Slow


def test_a_head_that_drips_is_cut_off_and_the_others_are_served(nothing_is_left: None) -> None:
    """Slowloris: a hundred clients that send a byte now and then."""
    with running(Actor(*played("Yes.")), header_seconds=1.0) as server:
        clients = [server.connect() for _ in range(100)]
        for client in clients:
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-")
        assert server.chat().status == 200
        started = time.monotonic()
        for _ in range(4):
            time.sleep(0.2)
            for client in clients:
                client.sendall(b"a")
        replies = [Reply(read_all(client)) for client in clients]
        assert {(reply.status, reply.error["code"]) for reply in replies} == {(408, "timeout")}
        assert time.monotonic() - started < 5
        for client in clients:
            client.close()
        assert server.settled(server.idle)


def test_a_connection_that_says_nothing_is_closed(serving: Serving) -> None:
    server = serving(Actor(), header_seconds=0.3, idle_seconds=0.3)
    assert server.raw(b"") == b""
    with server.connect() as client:  # and so is one that has nothing more to say
        client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert Reply(read_all(client)).status == 200


def test_a_body_that_drips(serving: Serving) -> None:
    server = serving(Actor(*played("Yes.")), upload_seconds=0.5)
    with server.connect() as client:
        client.sendall(f"{HEAD}Content-Length: 1000\r\n\r\n{{".encode())
        reply = Reply(read_all(client))
    assert (reply.status, reply.error["code"]) == (408, "timeout")
    assert server.settled(server.idle)


def test_a_client_that_does_not_read_is_cut_off(nothing_is_left: None) -> None:
    """Its answer is generated and thrown away; the next client is served meanwhile."""
    actor = Actor(*played("word " * 40_000))
    with running(actor, write_seconds=0.5) as server:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((server.host, server.port))
        client.sendall(_request(stream=True, guard="none"))
        assert server.settled(lambda: len(actor.asked) == 1)
        assert server.get("/health").status == 200
        assert server.settled(server.idle, 20)
        assert actor.stopped == 1
        client.close()


def test_an_answer_that_takes_too_long(serving: Serving) -> None:
    actor = Actor(*played("one " * 100), pause=0.05)
    server = serving(actor, seconds=0.5)
    for stream in (False, True):
        reply = server.chat(stream=stream, guard="none")
        error = reply.events[-1]["error"] if stream else reply.error
        assert reply.status == (200 if stream else 503)
        assert error["code"] == "timeout"
        if not stream:
            assert int(reply.headers["retry-after"]) > 0
    assert server.settled(lambda: actor.stopped == 2)


# Cut


def test_an_upload_that_breaks_off(nothing_is_left: None) -> None:
    with running(Actor(*played("Yes."))) as server:
        for cut in (b"", b"{", b'{"model": "actor", "messages"'):
            with server.connect() as client:
                client.sendall(f"{HEAD}Content-Length: 1000\r\n\r\n".encode() + cut)
        with server.connect() as client:
            client.sendall(f'{HEAD}Transfer-Encoding: chunked\r\n\r\n5\r\n{{"mo'.encode())
        assert server.settled(server.idle)
        assert server.chat().status == 200


@pytest.mark.parametrize("stream", [False, True])
def test_who_leaves_stops_the_answer(nothing_is_left: None, saying: Callable[..., Model], stream: bool) -> None:
    """Its streams are given back, and the next in the queue begins."""
    model = saying("one two three four five six seven eight nine ten " * 8, pause=0.02)
    with running(model) as server:
        for how in ("close", "reset"):
            client = server.connect()
            client.sendall(_request("scripted", stream=stream, guard="none"))
            assert server.settled(lambda: model.engine.live)
            if how == "reset":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            started = time.monotonic()
            client.close()
            assert server.settled(server.idle)
            assert time.monotonic() - started < 1.5
            assert not model.engine.live
        assert server.chat(guard="none", max_tokens=3).status == 200


def test_who_leaves_the_queue_makes_room(serving: Serving) -> None:
    actor = Actor(*played("one two three four five six"), pause=0.1)
    server = serving(actor, waiting=1)
    first, second = server.connect(), server.connect()
    for client in (first, second):
        client.sendall(_request(guard="none"))
        time.sleep(0.05)
    assert server.settled(lambda: server.server.worker.load == 2)
    assert server.chat().status == 429
    second.close()
    assert server.settled(lambda: server.server.worker.load == 1)
    assert server.chat().status == 200
    assert Reply(read_all(first)).status == 200
    first.close()
    assert len(actor.asked) == 2  # the one who left was never answered


def test_stopping_lets_a_short_answer_finish_and_cuts_a_long_one() -> None:
    short = Actor(*played("one two three"), pause=0.1)
    with running(short) as server:
        client = server.connect()
        client.sendall(_request(guard="none"))
        assert server.settled(lambda: short.asked)
    assert Reply(read_all(client)).status == 200
    client.close()
    assert short.closed
    long = Actor(*played("one " * 1000), pause=0.02)
    started = time.monotonic()
    with running(long, grace_seconds=0.3) as server:
        client = server.connect()
        client.sendall(_request(guard="none"))
        assert server.settled(lambda: long.asked)
    assert time.monotonic() - started < 3
    client.close()
    assert long.closed and long.stopped == 1


# Not HTTP


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nBad Name: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 431),
        (HEAD.encode() + b"Content-Length: 99999999999999999999\r\n\r\n", 413),
        (HEAD.encode() + b"Content-Length: -5\r\n\r\n", 400),
        (HEAD.encode() + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n", 400),
        (HEAD.encode() + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (HEAD.encode() + b"Transfer-Encoding: gzip\r\n\r\n", 501),
        (HEAD.encode() + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (HEAD.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + b"0" * 100_000, 431),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(600), 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_what_is_no_http(data: bytes, status: int) -> None:
    with running(Actor(*played("Yes.")), header_seconds=1.0) as server:
        reply = Reply(server.raw(data))
        assert reply.status == status
        assert reply.error["message"]
        assert reply.headers["connection"] == "close"
        assert server.chat().status == 200


def test_two_requests_sent_at_once_are_answered_in_order(serving: Serving) -> None:
    server = serving(Actor(*played("Yes.")))
    health = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    data = server.raw(health + health + b"GET /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert re.findall(rb"HTTP/1.1 (\d+)", data) == [b"200", b"200", b"404"]


def test_who_waits_before_sending_a_body_is_told_at_once(serving: Serving) -> None:
    """Expect: 100-continue; what is refused by its head alone is never uploaded."""
    server = serving(Actor(*played("Yes.")))
    body = json.dumps({"model": "actor", "messages": ASK}).encode()
    with server.connect() as client:
        client.sendall(
            f"{HEAD}Connection: close\r\nExpect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        )
        assert client.recv(100).startswith(b"HTTP/1.1 100 ")
        client.sendall(body)
        assert Reply(read_all(client)).status == 200
    with server.connect() as client:
        client.sendall(f"{HEAD}Expect: 100-continue\r\nContent-Length: 999999999\r\n\r\n".encode())
        assert Reply(read_all(client)).status == 413


def test_an_upload_beyond_the_limit_is_told_so_and_not_read_to_its_end(serving: Serving) -> None:
    """Whoever sends on gets to read the refusal: the connection is not closed over unread bytes."""
    server = serving(Actor(*played("Yes.")), request_bytes=100_000)
    with server.connect() as client:
        client.sendall(f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode())
        for _ in range(40):
            client.sendall(b"2710\r\n" + b" " * 10_000 + b"\r\n")
        reply = Reply(read_all(client))
    assert (reply.status, reply.error["code"]) == (413, "request_too_large")


def test_all_uploads_together_are_bounded(serving: Serving) -> None:
    server = serving(Actor(*played("Yes.")), held_bytes=100_000)
    clients = [server.connect() for _ in range(3)]
    for client in clients[:2]:
        client.sendall(f"{HEAD}Content-Length: 90000\r\n\r\n".encode() + b" " * 45_000)
    assert server.settled(lambda: server.server._held.bytes == 90_000)
    clients[2].sendall(f"{HEAD}Content-Length: 90000\r\n\r\n".encode() + b" " * 45_000)
    assert Reply(read_all(clients[2])).status == 503
    for client in clients:
        client.close()
    assert server.settled(server.idle)
    assert server.chat().status == 200


# Not JSON


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[" * 40_000, 400),
        (b'{"a":' * 20_000, 400),
        (b"[" * 1_000_000, 413),
        (b"{}" + b",{}" * 100_000, 413),
        (b"null", 400),
        (b"[]", 400),
        (b'"text"', 400),
        (b'{"model": "actor", "messages": NaN}', 400),
        (b'{"model": "actor", "messages": [{"role": "user", "content": "?"}], "temperature": Infinity}', 400),
        (b'{"model": "actor", "messages": [{"role": "user", "content": "?"}], "temperature": 1e999}', 400),
        (b'{"model": "actor", "messages": [{"role": "user", "content": "?"}], "seed": ' + b"9" * 10_000 + b"}", 400),
        (b'{"model": "actor", "messages": [{"role": "user", "content": "?"}], "max_tokens": 1e400}', 400),
        (b'{"model": "actor", "model": "actor", "messages": [{"role": "user", "content": "?"}]}', 400),
        (b'{"model": "actor", "messages": [{"role": "user", "content": "\xff\xfe"}]}', 400),
        (b'\xef\xbb\xbf{"model": "actor"}', 400),
        ('{"model": "actor"}'.encode("utf-16"), 400),
        (b'{"model": "actor", "messages": [{"role": "user", "content": "?", "constructor": 1}]}', 400),
        (b'{"\\ud800": 1}', 400),
        (b"\0" * 1000, 400),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_is_no_json(one: Running, body: bytes, status: int) -> None:
    reply = one.call("POST", "/v1/chat/completions", body)
    assert reply.status == status
    assert len(reply.error["message"]) < 500


@pytest.fixture(scope="module")
def one() -> Iterator[Running]:
    with running(Actor(*played("Yes."))) as found:
        yield found


def test_requests_that_went_through_a_shredder(one: Running) -> None:
    """A sound request with bytes changed, cut out or doubled: never a 5xx, never a broken connection."""
    rng, whole = random.Random(7), _request(guard="none", temperature=0.5, stop=["x"])
    body = whole.partition(b"\r\n\r\n")[2]
    statuses = set()
    for _ in range(300):
        shredded = bytearray(body)
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(len(shredded))
            kind = rng.randrange(3)
            if kind == 0:
                shredded[place] = rng.randrange(256)
            elif kind == 1:
                del shredded[place : place + rng.randint(1, 9)]
            else:
                shredded[place:place] = shredded[place : place + rng.randint(1, 9)]
        reply = one.call("POST", "/v1/chat/completions", bytes(shredded))
        statuses.add(reply.status)
    assert statuses <= {200, 400, 404} and 400 in statuses


def test_heads_that_went_through_a_shredder(one: Running) -> None:
    """The same for the whole request, its head included. The server answers or closes, and goes on."""
    rng, whole = random.Random(11), _request(guard="none")
    end = whole.index(b"\r\n\r\n") + 4
    statuses = Counter()
    for _ in range(300):
        shredded = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            place = rng.randrange(end)
            shredded[place : place + rng.randrange(3)] = rng.randbytes(rng.randrange(3))
        with one.connect() as client:
            client.sendall(shredded)
            client.shutdown(socket.SHUT_WR)
            data = read_all(client)
        statuses[Reply(data).status if data else 0] += 1
    assert set(statuses) <= {0, 200, 400, 401, 403, 404, 405, 411, 413, 415, 431, 501, 505}, statuses
    assert statuses[400] > 20
    assert one.settled(one.idle)
    assert one.chat().status == 200


# Long


def _resident() -> int:
    """Bytes of this process in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
def test_many_large_pictures_at_once_are_decoded_one_after_the_other(nothing_is_left: None) -> None:
    """16 pictures of 49 megapixels, 150 MB each as RGB: 2.4 GB together, and decoders copy. What the process grows by is
    that of one. A question without a picture is answered meanwhile."""
    picture = data_uri(png((7000, 7000), kind="JPEG"))
    peak, over = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.wait(0.01):
            peak = max(peak, _resident())

    with running(Actor(*played("Yes."))) as server, ThreadPoolExecutor(16) as pool:
        before, watching = _resident(), threading.Thread(target=watch)
        watching.start()
        asking = [pool.submit(lambda: server.chat(showing(picture), timeout=120).status) for _ in range(16)]
        assert server.settled(lambda: server.server.worker.load == 16, 30)
        started = time.monotonic()
        assert server.chat().status == 200
        assert time.monotonic() - started < 2
        assert not all(one.done() for one in asking)
        assert [one.result() for one in asking] == [200] * 16
        over.set()
        watching.join()
        assert server.settled(server.idle)
    assert peak - before < 1 << 30


@pytest.mark.slow
def test_who_waits_in_the_queue_holds_no_upload(serving: Serving) -> None:
    """10 requests of 14 MB wait behind a slow answer; the server keeps their squared pictures and lets the rest go."""
    import numpy as np
    from PIL import Image

    noise = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (1900, 1900, 3), dtype=np.uint8)).save(noise, "PNG")
    whole = json.dumps({"model": "actor", "messages": showing(data_uri(noise.getvalue())), "guard": "none"}).encode()
    assert len(whole) > 14_000_000
    actor = Actor(*played("one " * 1000), pause=0.05)
    server, clients, before = serving(actor), [], 0
    tracemalloc.start()  # what Python holds; what the allocator keeps for the next request is not the server's
    try:
        for number in range(11):
            clients.append(server.connect(60))
            clients[-1].sendall(f"{HEAD}Content-Length: {len(whole)}\r\n\r\n".encode() + whole)
            assert server.settled(lambda wanted=number + 1: server.server.worker.load == wanted, 30)
            if number == 0:
                assert server.settled(lambda: len(actor.asked) == 1, 30)
                before = tracemalloc.get_traced_memory()[0]
        assert server.settled(lambda: server.server._held.bytes == 0, 60)
        assert server.settled(lambda: tracemalloc.get_traced_memory()[0] - before < 2 << 20)
    finally:
        tracemalloc.stop()
    for client in clients:
        client.close()
    assert server.settled(server.idle)


@pytest.mark.slow
def test_memory_is_flat_over_thousands_of_requests(nothing_is_left: None, saying: Callable[..., Model]) -> None:
    """Good, bad and broken-off ones mixed; after the first 500, 2000 more may take at most 8 MiB."""
    model = saying("Yes, there is a ring.")
    pictures = [data_uri(png((30 + number, 30))) for number in range(12)]
    with running(model, waiting=64) as server:

        def round_of(number: int) -> None:
            picture = pictures[number % len(pictures)]
            if number % 5 == 0:
                with server.connect() as client:
                    client.sendall(_request("scripted", stream=True))
            elif number % 5 == 1:
                assert server.chat(showing(data_uri(b"no picture"))).status == 400
            else:
                assert server.chat(showing(picture), stream=bool(number % 2)).status == 200

        for number in range(500):
            round_of(number)
        assert server.settled(server.idle)
        gc.collect()
        before = _resident()
        for number in range(2000):
            round_of(number)
        assert server.settled(server.idle)
        gc.collect()
        assert _resident() - before < 8 << 20
        assert len(model.engine.live) == len(model.sight._prefixes)
