"""Several streams fed together: the same logits as one by one, on every backend, whatever was fed, forked or cut before."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from edgereverie.errors import BackendError
from edgereverie.records import Answer, Options, Turn
from edgereverie.runtime.engine import CacheFull, Feed
from edgereverie.runtime.model import Model
from edgereverie.runtime.together import answers_together

# Backend, and how the model is exported for it: all in 32 bit, where one portion and another round alike.
FORMS = {
    "llamacpp": ("llama_cpp", "gguf-f16", {"quantization": "F32"}),
    "onnxrt, concat": ("onnxruntime", "onnx-fp32", {"settings": {"cache": "concat"}}),
    "onnxrt, shared": ("onnxruntime", "onnx-fp32", {"settings": {"cache": "shared"}}),
    "hf": ("torch", None, {}),
}
CLOSE = 1e-4


@pytest.fixture(scope="module", params=FORMS)
def model(request: pytest.FixtureRequest, model_folder: Path, tmp_path_factory) -> Iterator[Model]:
    package, profile, changes = FORMS[request.param]
    if find_spec(package) is None:
        pytest.skip(f"needs {package}")
    path = model_folder
    if profile:
        from edgereverie.backbones.base import open_folder
        from edgereverie.export.base import load_profile
        from edgereverie.export.write import export_bundle

        path = tmp_path_factory.mktemp("lockstep") / "bundle"
        export_bundle(open_folder(model_folder), load_profile(profile).model_copy(update=changes), path, made_from={})
    with Model.load(path, request.param.partition(",")[0], precise=True) as loaded:
        yield loaded


def alone(model: Model, fed: list[int], new: list[int]) -> np.ndarray:
    """Logits after each of ``new``, from a stream of their own that is fed at once."""
    stream = model.engine.open()
    found = stream.feed([*fed, *new], logits="all")[len(fed) :]
    stream.close()
    return found


@pytest.mark.parametrize("seed", range(3))
def test_random_walks_fed_together_and_alone_agree(model: Model, seed: int) -> None:
    rng = np.random.default_rng(seed)
    streams, fed = [model.engine.open() for _ in range(2)], [[], []]
    for _ in range(40):
        action = rng.choice(["steps", "steps", "ragged", "one", "fork", "rewind", "close"])
        at = int(rng.integers(len(streams)))
        if action == "fork" and len(streams) < 5:
            streams.append(streams[at].fork())
            fed.append(list(fed[at]))
        elif action == "rewind" and fed[at]:
            del fed[at][int(rng.integers(len(fed[at]))) :]
            streams[at].rewind(len(fed[at]))
        elif action == "close" and len(streams) > 2:
            streams.pop(at).close()
            fed.pop(at)
        elif action == "one":
            new = rng.integers(5, 200, int(rng.integers(1, 9))).tolist()
            np.testing.assert_allclose(streams[at].feed(new), alone(model, fed[at], new)[-1:], atol=CLOSE)
            fed[at] += new
        elif action in ("steps", "ragged"):
            some = rng.permutation(len(streams))[: int(rng.integers(1, len(streams) + 1))].tolist()
            for _ in range(4 if action == "steps" else 1):
                most = 2 if action == "steps" else 40
                news = [rng.integers(5, 200, int(rng.integers(1, most))).tolist() for _ in some]
                kinds = [str(rng.choice(["last", "all"])) for _ in some]
                feeds = [Feed(streams[i], new, kind) for i, new, kind in zip(some, news, kinds, strict=True)]
                for i, new, kind, rows in zip(some, news, kinds, model.engine.feed_many(feeds), strict=True):
                    expected = alone(model, fed[i], new)
                    np.testing.assert_allclose(rows, expected if kind == "all" else expected[-1:], atol=CLOSE)
                    fed[i] += new
        assert [stream.length for stream in streams] == [len(tokens) for tokens in fed]
    for stream in streams:
        stream.close()


def test_more_tokens_than_a_call_takes(model: Model) -> None:
    news = [np.random.default_rng(at).integers(5, 200, size).tolist() for at, size in enumerate((400, 1, 300))]
    streams = [model.engine.open() for _ in news]
    feeds = [Feed(stream, new, kind) for stream, new, kind in zip(streams, news, ("all", "last", "last"), strict=True)]
    for new, feed, rows in zip(news, feeds, model.engine.feed_many(feeds), strict=True):
        expected = alone(model, [], new)
        np.testing.assert_allclose(rows, expected if feed.logits == "all" else expected[-1:], atol=CLOSE)
        feed.stream.close()


def test_answers_of_a_pictures_forks_in_step(model: Model, photo: Path) -> None:
    """What contrasting does: one stream with the picture and one without, a token at a time, and one that stops early."""
    turns = [Turn("user", "Is there a ring in the image?")]
    seeing, _ = model.begin(photo, turns)
    blind, _ = model.begin(None, turns)
    again = seeing.fork()
    company = [seeing, blind, again]
    for step in range(6):
        expected = []
        for stream in company:
            fork = stream.fork()
            expected.append(fork.feed([40 + step])[0])
            fork.close()
        for rows, found in zip(
            expected, model.engine.feed_many([Feed(stream, [40 + step]) for stream in company]), strict=True
        ):
            np.testing.assert_allclose(found[0], rows, atol=CLOSE)
        if step == 2:
            again.close()
            company = [blind, seeing]
    seeing.close()
    blind.close()


def test_what_cannot_be_fed_changes_no_stream(model: Model) -> None:
    first, second = model.engine.open(), model.engine.open()
    first.feed([5, 6])
    second.feed([7])
    wrong = {
        "twice": [Feed(first, [8]), Feed(first, [9])],
        "outside the model's vocabulary": [Feed(first, [8]), Feed(second, [model.engine.vocabulary])],
        "no tokens": [Feed(first, [8]), Feed(second, [])],
        "1 image tokens": [Feed(first, [8]), Feed(second, [model.engine.image_token])],
        "context holds": [Feed(first, [8]), Feed(second, [5] * model.engine.context)],
    }
    for words, feeds in wrong.items():
        with pytest.raises(BackendError, match=words):
            model.engine.feed_many(feeds)
        assert (first.length, second.length) == (2, 1)
    closed = model.engine.open()
    closed.close()
    with pytest.raises(BackendError, match="closed"):
        model.engine.feed_many([Feed(first, [8]), Feed(closed, [9])])
    assert model.engine.feed_many([]) == []
    np.testing.assert_allclose(first.feed([10]), alone(model, [5, 6], [10]), atol=CLOSE)
    np.testing.assert_allclose(second.feed([10]), alone(model, [7], [10]), atol=CLOSE)
    first.close()
    second.close()


def test_a_full_cache_changes_no_stream(model: Model) -> None:
    """Where all streams share one cache, and the tokens take more calls than one before it is full."""
    if model.engine.backend != "llamacpp":
        pytest.skip("its streams have caches of their own")
    first, second = model.engine.open(), model.engine.open()
    first.feed([5, 6])
    with pytest.raises(CacheFull):
        model.engine.feed_many([Feed(first, [7] * 1200), Feed(second, [8] * 1200)])
    assert (first.length, second.length) == (2, 0)
    np.testing.assert_allclose(first.feed([10]), alone(model, [5, 6], [10]), atol=CLOSE)
    first.close()
    second.close()


@pytest.mark.parametrize("seen", [True, False])
def test_questions_asked_together_are_answered_as_alone(model: Model, photo: Path, seen: bool) -> None:
    image = photo if seen else None
    words = [
        "ring",
        "small red star",
        "moon or a blue drop at the left",
        "heart",
        "cross",
        "disc",
        "star",
        "bar",
        "dot",
    ]
    questions = [[Turn("user", f"Is there a {word} in the image?")] for word in words]
    questions[4] = [Turn("system", "Be brief."), *questions[4]]  # another beginning
    found = model.first_logits_many(image, questions)
    for logits, turns in zip(found, questions, strict=True):
        np.testing.assert_allclose(logits, model.first_logits(image, turns), atol=CLOSE)
    assert model.yes_over_no_many(image, [*questions, questions[0]]) == pytest.approx(
        [model.yes_over_no(image, turns) for turns in [*questions, questions[0]]], abs=CLOSE
    )
    assert model.first_logits_many(image, []) == []


def test_long_questions_are_answered_in_smaller_groups(model: Model, photo: Path) -> None:
    """Eight of 400 tokens do not fit a context of 2,048 together."""
    questions = [[Turn("user", "star " * 350 + f"{number}?")] for number in range(8)]
    long = len(model.prompt(photo, questions[0])[0])
    assert 8 * long > model.engine.context > long
    for logits, turns in zip(model.first_logits_many(photo, questions), questions, strict=True):
        np.testing.assert_allclose(logits, model.first_logits(photo, turns), atol=CLOSE)


def told(answer: Answer) -> tuple[object, ...]:
    return answer.text, answer.ended, answer.tokens, answer.prompt_tokens, [token.id for token in answer.record]


@pytest.mark.parametrize("seen", [True, False])
@pytest.mark.parametrize("options", [
    Options(max_tokens=12), Options(max_tokens=1), Options(max_tokens=9, stop=("e", "ring")),
    Options(max_tokens=8, temperature=0.9, top_k=20, seed=5), Options(max_tokens=8, repetition_penalty=1.3),
], ids=["greedy", "one", "stop", "drawn", "penalty"])  # fmt: skip
def test_answers_written_together_are_those_written_alone(
    model: Model, photo: Path, seen: bool, options: Options
) -> None:
    image = photo if seen else None
    words = [
        "ring",
        "small red star",
        "moon or a blue drop at the left",
        "heart",
        "cross",
        "disc",
        "bar",
        "dot",
        "",
        "?",
    ]
    questions = [[Turn("user", f"Is there a {word} in the image?")] for word in words]
    questions[3] = [Turn("system", "Be brief."), *questions[3]]  # another beginning
    questions[5] = [Turn("user", "Describe the image.")]
    found = answers_together(model, image, questions, options)
    alone = [model.answer(image, turns, options) for turns in questions]
    assert [told(answer) for answer in found] == [told(answer) for answer in alone]
    assert len({answer.text for answer in alone}) > 1
    for one, other in zip(found, alone, strict=True):
        assert one.confidence == pytest.approx(other.confidence, abs=CLOSE)
        for mine, its in zip(one.record, other.record, strict=True):
            assert (mine.start, mine.end, mine.rank) == (its.start, its.end, its.rank)
            assert mine.log_prob == pytest.approx(its.log_prob, abs=CLOSE)
    model.sight.forget()


def test_answers_that_do_not_fit_the_context_together_are_written_in_portions(model: Model, photo: Path) -> None:
    """Six questions of some 400 tokens and answers of up to 20 do not fit a context of 2,048 together."""
    questions = [[Turn("user", f"{number} " + "star " * 350)] for number in range(6)]
    options = Options(max_tokens=20)
    assert 6 * (len(model.prompt(photo, questions[0])[0]) + 20) > model.engine.context
    found = answers_together(model, photo, questions, options)
    assert [told(answer) for answer in found] == [told(model.answer(photo, turns, options)) for turns in questions]
    model.sight.forget()


def test_answers_of_many_questions_leave_no_streams_behind(model: Model, photo: Path) -> None:
    for _ in range(3):
        model.forget()
        found = model.answer_many(
            photo, [f"Is there a number {number}?" for number in range(20)], Options(max_tokens=3)
        )
        assert len(found) == 20
    if model.engine.backend == "llamacpp":
        assert len(model.engine._free) == 15, "the picture's beginning alone is kept"
    model.forget()
