"""How the next token is drawn: against arithmetic, and against transformers' processors where the definitions coincide."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgereverie.errors import BackendError
from edgereverie.records import Options, Token, Turn, as_json
from edgereverie.runtime.model import Model
from edgereverie.runtime.sampling import check_options, choose, choose_each, kept, log_softmax

FREE = np.ones(5, bool)
# Probabilities 0.4, 0.3, 0.15, 0.1, 0.05, not in order.
FIVE = np.log(np.array([0.1, 0.4, 0.05, 0.3, 0.15]))


def left(**options: float) -> set[int]:
    """Which of FIVE can still be drawn."""
    return set(np.flatnonzero(kept(FIVE, Options(**{"temperature": 1.0} | options)) > -np.inf).tolist())


def said(*ids: int) -> list[Token]:
    return [Token(token, 0, 0, 0.0, 0.0, 0.0, 0) for token in ids]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {0, 1, 2, 3, 4}),
        ({"top_k": 1}, {1}),
        ({"top_k": 3}, {1, 3, 4}),
        ({"top_k": 99}, {0, 1, 2, 3, 4}),
        ({"top_p": 0.65}, {1, 3}),  # 0.4 alone is less than 0.65; with 0.3 it is 0.7
        ({"top_p": 0.75}, {1, 3, 4}),
        ({"top_p": 1e-9}, {1}),
        ({"min_p": 0.3}, {1, 3, 4}),  # at least 0.3 * 0.4 = 0.12
        ({"min_p": 1.0}, {1}),
        # Of 0.4 and 0.3 alone, 0.4 is 0.571: top-p counts what top-k left.
        ({"top_k": 2, "top_p": 0.55}, {1}),
        ({"top_k": 2, "top_p": 0.6}, {1, 3}),
        # The temperature comes first. At 0.5 probabilities are squared: 0.16 of 0.285 is 0.561.
        ({"temperature": 0.5, "top_p": 0.55}, {1}),
        ({"temperature": 0.5, "min_p": 0.3}, {1, 3}),  # 0.3 * 0.16 = 0.048; 0.15 squared is 0.0225
    ],
)
def test_what_is_kept_is_arithmetic(options: dict[str, float], expected: set[int]) -> None:
    assert left(**options) == expected


def test_ties_with_the_last_of_the_k_stay() -> None:
    scores = kept(np.array([1.0, 2.0, 1.0, 0.0]), Options(temperature=1.0, top_k=2))
    assert (scores > -np.inf).tolist() == [True, True, True, False]


def test_the_repetition_penalty_divides_positive_and_multiplies_negative_logits() -> None:
    logits = np.array([3.0, 2.5, -1.0, -1.5])

    def greedy(penalty: float, *record: int, allowed: Sequence[bool] = (True,) * 4) -> int:
        options = Options(repetition_penalty=penalty)
        return choose(logits, np.array(allowed), options, said(*record), np.random.default_rng(0))[0]

    assert greedy(1.3) == 0
    assert greedy(1.1, 0) == 0  # 3 / 1.1 = 2.73
    assert greedy(1.3, 0) == 1  # 3 / 1.3 = 2.31
    assert greedy(1.3, 0, 0, 0) == 1  # however often it came
    assert greedy(1.3, 0, 1, allowed=(False, False, True, True)) == 2
    assert greedy(1.6, 2, allowed=(False, False, True, True)) == 3  # -1 * 1.6


def test_draws_follow_the_probabilities_of_what_is_kept() -> None:
    options, rng = Options(temperature=1.0, top_k=2), np.random.default_rng(1)
    draws = [choose(FIVE, FREE, options, [], rng)[0] for _ in range(2000)]
    # 4 of 7 parts: mean 1143, standard deviation 22; five of them either side.
    assert set(draws) == {1, 3} and 1030 < draws.count(1) < 1256
    forbidden = np.array([True, False, True, True, True])
    draws = [choose(FIVE, forbidden, options, [], rng)[0] for _ in range(2000)]
    # 0.3 and 0.15: 2 of 3 parts; mean 1333, standard deviation 21.
    assert set(draws) == {3, 4} and 1226 < draws.count(3) < 1440


def test_a_tiny_temperature_takes_the_likeliest() -> None:
    rng = np.random.default_rng(0)
    assert {choose(FIVE, FREE, Options(temperature=1e-310), [], rng)[0] for _ in range(50)} == {1}


scores = st.lists(st.floats(-30, 30, width=32), min_size=2, max_size=40, unique=True)


@example([0.5, -1.40129846e-45, 0.0], 1.0, 0, 0.5, 0.0, 1.0, set())
@given(
    scores,
    st.floats(0.05, 5),
    st.integers(0, 45),
    st.floats(0.05, 1),
    st.floats(0, 1),
    st.floats(0.5, 2),
    st.sets(st.integers(0, 1)),
)
def test_transformers_processors_leave_the_same_distribution(
    values: list[float], temperature: float, k: int, p: float, m: float, penalty: float, repeated: set[int]
) -> None:
    torch = pytest.importorskip("torch")
    from transformers import (
        LogitsProcessorList,
        MinPLogitsWarper,
        RepetitionPenaltyLogitsProcessor,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    from edgereverie.runtime.sampling import _remaining

    options = Options(temperature=temperature, top_k=k, top_p=p, min_p=m, repetition_penalty=penalty)
    steps = [RepetitionPenaltyLogitsProcessor(penalty), TemperatureLogitsWarper(temperature)]
    steps += [TopKLogitsWarper(k)] if k else []
    steps += [TopPLogitsWarper(p), MinPLogitsWarper(m)]
    ids = torch.tensor([sorted(repeated)], dtype=torch.long)
    logits = torch.tensor([values], dtype=torch.float64)
    theirs = LogitsProcessorList(steps)(ids, logits.clone())[0].numpy()
    free = np.ones(len(values), bool)
    ours = kept(_remaining(logits[0].numpy(), free, options, said(*repeated), None), options)
    # A token on the very border of p or of m may fall to either side by rounding, and of two that rounding makes equal either
    # may count as the likelier: compare what is left of both.
    differing = (theirs > -np.inf) != (ours > -np.inf)
    probabilities = np.exp(log_softmax(theirs))
    if differing.any():
        assert np.exp(log_softmax(np.where(differing, -np.inf, ours)))[~differing].sum() == pytest.approx(1)
        assert _undecided(logits[0].numpy(), options, repeated)[differing].all()
    else:
        np.testing.assert_allclose(np.exp(log_softmax(ours)), probabilities, atol=1e-9)


def _undecided(logits: np.ndarray, options: Options, repeated: set[int]) -> np.ndarray:
    """Which tokens a hair's breadth decides about: in p, in m, or between two of them."""
    from edgereverie.runtime.sampling import _remaining

    base = _remaining(logits, np.ones(len(logits), bool), options, said(*repeated), None)
    wide = replace(options, top_p=min(1.0, options.top_p + 1e-9), min_p=max(0.0, options.min_p - 1e-9))
    tight = replace(options, top_p=options.top_p - 1e-9, min_p=min(1.0, options.min_p + 1e-9))
    twins = (np.abs(base[:, None] - base[None]) < 1e-9).sum(axis=1) > 1
    return twins | ((kept(base, wide) > -np.inf) != (kept(base, tight) > -np.inf))


@pytest.mark.parametrize("spread", [0.0, 0.01, 1.0, 4.0])
@pytest.mark.parametrize("share", [0.05, 0.9, 0.999])
def test_the_nucleus_of_a_large_vocabulary_is_transformers(spread: float, share: float) -> None:
    """Where only some of the tokens are sorted: a peaked distribution, a flat one, and ties throughout."""
    torch = pytest.importorskip("torch")
    from transformers import TopPLogitsWarper

    logits = np.random.default_rng(5).standard_normal(20_000).round(2) * spread
    logits[7_000:9_000] = -np.inf
    theirs = TopPLogitsWarper(share)(None, torch.tensor(logits)[None])[0].numpy() > -np.inf
    ours = kept(logits, Options(temperature=1.0, top_p=share)) > -np.inf
    # Which of equals stay is nobody's promise, and sums of thousands of terms may round one token further.
    values = [np.sort(logits[left])[::-1] for left in (theirs, ours)]
    common = min(len(found) for found in values)
    assert common > 0 and abs(len(values[0]) - len(values[1])) <= 1
    np.testing.assert_array_equal(values[0][:common], values[1][:common])


@given(scores, st.integers(0, 39), st.booleans())
def test_what_is_measured_is_arithmetic_and_always_finite(values: list[float], cut: int, sampled: bool) -> None:
    logits = np.array(values, np.float32)
    if 0 < cut < len(values):
        logits[cut:] = -np.inf
    options = Options(temperature=1.0 if sampled else 0.0)
    found = choose(logits, np.ones(len(values), bool), options, [], np.random.default_rng(3))
    token, (log_prob, margin, entropy, rank) = found
    exact = log_softmax(logits)
    likely = exact[exact > -np.inf]
    assert log_prob == pytest.approx(exact[token], abs=2e-6)
    assert entropy == pytest.approx(-(np.exp(likely) * likely).sum(), abs=5e-5)
    ordered = np.sort(logits)[::-1].astype(np.float64)
    assert margin == pytest.approx(min(ordered[0] - ordered[1], 745.0), abs=1e-6)
    assert rank == (logits > logits[token]).sum() and (sampled or rank == 0)
    json.dumps(as_json(Token(token, 0, 0, log_prob, margin, entropy, rank)), allow_nan=False)


@pytest.mark.parametrize("options", [
    Options(), Options(temperature=0.8, top_k=5), Options(repetition_penalty=1.5), Options(temperature=1.0, top_p=0.7),
], ids=["greedy", "top_k", "penalty", "nucleus"])  # fmt: skip
@pytest.mark.parametrize("forbidden", [False, True])
def test_several_answers_get_the_tokens_that_each_would_get_alone(options: Options, forbidden: bool) -> None:
    source = np.random.default_rng(11)
    for _ in range(50):
        rows = list((source.normal(size=(5, 40)) * 6).astype(np.float32))
        rows[2][7] = -np.inf
        rows[3][5] = rows[3][9] = 60.0  # a tie: the lower id comes
        allowed = np.ones(40, bool)
        allowed[int(rows[0].argmax())] = not forbidden
        records = [[Token(int(at), 0, 1, -1.0, 0.5, 1.0, 0)] for at in source.integers(0, 40, 5)]
        rngs, same = ([np.random.default_rng(seed) for seed in range(5)] for _ in range(2))
        found = choose_each(rows, allowed, options, records, list(rngs))
        for (token, own), row, record, rng in zip(found, rows, records, same, strict=True):
            alone, figures = choose(row, allowed, options, record, rng)
            assert token == alone and own == pytest.approx(figures, abs=1e-6)


def test_logits_that_are_no_numbers_are_refused_in_company_too() -> None:
    rows = [np.zeros(4, np.float32), np.full(4, np.nan, np.float32)]
    with pytest.raises(BackendError, match="not numbers"):
        choose_each(rows, np.ones(4, bool), Options(), [[], []], [np.random.default_rng(0)] * 2)


def test_greedy_compares_the_logits_themselves() -> None:
    """Two logits that differ in their last bit are one log-probability, and two tokens."""
    logits = np.array([80.0, np.nextafter(np.float32(80.0), np.float32(81.0))], np.float32)
    assert choose(logits, np.ones(2, bool), Options(), [], np.random.default_rng(0))[0] == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tokens": 0},
        {"temperature": -0.1},
        {"temperature": math.inf},
        {"temperature": math.nan},
        {"seed": -1},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"min_p": -0.1},
        {"min_p": 1.5},
        {"repetition_penalty": 0.0},
        {"stop": ("",)},
    ],
)
def test_a_value_that_means_nothing_is_refused_with_those_that_do(wrong: dict[str, object]) -> None:
    with pytest.raises(BackendError, match="stop word" if "stop" in wrong else next(iter(wrong))) as caught:
        check_options(Options(**wrong))
    assert caught.value.hint
    check_options(Options())


# Grammars


@pytest.fixture(scope="module")
def speaking(loadable: Callable[[str], Path]):
    with Model.load(loadable("llamacpp"), precise=True) as model:
        yield model


ASK = [Turn("user", "Is there a ring in the image?")]


def test_an_answer_follows_its_grammar(speaking: Model) -> None:
    for grammar, texts in {
        'root ::= "Yes" | "No"': {"Yes", "No"},
        'root ::= "a" [0-9] "b"': {f"a{digit}b" for digit in range(10)},
    }.items():
        for temperature in (0.0, 1.5):
            options = Options(max_tokens=20, grammar=grammar, temperature=temperature, seed=4)
            answer = speaking.answer(None, ASK, options)
            assert answer.text in texts and answer.ended == "stop"


@pytest.mark.parametrize("seed", range(6))
def test_json_is_json(speaking: Model, seed: int) -> None:
    """A random model that must say JSON says JSON, whole or cut."""
    answer = speaking.answer(None, ASK, Options(max_tokens=300, temperature=1.0, top_k=20, seed=seed, grammar="json"))
    assert answer.text.startswith("{")
    if answer.ended == "stop":
        assert isinstance(json.loads(answer.text), dict)


def _takes(speaking: Model, text: str) -> bool:
    """Whether the JSON grammar lets this text through, token by token, and to its end."""
    grammar = speaking.engine.constraint("json")
    try:
        for token in speaking.tokenizer.encode(text, add_special_tokens=False).ids:
            if not grammar.allow([token])[0]:
                return False
            grammar.accept(token)
        return bool(grammar.allow([speaking.tokenizer.token_to_id("<|end|>")])[0])
    finally:
        grammar.close()


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"a": 1},
        {"a b": [1, -2.5, 3e10, True, False, None], "c": {"d": 'naïve "quoted" \\ 日本 \n\t'}},
        {"": [[], {}, [[0]]]},
    ],
)
def test_the_json_grammar_takes_what_json_writes(speaking: Model, value: dict) -> None:
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False), json.dumps(value, indent=1)):
        assert _takes(speaking, text), text


@pytest.mark.parametrize(
    "text", ['{"a": 01}', '{"a"}', '{"a": 1,}', "[1]", '{"a": "\n"}', '{"a": "\\x"}', '{"a": .5}', '{"a": 1', "{a: 1}"]
)
def test_the_json_grammar_refuses_what_json_does_not_read(speaking: Model, text: str) -> None:
    assert not _takes(speaking, text)


@pytest.mark.parametrize("grammar", ["nonsense", "root ::= undefined", 'x ::= "a"', 'root ::= root "a"', "  "])
def test_a_grammar_that_cannot_be_read_is_refused_before_anything_is_generated(speaking: Model, grammar: str) -> None:
    with pytest.raises(BackendError, match="cannot read the grammar") as caught:
        speaking.events(None, ASK, Options(grammar=grammar))
    assert "GBNF" in caught.value.hint


def test_a_token_that_the_grammar_forbids_is_refused_and_not_fatal(speaking: Model) -> None:
    grammar = speaking.engine.constraint('root ::= "Yes"')
    with pytest.raises(BackendError, match="does not allow token"):
        grammar.accept(speaking.tokenizer.token_to_id("<|end|>"))
    grammar.close()


@pytest.mark.parametrize("backend", ["onnxrt", "hf"])
def test_a_backend_without_grammars_names_the_one_that_has_them(loadable: Callable[[str], Path], backend: str) -> None:
    with Model.load(loadable(backend), backend) as model:
        assert not model.engine.grammar
        with pytest.raises(BackendError, match=f"'{backend}' knows no grammars") as caught:
            model.events(None, ASK, Options(grammar="json"))
        assert "llamacpp" in caught.value.hint
