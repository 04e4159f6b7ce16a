"""The shared form of the cache: the same logits as the joined one, and buffers that are copied only when they must be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from edgereverie.backbones.base import open_folder
from edgereverie.errors import BackendError
from edgereverie.export.base import load_profile
from edgereverie.export.write import export_bundle
from edgereverie.registry import BACKENDS
from edgereverie.runtime.backends.onnxrt import OnnxEngine, OnnxStream
from edgereverie.runtime.engine import Feed

FORMS = ("concat", "shared")
IDS = [5, 6, 7, 8, 9, 10, 11]


@pytest.fixture(scope="module")
def engines(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, OnnxEngine]]:
    made, root = {}, tmp_path_factory.mktemp("forms")
    for form in FORMS:
        profile = load_profile("onnx-fp32").model_copy(update={"settings": {"cache": form}})
        export_bundle(open_folder(model_folder), profile, root / form, made_from={})
        made[form] = BACKENDS.get("onnxrt").load(root / form)
    yield made
    for engine in made.values():
        engine.close()


def buffers(*streams: OnnxStream) -> int:
    """How many different buffers these streams' tokens lie in."""
    return len({id(stream.cache.buffer) for stream in streams})


def test_random_walks_of_feeding_forking_and_rewinding_agree(engines: dict[str, OnnxEngine]) -> None:
    """Every feed's logits, in both forms, against a stream that was fed the same tokens at once."""
    rng = np.random.default_rng(3)
    streams = [[engines[form].open() for form in FORMS]]
    fed: list[list[int]] = [[]]
    for _ in range(60):
        at = int(rng.integers(len(streams)))
        action = rng.choice(["feed", "feed", "feed", "fork", "rewind", "close"])
        if action == "fork" and len(streams) < 5:
            streams.append([stream.fork() for stream in streams[at]])
            fed.append(list(fed[at]))
        elif action == "rewind" and fed[at]:
            length = int(rng.integers(len(fed[at])))
            del fed[at][length:]
            for stream in streams[at]:
                stream.rewind(length)
        elif action == "close" and len(streams) > 1:
            for stream in streams.pop(at):
                stream.close()
            fed.pop(at)
        elif len(fed[at]) < 300:
            new = rng.integers(5, 300, int(rng.choice([1, 1, 2, 5, 120]))).tolist()
            fed[at] += new
            fresh = engines["concat"].open()
            expected = fresh.feed(fed[at])
            fresh.close()
            for stream in streams[at]:
                np.testing.assert_allclose(stream.feed(new), expected, atol=2e-4)
                assert stream.length == len(fed[at])


def test_a_prefix_is_never_copied_for_questions_one_after_the_other(engines: dict[str, OnnxEngine]) -> None:
    prefix = engines["shared"].open()
    prefix.feed(IDS)
    for question in ([20, 21], [30], [40, 41, 42]):
        fork = prefix.fork()
        for token in question:
            fork.feed([token])
        assert buffers(prefix, fork) == 1
        fork.close()


def test_only_what_would_be_overwritten_moves(engines: dict[str, OnnxEngine]) -> None:
    first = engines["shared"].open()
    first.feed(IDS)
    second = first.fork()
    second.feed([20])
    assert buffers(first, second) == 1
    first.feed([30])  # the second's token lies here
    assert buffers(first, second) == 2
    third = second.fork()
    third.rewind(3)
    assert buffers(second, third) == 1
    third.feed([40])
    assert buffers(second, third) == 2
    second.close()
    again = first.fork()
    again.rewind(2)
    first.close()
    before = again.cache.buffer
    again.feed([50])  # nobody else's tokens lie there any more
    assert again.cache.buffer is before


def test_a_buffer_grows_to_the_context_and_not_beyond(engines: dict[str, OnnxEngine]) -> None:
    engine = engines["shared"]
    stream = engine.open()
    stream.feed([5] * 250)
    sizes = [stream.cache.buffer.capacity]
    for count in (6, 1, 800, engine.context - 250 - 6 - 1 - 800):
        stream.feed([6] * count)
        sizes.append(stream.cache.buffer.capacity)
    assert sizes == [256, 256, 512, 2048, 2048] and engine.context == 2048
    stream.close()


@pytest.mark.parametrize("form", FORMS)
def test_streams_fed_together_are_computed_together_from_the_second_time_on(
    engines: dict[str, OnnxEngine], form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, rows = engines[form], []
    compute = engine._compute
    monkeypatch.setattr(
        engine, "_compute", lambda bound, new, *rest: (rows.append(len(new)), compute(bound, new, *rest))[1]
    )
    first, second = engine.open(), engine.open()
    first.feed(IDS)
    second.feed(IDS[:2])
    for token in (20, 21, 22, 23):
        engine.feed_many([Feed(first, [token]), Feed(second, [token])])
    assert rows == [1, 1, 1, 1, 2, 2, 2]
    engine.feed_many([Feed(second, [24]), Feed(first, [24])])  # in any order
    first.feed([25])  # one alone stays in its lane, or leaves the batch for arrays of its own
    engine.feed_many([Feed(first, [26]), Feed(second, [25])])
    assert rows[7:] == ([2, 1, 2] if form == "shared" else [2, 1, 1, 1])
    third = engine.open()
    expected = third.feed([*IDS, 20, 21, 22, 23, 24, 25, 26, 27])
    np.testing.assert_allclose(first.feed([27]), expected, atol=2e-4)
    for stream in (first, second, third):
        stream.close()


@pytest.mark.parametrize("form", FORMS)
def test_a_step_that_fails_leaves_all_lanes_as_they_were(
    engines: dict[str, OnnxEngine], form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engines[form]
    streams = [engine.open(), engine.open()]
    for stream, ids in zip(streams, (IDS, IDS[:3]), strict=True):
        stream.feed(ids)
    for token in (20, 21):
        engine.feed_many([Feed(stream, [token]) for stream in streams])

    def fail(*_: object) -> None:
        raise BackendError("no memory")

    with monkeypatch.context() as patch:
        patch.setattr(engine, "_compute", fail)
        with pytest.raises(BackendError, match="no memory"):
            engine.feed_many([Feed(stream, [22]) for stream in streams])
    assert [stream.length for stream in streams] == [len(IDS) + 2, 5]
    found = engine.feed_many([Feed(stream, [23]) for stream in streams])
    for stream, ids, logits in zip(streams, (IDS, IDS[:3]), found, strict=True):
        fresh = engine.open()
        np.testing.assert_allclose(logits, fresh.feed([*ids, 20, 21, 23]), atol=2e-4)
        fresh.close()
        stream.close()
