"""A dense model and what it is upcycled to: the same logits, experts that are copies, and a folder like any other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers")
from edgereverie.backbones._upcycle import compare, upcycled, write_upcycled
from edgereverie.backbones.base import ModelFolder, open_folder
from edgereverie.errors import BackboneError


@pytest.fixture(scope="module")
def dense(tiny_folder: Path) -> ModelFolder:
    return open_folder(tiny_folder)


@pytest.fixture
def make(dense: ModelFolder, tmp_path: Path) -> Callable[..., ModelFolder]:
    def write(**choices: Any) -> ModelFolder:
        out = tmp_path / "moe"
        out.mkdir()
        write_upcycled(dense, out, **choices)
        return open_folder(out)

    return write


def prompts(folder: ModelFolder) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    text = torch.randint(3, 200, (1, 30), generator=generator)
    seen = torch.cat([text[:, :4], torch.full((1, folder.image.tokens), folder.config["image_token_index"]), text], 1)
    pixels = torch.randn(1, 3, folder.image.size, folder.image.size, generator=generator)
    return [{"input_ids": text}, {"input_ids": seen, "pixel_values": pixels}]


@pytest.mark.parametrize(("choices", "chosen"), [
    ({}, [0, 2]),
    ({"layers": "all", "experts": 2}, [0, 1, 2, 3]),
    ({"layers": "first_half", "top_k": 1}, [0, 1]),
    ({"layers": "second_half", "experts": 3, "seed": 5}, [2, 3]),
    ({"layers": "3", "top_k": 1, "experts": 8}, [3]),
])  # fmt: skip
def test_outputs_are_the_dense_models(
    dense: ModelFolder, make: Callable[..., ModelFolder], choices: dict[str, Any], chosen: list[int]
) -> None:
    """A Phi-3, whose feed-forward layer is fused. The starter's logits are of the size of 1."""
    folder = make(**choices)
    assert (folder.backbone.name, folder.chat, folder.image) == ("moe_llava", dense.chat, dense.image)
    assert folder.config["moe"]["moe_layers_idx"] == chosen
    likeness = compare(dense, folder, prompts(dense))
    assert likeness.precision == "fp32" and likeness.positions > 60
    assert likeness.max_logit_diff < 1e-5 and likeness.top1 == 1.0
    assert likeness.scale > 0.1, "there is something to compare"


def test_a_difference_would_be_seen(dense: ModelFolder, make: Callable[..., ModelFolder]) -> None:
    """The same comparison, with one expert of one layer disturbed."""
    from safetensors.torch import load_file, save_file

    folder = make()
    file = folder.path / "model.safetensors"
    tensors = load_file(file)
    tensors["model.language_model.layers.2.mlp.experts.1.down_proj.weight"] *= 1.5
    save_file(tensors, file)
    assert compare(dense, open_folder(folder.path), prompts(dense)).max_logit_diff > 1e-3


def test_experts_are_copies_and_gates_are_not(dense: ModelFolder, make: Callable[..., ModelFolder]) -> None:
    before, after = dense.tensors(), make().tensors()
    layer = "model.language_model.layers.2.mlp."
    for name in ("gate_up_proj.weight", "down_proj.weight"):
        for expert in range(4):
            assert torch.equal(after[f"{layer}experts.{expert}.{name}"][...], before[layer + name][...])
    assert layer + "down_proj.weight" not in after
    gates = [after[f"model.language_model.layers.{index}.mlp.wg.weight"][...] for index in (0, 2)]
    assert all(gate.shape == (4, 256) and gate.dtype == torch.float32 for gate in gates)
    assert not torch.equal(gates[0], gates[1])
    # As nn.Linear: uniform within 1 / sqrt(inputs) = 1 / 16, whose standard deviation is that over sqrt(3).
    assert float(gates[0].abs().max()) <= 1 / 16 and float(gates[0].std()) == pytest.approx(3**-0.5 / 16, rel=0.1)
    others = {name for name in before if not name.startswith((layer, layer.replace("2", "0")))}
    assert all(torch.equal(before[name][...], after[name][...]) for name in others) and len(others) > 100


def test_the_seed_decides_about_the_gates(dense: ModelFolder) -> None:
    name = "model.language_model.layers.0.mlp.wg.weight"
    first, again, other = (upcycled(dense, seed=seed).tensors()[name][...] for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_tokens_spread_over_the_experts(dense: ModelFolder, make: Callable[..., ModelFolder]) -> None:
    """A gate at random: no expert is alone with all tokens, most get some, before anything was tuned."""
    model = make(layers="all").load().train()
    with torch.no_grad():
        for prompt in prompts(dense):
            model(**prompt)
    for layer in model.expert_load().values():
        assert sum(layer["shares"]) == pytest.approx(1, abs=1e-3)
        assert max(layer["shares"]) <= 0.5, "top-2: an expert is at most half of all choices"
        assert sum(share > 0 for share in layer["shares"]) >= 3


@pytest.mark.parametrize(("choices", "message", "hint"), [
    ({"layers": "spars"}, "Unknown choice of layers 'spars'", "sparse, all, first_half, second_half, or numbers"),
    ({"layers": "0,4"}, r"moe_layers_idx \[0, 4\], wanted ascending numbers from 0 to 3", "4 layers"),
    ({"layers": "2,0"}, "ascending", "4 layers"),
    ({"experts": 1}, "two or more", "4 layers"),
    ({"top_k": 3}, "1 or 2 experts, not to 3", None),
])  # fmt: skip
def test_choices_that_do_not_fit(dense: ModelFolder, choices: dict[str, Any], message: str, hint: str | None) -> None:
    with pytest.raises(BackboneError, match=message) as caught:
        upcycled(dense, **choices)
    assert hint is None or hint in caught.value.hint


def test_experts_are_not_made_of_experts(make: Callable[..., ModelFolder]) -> None:
    with pytest.raises(BackboneError, match="cannot be upcycled") as caught:
        upcycled(make())
    assert "experts already" in caught.value.hint


def test_the_verb_writes_a_folder_with_its_figures(tiny_folder: Path, tmp_path: Path) -> None:
    import json

    from edgereverie import stages
    from edgereverie.errors import BundleError

    out = stages.upcycle(str(tiny_folder), tmp_path / "moe", layers="all", experts=2, seed=3)
    told = json.loads((out / "upcycle.json").read_text(encoding="utf-8"))
    assert (told["base"], told["layers"], told["experts"], told["top_k"], told["seed"]) == ("tiny", "all", 2, 2, 3)
    assert told["likeness"]["max_logit_diff"] < 1e-5
    with pytest.raises(BundleError, match="exists already"):
        stages.upcycle(str(tiny_folder), out)
    with stages.open_model(str(out)) as model:
        assert model.engine.backend == "hf"
    assert not list(tmp_path.glob(".*")), "nothing half-written is left"
