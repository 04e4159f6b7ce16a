"""Who may ask, under which name, with which method: refused as OpenAI's clients expect, and before a body is read."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgereverie.bundle import Bundle
from edgereverie.errors import BackendError
from edgereverie.server.limits import Settings

from ._serving import Actor, Running, data_uri, played, png, running, showing

Serving = Callable[..., Running]


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(Actor(*played("Yes."))) as found:
        yield found


@pytest.fixture(scope="module")
def locked() -> Iterator[Running]:
    with running(Actor(*played("Yes.")), key="sesame") as found:
        yield found


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/actor", "/v1/chat/completions", "/v1/other"])
@pytest.mark.parametrize(
    "header",
    [None, "", "sesame", "Bearer", "Bearer ", "Bearer sesam", "Bearer sesamee", "Basic sesame", "Bearer séśame"],
)
def test_without_the_key_nothing_is_told(locked: Running, path: str, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header.encode().decode("latin-1")}
    method = "POST" if path.endswith("completions") else "GET"
    reply = locked.call(method, path, {} if method == "POST" else None, headers)
    assert (reply.status, reply.error["code"]) == (401, "invalid_api_key")
    assert reply.headers["www-authenticate"] == "Bearer"


def test_with_the_key_it_answers(locked: Running) -> None:
    assert locked.get("/v1/models", Authorization="Bearer sesame").status == 200
    assert locked.get("/v1/models", Authorization="bearer  sesame ").status == 200
    for path in ("/", "/health", "/openapi.json"):
        assert locked.get(path).status == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.2", "::", "my-machine"])
def test_beyond_this_machine_only_with_a_key(host: str) -> None:
    with pytest.raises(BackendError, match="no API key"):
        Settings(host=host)
    assert Settings(host=host, key="sesame").loopback is False


@pytest.mark.parametrize("key", ["", " ", "two words", "line\nbreak", "schlüssel"])
def test_a_key_that_no_header_can_carry(key: str) -> None:
    with pytest.raises(BackendError, match="key"):
        Settings(key=key)


def test_the_key_is_not_in_what_settings_show() -> None:
    assert "sesame" not in repr(Settings(key="sesame"))


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="no such folder"):
        Settings(files=tmp_path / "missing")


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "192.168.1.2:80", "", "[::1"]
)
def test_another_name_for_this_machine_is_refused(server: Running, host: str) -> None:
    """DNS rebinding: a page's own name is made to point here, and the browser sends that name."""
    reply = server.get("/v1/models", Host=host)
    assert (reply.status, reply.error["code"]) == (403, "host_not_allowed")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000", "[::1]", "127.8.8.8"])
def test_this_machines_own_names_are_taken(server: Running, host: str) -> None:
    assert server.get("/v1/models", Host=host).status == 200


def test_other_sites_are_told_nothing(server: Running) -> None:
    """No CORS: the browser keeps the answer from them, and does not even send JSON without asking first."""
    reply = server.call(
        "OPTIONS",
        "/v1/chat/completions",
        headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"},
    )
    assert reply.status == 405
    for found in (reply, server.get("/v1/models", Origin="https://evil.example")):
        assert not [name for name in found.headers if name.startswith("access-control")]
        assert found.headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "application/jsonp"]
)
def test_a_form_of_another_site_is_no_request(server: Running, kind: str) -> None:
    reply = server.call("POST", "/v1/chat/completions", {}, {"Content-Type": kind})
    assert (reply.status, reply.error["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/v1", 404),
        ("GET", "/v1/models/gpt-4o", 404),
        ("GET", "/../etc/passwd", 404),
        ("GET", "/%2e%2e/%2e%2e/etc/passwd", 404),
        ("GET", "/page/../../pyproject.toml", 404),
        ("GET", "//page.js", 404),
        ("GET", "/page.js%00.html", 404),
        ("GET", "/__init__.py", 404),
        ("POST", "/v1/models", 405),
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/", 405),
        ("TRACE", "/health", 405),
    ],
)
def test_what_is_not_here(server: Running, method: str, path: str, status: int) -> None:
    reply = server.call(method, path)
    assert reply.status == status
    assert reply.error["message"]
    assert ("allow" in reply.headers) == (status == 405)


def test_a_header_cannot_be_brought_in(server: Running) -> None:
    """What a client sends is never put into a header of the response."""
    model = {"model": "x\r\nSet-Cookie: a=b", "messages": [{"role": "user", "content": "?"}]}
    reply = server.call("POST", "/v1/chat/completions", model)
    assert reply.status == 404 and "set-cookie" not in reply.headers
    assert "set-cookie" not in server.get("/v1/models/x%0d%0aSet-Cookie:%20a=b").headers


def test_the_head_alone(server: Running) -> None:
    reply = server.call("HEAD", "/health")
    assert (reply.status, reply.body) == (200, b"")
    assert int(reply.headers["content-length"]) > 0


def test_the_page_is_closed_to_the_outside(server: Running) -> None:
    page = server.get("/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    text = "".join(server.get(path).body.decode() for path in ("/", "/page.css", "/page.js", "/mark.svg"))
    assert set(re.findall(r"https?://[^\"'\s)]*", text)) == {"http://www.w3.org/2000/svg"}  # a namespace, not a place


def test_the_model_is_described(server: Running) -> None:
    (model,) = server.get("/v1/models").json["data"]
    assert model == server.get("/v1/models/actor").json
    assert model["id"] == "actor" and model["object"] == "model"
    assert model["edgereverie"]["guards"][0] == "flag" and "verify" in model["edgereverie"]["guards"]


def test_a_model_whose_name_has_a_slash() -> None:
    actor = Actor(*played("Yes."))
    actor.name = "org/model"
    with running(actor) as server:
        assert server.get("/v1/models/org%2Fmodel").json["id"] == "org/model"
        assert server.get("/v1/models/org/model").json["id"] == "org/model"


def test_another_program_has_the_port(server: Running) -> None:
    actor = Actor()
    with pytest.raises(BackendError, match="cannot be listened on"):
        import asyncio

        from edgereverie.server.listening import Server

        async def listen() -> None:
            async with Server(actor, Settings(port=server.port)):
                raise AssertionError

        asyncio.run(listen())
    assert actor.closed


# The command


def _command(*words: str, key: str | None = None, path: Path | None = None) -> subprocess.Popen[str]:
    """path: looked at before this checkout."""
    root = Path(__file__).parent.parent.parent
    places = os.pathsep.join(map(str, filter(None, (path, root))))
    environment = os.environ | {"PYTHONPATH": places, "COLUMNS": "200", "PYTHONUNBUFFERED": "1"}
    if key is not None:
        environment["EDGEREVERIE_API_KEY"] = key
    return subprocess.Popen(
        [sys.executable, "-m", "edgereverie", "serve", *words], stderr=subprocess.PIPE, text=True, env=environment
    )


@pytest.mark.slow
def test_the_command_serves_until_it_is_stopped() -> None:
    """The starter itself: a picture of nothing, a question, its answer; then one signal, and it leaves without an error."""
    pytest.importorskip("torch")
    process = _command("starter", "--port", "0", key="sesame")
    try:
        told = process.stderr.readline() + process.stderr.readline()
        host, port = re.search(r"http://([\d.]+):(\d+)", told).groups()
        assert "starter" in told and "an API key is needed" in told and "sesame" not in told and "flag" in told
        client = http.client.HTTPConnection(host, int(port), timeout=60)
        body = {"model": "starter", "messages": showing(data_uri(png((96, 96)))), "max_tokens": 8}
        headers = {"Content-Type": "application/json", "Authorization": "Bearer sesame"}
        client.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        answer = json.loads(client.getresponse().read())
        assert answer["choices"][0]["message"]["content"]
        assert answer["edgereverie"]["guards"] == ["flag"]
        client.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
        assert "Traceback" not in process.stderr.read()
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["gguf-q8-0", "onnx-int8"])
def test_a_bundle_is_served_without_torch(exported: Callable[[str], Path], profile: str, tmp_path: Path) -> None:
    """The process cannot import torch at all; the picture, the claims and JSON grammar where there is one."""
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    code = "import sys\nfor name in ('torch', 'transformers', 'peft', 'bitsandbytes'): sys.modules[name] = None\n"
    (blocked / "sitecustomize.py").write_text(code)
    bundle = exported(profile)
    process = _command(str(bundle), "--port", "0", path=blocked)
    try:
        told = process.stderr.readline()
        host, port = re.search(r"http://([\d.]+):(\d+)", told).groups()
        client = http.client.HTTPConnection(host, int(port), timeout=60)
        body = {"model": Bundle.load(bundle).name, "messages": showing(data_uri(png((96, 96)))), "max_tokens": 12}
        for fields in ({"guard": "flag"}, {"guard": "verify"}, {"response_format": {"type": "json_object"}}):
            client.request(
                "POST", "/v1/chat/completions", json.dumps(body | fields), {"Content-Type": "application/json"}
            )
            response = client.getresponse()
            answer = json.loads(response.read())
            if "guard" in fields:
                assert answer["edgereverie"]["guards"] == [fields["guard"]], answer
            elif profile.startswith("gguf"):
                assert answer["choices"][0]["message"]["content"].lstrip().startswith("{")
            else:
                assert (response.status, answer["error"]["param"]) == (400, "response_format")
        client.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_ctrl_c_stops_it_and_closes_the_model() -> None:
    code = """
import asyncio, sys
from edgereverie.backbones.starter import IMAGE
from edgereverie.server.limits import Settings
from edgereverie.server.listening import serve

class Model:
    name, image, backend, context, calibration = "stub", IMAGE, "none", 512, None
    engine = property(lambda self: self)
    def close(self):
        print("closed", flush=True)

asyncio.run(serve(Model(), Settings(port=0), lambda server: print("ready", flush=True)))
print("left", flush=True)
"""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent.parent)}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=15)[0] == "closed\nleft\n"
    assert process.returncode == 0


def test_without_its_package_the_command_says_what_to_install() -> None:
    code = "import sys; sys.modules['h11'] = None; from edgereverie.cli.app import main; main(['serve', 'starter'])"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent.parent)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 1
    assert "'h11'" in done.stderr and "edgereverie[serve]" in done.stderr


def test_the_command_refuses_to_be_open_without_a_key() -> None:
    started = time.monotonic()
    process = _command("starter", "--host", "0.0.0.0")
    _, told = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "no API key is set" in told and "EDGEREVERIE_API_KEY" in told
    assert time.monotonic() - started < 10  # before the model is loaded
