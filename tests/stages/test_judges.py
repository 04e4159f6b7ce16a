"""A judged benchmark from end to end: a served model answers, a served judge rates, and its name stands in every report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from edgereverie import stages
from edgereverie.errors import BackendError, DataError, TeacherError

KINDS = ("attribute", "adversarial", "other")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    images = tmp_path / "data" / "mmhal" / "images"
    images.mkdir(parents=True)
    rows = []
    for n, kind in enumerate(KINDS):
        Image.new("RGB", (12, 12), (60 * n, 20, 90)).save(images / f"{n}.png")
        rows.append({"question_type": kind, "image_id": f"p{n}", "image_src": f"https://x.org/a/{n}.png",
                     "image_content": ["ring"], "question": f"What is thing {n}?", "gt_answer": "A ring."})  # fmt: skip
    (images.parent / "response_template.json").write_text(json.dumps(rows))
    return tmp_path / "data"


def said(body: dict[str, Any]) -> str:
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else next(part["text"] for part in content if part["type"] == "text")


def model(body: dict[str, Any]) -> str:
    return f"Perhaps a ring, as for {said(body)[-2]}."


def judge(body: dict[str, Any]) -> str:
    """Rates 5, but thing 1 with 2 and only when it is asked again."""
    told = said(body)
    if "What is thing 1?" not in told:
        return "Grounded.\nRating: 5"
    return "Some ring.\nRating: 2" if "could not be read" in told else "Between rating: 2 and rating: 3."


def test_a_served_judge_rates_what_a_served_model_answered(
    serve: Callable[..., Any], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_KEY", "sk-of-the-judge")
    answering, judging, out = serve(model), serve(judge), tmp_path / "report"
    at = stages.JudgeAt(judging.url, key="JUDGE_KEY", at_once=2)
    for _ in range(2):  # the second time, everything comes from the journals
        stages.evaluate([answering.url], benchmarks=["mmhal"], data=data, judge=at, out=out)
        assert (len(answering.bodies), len(judging.bodies)) == (3, 4)
    assert all("Perhaps a ring" in said(body) and len(body["messages"]) == 1 for body in judging.bodies)
    assert {head.get("Authorization") for head in judging.headers} == {"Bearer sk-of-the-judge"}
    assert {head.get("Authorization") for head in answering.headers} == {None}
    assert not [path for path in out.rglob("*") if path.is_file() and b"sk-of-the-judge" in path.read_bytes()]
    (kept,) = (json.loads(path.read_text()) for path in (out / "runs").glob("*.json"))
    (run,) = kept["runs"]
    assert run["judge"] == run["results"][0]["judge"] == "scripted"
    report = (out / "report.json").read_text()
    assert '"mmhal/official/all/score"' in report and "scripted" in report
    scores = {score["metric"]: score["value"] for score in run["results"][0]["scores"]}
    assert scores["mmhal/official/all/score"] == 4.0  # 5, 2 and 5
    assert scores["mmhal/official/adversarial/hallucination_rate"] == 1.0
    assert scores["mmhal/official/all/unread"] == 0.0


def test_what_a_judge_said_is_scored_again_without_it(serve: Callable[..., Any], data: Path, tmp_path: Path) -> None:
    answering, judging, out = serve(model), serve(judge), tmp_path / "report"
    stages.evaluate([answering.url], benchmarks=["mmhal"], data=data, judge=stages.JudgeAt(judging.url), out=out)
    journals = [path for path in out.rglob("*.jsonl") if '"judgements"' in path.read_text()]
    assert len(journals) == 1
    judging.close()
    answers = tmp_path / "answers.json"
    rows = [{"image_id": f"p{n}", "model_answer": f"Perhaps a ring, as for {n}."} for n in range(3)]
    answers.write_text(json.dumps(rows))
    found = stages.score("mmhal", answers, data=data, judge=stages.JudgeAt(said=journals[0]))
    assert (found.run.judge, found.run.results[0].scores[0].value) == ("scripted", 4.0)
    answers.write_text(json.dumps([{**row, "model_answer": f"A star, {row['image_id']}."} for row in rows]))
    with pytest.raises(DataError, match="3 requests about other answers"):
        stages.score("mmhal", answers, data=data, judge=stages.JudgeAt(said=journals[0]))


def test_a_judge_that_is_missing_idle_or_without_its_key_is_told_before_anything_is_asked(
    serve: Callable[..., Any], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    answering = serve(model)
    for name, at, error, message in (
        ("mmhal", None, DataError, "scored by a judge, and none was named"),
        ("mmhal", stages.JudgeAt(answering.url, key="NO_SUCH_KEY"), TeacherError, "NO_SUCH_KEY holds no key"),
        ("mmhal", stages.JudgeAt(said=tmp_path / "no.json"), DataError, "no such file"),
    ):
        with pytest.raises(error, match=message):
            stages.evaluate([answering.url], benchmarks=[name], data=data, judge=at, out=tmp_path / "out")
    assert not answering.bodies


def test_a_judge_that_only_chats_gives_no_report(serve: Callable[..., Any], data: Path, tmp_path: Path) -> None:
    answering, chatting = serve(model), serve(lambda body: "What a lovely ring.")
    with pytest.raises(
        BackendError, match=r"not one of 3 replies of the judge scripted can be read.*What a lovely ring"
    ):
        stages.evaluate(
            [answering.url], benchmarks=["mmhal"], data=data, judge=stages.JudgeAt(chatting.url), out=tmp_path / "out"
        )
    assert not (tmp_path / "out" / "report.json").exists()
    assert len(chatting.bodies) == 12  # each of three was asked four times
