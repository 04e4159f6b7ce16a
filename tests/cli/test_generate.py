"""``edgereverie data generate``: against endpoints on this machine, a model in this process, and by hand and by kill."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from edgereverie import stages
from edgereverie.data.jsonl import read_pairs, read_samples, write_samples
from edgereverie.records import Sample, Turn

Command = Callable[..., Any]
KEY = "sk-very-secret-0123456789"


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replies are flushed one by one; what a busy disk makes of that is not the matter here."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    (root / "deep").mkdir(parents=True)
    for number in range(4):
        Image.new("RGB", (8, 8), (number, 9, 90)).save(root / ("deep" if number % 2 else ".") / f"{number}.png")
    return root


def table(err: str) -> list[list[str]]:
    return [line.split() for line in err.splitlines()]


def test_reverie_from_pictures(command: Command, serve: Any, images: Path, tmp_path: Path) -> None:
    server, out = serve(), tmp_path / "out"
    done = command("data", "generate", "reverie", "--images", str(images), "--teacher", server.url, "--out", str(out))
    assert done.code == 0, done.err
    assert (
        done.out == f"wrote {out}/samples.jsonl\nnext: edgereverie data check {out}/samples.jsonl --images {images}\n"
    )
    samples = list(read_samples(out / "samples.jsonl"))
    assert samples and {one.image for one in samples} <= {"0.png", "2.png", "deep/1.png", "deep/3.png"}
    assert sorted(path.name for path in out.rglob("*") if path.is_file()) == [
        "journal.jsonl", "rationale_instruct_data_with_judge.json", "reverie.json", "samples.card.json", "samples.card.md",
        "samples.jsonl",
    ]  # fmt: skip
    assert "leave this machine" not in done.err
    rows = table(done.err)
    assert ["items", "4"] in rows and ["records", "kept", str(len(samples))] in rows
    assert any(row[-2:] == ["accepted", "4"] for row in rows) and any("requests" in row for row in rows)
    card = json.loads((out / "samples.card.json").read_text(encoding="utf-8"))
    assert card["teacher"]["identity"] == f"scripted at {server.url}" and card["seeds"] == {"generation": 0}
    assert set(card["prompts"]) == {"reverie_questions", "reverie_why", "reverie_why_not", "reverie_judge"}
    assert card["counts"]["total"] == len(samples) and card["sources"] == ["images"]
    asked = len(server.bodies)
    again = command("data", "generate", "reverie", "--images", str(images), "--teacher", server.url, "--out", str(out))
    assert again.code == 0 and len(server.bodies) == asked and list(read_samples(out / "samples.jsonl")) == samples


def test_povid_from_answers_and_lrv_from_a_list(command: Command, serve: Any, images: Path, tmp_path: Path) -> None:
    talk = (Turn("user", "What is it?"), Turn("assistant", "A grey cat sits by the old green door."))
    write_samples(
        tmp_path / "true.jsonl", [Sample(name, name, talk, licence="CC BY 4.0") for name in ("0.png", "2.png")]
    )
    server = serve()
    done = command(
        "data", "generate", "povid", "--images", str(images), "--inputs", str(tmp_path / "true.jsonl"), "--teacher", server.url,
        "--out", str(tmp_path / "pairs"),
    )  # fmt: skip
    assert done.code == 0, done.err
    pairs = list(read_pairs(tmp_path / "pairs" / "pairs.jsonl"))
    assert pairs and all(one.chosen == talk[1].text != one.rejected and one.licence == "CC BY 4.0" for one in pairs)
    (tmp_path / "names.txt").write_text("deep/1.png\n0.png\n", encoding="utf-8")
    done = command(
        "data", "generate", "lrv", "--images", str(images), "--inputs", str(tmp_path / "names.txt"), "--teacher", server.url,
        "--out", str(tmp_path / "lrv"), "--limit", "1",
    )  # fmt: skip
    assert done.code == 0, done.err
    samples = list(read_samples(tmp_path / "lrv" / "samples.jsonl"))
    assert {one.image for one in samples} == {"deep/1.png"}
    assert sum(one.polarity == "positive" for one in samples) * 2 == len(samples)


def test_a_cap_ends_with_an_error_and_no_final_file(command: Command, serve: Any, images: Path, tmp_path: Path) -> None:
    server, out = serve(), tmp_path / "out"
    words = ["data", "generate", "reverie", "--images", str(images), "--teacher", server.url, "--out", str(out)]
    done = command(*words, "--max-requests", "9")
    assert (done.code, done.out) == (1, "") and len(server.bodies) == 9
    assert done.err.splitlines()[-2:] == [
        "error: 9 requests were made; the cap is 9.",
        "hint: Raise the cap and run the same command again: it goes on where it stopped and asks nothing twice.",
    ]
    assert [path.name for path in out.iterdir()] == ["journal.jsonl"]
    assert command(*words).code == 0
    whole = command(*words[:-1], str(tmp_path / "whole"))
    assert whole.code == 0
    for name in ("samples.jsonl", "samples.card.json", "published/reverie.json"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_the_key_comes_from_the_environment_and_is_written_nowhere(
    command: Command, serve: Any, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    server, other = serve(), serve()
    words = [
        "data",
        "generate",
        "reverie",
        "--images",
        str(images),
        "--teacher",
        server.url,
        "--out",
        str(tmp_path / "out"),
    ]
    assert command(*words, "--key-env", "MY_KEY", "--judge", other.url).code == 0
    server.answer = lambda body: f"{KEY} is what you sent"
    done = command(*words, "--key-env", "MY_KEY", "--limit", "1", "--seed", "50")
    assert done.code == 1 and "Nothing was made of 1 items: no JSON in the reply (1)" in done.err
    assert {head["Authorization"] for head in server.headers} == {f"Bearer {KEY}"}
    assert other.bodies and other.listed  # a judge elsewhere was asked, and got no key of the teacher's
    assert all("Authorization" not in head for head in other.headers + other.listed)
    everything = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()] + [
        done.out.encode(),
        done.err.encode(),
    ]
    assert not any(b"secret" in content for content in everything)
    assert b"<key> is what you sent" in (tmp_path / "out" / "journal.jsonl").read_bytes()
    server.fault = lambda body, times: "echoes_key"
    done = command(*words, "--key-env", "MY_KEY", "--seed", "9")
    assert done.code == 1 and "secret" not in done.out + done.err and "the key in MY_KEY" in done.err
    done = command(*words, "--key-env", "MISSING_KEY")
    assert done.code == 1 and "MISSING_KEY holds no key" in done.err


def test_judges_at_the_teachers_own_address_have_its_key(
    command: Command, serve: Any, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    monkeypatch.setenv("OTHER_KEY", "other")
    server, judge = serve(), serve(lambda body: '{"contradiction": "no"}')
    words = [
        "data",
        "generate",
        "reverie",
        "--images",
        str(images),
        "--teacher",
        server.url,
        "--key-env",
        "MY_KEY",
        "--limit",
        "1",
    ]
    done = command(*words, "--judge", server.url, "--judge", judge.url, "--judge-key-env", "MY_KEY", "--judge-key-env",
                   "OTHER_KEY", "--judge-model", "scripted", "--judge-model", "nano", "--out", str(tmp_path / "two"))  # fmt: skip
    assert done.code == 0, done.err
    assert {(body["model"], head["Authorization"]) for body, head in zip(judge.bodies, judge.headers, strict=True)} == {
        ("nano", "Bearer other")
    }
    card = json.loads((tmp_path / "two" / "samples.card.json").read_text(encoding="utf-8"))
    assert card["teacher"]["judges"] == [f"scripted at {server.url}", f"nano at {judge.url}"]
    done = command(*words, "--judge", judge.url, "--judge-model", "a", "--judge-model", "b")
    assert done.code == 2 and "--judge-model is given 2 times and --judge 1 times" in done.err


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["revery", "--teacher", "http://localhost:1"], 2, "Did you mean 'reverie'?"),
        (["reverie"], 1, "Neither a teacher nor annotations were named"),
        (["reverie", "--teacher", "http://localhost:1"], 1, "There is nothing to generate from"),
        (["povid", "--teacher", "http://localhost:1", "--images", "."], 1, "povid rewrites answers that are true"),
        (["reverie", "--teacher", "http://localhost:1", "--annotations", "a.json"], 1, "reverie is made from pictures alone"),
        (["lrv", "--teacher", "http://localhost:1", "--annotations", "a", "--inputs", "b"], 1, "two ways to say"),
        (["lrv", "--teacher", "http://localhost:1", "--captions", "c"], 1, "Captions go with annotations"),
        (["lrv", "--annotations", "a.json", "--rpm", "3"], 2, "--rpm go with --teacher"),
        (["reverie", "--teacher", "http://localhost:1", "--force"], 2, "--force would throw replies away"),
        (["reverie", "--teacher", "http://localhost:1", "--max-cost", "3"], 1, "A cap on cost needs prices"),
        (["reverie", "--teacher", "http://u:p@h/v1", "--images", "{images}"], 1, "holds more than an address"),
        (["reverie", "--teacher", "nowhere", "--images", "{images}"], 1, "neither a bundle"),
        (["reverie", "--teacher", "starter", "--images", "{images}", "--model", "x"], 1, "is a model on this machine"),
        (["reverie", "--teacher", "http://localhost:1", "--images", "{images}", "--out", "{images}"], 1, "something else"),
    ],
)  # fmt: skip
def test_command_lines_that_cannot_be_meant(
    command: Command,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    code: int,
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = command("data", "generate", *[word.replace("{images}", str(images)) for word in words])
    assert done.code == code and told in done.err, done.err
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def test_a_remote_teacher_is_told_of_before_pictures_leave(
    command: Command, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name cannot be resolved, so nothing leaves in fact; the notice comes before the first request."""
    from functools import partial

    from edgereverie.synthesis.teachers import openai
    from edgereverie.synthesis.teachers.retry import Patience

    monkeypatch.setattr(openai, "OpenAi", partial(openai.OpenAi, patience=Patience(tries=1)))
    judged = ["--judge", "https://judge.invalid/v1", "--judge-model", "j"]
    done = command("data", "generate", "reverie", "--images", str(images), "--model", "m", "--out", str(tmp_path / "out"),
                   "--teacher", "https://teacher.invalid/v1", *judged)  # fmt: skip
    assert done.code == 1 and "https://teacher.invalid/v1: no reply after 1 tries" in done.err
    notices = [line for line in done.err.splitlines() if "leave this machine" in line]
    assert notices == [
        f"Pictures leave this machine for {host}.invalid, which was named." for host in ("teacher", "judge")
    ]


def test_by_rules_without_a_teacher(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def rules(method: str, annotations: Path, out: Path, **named: Any) -> Path:
        given.update(named, method=method, annotations=annotations, out=out)
        return out / "samples.jsonl"

    module = ModuleType("edgereverie.stages.ruling")
    module.generate_by_rules = rules
    monkeypatch.setitem(sys.modules, "edgereverie.stages.ruling", module)
    done = command(
        "data", "generate", "lrv", "--annotations", "i.json", "--captions", "c.json", "--seed", "3", "--force"
    )
    assert (done.code, done.out.splitlines()[0]) == (0, "wrote lrv-data/samples.jsonl")
    assert given == {
        "method": "lrv", "annotations": Path("i.json"), "out": Path("lrv-data"), "images": None, "captions": Path("c.json"),
        "seed": 3, "limit": None, "force": True,
    }  # fmt: skip


@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
def test_ctrl_c_stops_cleanly_and_the_next_run_goes_on(
    command: Command, serve: Any, scripted: Any, images: Path, tmp_path: Path
) -> None:
    """A process of its own gets SIGINT while its sixth reply is under way: none comes before the signal is sent."""
    sent = threading.Event()

    def held(body: dict[str, Any]) -> Any:
        if len(server.bodies) >= 6:
            sent.wait(60)
        time.sleep(0.05)
        return scripted.spoilt(body)

    server = serve(held)
    words = [
        "data",
        "generate",
        "reverie",
        "--images",
        str(images),
        "--teacher",
        server.url,
        "--out",
        str(tmp_path / "out"),
    ]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "160"}
    # Tests that a shell runs in the background inherit that SIGINT is ignored.
    heard = "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    program = f"{heard} runpy.run_module('edgereverie', run_name='__main__')"
    running = subprocess.Popen(
        [sys.executable, "-c", program, *words, "--concurrency", "2"], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    until = time.monotonic() + 60
    while len(server.bodies) < 6 and time.monotonic() < until:
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    time.sleep(0.3)  # for the signal to arrive before the replies do
    sent.set()
    out, err = running.communicate(timeout=60)
    assert (running.returncode, out) == (130, "")
    assert err.splitlines()[-2:] == [
        "stopped", "Run the same command again: it goes on where it stopped and asks nothing twice."
    ]  # fmt: skip
    kept = (tmp_path / "out" / "journal.jsonl").read_text(encoding="utf-8").count("\n") - 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["journal.jsonl"] and kept == len(server.bodies)
    assert command(*words).code == 0
    asked = len(server.bodies)
    assert command(*words[:-1], str(tmp_path / "whole")).code == 0
    assert len(server.bodies) == 2 * asked  # both runs asked the same number of questions
    assert (tmp_path / "out" / "samples.jsonl").read_bytes() == (tmp_path / "whole" / "samples.jsonl").read_bytes()


@pytest.fixture(scope="module")
def starter() -> Iterator[Any]:
    pytest.importorskip("torch")
    with stages.open_model("starter") as model:
        yield model


@pytest.fixture
def served_starter(starter: Any) -> Iterator[str]:
    """The shipped starter behind an OpenAI-compatible endpoint: its own answers, to the picture and the words it is sent."""
    from base64 import b64decode
    from io import BytesIO

    from edgereverie.records import Options

    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            self._json({"data": [{"id": "starter"}]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            parts = body["messages"][-1]["content"]
            uri = next(part["image_url"]["url"] for part in parts if part["type"] == "image_url")
            text = next(part["text"] for part in parts if part["type"] == "text")
            picture = Image.open(BytesIO(b64decode(uri.partition(",")[2])))
            with lock:  # of the prompt as much as its memory holds
                said = "".join(starter.respond(picture, [Turn("user", text[:150])], Options(24, 0.0)))
            message = {"finish_reason": "stop", "message": {"role": "assistant", "content": said}}
            self._json({"choices": [message], "usage": {"prompt_tokens": len(text), "completion_tokens": len(said)}})

        def _json(self, value: Any) -> None:
            content = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_small_model_cannot_write_json_and_everything_it_said_is_kept(
    command: Command, served_starter: str, tmp_path: Path
) -> None:
    from edgereverie.data.scenes.draw import draw_scene
    from edgereverie.data.scenes.world import make_scene

    (tmp_path / "images").mkdir()
    for number in range(2):
        draw_scene(make_scene(f"teach/{number}", 0.5)).save(tmp_path / "images" / f"{number}.png")
    out = tmp_path / "out"
    done = command(
        "data",
        "generate",
        "reverie",
        "--images",
        str(tmp_path / "images"),
        "--teacher",
        served_starter,
        "--out",
        str(out),
    )
    assert done.code == 1 and done.out == ""
    assert (
        "error: Nothing was made of 2 items: no JSON in the reply (2)." in done.err
        and "Try a more able teacher" in done.err
    )
    assert ["replies", "reverie_questions:", "no", "JSON", "in", "the", "reply", "6"] in table(done.err)
    assert ["dropped", "no", "JSON", "in", "the", "reply", "2"] in table(done.err)
    rows = [json.loads(line) for line in (out / "journal.jsonl").read_text(encoding="utf-8").splitlines()[1:]]
    assert len(rows) == 6 and all(
        row["rejected"] == "no JSON in the reply" and len(row["text"].split()) > 2 for row in rows
    )
    assert [path.name for path in out.iterdir()] == ["journal.jsonl"]


def test_the_starter_in_this_process(command: Command, images: Path, tmp_path: Path) -> None:
    """It answers, though not in JSON, and is known by the hash of its weights."""
    pytest.importorskip("torch")
    out = tmp_path / "out"
    done = command(
        "data",
        "generate",
        "reverie",
        "--images",
        str(images),
        "--teacher",
        "starter",
        "--out",
        str(out),
        "--limit",
        "1",
    )
    assert done.code == 1 and "Nothing was made of 1 items: no JSON in the reply (1)." in done.err
    rows = [json.loads(line) for line in (out / "journal.jsonl").read_text(encoding="utf-8").splitlines()[1:]]
    assert len(rows) == 3 and len({row["text"] for row in rows}) > 1  # each try has a seed of its own
    assert all(re.fullmatch("starter [0-9a-f]{64}", row["teacher"]) for row in rows)
    assert "not counted" in done.err
