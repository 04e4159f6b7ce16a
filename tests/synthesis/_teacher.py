"""A scripted teacher on this machine, with every bad habit that servers and models have.

What it answers is decided by the request alone (messages, seed, parameters), so two runs that ask the same get the same.
What goes wrong on the way there is decided by the request and by how often it came: the first try of some fails.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

THINGS = "lamp clock vase ladder bucket kite drum anchor basket helmet lantern barrel".split()
COLOURS = "red blue green yellow white black brown orange".split()


def rng_of(body: dict[str, Any]) -> random.Random:
    """One stream of chance for each request."""
    return random.Random(json.dumps([body["messages"], body.get("seed")], sort_keys=True))


def said(body: dict[str, Any]) -> str:
    """The words of the last question."""
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else next(part["text"] for part in content if part["type"] == "text")


def picture_of(body: dict[str, Any]) -> bytes | None:
    for message in body["messages"]:
        for part in message["content"] if isinstance(message["content"], list) else ():
            if part["type"] == "image_url":
                return base64.b64decode(part["image_url"]["url"].partition(",")[2])
    return None


def good(body: dict[str, Any]) -> Any:
    """What an able teacher answers to each of the prompts."""
    text, rng = said(body), rng_of(body)
    if '"confusing_answer"' in text:
        names, colours = rng.sample(THINGS, 3), rng.sample(COLOURS, 6)
        return [
            {"question": f"Which colour has the {name} at {rng.randrange(1000)}?", "correct_answer": colours[n].title(),
             "confusing_answer": colours[n + 3].title()}
            for n, name in enumerate(names)
        ]  # fmt: skip
    if '"contradiction"' in text:
        return {"contradiction": "yes" if rng.random() < 0.1 else "no"}
    if '"rationale"' in text:
        return {"rationale": f"The light falls on its {rng.choice(COLOURS)} side, number {rng.randrange(10**6)}."}
    if '"task"' in text:
        tasks = re.search(r"kinds of task: (.*?)\.\n", text)[1].split("; ")
        return [
            {"task": task, "instruction": f"Do {task} for number {rng.randrange(10**6)}.", "answer": "A lamp, lit."}
            for task in tasks
        ]
    if '"thing"' in text:
        return [
            {"instruction": f"Why is the {thing} so {colour}?", "thing": thing, "wrong": colour,
             "answer": f"The {thing} is not {colour} but grey."}
            for thing, colour in zip(rng.sample(THINGS, 2), rng.sample(COLOURS, 2), strict=True)
        ]  # fmt: skip
    if '"wrong"' in text:
        return [
            {"instruction": f"Tell me about the {thing} number {rng.randrange(10**6)}.", "wrong": thing,
             "answer": f"There is no {thing}."}
            for thing in rng.sample(THINGS, 2)
        ]  # fmt: skip
    answer = re.search(r"True answer: (.*)", text)[1]
    now = f"{rng.choice(COLOURS)} {rng.choice(THINGS)}"
    if "(empty where words were only added)" in text:
        return {"rewritten": f"{answer.rstrip('.')} and a {now}.", "changes": [{"from": "", "to": f"and a {now}"}]}
    was = answer.split()[1]
    return {"rewritten": answer.replace(was, now, 1), "changes": [{"from": was, "to": now}]}


def spoilt(body: dict[str, Any]) -> str:
    """The able teacher's answer, or for some requests what teachers do to their JSON."""
    value, habit = good(body), random.Random(json.dumps(body["messages"]) + str(body.get("seed"))).randrange(16)
    text = json.dumps(value)
    if habit == 0:
        return text[: len(text) // 2]  # half JSON
    if habit == 1:
        return "I am sorry, but as a model of language I would rather talk about the weather."
    if habit == 2:
        return text.replace('"question"', '"Question"').replace('"rationale"', '"reason"').replace('"answer"', '"a"')
    if habit == 3 and isinstance(value, list):
        return json.dumps([value[0], *value, value[0]])  # the same items again
    if habit == 4:
        return f"Of course! Here it is:\n```json\n{text[:-1]},{text[-1]}\n```\nShall I go on?"
    if habit == 5:
        return repr(value)
    if habit == 6:
        return ""
    if habit == 7 and isinstance(value, list):
        return json.dumps({"items": value})
    return text


class Scripted(ThreadingHTTPServer):
    """Serves until closed. answer: body -> text. fault: (body, how often it came) -> name of a fault, or None.

    bodies: everything that was asked, in order. slow: seconds that a "timeout" sleeps.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        answer: Callable[[dict[str, Any]], str] = spoilt,
        fault: Callable[[dict[str, Any], int], str | None] | None = None,
        usage: bool = True,
        slow: float = 1.0,
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer, self.fault, self.usage, self.slow = answer, fault or (lambda body, times: None), usage, slow
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.listed: list[dict[str, str]] = []  # of requests for the list of models
        self.status, self.elsewhere = 307, "http://127.0.0.1:9/v1/chat/completions"
        self.times: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.under_way = self.most_under_way = 0
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, *_: Any) -> None:
        """Clients that are killed or lose patience hang up; that is the point."""

    def close(self) -> None:
        self.shutdown()
        self.server_close()
        self.thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: Scripted
    counted = False  # whether the request at hand is among those under way
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        with self.server.lock:
            self.server.listed.append(dict(self.headers))
        self._json({"object": "list", "data": [{"id": "scripted", "object": "model"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            key = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
            server.times[key] += 1
            server.bodies.append(body)
            server.headers.append(dict(self.headers))
            self.counted = True
            server.under_way += 1
            server.most_under_way = max(server.most_under_way, server.under_way)
        try:
            fault = server.fault(body, server.times[key])
            if fault:
                with server.lock:
                    server.faults[fault] += 1
                getattr(self, f"_{fault}")(body)
            else:
                self._reply(body)
        finally:
            self._ends()

    def _ends(self) -> None:
        """Counts the request as over: before its last byte leaves, since the client may ask its next one at once."""
        with self.server.lock:
            self.server.under_way -= self.counted
            self.counted = False

    def _reply(self, body: dict[str, Any]) -> None:
        text = self.server.answer(body)
        usage = {"prompt_tokens": 100, "completion_tokens": len(text) // 4, "total_tokens": 100 + len(text) // 4}
        whole = {"id": "chatcmpl-1", "object": "chat.completion", "model": body["model"]}  # always the same id
        if not body.get("stream"):
            message = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
            self._json(whole | {"choices": [message]} | ({"usage": usage} if self.server.usage else {}))
            return
        self._head(200, "text/event-stream", None)
        for at in range(0, len(text), 7):
            self._event(whole | {"choices": [{"index": 0, "delta": {"content": text[at : at + 7]}}]})
        self._event(whole | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        if self.server.usage and body.get("stream_options", {}).get("include_usage"):
            self._event(whole | {"choices": [], "usage": usage})
        self._ends()
        self.wfile.write(b"data: [DONE]\n\n")

    def _head(self, status: int, kind: str, length: int | None, **more: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in more.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True

    def _event(self, value: Any) -> None:
        self.wfile.write(b": keep-alive\n\ndata: " + json.dumps(value).encode() + b"\n\n")

    def _json(self, value: Any, status: int = 200, **more: str) -> None:
        content = json.dumps(value).encode()
        self._ends()
        self._head(status, "application/json", len(content), **more)
        self.wfile.write(content)

    def _busy(self, body: Any) -> None:
        self._json({"error": {"message": "slow down", "code": "rate_limit_exceeded"}}, 429, Retry_After="0")

    def _broken(self, body: Any) -> None:
        self._json({"error": {"message": "out of memory"}}, 500)

    def _hangs_up(self, body: Any) -> None:
        self._ends()
        self.close_connection = True

    def _half(self, body: Any) -> None:
        self._ends()
        self._head(200, "application/json", 5000)
        self.wfile.write(b'{"choices": [{"message": {"content": "ha')

    def _not_json(self, body: Any) -> None:
        self._ends()
        self._head(200, "text/html", 14)
        self.wfile.write(b"<html>Hi</html")

    def _timeout(self, body: Any) -> None:
        self._ends()
        time.sleep(self.server.slow)
        self.close_connection = True

    def _refuses(self, body: Any) -> None:
        self._json({"error": {"message": "this picture is not allowed", "code": "content_policy"}}, 400)

    def _no_such_model(self, body: Any) -> None:
        self._json({"error": {"message": f"no model {body['model']}"}}, 404)

    def _no_seed(self, body: Any) -> None:
        self._json({"error": {"message": "Unrecognized request argument supplied: seed"}}, 400)

    def _new_name(self, body: Any) -> None:
        told = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
        self._json({"error": {"message": told, "code": "unsupported_parameter"}}, 400)

    def _elsewhere(self, body: Any) -> None:
        self._ends()
        self._head(self.server.status, "text/plain", 0, Location=self.server.elsewhere)

    def _no_credit(self, body: Any) -> None:
        self._json({"error": {"message": "You exceeded your quota.", "code": "insufficient_quota"}}, 429)

    def _echoes_key(self, body: Any) -> None:
        self._json({"error": {"message": f"bad key {self.headers['Authorization']}"}}, 401)


def hard_day(body: dict[str, Any], times: int) -> str | None:
    """Faults of the first try, and of some second tries: about a third of the requests meet one."""
    chance = random.Random(json.dumps(body["messages"]) + str(body.get("seed")) + str(times)).random()
    if times > 2:
        return None
    for fault, share in (("busy", 0.08), ("broken", 0.16), ("hangs_up", 0.22), ("half", 0.28), ("not_json", 0.31),
                         ("timeout", 0.318)):  # fmt: skip
        if chance < share:
            return fault
    return None
