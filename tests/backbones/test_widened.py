"""A 16-bit folder that computes in float32 from its files: the same bits as in float32, and 16 bits before and after."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

pytest.importorskip("transformers")
from edgereverie.backbones._upcycle import write_upcycled
from edgereverie.backbones.base import ModelFolder, open_folder


@pytest.fixture(scope="module", params=["float16", "bfloat16"])
def narrow(request: pytest.FixtureRequest, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    out = tmp_path_factory.mktemp("narrow") / "model"
    out.mkdir()
    for file in tiny_folder.iterdir():
        if file.suffix == ".json":
            (out / file.name).write_bytes(file.read_bytes())
    open_folder(tiny_folder).load().to(getattr(torch, request.param)).save_pretrained(out)
    return open_folder(out)


@pytest.fixture(scope="module", params=[False, True], ids=["dense", "experts"])
def folder(
    request: pytest.FixtureRequest, narrow: ModelFolder, tmp_path_factory: pytest.TempPathFactory
) -> ModelFolder:
    if not request.param:
        return narrow
    out = tmp_path_factory.mktemp("moe") / "model"
    out.mkdir()
    write_upcycled(narrow, out)
    return open_folder(out)


@pytest.fixture
def logits(folder: ModelFolder) -> Callable[[torch.nn.Module], torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    text = torch.randint(3, 200, (1, 30), generator=generator)
    ids = torch.cat([text[:, :4], torch.full((1, folder.image.tokens), folder.config["image_token_index"]), text], 1)
    pixels = torch.randn(1, 3, folder.image.size, folder.image.size, generator=generator)

    def of(model: torch.nn.Module) -> torch.Tensor:
        with torch.no_grad():
            return model(input_ids=ids, pixel_values=pixels).logits

    return of


def test_same_bits_as_in_float32(folder: ModelFolder, logits: Callable[[torch.nn.Module], torch.Tensor]) -> None:
    model = folder.load_widened()
    kept = {name: weight.dtype for name, weight in model.named_parameters()}
    found = logits(model)
    assert found.dtype == torch.float32
    assert torch.equal(found, logits(folder.load("fp32", on="cpu")))
    assert {name: weight.dtype for name, weight in model.named_parameters()} == kept
    inside = {dtype for name, dtype in kept.items() if "language_model" in name and not name.endswith("wg.weight")}
    assert inside == {getattr(torch, folder.dtype())}


def test_a_failed_step_leaves_nothing_wide(folder: ModelFolder) -> None:
    model = folder.load_widened()
    layer = model.model.language_model.layers[1]
    layer.mlp.forward = lambda *_: (_ for _ in ()).throw(KeyError("in the middle of a layer"))
    with pytest.raises(KeyError, match="in the middle"):
        model(input_ids=torch.tensor([[1, 5, 6]]))
    assert {weight.dtype for weight in layer.self_attn.parameters()} == {getattr(torch, folder.dtype())}
