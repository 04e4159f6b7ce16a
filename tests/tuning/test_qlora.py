"""Which linears are in 4 bit, where adapters sit, what trains, and that the base stays what it was."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
import torch

from edgereverie.backbones.base import ModelFolder
from edgereverie.errors import TrainError
from edgereverie.recipe import Train
from edgereverie.tuning import qlora
from edgereverie.tuning.losses import weighted_negative_log_likelihood

bitsandbytes = pytest.importorskip("bitsandbytes")

LORA = {"rank": 4, "alpha": 8, "dropout": 0.0}


def linears(model) -> dict[str, str]:
    return {
        name: type(module).__name__ for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)
    }


def frozen_hash(model) -> str:
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        if not parameter.requires_grad:
            digest.update(name.encode() + parameter.detach().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@pytest.fixture
def batch(folder: ModelFolder, samples, images):
    from edgereverie.tuning.batch import Collate, encode_sample

    tokenizer = folder.tokenizer()
    examples = [encode_sample(s, folder, tokenizer, images, response=1.0, rationale=1.0) for s in samples[:2]]
    return Collate(folder.image, folder.config["text_config"]["pad_token_id"], longest=1)(examples)


def test_nf4_takes_the_language_models_linears_and_no_other(folder: ModelFolder) -> None:
    """16 = 4 layers of qkv, o, gate-up and down. The tower has 5 layers of six, the projector two, and the head one."""
    found = linears(folder.load("fp32", "nf4"))
    four_bit = {name for name, kind in found.items() if kind == "Linear4bit"}
    assert len(four_bit) == 16
    assert all(name.startswith("model.language_model.layers.") for name in four_bit)
    assert {name.rpartition(".")[2] for name in four_bit} == {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}
    others = {name: kind for name, kind in found.items() if name not in four_bit}
    assert set(others.values()) == {"Linear"}
    assert "lm_head" in others and sum("multi_modal_projector" in name for name in others) == 2
    assert sum("vision_tower" in name for name in others) == 5 * 6


def test_nf4_weights_are_near_the_originals(folder: ModelFolder) -> None:
    """Dequantized, the blocks of 64 differ by NF4's rounding: some 7 to 10 % of a normal weight, never by more."""
    from bitsandbytes.functional import dequantize_4bit

    plain = dict(folder.load().named_modules())
    for name, module in folder.load("fp32", "nf4").named_modules():
        if type(module).__name__ == "Linear4bit":
            assert module.weight.quant_state.quant_type == "nf4" and module.weight.quant_state.nested
            back, wanted = dequantize_4bit(module.weight.data, module.weight.quant_state), plain[name].weight.detach()
            assert 0.02 < float((back - wanted).norm() / wanted.norm()) < 0.13, name


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_adapters_sit_on_the_named_linears_only(folder: ModelFolder, quantization: str) -> None:
    model = qlora.place(folder.load("fp32", quantization), Train(lora=LORA), folder.backbone)
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    modules = {name.partition(".lora_")[0].removeprefix("base_model.model.") for name in trained}
    assert all(".lora_A." in name or ".lora_B." in name for name in trained)
    assert len(modules) == 16 and len(trained) == 32
    assert all(name.startswith("model.language_model.layers.") for name in modules)


def test_counts_by_hand(folder: ModelFolder) -> None:
    """Rank 4 on widths 256 -> 768 (qkv), 256 -> 256 (o), 256 -> 1024 (gate-up), 512 -> 256 (down): A and B hold
    rank x (in + out) each, 4 x (1024 + 512 + 1280 + 768) = 14,336 a layer, and there are four layers.
    """
    plain = folder.load()
    total = sum(p.numel() for p in plain.parameters())
    for quantization in ("none", "nf4"):
        numbers = qlora.count(qlora.place(folder.load("fp32", quantization), Train(lora=LORA), folder.backbone))
        assert (numbers.adapter, numbers.whole, numbers.total) == (4 * 14_336, 0, total)


def test_a_full_projector_beside_an_adapter_is_a_copy_of_its_own(folder: ModelFolder) -> None:
    model = qlora.place(folder.load("fp32", "nf4"), Train(lora=LORA, parts={"projector": "full"}), folder.backbone)
    whole = {name for name, p in model.named_parameters() if p.requires_grad and ".lora_" not in name}
    assert whole and all("multi_modal_projector.modules_to_save.default" in name for name in whole)
    original = [p for name, p in model.named_parameters() if "multi_modal_projector.original_module" in name]
    assert original and not any(p.requires_grad for p in original)


def test_a_tower_adapter_reaches_the_tower(folder: ModelFolder) -> None:
    parts = {"vision_tower": "lora", "language_model": "frozen"}
    model = qlora.place(folder.load(), Train(lora=LORA, parts=parts), folder.backbone)
    modules = {name.partition(".lora_")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert len(modules) == 5 * 6 and all(".vision_tower." in name for name in modules)


@pytest.mark.parametrize(("parts", "prefixes"), [
    ({"language_model": "full"}, ("model.language_model", "lm_head")),
    ({"language_model": "frozen", "projector": "full"}, ("model.multi_modal_projector",)),
    ({"language_model": "frozen", "vision_tower": "full"}, ("model.vision_tower",)),
])  # fmt: skip
def test_whole_parts_without_an_adapter(folder: ModelFolder, parts: dict[str, str], prefixes: tuple[str, ...]) -> None:
    model = qlora.place(folder.load(), Train(parts=parts), folder.backbone)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {name for name, _ in model.named_parameters() if name.startswith(prefixes)} and trained


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_the_frozen_base_is_the_same_after_steps(folder: ModelFolder, batch, quantization: str) -> None:
    train = Train(lora=LORA, parts={"projector": "full"})
    model = qlora.place(folder.load("fp32", quantization), train, folder.backbone).train()
    before = frozen_hash(model)
    trained = [p for p in model.parameters() if p.requires_grad]
    start = [p.detach().clone() for p in trained]
    optimizer = torch.optim.AdamW(trained, lr=1e-2, weight_decay=0.1)
    losses = []
    for _ in range(3):
        loss = weighted_negative_log_likelihood(model, batch, len(batch["label"]))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.1
    assert frozen_hash(model) == before
    assert sum(not torch.equal(a, b) for a, b in zip(start, trained, strict=True)) == len(trained), (
        "everything named has moved"
    )


def test_wrong_targets_are_an_error(folder: ModelFolder) -> None:
    """LLaMA's names on a Phi-3, whose linears are fused: nothing would be adapted."""
    llama = replace(folder.backbone, adapter_targets=("q_proj", "k_proj", "v_proj"))
    with pytest.raises(TrainError, match="found none of its linears") as caught:
        qlora.place(folder.load(), Train(lora=LORA), llama)
    assert "adapter_targets" in caught.value.hint
    assert len(str(caught.value)) < 400


def test_a_pass_without_gradients_leaves_the_next_one_its_gradients(folder: ModelFolder, batch) -> None:
    """bitsandbytes packs 4-bit weights for inference where the CPU multiplies in bf16; a reference is such a pass."""
    from edgereverie.tuning.reference import adapter_off

    model = qlora.place(folder.load("fp32", "nf4"), Train(lora=LORA), folder.backbone).train()

    def gradient() -> torch.Tensor:
        model.zero_grad()
        weighted_negative_log_likelihood(model, batch, 10).backward()
        return torch.cat([p.grad.flatten() for n, p in model.named_parameters() if "layers.0." in n and "lora_B" in n])

    before = gradient()
    with torch.no_grad(), adapter_off(model):
        weighted_negative_log_likelihood(model, batch, 10)
    assert before.norm() > 0
    torch.testing.assert_close(gradient(), before, rtol=1e-6, atol=0)
