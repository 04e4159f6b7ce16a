"""The published models' sizes: our arithmetic, what others published, and what transformers builds, all three equal."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

import pytest

from edgereverie.backbones._catalogue import Published, catalogue
from edgereverie.backbones._sizes import (
    RANK,
    adapter_parameters,
    gguf_bytes,
    nf4_bytes,
    parameters,
    running_bytes,
    tuning_bytes,
)
from edgereverie.backbones.base import LAYOUTS
from edgereverie.registry import BACKBONES, TARGETS

MODELS = {model.id: model for model in catalogue()}
PHI3 = MODELS["MBZUAI/LLaVA-Phi-3-mini-4k-instruct"]
LLAVA = MODELS["llava-hf/llava-1.5-7b-hf"]


def experts(name: str) -> Published:
    return MODELS[f"LanguageBind/MoE-LLaVA-{name}-4e"]


def dense(config: Any) -> dict[str, Any]:
    """The same without experts."""
    return {key: value for key, value in config.items() if key != "moe"} | {"model_type": "llava"}


# Against what was published


def test_llava_1_5() -> None:
    """llava-hf/llava-1.5-7b-hf: 14,126,854,144 bytes of float16 in model.safetensors.index.json."""
    assert parameters(LLAVA.config).total == 14_126_854_144 // 2 == 7_063_427_072
    assert parameters(MODELS["liuhaotian/llava-v1.5-7b"].config).total == 7_063_427_072


def test_phi_3_mini() -> None:
    """microsoft/Phi-3-mini-4k-instruct: 7,642,159,104 bytes of bfloat16; XTuner's unfused layers hold the same numbers."""
    assert parameters(PHI3.config).language_model == 7_642_159_104 // 2 == 3_821_079_552
    assert parameters(MODELS["xtuner/llava-phi-3-mini-hf"].config).language_model == 3_821_079_552


@pytest.mark.parametrize(
    ("name", "base", "total", "active"),
    [
        # Safetensors metadata of stabilityai/stablelm-2-1_6b, Qwen/Qwen1.5-1.8B (of Qwen-1.8B's shapes) and microsoft/phi-2;
        # total and activated billions of the language models: MoE-LLaVA's paper (arXiv 2401.15947, table 1).
        ("StableLM-1.6B", 1_644_515_328, 2.9, 2.0),
        ("Qwen-1.8B", 1_836_828_672, 3.1, 2.2),
        ("Phi2-2.7B", 2_779_683_840, 5.3, 3.6),
    ],
)
def test_moe_llava(name: str, base: int, total: float, active: float) -> None:
    config = experts(name).config
    counts = parameters(config)
    assert parameters(dense(config)).language_model == base
    assert counts.language_model == pytest.approx(total * 1e9, abs=0.06e9)
    assert counts.active - counts.tower - counts.projector == pytest.approx(active * 1e9, abs=0.07e9)


def test_the_files_of_moe_llava_stablelm() -> None:
    """Its two shards on the hub have 4.99 and 1.41 GB: bfloat16, the tower among them."""
    assert 2 * parameters(experts("StableLM-1.6B").config).total == pytest.approx(6.40e9, abs=0.01e9)


def test_llava_interleave() -> None:
    """Qwen/Qwen1.5-0.5B-Chat has 463,987,712 parameters (safetensors metadata); 64 rows more were put on for <image>."""
    config = MODELS["llava-hf/llava-interleave-qwen-0.5b-hf"].config
    assert parameters(config).language_model == 463_987_712 + 64 * 1024


def test_towers() -> None:
    """openai/clip-vit-large-patch14-336 and google/siglip-so400m-patch14-384 without their text halves, as model cards count."""
    assert parameters(LLAVA.config).tower == 303_507_456
    assert parameters(MODELS["LanguageBind/MoE-LLaVA-StableLM-1.6B-4e-384"].config).tower == 428_225_600


@pytest.mark.parametrize(
    ("quantization", "size", "within"),
    [
        # microsoft/Phi-3-mini-4k-instruct-gguf. Its q4 is a Q4_K_M of 2024, when the fused attention had 5 bits throughout.
        ("F16", 7_643_295_904, 0.0002),
        ("Q4_K_M", 2_393_231_072, 0.002),
    ],
)
def test_gguf_files_of_phi_3(quantization: str, size: int, within: float) -> None:
    assert gguf_bytes(PHI3.config["text_config"], quantization) == pytest.approx(size, rel=within)


# Against what transformers builds


@cache
def built(name: str) -> Any:
    """The whole model, its class and config as the backbone names them, without memory for its weights."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    model = MODELS[name]
    module, _, attribute = BACKBONES.get(model.backbone).model.rpartition(".")
    kind = getattr(import_module(module), attribute)
    config = kind.config_class.from_dict(dict(model.config))
    with torch.device("meta"):
        return kind(config)


def count(*modules: Any) -> int:
    """Parameters in all of them, a shared one once."""
    found = {id(parameter): parameter for module in modules for parameter in module.parameters()}
    return sum(parameter.numel() for parameter in found.values())


@pytest.mark.parametrize("name", MODELS)
def test_counts_are_those_of_the_built_model(name: str) -> None:
    counts, model = parameters(MODELS[name].config), built(name)
    inner = model.model
    assert count(model) == counts.total
    assert count(inner.vision_tower) == counts.tower
    assert count(inner.multi_modal_projector) == counts.projector
    assert count(inner.language_model, model.lm_head) == counts.language_model
    assert linears(inner.language_model) == counts.linears


def linears(module: Any, names: tuple[str, ...] | None = None) -> int:
    """Weights of all linears inside, or inputs and outputs of those named."""
    import torch

    found = [(name.rpartition(".")[2], one) for name, one in module.named_modules() if isinstance(one, torch.nn.Linear)]
    if names is None:
        return sum(one.weight.numel() for _, one in found)
    return sum(one.in_features + one.out_features for name, one in found if name in names)


@pytest.mark.parametrize("name", MODELS)
def test_adapters_are_those_of_the_built_model(name: str) -> None:
    targets = BACKBONES.get(MODELS[name].backbone).adapter_targets
    expected = RANK * linears(built(name).model.language_model, targets)
    assert adapter_parameters(MODELS[name].config, targets, RANK) == expected > 0


def test_the_adapter_is_the_one_that_tuning_places() -> None:
    pytest.importorskip("peft")
    from edgereverie.backbones import starter
    from edgereverie.recipe import Lora, Train
    from edgereverie.tuning.qlora import count as trained
    from edgereverie.tuning.qlora import place

    placed = place(starter.shipped().load(), Train(lora=Lora(rank=16, alpha=16)), starter.BACKBONE)
    expected = adapter_parameters(MODELS["starter"].config, starter.BACKBONE.adapter_targets, 16)
    assert trained(placed).adapter == expected


def test_four_bit_weights_take_what_is_said() -> None:
    """Every byte that the starter in NF4 holds, the scales' among them; their fixed tables of 16 and 256 steps aside."""
    pytest.importorskip("bitsandbytes")
    from edgereverie.backbones import starter

    held = 0
    for parameter in starter.shipped().load("bf16", "nf4").parameters():
        held += parameter.numel() * parameter.element_size()
        if (state := getattr(parameter, "quant_state", None)) is not None:
            held += state.absmax.nbytes + state.state2.absmax.nbytes
    assert nf4_bytes(MODELS["starter"].config) == pytest.approx(held, rel=1e-4)


# In itself


def test_every_entry_names_what_exists() -> None:
    assert len(MODELS) == len(catalogue())
    for model in catalogue():
        backbone = BACKBONES.get(model.backbone)
        assert backbone.recognises(model.config, model.chat), model.id
        assert model.layout in LAYOUTS.names()
        assert set(model.exports) <= set(TARGETS.names())
        assert model.licence


@pytest.mark.parametrize("name", MODELS)
def test_memory_is_ordered(name: str) -> None:
    """Fewer bits take less (fp16 may take least: there the tower stays small too); tuning takes more than the frozen model."""
    model = MODELS[name]
    sizes = list(running_bytes(model.config, model.exports).values())
    assert sizes[1:] == sorted(sizes[1:], reverse=True)
    assert "gguf" not in model.exports or sizes == sorted(sizes, reverse=True)
    frozen = nf4_bytes(model.config)
    tune = tuning_bytes(model.config, BACKBONES.get(model.backbone).adapter_targets)
    assert parameters(model.config).linears / 2 < frozen < tune
    assert sizes[-1] > parameters(model.config).linears / 2


def test_tuning_llava_1_5_by_hand() -> None:
    """Rank 128 and 576 + 256 tokens, 128 of them learned: each addend as the docstring has it, in round numbers."""
    targets = BACKBONES.get("llava15").adapter_targets
    frozen = 6_476_005_376 * (0.5 + 1 / 64 + 4 / 16384) + 2 * (7_063_427_072 - 6_476_005_376)
    adapter = 10 * 128 * 32 * (4 * 2 * 4096 + 3 * (4096 + 11008))
    backward = 832 * (2 * 32 * 4096 + 6 * (4 * 2 * 4096 + 3 * (4096 + 11008)))
    expected = frozen + adapter + backward + 2 * 4096 * 11008 + 128 * 32064 * 10
    assert tuning_bytes(LLAVA.config, targets) == pytest.approx(expected, rel=1e-6)
