"""What an export is expected to weigh is what it weighs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgereverie.backbones.base import ModelFolder
from edgereverie.bundle import Bundle
from edgereverie.errors import ExportError
from edgereverie.export.base import load_profile
from edgereverie.export.estimate import _GGML, _gguf_model, estimate, mixed
from edgereverie.export.shapes import Shapes, shapes_of
from edgereverie.export.write import export_bundle

HERE = {"rate": 1e10, "resident": 0, "available": 1 << 40}


def test_the_types_weigh_what_ggml_says() -> None:
    constants = pytest.importorskip("gguf").constants
    for name, size in _GGML.items():
        block, count = constants.GGML_QUANT_SIZES[constants.GGMLQuantizationType[name]]
        assert size == count / block, name


@pytest.mark.parametrize("profile", ["gguf-f16", "gguf-q8-0", "gguf-q4-k-m", "onnx-fp32", "onnx-int8", "onnx-int4"])
def test_the_size_of_a_bundle(profile: str, tiny: ModelFolder, bundles: Callable[[str], Bundle]) -> None:
    expected = estimate(tiny, load_profile(profile), shapes_of(tiny), **HERE)
    found = sum(file.bytes for file in bundles(profile).files.values())
    assert found == pytest.approx(expected.size, rel=0.03)
    assert sum(expected.parts.values()) == expected.size


@pytest.mark.parametrize("quantization", ["Q4_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q4_K_S", "Q3_K_M", "Q2_K"])
def test_the_mixes_of_llama_cpp(quantization: str, tiny: ModelFolder, bundles, tmp_path: Path) -> None:
    """The language model's tensors to a hundredth, in the types that this llama.cpp mixes."""
    quantise = pytest.importorskip("edgereverie.export.quantise")
    gguf = pytest.importorskip("gguf")
    shapes = shapes_of(tiny)
    path = tmp_path / "out.gguf"
    if quantization == "Q4_0":
        profile = load_profile("gguf-f16").model_copy(update={"quantization": "Q4_0"})
        path = export_bundle(tiny, profile, tmp_path / "bundle", made_from={}).file("model")
    else:
        quantise.quantise(bundles("gguf-f16").file("model"), path, quantization)
    found = sum(int(tensor.n_bytes) for tensor in gguf.GGUFReader(path).tensors)
    assert _gguf_model(shapes, quantization) == pytest.approx(found, rel=0.01)


def test_a_mix_by_hand() -> None:
    """Q4_K_M of 32 layers: more bits in the first and last eighth and every third between (llama-quant.cpp)."""
    more = [layer for layer in range(32) if mixed("Q4_K_M", "down", layer, 32) == "Q6_K"]
    assert more == [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]
    assert {mixed("Q4_K_M", "up", layer, 32) for layer in range(32)} == {"Q4_K"}


def test_shapes_count_every_weight_once(tiny: ModelFolder) -> None:
    model, shapes = tiny.load(), shapes_of(tiny)
    assert shapes.total == sum(weight.numel() for weight in model.parameters())
    tower = model.model.vision_tower
    unused = [*tower.encoder.layers[-1].parameters(), *tower.post_layernorm.parameters()]
    assert shapes.projected - shapes.vision == sum(weight.numel() for weight in unused)
    assert shapes.layers == 4 and shapes.largest == max(weight.numel() for weight in model.parameters())


def test_memory_and_time_follow_the_model(tiny: ModelFolder) -> None:
    """A thousand times the weights: about so much more of everything; a model that does not fit in 32 bit is compared in 16."""
    shapes = shapes_of(tiny)
    numbers = {name: getattr(shapes, name) for name in Shapes.__slots__}
    large = Shapes(**{key: tuple((at, kind, 1000 * count) for at, kind, count in value) if key == "linears"
                      else value if key == "layers" else 1000 * value for key, value in numbers.items()})  # fmt: skip
    profile = load_profile("gguf-q4-k-m")
    one, thousand = estimate(tiny, profile, shapes, **HERE), estimate(tiny, profile, large, **HERE)
    assert 900 * one.parts["vision"] < thousand.parts["vision"] < 1000 * one.parts["vision"]
    assert thousand.seconds > 300 * (one.seconds - 5) and thousand.peak > 900 * one.peak
    assert one.temporary > 2 * shapes.total - 2 * shapes.projected, "a 16-bit file, and the logits that are compared"
    slim = replace(large, projected=0, vision=0)  # so that comparing takes the most
    roomy = estimate(tiny, profile, slim, **HERE)
    squeezed = estimate(tiny, profile, slim, **HERE | {"available": 3 * slim.total})
    assert roomy.peak == 4 * slim.total and 2 * slim.total < squeezed.peak < 4 * slim.total


def test_an_export_that_has_no_room_does_not_start(tmp_path: Path, monkeypatch) -> None:
    from edgereverie.stages import _estimate

    found = [SimpleNamespace(size=600, temporary=300), SimpleNamespace(size=500, temporary=100)]
    monkeypatch.setattr(_estimate.shutil, "disk_usage", lambda place: SimpleNamespace(free=1399))
    with pytest.raises(ExportError, match=r"takes about 0\.0 MB of disk"):
        _estimate.require_room(found, tmp_path / "deep" / "out")
    monkeypatch.setattr(_estimate.shutil, "disk_usage", lambda place: SimpleNamespace(free=1400))
    _estimate.require_room(found, tmp_path / "deep" / "out")
    assert not list(tmp_path.iterdir())
