"""The server against its own description, and against OpenAI's own client."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from edgereverie.server.asking import ChatRequest

from ._serving import Actor, Running, data_uri, mended, played, png, running, showing


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(Actor(*mended()), key="sesame") as found:
        yield found


@pytest.fixture(scope="module")
def described(server: Running) -> dict[str, Any]:
    return server.get("/openapi.json").json


def test_every_reference_leads_somewhere(described: dict[str, Any]) -> None:
    assert described["openapi"].startswith("3.1")
    text = json.dumps(described)
    named = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert named <= set(described["components"]["schemas"])
    assert {"ChatRequest", "ChatCompletion", "ChatChunk", "ErrorReply", "ModelList"} <= named


def test_the_description_names_this_servers_own_values(described: dict[str, Any]) -> None:
    request = described["components"]["schemas"]["ChatRequest"]
    assert request["properties"]["model"]["const"] == "actor"
    assert "verify" in request["properties"]["guard"]["description"]
    assert set(request["properties"]) == set(ChatRequest.model_fields)
    assert described["paths"]["/v1/models"]["get"]["security"] == [{"key": []}]


@pytest.mark.parametrize("mode", ["POSITIVE", "NEGATIVE"])
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/chat/completions"), ("GET", "/v1/models"), ("GET", "/v1/models/{model}"), ("GET", "/health")],
)
def test_it_answers_as_it_describes_itself(server: Running, method: str, path: str, mode: str) -> None:
    """schemathesis sends what the description allows and what it forbids, and checks statuses, headers and bodies.

    Left out is one of its checks, that everything the description allows is taken: that the last message is the user's, or
    that a data: URI holds a picture, no schema can say.
    """
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis.checks import CHECKS
    from schemathesis.generation import GenerationMode

    if mode == "NEGATIVE" and path in ("/v1/models", "/health"):
        pytest.skip("takes nothing that could be wrong")
    url = f"http://localhost:{server.port}"
    operation = schemathesis.openapi.from_url(f"{url}/openapi.json")[path][method]
    checks = [check for check in CHECKS.get_all() if check.__name__ != "positive_data_acceptance"]
    statuses = Counter()

    @settings(
        max_examples=25,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
        database=None,
        phases=[Phase.generate],
    )
    @given(case=operation.as_strategy(generation_mode=GenerationMode[mode]))
    def conforms(case: Any) -> None:
        response = case.call(base_url=url, headers={"Authorization": "Bearer sesame"})
        statuses[response.status_code] += 1
        case.validate_response(response, checks=checks)

    conforms()
    assert max(statuses) < 500, statuses
    assert statuses[200] if mode == "POSITIVE" else statuses[400] + statuses[404], statuses


@pytest.mark.slow
def test_it_stands_all_phases_of_schemathesis() -> None:
    """Every boundary of every field, thousands of drawn requests, and chains of them; each event of a stream is checked too."""
    pytest.importorskip("schemathesis")
    words = ["--max-examples", "100", "--exclude-checks", "positive_data_acceptance", "--generation-deterministic"]
    with running(Actor(*mended())) as server:
        command = [
            sys.executable,
            "-m",
            "schemathesis.cli",
            "run",
            f"http://localhost:{server.port}/openapi.json",
            *words,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stdout
    assert "No issues found" in done.stdout


# OpenAI's client, as it is installed


@pytest.fixture
def client(server: Running) -> Iterator[Any]:
    openai = pytest.importorskip("openai")
    with openai.OpenAI(api_key="sesame", base_url=f"http://localhost:{server.port}/v1", max_retries=0) as found:
        yield found


def test_openais_client_lists_models(client: Any) -> None:
    (model,) = client.models.list().data
    assert (model.id, model.object) == ("actor", "model")
    assert client.models.retrieve("actor").id == "actor"


def test_openais_client_asks(client: Any) -> None:
    answer = client.chat.completions.create(
        model="actor", messages=showing(data_uri(png())), max_tokens=50, temperature=0.2, top_p=0.9, seed=1, stop=["#"],
        user="me", extra_body={"guard": "verify"},
    )  # fmt: skip
    assert answer.choices[0].message.content == "There is a red ring, a moon and perhaps a square."
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == 52
    claims = answer.edgereverie["claims"]
    assert [claim["verdict"] for claim in claims] == ["supported", "contradicted", "unverified"]
    again = [*showing(data_uri(png())), answer.choices[0].message, {"role": "user", "content": "Where is it?"}]
    assert client.chat.completions.create(model="actor", messages=again).choices[0].message.content


def test_openais_client_streams(client: Any) -> None:
    stream = client.chat.completions.create(
        model="actor", messages=showing(data_uri(png())), stream=True, stream_options={"include_usage": True},
        extra_body={"guard": "verify"},
    )  # fmt: skip
    said, ended, usage, claims = "", None, None, None
    for chunk in stream:
        for choice in chunk.choices:
            said += choice.delta.content or ""
            ended = choice.finish_reason or ended
        usage = chunk.usage or usage
        claims = (chunk.edgereverie or {}).get("claims", claims)
    assert (said, ended) == ("There is a red ring, a moon and perhaps a square.", "stop")
    assert usage.completion_tokens == 12
    assert len(claims) == 3


def test_openais_client_streams_with_its_own_helper(client: Any) -> None:
    with client.chat.completions.stream(model="actor", messages=showing(data_uri(png()))) as stream:
        for _ in stream:
            pass
        assert stream.get_final_completion().choices[0].message.content.startswith("There is")


def test_openais_client_leaves_a_stream(client: Any, server: Running) -> None:
    with client.chat.completions.create(
        model="actor", messages=[{"role": "user", "content": "?"}], stream=True
    ) as stream:
        next(iter(stream))
    assert server.settled(lambda: server.server.worker.load == 0)


@pytest.mark.parametrize(
    ("fields", "kind", "code"),
    [
        ({"model": "gpt-4o"}, "NotFoundError", "model_not_found"),
        ({"temperature": 9}, "BadRequestError", "invalid_value"),
        ({"messages": []}, "BadRequestError", "invalid_value"),
        ({"messages": showing("https://example.com/a.png")}, "BadRequestError", "urls_not_allowed"),
        ({"n": 3}, "BadRequestError", "invalid_value"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "BadRequestError", "unknown_parameter"),
        ({"extra_headers": {"Authorization": "Bearer wrong"}}, "AuthenticationError", "invalid_api_key"),
    ],
    ids=str,
)
def test_openais_client_raises_its_own_errors(client: Any, fields: dict[str, Any], kind: str, code: str) -> None:
    import openai

    asked = {"model": "actor", "messages": [{"role": "user", "content": "?"}]} | fields
    with pytest.raises(getattr(openai, kind)) as refused:
        client.chat.completions.create(**asked)
    assert refused.value.code == code
    assert refused.value.body["message"]


def test_openais_client_meets_a_full_queue_and_a_failing_model() -> None:
    openai = pytest.importorskip("openai")
    from edgereverie.errors import BackendError
    from edgereverie.runtime.request import Piece

    ask = {"model": "actor", "messages": [{"role": "user", "content": "?"}]}

    def asking(server: Running) -> Any:
        return openai.OpenAI(api_key="x", base_url=f"http://localhost:{server.port}/v1", max_retries=0)

    with running(Actor(Piece("a"), BackendError("NaN"))) as server, asking(server) as client:
        with pytest.raises(openai.InternalServerError):
            client.chat.completions.create(**ask)
        with pytest.raises(openai.APIError, match="NaN"):
            list(client.chat.completions.create(**ask, stream=True, extra_body={"guard": "none"}))
    with running(Actor(*played("one two three four"), pause=0.2), waiting=0) as server, asking(server) as client:
        streaming = client.chat.completions.create(**ask, stream=True, extra_body={"guard": "none"})
        with pytest.raises(openai.RateLimitError):
            client.chat.completions.create(**ask)
        streaming.close()
