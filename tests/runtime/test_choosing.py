"""Which device a model runs on: what works is chosen and named, what was asked for and is not there is an error."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from edgereverie.errors import BackendError, BundleError, MissingPackage
from edgereverie.registry import BACKENDS
from edgereverie.runtime.choosing import VARIABLE, asked_for, backend_for, on_device
from edgereverie.runtime.model import Model


def works(place: str) -> str:
    return place


def breaks_on_cuda(place: str) -> str:
    if place == "cuda":
        raise BackendError("no memory.", hint="Buy some.")
    return place


@pytest.mark.parametrize(
    ("asked", "lacking", "expected"),
    [("auto", "", "cuda"), ("auto", "it has none", "cpu"), ("cpu", "", "cpu"), ("cuda", "", "cuda")],
)
def test_the_first_that_works_is_chosen(asked: str, lacking: str, expected: str) -> None:
    assert on_device(asked, lacking, works, "it") == expected


def test_cuda_that_was_asked_for_and_is_not_there_is_an_error() -> None:
    with pytest.raises(BackendError, match="model: CUDA was asked for, and there is no card") as caught:
        on_device("cuda", "there is no card", works, "model")
    assert caught.value.hint
    with pytest.raises(BackendError, match="no memory"):
        on_device("cuda", "", breaks_on_cuda, "model")


def test_cuda_that_fails_is_told_before_the_cpu_is_used(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert on_device("auto", "", breaks_on_cuda, "model") == "cpu"
    assert "model: CUDA is there and does not work (no memory.)" in caplog.text


def test_a_fault_of_the_model_itself_is_not_hidden_by_the_fallback() -> None:
    def damaged(place: str) -> str:
        raise BundleError("The file is damaged.")

    with pytest.raises(BundleError, match="damaged"):
        on_device("auto", "", damaged, "model")


def test_the_environment_decides_where_no_argument_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert asked_for("auto") == "auto"
    monkeypatch.setenv(VARIABLE, "cuda")
    assert (asked_for("auto"), asked_for("cpu")) == ("cuda", "cpu")
    monkeypatch.setenv(VARIABLE, "tpu")
    with pytest.raises(BackendError, match="EDGEREVERIE_DEVICE is 'tpu'"):
        asked_for("auto")
    with pytest.raises(BackendError, match="device is 'gpu'"):
        asked_for("gpu")


@pytest.mark.parametrize("name", BACKENDS.names())
def test_every_backend_names_its_device_and_refuses_one_that_it_has_not(
    loadable: Callable[[str], Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = loadable(name)
    with Model.load(path, device="cpu") as model:
        assert (model.engine.backend, model.engine.device) == (name, "cpu")
    monkeypatch.setenv(VARIABLE, "cpu")
    with Model.load(path) as model:
        assert model.engine.device == "cpu"
    if not BACKENDS.get(name).lacks_cuda():
        pytest.skip("this machine has CUDA")
    with pytest.raises(BackendError, match="CUDA was asked for") as caught:
        Model.load(path, device="cuda")
    assert "cpu" in caught.value.hint


def test_onnxruntime_that_quietly_falls_back_is_found_out(
    loadable: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """onnxruntime-gpu lists CUDA also where no driver is: the session then has the CPU alone, without an error."""
    from edgereverie.runtime.backends import _onnx

    path = loadable("onnxrt")
    real = pytest.importorskip("onnxruntime").InferenceSession
    monkeypatch.setattr(_onnx, "lacks_cuda", lambda: "")
    monkeypatch.setattr(
        "onnxruntime.InferenceSession", lambda path, options, providers: real(path, options, providers=providers[-1:])
    )
    with pytest.raises(BackendError, match="could not start CUDA"):
        Model.load(path, device="cuda")
    with caplog.at_level(logging.WARNING), Model.load(path) as model:
        assert model.engine.device == "cpu"
    assert "does not work" in caplog.text


def test_a_backend_without_its_packages_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert backend_for("auto", "gguf", tmp_path).name == "llamacpp"
    monkeypatch.setattr("edgereverie.runtime.choosing._installed", lambda backend: False)
    assert backend_for("auto", "gguf", tmp_path).name == "llamacpp"  # whose load says what to install
    with pytest.raises(BackendError, match="no backend runs 'stone'"):
        backend_for("auto", "stone", tmp_path)
    monkeypatch.setattr("edgereverie.runtime.engine.find_spec", lambda package: None)
    with pytest.raises(MissingPackage):
        backend_for("auto", "gguf", tmp_path).load(tmp_path)
