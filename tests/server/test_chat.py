"""Chat completions: what a request says reaches the model, and what the model says reaches the client."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from edgereverie.errors import BackendError
from edgereverie.records import Answer, Options, Turn
from edgereverie.runtime.engine import CacheFull
from edgereverie.runtime.model import Model
from edgereverie.runtime.request import Done, Piece
from edgereverie.server.limits import Settings
from edgereverie.server.reading import asked
from edgereverie.server.refusal import Refusal

from ._serving import Actor, Running, data_uri, mended, played, png, showing

Serving = Callable[..., Running]


def test_an_answer(serving: Serving, saying: Callable[..., Model]) -> None:
    reply = serving(saying()).chat(guard="none")
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    assert reply.json["object"] == "chat.completion"
    choice = reply.json["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": "Yes, there is a ring.", "refusal": None}
    assert choice["finish_reason"] == "stop"
    usage = reply.json["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > usage["prompt_tokens"] > 0


def test_an_answer_that_is_cut_says_so(serving: Serving, saying: Callable[..., Model]) -> None:
    reply = serving(saying()).chat(max_tokens=2, guard="none")
    assert reply.json["choices"][0]["finish_reason"] == "length"
    assert reply.json["usage"]["completion_tokens"] == 2


def test_the_claims_come_with_the_answer(serving: Serving, saying: Callable[..., Model]) -> None:
    reply = serving(saying()).chat(showing(data_uri(png())), guard="flag")
    extension = reply.json["edgereverie"]
    assert extension["guards"] == ["flag"]
    (claim,) = extension["claims"]
    content = reply.json["choices"][0]["message"]["content"]
    assert content[claim["start"] : claim["end"]] == claim["text"]
    assert claim["subject"] == "ring" and claim["why"] and 0 <= claim["support"] <= 1


def test_everything_that_a_request_says_reaches_the_model(serving: Serving) -> None:
    actor = Actor(*played("Yes."))
    messages = [
        {"role": "system", "content": "Be brief."},
        showing(data_uri(png()), "Look.")[0],
        {"role": "user", "content": "Is there a ring?"},
        {"role": "assistant", "content": "Yes.", "refusal": None},
        {"role": "user", "content": "Which colour?"},
    ]
    reply = serving(actor).chat(
        messages, temperature=0.7, top_p=0.9, max_tokens=9, max_completion_tokens=11, stop=["\n", "User:"], seed=-3, n=1,
        guard="none", presence_penalty=0, frequency_penalty=0.0, user="me", metadata={"a": 1}, stream=False,
    )  # fmt: skip
    assert reply.status == 200, reply.body
    ((image, turns, options, guards),) = actor.asked
    assert image.size == (actor.image.size, actor.image.size)
    assert turns == (
        Turn("system", "Be brief."),
        Turn("user", "Look.\nIs there a ring?"),
        Turn("assistant", "Yes."),
        Turn("user", "Which colour?"),
    )
    assert options == Options(max_tokens=11, temperature=0.7, top_p=0.9, stop=("\n", "User:"), seed=(1 << 64) - 3)
    assert guards == "none"


def test_what_a_request_leaves_out_is_the_servers(serving: Serving) -> None:
    actor = Actor(*played("Yes."))
    server = serving(actor, guard="none", max_tokens=33)
    for _ in range(2):
        assert server.chat(temperature=None, top_p=None, stop=None, stream=None).status == 200
    (_, _, first, guards), (_, _, second, _) = actor.asked
    assert (first.max_tokens, first.temperature, first.top_p, first.stop, guards) == (33, 0.0, 1.0, (), "none")
    assert first.seed != second.seed


def test_a_picture_is_seen_as_from_a_file(serving: Serving, saying: Callable[..., Model], tmp_path) -> None:
    """Decoding and squaring before the queue changes nothing in what the vision tower gets."""
    import numpy as np
    from PIL import Image

    from edgereverie.image import open_image, prepare

    noise = np.random.default_rng(5).integers(0, 255, (70, 130, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    actor = Actor(*played("Yes."))
    serving(actor).chat(showing(data_uri((tmp_path / "noise.png").read_bytes())), guard="none")
    seen, file = prepare(actor.asked[0][0], actor.image), prepare(open_image(tmp_path / "noise.png"), actor.image)
    assert (seen == file).all()


def test_a_stream(serving: Serving) -> None:
    reply = serving(Actor(*played("Yes, there is."))).chat(
        stream=True, stream_options={"include_usage": True}, guard="flag"
    )
    assert reply.status == 200
    assert reply.headers["content-type"].startswith("text/event-stream")
    *chunks, end = reply.events
    assert end == "data: [DONE]"
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    deltas = [chunk["choices"][0]["delta"].get("content") for chunk in chunks[1:-2]]
    assert deltas == ["Yes,", " there", " is."]
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-2]["edgereverie"]["guards"] == ["flag"]
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["total_tokens"] == 10
    assert all(chunk["usage"] is None for chunk in chunks[:-1])


@pytest.mark.parametrize("guard", ["verify", "flag,verify"])
def test_text_that_may_be_taken_back_waits_until_it_is_final(serving: Serving, guard: str) -> None:
    *chunks, _ = serving(Actor(*mended())).chat(stream=True, guard=guard).events
    said = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert said == "There is a red ring, a moon and perhaps a square."
    assert not any("retraction" in (chunk["edgereverie"] or {}) for chunk in chunks)
    assert chunks[-1]["edgereverie"]["draft"] == "There is a star."


def test_who_asks_for_events_gets_retractions(serving: Serving) -> None:
    server = serving(Actor(*mended()))
    *chunks, _ = server.chat(stream=True, guard="verify", stream_options={"edgereverie_events": True}).events
    shown, taken = "", 0
    for chunk in chunks:
        if retraction := (chunk["edgereverie"] or {}).get("retraction"):
            shown, taken = shown[: retraction["length"]], taken + 1
            assert retraction["why"] == "The picture shows no star."
        shown += chunk["choices"][0]["delta"].get("content", "")
    assert taken == 1
    assert shown == "There is a red ring, a moon and perhaps a square."
    extension = chunks[-1]["edgereverie"]
    for claim in extension["claims"]:
        assert shown[claim["start"] : claim["end"]] == claim["text"]
    assert extension["guarantee"] == "At most 1 kept claim in 20 is wrong."


def test_a_figure_that_json_cannot_hold_is_left_out(serving: Serving) -> None:
    from edgereverie.records import Claim

    claim = Claim("ring", 0, 4, "ring", 0.5, "unverified", {"grounding": float("-inf"), "verification": 1.0})
    reply = serving(Actor(Done(Answer("ring", (claim,))))).chat()
    assert reply.json["edgereverie"]["claims"][0]["evidence"] == {"verification": 1.0}


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (BackendError("The model computed logits that are not numbers (NaN)."), 500, "model_failed"),
        (CacheFull("All streams together hold more than the engine can keep."), 503, "overloaded"),
        (ZeroDivisionError("secret of the machine"), 500, "internal_error"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_model_that_fails(
    serving: Serving, failure: Exception, status: int, code: str, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The server tells it and goes on; a stream that began tells it in an event, and does not end as if all were well."""
    server = serving(Actor(Piece("There"), failure))
    reply = server.chat(stream=stream, guard="none")
    if stream:
        assert reply.status == 200
        *_, last = reply.events
        assert last["error"]["code"] == code
    else:
        assert (reply.status, reply.error["code"]) == (status, code)
    assert b"secret" not in reply.body
    assert any(record.exc_info for record in caplog.records) == (code == "internal_error")
    caplog.clear()
    assert server.get("/health").status == 200


@pytest.mark.parametrize("stream", [False, True])
def test_a_question_that_does_not_fit_has_its_status_even_in_a_stream(
    serving: Serving, saying: Callable[..., Model], stream: bool
) -> None:
    reply = serving(saying(context=100)).chat(stream=stream)  # the answer alone may take 160
    assert reply.status == 400
    assert reply.error["code"] == "context_length_exceeded"
    assert reply.error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"n": True}, "n"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": 2.1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"seed": 1 << 70}, "seed"),
        ({"stop": ""}, "stop"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stream": 1}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"everything": True}}, "stream_options.everything"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"logprobs": True}, "logprobs"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"response_format": {"type": "json_schema"}}, "response_format.type"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"guard": "flagg"}, "guard"),
        ({"guard": 3}, "guard"),
        ({"tempretaure": 1}, "tempretaure"),
    ],
    ids=str,
)
def test_a_field_that_is_wrong_is_named(fields: dict[str, Any], param: str) -> None:
    body = {"model": "actor", "messages": [{"role": "user", "content": "?"}]} | fields
    with pytest.raises(Refusal) as refused:
        asked(json.dumps(body).encode(), Actor(), Settings())
    assert (refused.value.status, refused.value.param) == (400, param)
    assert str(refused.value).endswith(".") and len(str(refused.value)) < 200


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([], "at least 1"),
        ("Is there a ring?", "list"),
        ([{"role": "user"}], "content"),
        ([{"role": "user", "content": []}], "at least 1"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0].text"),
        ([{"role": "user", "content": [{"type": "audio", "text": "?"}]}], "messages[0].content[0]"),
        ([{"role": "tool", "content": "?"}], "messages[0].role"),
        ([{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}], "last message"),
        ([{"role": "assistant", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}], "only the user"),
        ([*showing("x"), *showing("y")], "2 pictures"),
        ([{"role": "user", "content": "\ud800"}], "surrogate"),
        ([{"role": "user", "content": "a" * 200_000}], "characters"),
        ([{"role": "user", "content": 5}], "messages[0].content"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_messages_that_are_wrong(serving: Serving, messages: Any, words: str) -> None:
    reply = serving(Actor(*played("Yes."))).chat(messages)
    assert reply.status == 400
    assert words in reply.error["message"]


@pytest.mark.parametrize("text", ["<|end|>", "", "  \n "])
def test_a_text_that_the_chat_format_cannot_hold(serving: Serving, saying: Callable[..., Model], text: str) -> None:
    reply = serving(saying()).chat([{"role": "user", "content": text}])
    assert (reply.status, reply.error["param"]) == (400, "messages")


def test_another_model_is_not_served(serving: Serving) -> None:
    server = serving(Actor(*played("Yes.")))
    reply = server.call(
        "POST", "/v1/chat/completions", {"model": "gpt-4o", "messages": [{"role": "user", "content": "?"}]}
    )
    assert (reply.status, reply.error["code"], reply.error["param"]) == (404, "model_not_found", "model")
    assert "actor" in reply.error["message"]


def test_a_guard_that_follows_a_calibration_needs_one(serving: Serving) -> None:
    actor = Actor(*played("Yes."))
    server = serving(actor)
    reply = server.chat(guard="flag,abstain")
    assert (reply.status, reply.error["param"], reply.error["code"]) == (400, "guard", "unsupported_value")
    assert "abstain" not in server.get("/v1/models").json["data"][0]["edgereverie"]["guards"]
    actor.calibration = object()
    assert server.chat(guard="flag,abstain").status == 200


def test_json_where_the_backend_knows_grammars(serving: Serving) -> None:
    actor = Actor(*played("{}"))
    actor.grammar = True
    assert serving(actor).chat(response_format={"type": "json_object"}).status == 200
    assert actor.asked[0][2].grammar == "json"
