"""Evaluating models, bundles and servers: refusals before loading, kills at any moment, any number of processes."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from edgereverie import stages
from edgereverie.errors import BackendError, DataError, EdgeReverieError, TeacherError
from edgereverie.evaluation.kept import KeptRun, load
from edgereverie.stages import Asked, JudgeAt
from edgereverie.stages._processes import Worker

CHECKOUT = Path(__file__).parent.parent.parent
BENCHES = ["pope", "scenes"]


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evaluation") / "scenes"
    return stages.draw_scenes(out, train=10, heldout=16, seed=1, companion_share=0.5)


@pytest.fixture(scope="session")
def bundle(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """A bundle of a profile, made when it is first asked for: of the untrained starter, which never ends an answer, or of the
    one that ships.
    """
    made: dict[tuple[str, bool], str] = {}

    def find(profile: str, *, trained: bool = False) -> str:
        package = {"gguf": "llama_cpp", "onnx": "onnxruntime"}[profile.partition("-")[0]]
        if find_spec(package) is None:
            pytest.skip(f"needs {package}")
        if (profile, trained) not in made:
            from edgereverie.backbones import starter
            from edgereverie.backbones.base import open_folder
            from edgereverie.export.base import load_profile
            from edgereverie.export.write import export_bundle

            folder = starter.shipped() if trained else open_folder(tiny_folder)
            out = tmp_path_factory.mktemp("bundles") / profile
            export_bundle(folder, load_profile(profile), out, made_from={})
            made[profile, trained] = str(out)
        return made[profile, trained]

    return find


@pytest.fixture
def nothing_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("weights were loaded, or a process was started")

    monkeypatch.setattr("edgereverie.stages._answerers.open_model", refuse)
    monkeypatch.setattr(subprocess, "Popen", refuse)


def told(kept: KeptRun) -> dict[tuple[str, str], Any]:
    """All that was answered and scored, but the time that it took."""
    found: dict[tuple[str, str], Any] = {}
    for run in kept.runs:
        found |= {(run.benchmark, "scores"): repr([result.scores for result in run.results])}
        for one in run.predictions:
            answer = one.answer
            found[run.benchmark, one.id] = (answer.text, answer.confidence, answer.tokens, answer.ended, answer.claims)
    return found


# Refusals


def test_what_cannot_work_is_told_before_anything_is_loaded(
    nothing_loads: None, bundle: Callable[..., str], tiny_folder: Path, scenes: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.delenv("NO_KEY", raising=False)
    tiny, onnx, url = str(tiny_folder), bundle("onnx-fp32"), "http://127.0.0.1:9/v1"
    mmhal = {"benchmarks": ["mmhal"], "data": tmp_path / "m"}
    place = tmp_path / "m" / "mmhal"
    place.mkdir(parents=True)
    (place / "response_template.json").write_text(json.dumps([mmhal_row()]))
    (place / "images").mkdir()
    (place / "images" / "a.png").write_bytes(next((scenes / "images" / "heldout").iterdir()).read_bytes())
    said = tmp_path / "said.json"
    said.write_text('["Rating: 4"]')
    for message, models, changes in (
        ("no such model|neither a bundle|no config.json", [tiny, str(tmp_path / "none")], {}),
        ("no such file", [tiny], {"data": tmp_path / "nowhere"}),
        ("no split 'popuular'", [tiny], {"splits": ["popuular"]}),
        ("knows no scoring 'offical'", [tiny], {"benchmarks": ["pope/offical"]}),
        ("both decide", [tiny], {"asked": Asked("contrast,search")}),
        ("unknown guard 'flagg'|no guard|Unknown guard", [tiny], {"asked": Asked("flagg")}),
        ("runs gguf", [onnx], {"asked": Asked(backend="llamacpp")}),
        ("guards its answers itself", [url], {"asked": Asked("flag")}),
        ("NO_KEY holds no key", [url], {"asked": Asked(key="NO_KEY")}),
        ("0 jobs", [tiny], {"asked": Asked(jobs=0)}),
        ("1 labels for 2 models", [tiny, onnx], {"labels": ["a"]}),
        ("called alike: a, a", [tiny, onnx], {"labels": ["a", "a"]}),
        ("mmhal/official: these answers are scored by a judge", [tiny], mmhal),
        ("nothing that is asked needs one", [tiny], {"judge": JudgeAt(tiny)}),
        ("NO_KEY holds no key", [tiny], mmhal | {"judge": JudgeAt(url, key="NO_KEY")}),
        ("no such file", [tiny], mmhal | {"judge": JudgeAt(said=tmp_path / "none.json")}),
        ("A judge and a file of judgements", [tiny], mmhal | {"judge": JudgeAt(tiny, said=said)}),
        ("One file holds the judgements of one model", [tiny, onnx], mmhal | {"judge": JudgeAt(said=said)}),
    ):  # fmt: skip
        settings = {"benchmarks": BENCHES, "data": scenes, "out": tmp_path / "out"} | changes
        with pytest.raises(EdgeReverieError, match=message):
            stages.evaluate(models, **settings)
    assert not (tmp_path / "out").exists(), "nothing is left behind"


def test_a_journal_of_other_guards_or_words_is_refused(
    bundle: Callable[..., str], scenes: Path, tmp_path: Path
) -> None:
    def run(asked: Asked) -> None:
        stages.evaluate(
            [bundle("onnx-fp32")], benchmarks=["scenes"], data=scenes, limit=1, asked=asked, out=tmp_path / "out"
        )

    run(Asked())
    for other in (Asked("flag"), Asked(append="Answer with a single word.")):
        with pytest.raises(DataError, match="belongs to another run"):
            run(other)
    run(Asked(jobs=2))  # how many processes answer is nothing that answers hang on


# One command


def test_models_and_artefacts_in_one_command_with_one_table(
    bundle: Callable[..., str], tiny_folder: Path, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = [str(tiny_folder), bundle("gguf-q8-0"), bundle("onnx-int4")]
    out = stages.evaluate(
        models, benchmarks=["pope/official", "pope/vcd", "chair", "scenes"], data=scenes, limit=2, splits=["adversarial"],
        labels=["tuned", "Q8_0", "int4"], out=tmp_path / "out",
    )  # fmt: skip
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert [(run["label"], run["backend"]) for run in report["runs"]] == [
        ("tuned", "hf"), ("Q8_0", "llamacpp"), ("int4", "onnxrt"),
    ]  # fmt: skip
    assert [difference["after"] for difference in report["comparisons"]] == ["Q8_0", "int4"]
    scorers = {"pope/official", "pope/vcd", "chair/table", "scenes/claims"}
    assert all(scorers <= set(run["scorers"]) for run in report["runs"])
    table = capsys.readouterr().err
    assert all(label in table for label in ("tuned", "Q8_0", "int4"))
    assert [one.label for one in load(out)] == ["tuned", "Q8_0", "int4"]
    # 2 pictures, 6 questions each in one split, 1 description for chair and 1 for scenes
    assert [len(run.predictions) for run in load(out)[0].runs] == [12, 2, 2]
    assert {item.split for item in load(out)[0].runs[0].items} == {"adversarial"}


def test_the_hallucination_card_goes_into_the_bundle(bundle: Callable[..., str], scenes: Path, tmp_path: Path) -> None:
    import shutil

    mine = shutil.copytree(bundle("onnx-fp32"), tmp_path / "bundle")
    settings = {"benchmarks": ["scenes"], "data": scenes, "limit": 2, "out": tmp_path / "out", "card": True}
    stages.evaluate([str(mine)], **settings)
    for folder in (tmp_path / "out", mine):
        assert (folder / "card.md").is_file() and (folder / "card.json").is_file()
    stages.evaluate([str(mine)], **settings)  # its card makes no other artefact of it: the journal goes on
    stages.evaluate([str(mine), bundle("gguf-q8-0")], labels=["one", "two"], **settings)
    for label in ("one", "two"):
        assert label in (tmp_path / "out" / "cards" / label / "card.md").read_text(encoding="utf-8")


# Processes


@pytest.mark.parametrize("profile", ["gguf-q8-0", "onnx-int4"])
def test_any_number_of_processes_gives_the_same_to_the_last_bit(
    bundle: Callable[..., str], scenes: Path, tmp_path: Path, profile: str
) -> None:
    found = []
    for jobs in (1, 2, 3):
        out = tmp_path / str(jobs)
        stages.evaluate(
            [bundle(profile, trained=True)],
            benchmarks=BENCHES,
            data=scenes,
            limit=5,
            asked=Asked("flag", jobs=jobs),
            out=out,
        )
        found.append(told(load(out)[0]))
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 2 + 5 * 18 + 5
    assert any(one[4] for key, one in found[0].items() if key[1] != "scores"), "claims were looked at"


def test_what_goes_wrong_in_a_process_is_told_here(bundle: Callable[..., str], scenes: Path, tmp_path: Path) -> None:
    picture = next((scenes / "images" / "heldout").iterdir())
    worker = Worker(bundle("onnx-fp32"), "auto", "none", of=2)
    try:
        assert worker.hello() == {"backend": "onnxrt", "device": "cpu"}
        assert [one.tokens for one in worker(picture, ["Is there a ring?", "Is there a star?"], 3)] == [3, 3]
        with pytest.raises(DataError, match=r"none\.png"):
            worker(tmp_path / "none.png", ["Is there a ring?"], 3)
        with pytest.raises(BackendError, match="ended") as caught:
            worker(picture, ["Is there a ring?"], 3)
        assert "--jobs" in caught.value.hint
    finally:
        worker.close()
    dead = Worker(bundle("onnx-fp32"), "auto", "none", of=2)
    dead.close()
    dead.close()
    wrong = Worker(str(tmp_path), "auto", "none", of=1)
    try:
        with pytest.raises(EdgeReverieError, match="neither a bundle"):
            wrong.hello()
    finally:
        wrong.close()


# Kills


# Tests that a shell runs in the background inherit that SIGINT is ignored.
HEARD = (
    "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "runpy.run_module('edgereverie', run_name='__main__')"
)


def started(words: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HEARD, "eval", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"}, start_new_session=True,
    )  # fmt: skip


def lines_of(journal: Path) -> int:
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def children_of(process: subprocess.Popen[str]) -> list[int]:
    told = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(pid) for pid in told.read_text().split()] if told.exists() else []


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize(("jobs", "kills"), [(1, (1, 9)), (2, (1, 5))])
def test_a_run_that_is_killed_at_any_moment_goes_on_and_ends_alike(
    bundle: Callable[..., str], scenes: Path, tmp_path: Path, jobs: int, kills: tuple[int, ...]
) -> None:
    """SIGKILL when the journal has so many lines, its header counted; the last time Ctrl-C; then to the end."""
    words = [bundle("gguf-q8-0"), "--bench", "pope", "--data", str(scenes), "--label", "m", "--jobs", str(jobs)]
    out, whole = tmp_path / "out", tmp_path / "whole"
    journal = out / "answers" / "m-pope.jsonl"
    for wanted in kills:
        process = started([*words, "--out", str(out)])
        end = time.monotonic() + 90
        while lines_of(journal) < wanted:
            assert process.poll() is None and time.monotonic() < end, process.communicate()
            time.sleep(0.002)
        workers = children_of(process)
        if wanted < kills[-1]:
            process.kill()
            process.communicate()
        else:
            os.killpg(process.pid, signal.SIGINT)
            _, told_last = process.communicate(timeout=60)
            assert process.returncode == 130 and "Run the same command again" in told_last
        while not all(map(gone, workers)):
            assert time.monotonic() < end, "processes outlive the one that started them"
            time.sleep(0.01)
        assert len(workers) == (jobs if jobs > 1 else 0) and not (out / "report.json").exists()
    left = lines_of(journal)
    with journal.open("ab") as stream:  # as a kill in the middle of a write leaves it
        stream.write(b'{"answers": [{"id": "random/')
    assert left < 17, "there was something left to do"
    last = started([*words, "--out", str(out)])
    _, told_last = last.communicate(timeout=120)
    assert last.returncode == 0, told_last
    assert f"{(left - 1) * 18:,} of 288 were answered before" in told_last
    stages.evaluate(
        [bundle("gguf-q8-0")], benchmarks=["pope"], data=scenes, labels=["m"], out=whole, asked=Asked(jobs=jobs)
    )
    assert told(load(out)[0]) == told(load(whole)[0])
    assert lines_of(journal) == 17, "no picture was asked about twice"


def test_two_runs_do_not_write_one_journal(bundle: Callable[..., str], scenes: Path, tmp_path: Path) -> None:
    from edgereverie.synthesis.journal import lock_file

    journal = tmp_path / "answers" / "m-scenes.jsonl"
    journal.parent.mkdir()
    with journal.open("ab") as stream:
        lock_file(stream, journal)
        with pytest.raises(DataError, match="another run is writing this journal"):
            stages.evaluate(
                [bundle("onnx-fp32")], benchmarks=["scenes"], data=scenes, limit=1, labels=["m"], out=tmp_path
            )


# Servers


def pictures_in(body: dict[str, Any]) -> bytes:
    (url,) = [part["image_url"]["url"] for part in body["messages"][0]["content"] if part["type"] == "image_url"]
    assert url.startswith("data:image/png;base64,")
    return base64.b64decode(url.partition(",")[2])


def words_in(body: dict[str, Any]) -> str:
    return next(part["text"] for part in body["messages"][0]["content"] if part["type"] == "text")


def yes_to_rings(body: dict[str, Any]) -> str:
    time.sleep(0.01)  # so that several are under way together
    return "Yes." if "ring" in words_in(body) else "No."


@pytest.mark.parametrize("jobs", [1, 4])
def test_a_server_is_asked_as_a_model_is(
    serve: Any, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: int
) -> None:
    monkeypatch.setenv("MY_KEY", "secret-123")
    server = serve(yes_to_rings)
    asked = Asked(append="Answer with yes or no.", jobs=jobs, key="MY_KEY")
    settings = {"benchmarks": ["pope"], "data": scenes, "splits": ["random"], "limit": 6, "asked": asked}
    out = stages.evaluate([server.url], **settings, out=tmp_path / "out")
    (kept,) = load(out)
    (run,) = kept.runs
    assert (kept.backend, kept.artefact, kept.label) == ("openai", "", server.url.partition("://")[2])
    assert [one.answer.text for one in run.predictions] == [
        "Yes." if "ring" in item.question else "No." for item in run.items
    ]
    assert len(server.bodies) == 6 * 6 and server.most_under_way <= jobs
    assert jobs == 1 or server.most_under_way > 1
    asked_of = {(words_in(body), pictures_in(body)) for body in server.bodies}
    assert asked_of == {(f"{item.question}\nAnswer with yes or no.", item.image.read_bytes()) for item in run.items}
    assert {(body["temperature"], body["max_tokens"], body["model"]) for body in server.bodies} == {
        (0.0, 32, "scripted")
    }
    assert {headers["Authorization"] for headers in server.headers} == {"Bearer secret-123"}
    report = (out / "report.json").read_text(encoding="utf-8")
    assert "Answer with yes or no." in report and "secret-123" not in report
    assert not any(b"secret-123" in path.read_bytes() for path in out.rglob("*") if path.is_file())
    stages.evaluate([server.url], **settings, out=out)
    assert len(server.bodies) == 36, "the journal knows all of it"


def test_what_a_server_refuses_is_an_empty_answer_that_the_report_tells_of(
    serve: Any, scenes: Path, tmp_path: Path
) -> None:
    server = serve(yes_to_rings, lambda body, times: "refuses" if "ring" in words_in(body) else None)
    out = stages.evaluate(
        [server.url],
        benchmarks=["pope"],
        data=scenes,
        splits=["random"],
        limit=3,
        labels=["remote"],
        out=tmp_path / "o",
    )
    (run,) = load(out)[0].runs
    rings = [one.answer for item, one in zip(run.items, run.predictions, strict=True) if "ring" in item.question]
    assert rings and all(one.abstained and one.text == "" and "not allowed" in one.reason for one in rings)
    notes = json.loads((out / "report.json").read_text(encoding="utf-8"))["notes"]
    assert notes == [f"remote: {len(rings)} questions that the server refused, scored as empty answers."]


def test_a_server_that_fails_is_told_of_and_what_it_answered_is_kept(serve: Any, scenes: Path, tmp_path: Path) -> None:
    server = serve(yes_to_rings, lambda body, times: "no_credit" if len(server.bodies) > 20 else None)
    settings = {"benchmarks": ["pope"], "data": scenes, "splits": ["random"], "limit": 6, "out": tmp_path / "o"}
    with pytest.raises(TeacherError, match="quota"):
        stages.evaluate([server.url], **settings, labels=["s"])
    assert lines_of(tmp_path / "o" / "answers" / "s-pope.jsonl") == 1 + 3, (
        "three pictures of six questions were answered"
    )
    server.fault = lambda body, times: None
    before = len(server.bodies)
    stages.evaluate([server.url], **settings, labels=["s"])
    assert len(server.bodies) - before == 18


# Judges


def mmhal_row() -> dict[str, Any]:
    return {
        "question_type": "attribute", "question_topic": "thing", "image_id": "a", "image_src": "https://example.org/a.png",
        "image_content": ["ring"], "question": "Which colour has the ring?", "gt_answer": "Red.", "model_answer": "",
    }  # fmt: skip


def test_a_judge_is_asked_after_the_model_and_named_with_the_scores(
    serve: Any, bundle: Callable[..., str], scenes: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data" / "mmhal"
    (data / "images").mkdir(parents=True)
    (data / "response_template.json").write_text(json.dumps([mmhal_row()]))
    (data / "images" / "a.png").write_bytes(next((scenes / "images" / "heldout").iterdir()).read_bytes())
    server = serve(lambda body: "It is right.\nRating: 5")
    settings = {"benchmarks": ["mmhal"], "data": tmp_path / "data", "labels": ["m"], "out": tmp_path / "out"}
    out = stages.evaluate([bundle("onnx-fp32")], judge=JudgeAt(server.url), **settings)
    (run,) = load(out)[0].runs
    scores = {score.metric: score.value for score in run.results[0].scores}
    assert (run.judge, scores["mmhal/official/all/score"]) == ("scripted", 5.0)
    assert json.loads((out / "report.json").read_text(encoding="utf-8"))["runs"][0]["judges"] == {
        "mmhal/official": "scripted"
    }
    asked = len(server.bodies)
    stages.evaluate([bundle("onnx-fp32")], judge=JudgeAt(server.url), **settings)
    assert len(server.bodies) == asked == 1, "the judge's journal knows it"
    said = tmp_path / "said.json"
    said.write_text(json.dumps(["Bad.\nRating: 0"]))
    stages.evaluate([bundle("onnx-fp32")], judge=JudgeAt(said=said), **settings)
    (run,) = load(out)[0].runs
    assert {score.metric: score.value for score in run.results[0].scores}["mmhal/official/all/score"] == 0.0
