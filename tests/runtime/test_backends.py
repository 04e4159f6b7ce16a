"""What every backend promises, checked for each on the same random weights."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edgereverie.chat import encode
from edgereverie.errors import BackendError
from edgereverie.records import Options, Turn
from edgereverie.registry import BACKENDS
from edgereverie.runtime.engine import CacheFull
from edgereverie.runtime.model import Model
from edgereverie.runtime.sampling import log_softmax

QUESTION = [Turn("user", "Is there a ring in the image?")]
SHORT = Options(max_tokens=12)


@pytest.fixture(scope="module", params=BACKENDS.names())
def model(request: pytest.FixtureRequest, loadable: Callable[[str], Path]) -> Iterator[Model]:
    with Model.load(loadable(request.param), request.param, precise=True) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def features(model: Model) -> np.ndarray:
    side = model.image.size
    return model.engine.encode(np.random.default_rng(5).standard_normal((3, side, side)).astype(np.float32))


@pytest.fixture(scope="module")
def ids(model: Model) -> list[int]:
    return encode(model.tokenizer, model.chat, QUESTION, image_tokens=model.image.tokens)[0]


def tolerance(model: Model) -> float:
    """How far logits of the same tokens may lie apart when they are computed in other portions.

    The GGUF holds F16 weights, and llama.cpp multiplies one token and many tokens by them in different kernels, which round
    differently; the other two compute in F32 throughout.
    """
    return 4e-3 if model.engine.backend == "llamacpp" else 1e-4


def run(model: Model, ids: list[int], features: np.ndarray, cuts: list[int]) -> np.ndarray:
    """Logits after each token, fed in the chunks that ``cuts`` make."""
    stream, parts, seen = model.engine.open(), [], 0
    for begin, end in zip([0, *cuts], [*cuts, len(ids)], strict=True):
        chunk = ids[begin:end]
        rows = chunk.count(model.engine.image_token)
        parts.append(stream.feed(chunk, features[seen : seen + rows] if rows else None, logits="all"))
        seen += rows
    stream.close()
    return np.concatenate(parts)


def test_every_backend_computes_the_model_of_torch(
    model: Model, model_folder: Path, photo: Path, ids: list[int]
) -> None:
    import torch

    from edgereverie.backbones.base import open_folder
    from edgereverie.image import open_image, prepare

    pixels = prepare(open_image(photo), model.image)
    whole = open_folder(model_folder).load("fp32")
    with torch.no_grad():
        expected = whole(input_ids=torch.tensor([ids]), pixel_values=torch.tensor(pixels)[None]).logits[0].numpy()
    found = run(model, ids, model.engine.encode(pixels), [])
    assert (
        np.abs(found - expected).max() < (2e-5 if model.engine.backend != "llamacpp" else 2e-3) * np.abs(expected).max()
    )


def test_the_features_are_one_row_for_each_image_token(model: Model, features: np.ndarray) -> None:
    assert features.shape == (model.image.tokens, 256)
    assert features.dtype == np.float32


@pytest.mark.parametrize("cuts", [[1], [10, 20], [3, 4, 5, 39]])
def test_chunks_make_no_difference(model: Model, ids: list[int], features: np.ndarray, cuts: list[int]) -> None:
    np.testing.assert_allclose(run(model, ids, features, cuts), run(model, ids, features, []), atol=tolerance(model))


def test_last_is_the_last_of_all(model: Model, ids: list[int], features: np.ndarray) -> None:
    stream = model.engine.open()
    last = stream.feed(ids, features)
    stream.close()
    assert last.shape == (1, model.engine.vocabulary)
    assert last.dtype == np.float32
    np.testing.assert_allclose(last, run(model, ids, features, [])[-1:], atol=tolerance(model))


def test_a_fork_goes_its_own_way(model: Model, ids: list[int], features: np.ndarray) -> None:
    stream = model.engine.open()
    stream.feed(ids, features)
    fork = stream.fork()
    fork.feed([40, 41])
    here, there = stream.feed([50]), fork.feed([50])
    assert (stream.length, fork.length) == (len(ids) + 1, len(ids) + 3)
    np.testing.assert_allclose(here, run(model, [*ids, 50], features, [])[-1:], atol=tolerance(model))
    np.testing.assert_allclose(there, run(model, [*ids, 40, 41, 50], features, [])[-1:], atol=tolerance(model))
    stream.close()
    np.testing.assert_allclose(
        fork.feed([60]), run(model, [*ids, 40, 41, 50, 60], features, [])[-1:], atol=tolerance(model)
    )
    fork.close()


def test_rewinding_forgets(model: Model, ids: list[int], features: np.ndarray) -> None:
    stream = model.engine.open()
    stream.feed(ids, features)
    fork = stream.fork()
    stream.feed([40, 41, 42])
    stream.rewind(len(ids) + 1)
    np.testing.assert_allclose(stream.feed([50]), run(model, [*ids, 40, 50], features, [])[-1:], atol=tolerance(model))
    stream.rewind(0)
    np.testing.assert_allclose(stream.feed(ids, features), run(model, ids, features, [])[-1:], atol=tolerance(model))
    np.testing.assert_allclose(fork.feed([50]), run(model, [*ids, 50], features, [])[-1:], atol=tolerance(model))
    with pytest.raises(BackendError, match="Cannot rewind"):
        stream.rewind(stream.length + 1)
    stream.close()
    fork.close()


def test_streaming_equals_the_whole_answer_and_repeats_itself(model: Model, photo: Path) -> None:
    pieces = list(model.respond(photo, QUESTION, SHORT))
    answers = [model.answer(photo, QUESTION, SHORT) for _ in range(2)]
    assert len(pieces) > 1
    assert "".join(pieces) == answers[0].text == answers[1].text
    assert answers[0].backend == model.engine.backend
    assert 0 < answers[0].tokens <= SHORT.max_tokens


def test_score_is_the_sum_of_single_steps(model: Model, photo: Path) -> None:
    text = "Yes, there is a red ring."
    for image in (photo, None):
        prompt, _ = encode(model.tokenizer, model.chat, QUESTION, image_tokens=model.image.tokens if image else 0)
        whole, learn = encode(model.tokenizer, model.chat, [*QUESTION, Turn("assistant", text)],
                              image_tokens=model.image.tokens if image else 0)  # fmt: skip
        answer = [token for token, learned in zip(whole, learn, strict=True) if learned][:-1]
        assert whole[: len(prompt)] == prompt
        from edgereverie.image import open_image, prepare

        stream = model.engine.open()
        features = model.engine.encode(prepare(open_image(photo), model.image)) if image else None
        logits, total = stream.feed(prompt, features), 0.0
        for token in answer:
            total += float(log_softmax(logits[-1])[token])
            logits = stream.feed([token])
        stream.close()
        assert model.score(image, QUESTION, text) == pytest.approx(
            total, abs=max(1e-3, len(answer) * tolerance(model) / 2)
        )


def test_the_picture_changes_the_score(model: Model, photo: Path) -> None:
    assert abs(model.score(photo, QUESTION, "Yes.") - model.score(None, QUESTION, "Yes.")) > 1e-3


def test_an_overflowing_context_is_refused_and_leaves_the_stream_as_it_was(model: Model) -> None:
    stream = model.engine.open()
    stream.feed([5, 6, 7])
    with pytest.raises(BackendError, match="context holds 2,048"):
        stream.feed([5] * (model.engine.context - 2))
    assert stream.length == 3
    stream.feed([8])
    stream.close()
    with pytest.raises(BackendError, match=r"may take 2,040; the model's\s+context holds 2,048"):
        model.respond(None, QUESTION, Options(max_tokens=2040))


def test_features_and_image_tokens_must_agree(model: Model, features: np.ndarray) -> None:
    stream = model.engine.open()
    with pytest.raises(BackendError, match="1 image tokens, the picture gave 0 feature rows"):
        stream.feed([5, model.engine.image_token])
    with pytest.raises(BackendError, match=f"0 image tokens, the picture gave {len(features)} feature rows"):
        stream.feed([5], features)
    with pytest.raises(BackendError, match="17 wide"):
        stream.feed([model.engine.image_token], np.zeros((1, 17), np.float32))
    with pytest.raises(BackendError, match="outside the model's vocabulary"):
        stream.feed([model.engine.vocabulary])
    with pytest.raises(BackendError, match="no tokens"):
        stream.feed([])
    assert stream.length == 0
    stream.close()


def test_a_closed_stream_is_not_used_again(model: Model) -> None:
    stream = model.engine.open()
    stream.close()
    stream.close()
    for use in (lambda: stream.feed([5]), stream.fork, lambda: stream.rewind(0)):
        with pytest.raises(BackendError, match="closed"):
            use()


def test_many_questions_and_pictures_do_not_exhaust_the_engine(model: Model, tmp_path: Path) -> None:
    """More pictures than are kept, more turns than there are streams, and generators that nobody finished."""
    from PIL import Image

    for shade in range(20):
        path = tmp_path / f"{shade}.png"
        Image.new("RGB", (96, 96), (shade * 10, 0, 0)).save(path)
        next(model.respond(path, QUESTION, Options(max_tokens=2)), None)
    assert len(model.sight._prefixes) <= 4


def test_llamacpp_frees_a_model_that_nobody_closed_and_survives_a_stream_that_outlives_it(
    loadable: Callable[[str], Path],
) -> None:
    model = Model.load(loadable("llamacpp"))
    stream, release = model.engine.open(), model.engine._release
    model.close()
    model.close()
    with pytest.raises(BackendError, match="closed"):
        stream.feed([5])
    with pytest.raises(BackendError, match="closed"):
        model.engine.open()
    stream.close()
    assert not release.alive
    forgotten = Model.load(loadable("llamacpp")).engine._release
    gc.collect()
    assert not forgotten.alive


def test_llamacpp_says_when_streams_run_out(loadable: Callable[[str], Path]) -> None:
    with Model.load(loadable("llamacpp")) as model:
        streams = [model.engine.open() for _ in range(16)]
        with pytest.raises(CacheFull, match="All 16 token streams"):
            model.engine.open()
        streams.pop().close()
        model.engine.open().close()
        # A full cache: the second stream finds no cells until the first gives its own back.
        streams[0].feed([5] * 2000)
        with pytest.raises(CacheFull, match="no room"):
            streams[1].feed([5] * 100)
        assert streams[1].length == 0
        streams[0].close()
        streams[1].feed([5] * 100)
        for stream in streams:
            stream.close()


def test_pictures_make_room_for_a_long_conversation(loadable: Callable[[str], Path], tmp_path: Path) -> None:
    from PIL import Image

    with Model.load(loadable("llamacpp")) as model:
        for shade in range(4):
            Image.new("RGB", (96, 96), (shade * 60, 0, 0)).save(tmp_path / f"{shade}.png")
            model.look(tmp_path / f"{shade}.png")

        def length(words: int) -> int:
            turns = [Turn("user", "ring " * words)]
            return len(encode(model.tokenizer, model.chat, turns, image_tokens=model.image.tokens)[0])

        each = length(101) - length(100)
        words = (model.engine.context - 8 - length(1)) // each
        assert model.engine.context - 3 * model.image.tokens < length(words) < model.engine.context
        model.answer(tmp_path / "0.png", [Turn("user", "ring " * words)], Options(max_tokens=2))
        assert len(model.sight._prefixes) == 1


@pytest.mark.parametrize(("target", "backend", "role"), [("gguf", "llamacpp", "model"), ("onnx", "onnxrt", "decoder")])
def test_a_damaged_bundle_is_refused(
    loadable: Callable[[str], Path], tmp_path: Path, target: str, backend: str, role: str
) -> None:
    import shutil
    from dataclasses import replace

    from edgereverie.bundle import Bundle, describe_file
    from edgereverie.errors import BundleError, EdgeReverieError

    broken = tmp_path / target
    shutil.copytree(loadable(backend), broken)
    bundle = Bundle.load(broken)
    path = bundle.file(role)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(BundleError, match="the manifest says"):
        BACKENDS.get(backend).load(broken)
    # The same with a manifest that was written after the damage: the runtime itself has to notice.
    files = dict(bundle.files) | {role: describe_file(broken, bundle.files[role].path)}
    replace(bundle, files=files).write()
    with pytest.raises(EdgeReverieError, match=r"cannot load|is damaged") as caught:
        BACKENDS.get(backend).load(broken)
    assert caught.value.hint


@pytest.mark.parametrize("backend", ["llamacpp", "onnxrt"])
def test_another_models_image_geometry_is_refused_with_both_numbers(
    loadable: Callable[[str], Path], tmp_path: Path, photo: Path, backend: str
) -> None:
    import shutil
    from dataclasses import replace

    from edgereverie.bundle import Bundle
    from edgereverie.errors import EdgeReverieError

    other = tmp_path / "other"
    shutil.copytree(loadable(backend), other)
    bundle = Bundle.load(other)
    replace(bundle, image=replace(bundle.image, patch=32)).write()
    with pytest.raises(EdgeReverieError, match=r"36 .*\s9\b") as caught, Model.load(other) as model:
        model.look(photo)
    assert "same merged folder" in caught.value.hint


@pytest.mark.parametrize("backend", ["llamacpp", "onnxrt"])
def test_a_bundle_runs_without_torch(loadable: Callable[[str], Path], photo: Path, backend: str) -> None:
    program = f"""
import sys
from pathlib import Path
from edgereverie.records import Options, Turn
from edgereverie.runtime.model import Model
with Model.load(Path({str(loadable(backend))!r})) as model:
    model.answer(Path({str(photo)!r}), [Turn("user", "Is there a ring?")], Options(max_tokens=3), guards="verify")
print(sorted({{"torch", "transformers", "peft", "onnx", "gguf"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "[]", "")
