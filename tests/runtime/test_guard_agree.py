"""Agreement of samples: how answers are told alike, and what the shares of equal ones decide."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from math import log
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from edgereverie.records import Answer, Options, Turn
from edgereverie.runtime.guards.agree import GUARD, alike, entropy
from edgereverie.runtime.guards.base import ABSTENTION

_spec = importlib.util.spec_from_file_location("_talker", Path(__file__).with_name("_talker.py"))
_talker = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_talker)
PICTURE = Image.new("RGB", (40, 30), "red")


@pytest.fixture(scope="module")
def words() -> Any:
    return _talker.tokenizer()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("A red ring.", "red ring", True),
        ("The Red  ring!", "a red ring", True),
        ("Two.", "2", True),
        ("None.", "zero", True),
        ("3.5", "35", False),
        ("It's red", "its red", True),
        ("left-hand", "left hand", True),
        ("café", "cafe", False),
        ("No.", "Nothing.", False),
        ("another", "other", False),
    ],
)
def test_what_reads_alike(one: str, other: str, same: bool) -> None:
    assert (alike(one) == alike(other)) is same


def test_entropy_of_the_clusters() -> None:
    """Five draws as 3, 1, 1: .6 log(1/.6) + .4 log 5."""
    from collections import Counter

    assert entropy(Counter("aaabc")) == pytest.approx(0.6 * log(1 / 0.6) + 0.4 * log(5))
    assert entropy(Counter("aaaaa")) == 0


def ask(model: Any, guard: Any = GUARD, question: str = "What is it?", seed: int = 0) -> Answer:
    answer = model.answer(PICTURE, [Turn("user", question)], Options(seed=seed), guard)
    model.sight.close()
    assert model.engine.live == 0
    return answer


def unsure(chances: dict[str, float]) -> Any:
    """Says one of these words."""
    return lambda question, seen, said: chances if not said else {"": 0.999}


def test_a_sure_answer_costs_nothing_more(words: Any) -> None:
    model = _talker.talker(words, unsure({"star": 0.9}))
    assert ask(model).text == "star"
    assert model.engine.together == []


def test_draws_run_side_by_side_on_one_prefix(words: Any) -> None:
    model = _talker.talker(words, unsure({"star": 0.5, "moon": 0.1, "ring": 0.1, "drop": 0.1}))
    ask(model)
    prompt = len(model.prompt(PICTURE, [Turn("user", "What is it?")])[0])
    cut = model.prompt(PICTURE, [Turn("user", "What is it?")])[1]
    # The answer: its prompt and a token. The draws: the question once more behind the picture, a token in each.
    assert model.engine.fed == prompt + 1 + (prompt - cut) + 5
    assert model.engine.together == [5]


def test_shares_are_those_of_the_distribution(words: Any) -> None:
    """At temperature 0.7 chances of .6 and .3 become .6^(1/.7) : .3^(1/.7) = .73 : .27 (the rest aside): of 400 draws
    292 are stars, give or take 8.9; five of these either side."""
    guard = replace(GUARD, samples=400, majority=0.0)
    model = _talker.talker(words, unsure({"star": 0.6, "moon": 0.3}))
    answer = ask(model, guard)
    assert 400 * answer.confidence == pytest.approx(
        0.6 ** (1 / 0.7) / (0.6 ** (1 / 0.7) + 0.3 ** (1 / 0.7)) * 400, abs=45
    )


def test_no_majority_abstains_and_says_so(words: Any) -> None:
    model = _talker.talker(words, unsure({"star": 0.26, "moon": 0.25, "ring": 0.24, "drop": 0.23}))
    answer = ask(model, replace(GUARD, samples=15))
    assert (answer.text, answer.abstained, answer.draft) == (ABSTENTION, True, "star")
    assert "15 draws" in answer.reason


def test_the_majority_replaces_the_likeliest_first_word(words: Any) -> None:
    """Greedily "ring" (.4) comes; but "A star" and "star", which begin otherwise and read alike, have .57 together."""

    def says(question: str, seen: bool, said: str) -> Any:
        return {"": {"ring": 0.4, "star": 0.29, "A": 0.28}, "A": {"star": 0.99}}.get(said, {"": 0.999})

    answer = ask(_talker.talker(words, says), replace(GUARD, samples=60, majority=0.5, temperature=1.0))
    assert answer.draft == "ring"
    assert alike(answer.text) == "star"
    assert not answer.abstained
    assert answer.confidence == pytest.approx(0.57, abs=5 * 0.064)


def test_the_share_stands_beside_each_claims_evidence(words: Any) -> None:
    def says(question: str, seen: bool, said: str) -> Any:
        return {"": {"A": 0.99}, "A": {"star": 0.6, "moon": 0.2, "drop": 0.1}}.get(said, {"": 0.999})

    answer = ask(_talker.talker(words, says), replace(GUARD, samples=25, undecided=1.0))
    (claim,) = answer.claims
    assert claim.evidence["agreement"] == answer.confidence > 0.5


@pytest.mark.parametrize("question", ["Is there a ring?", "What is it?\nA. a ring\nB. a star"])
def test_closed_questions_are_left_alone(words: Any, question: str) -> None:
    model = _talker.talker(words, unsure({"star": 0.3, "moon": 0.25}))
    ask(model, question=question)
    assert model.engine.together == []


def test_long_answers_are_left_alone(words: Any) -> None:
    model = _talker.talker(words, unsure({"star": 0.3, "moon": 0.25}))
    ask(model, replace(GUARD, short=0))
    assert model.engine.together == []


def test_equal_seeds_draw_equally(words: Any) -> None:
    said = [ask(_talker.talker(words, unsure({"star": 0.4, "moon": 0.35})), seed=5) for _ in range(2)]
    assert replace(said[0], seconds=0) == replace(said[1], seconds=0)
