"""Judges by name: an endpoint that is really asked, its key, and a model on this machine that cannot judge."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from edgereverie.errors import BackendError, TeacherError
from edgereverie.evaluation.judging import Declined, judge_answers
from edgereverie.evaluation.source import Source
from edgereverie.records import Options, Turn
from edgereverie.registry import BENCHMARKS
from edgereverie.stages.generating import TeacherAt
from edgereverie.stages.judging import open_judge

MMHAL = BENCHMARKS.get("mmhal")


def rates(body: dict[str, Any]) -> str:
    """Rates 6; where the answer says "maybe", 4, and not before it is asked again."""
    told = body["messages"][-1]["content"]
    if "maybe" in told and "could not be read" not in told:
        return "It may be a 3 or a 4."
    return f"Grounded.\nRating: {4 if 'maybe' in told else 6}"


@pytest.fixture
def server() -> Iterator[Any]:
    path = Path(__file__).parent.parent / "synthesis" / "_teacher.py"
    spec = spec_from_file_location("_scripted_judge", path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    running = module.Scripted(rates)
    yield running
    running.close()


@pytest.fixture
def items(tmp_path: Path) -> list[Any]:
    rows = [
        {"question_type": kind, "image_id": f"p{n}", "image_src": f"http://x.org/{n}.jpg", "image_content": ["ring"],
         "question": f"What is ring {n}?", "gt_answer": "A ring."}
        for n, kind in enumerate(("attribute", "other", "other"))
    ]  # fmt: skip
    (tmp_path / "response_template.json").write_text(json.dumps(rows))
    return MMHAL.items(Source(tmp_path, pictures=False))


def test_an_endpoint_judges_and_its_name_stands_in_the_result(
    server: Any, items: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JUDGE_KEY", "sk-secret-of-the-judge")
    texts = {"p0": "A ring.", "p1": "It is maybe gold.", "p2": "Gold."}
    journal = tmp_path / "judge.jsonl"
    for _ in range(2):  # the second time, from the journal
        with open_judge(TeacherAt(server.url, key="JUDGE_KEY")) as judge:
            result = judge_answers(
                MMHAL,
                "official",
                items,
                texts,
                judge.responder,
                journal,
                identity=judge.identity,
                at_once=judge.at_once,
            )
        assert result.judge == "scripted"
        assert [mark.read for mark in result.marks] == ["6", "4", "6"]
        assert len(server.bodies) == 4
    assert server.headers[0]["Authorization"] == "Bearer sk-secret-of-the-judge"
    assert "secret" not in journal.read_text()
    assert "Judge: scripted at an endpoint on this machine." in " ".join(capsys.readouterr().err.split())


def test_a_refusal_of_the_endpoint_is_of_one_request_alone(server: Any) -> None:
    server.fault = lambda body, times: "refuses" if "forbidden" in body["messages"][-1]["content"] else None
    with open_judge(TeacherAt(server.url)) as judge:
        with pytest.raises(Declined):
            list(judge.responder.respond(None, [Turn("user", "forbidden")], Options()))
        assert "Rating" in "".join(judge.responder.respond(None, [Turn("user", "fine")], Options()))


def test_a_model_without_room_for_the_question_is_no_judge(items: list[Any], tiny_folder: Path) -> None:
    texts = {item.id: "A ring, and another. " * 500 for item in items}
    with open_judge(TeacherAt(str(tiny_folder))) as judge:
        with pytest.raises(BackendError, match=r"not one of 3 replies of the judge tiny can be read. .* tokens"):
            judge_answers(MMHAL, "official", items, texts, judge.responder, identity=judge.identity)
        with pytest.raises(BackendError, match="asked for replies"):
            judge.responder.score(None, [Turn("user", "A ring?")], "Yes")


def test_a_key_that_is_not_set_is_an_error_before_anything_is_asked(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with (
        pytest.raises(TeacherError, match="NO_SUCH_KEY holds no key"),
        open_judge(TeacherAt(server.url, key="NO_SUCH_KEY")),
    ):
        pass
    assert not server.bodies
