"""What is planned against what torch's own allocator counts, and what is proposed where that is too much."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from edgereverie.backbones.base import ModelFolder, open_folder
from edgereverie.recipe import Recipe
from edgereverie.records import Sample, Turn
from edgereverie.registry import METHODS
from edgereverie.tuning import losses, processor
from edgereverie.tuning.plan import FEATURES, Planner, batches, changed, named_card, settings, this_machine
from edgereverie.tuning.plan import model as hollowed
from edgereverie.tuning.plan.cards import Machine
from edgereverie.tuning.plan.trace import LOGITS, MASKS, SCORES, trace
from edgereverie.tuning.qlora import place

pytest.importorskip("bitsandbytes")


def measured(recipe: Recipe, method, folder: ModelFolder, batch) -> int:
    """The most bytes that torch's allocator holds in a second step, by the profiler's memory events."""
    from torch.profiler import ProfilerActivity, profile

    model = folder.load("fp32", recipe.backbone.quantization)
    model.set_attn_implementation("eager")
    model = place(model, recipe.train, folder.backbone).train()
    if recipe.train.gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    adam = torch.optim.AdamW([parameter for parameter in model.parameters() if parameter.requires_grad])

    def step() -> None:
        given = {key: value.clone() if isinstance(value, torch.Tensor) else
                 {k: v.clone() for k, v in value.items()} for key, value in batch.items()}  # fmt: skip
        method.loss(model, given, method.size(batch), recipe)[0].backward()
        adam.step()
        adam.zero_grad()

    step()
    tensors = [*model.parameters(), *model.buffers()]
    tensors += [value for state in adam.state.values() for value in state.values()]
    for module in model.modules():
        if (state := getattr(getattr(module, "weight", None), "quant_state", None)) is not None:
            tensors += [state.absmax, state.state2.absmax]
    before = sum({tensor.data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}.values())
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return before + most


@pytest.mark.parametrize(
    ("name", "quantization", "train"),
    [
        ("reflective", "nf4", {}),
        ("reflective", "none", {"gradient_checkpointing": True}),
        ("dpo", "nf4", {}),
        ("povid", "none", {"povid": {"loss": "paper"}}),
    ],
    ids=["nf4", "checkpointing", "dpo", "povid"],
)
def test_the_plan_is_what_the_allocator_counts(
    name: str, quantization: str, train: dict, recipe, folder, samples, pairs, drawn: Path, drawn_pairs: Path
) -> None:
    """Within 5 %; small losses are the optimizer's counters and scratch room inside kernels."""
    method = METHODS.get(name)
    given = recipe(quantization, method=name, batch_size=6, **train)
    records, root = (samples, drawn) if method.kind == "samples" else (pairs, drawn_pairs)
    dataset = method.dataset(records, folder, root / "images", given)
    batch = method.collate(folder, given)([dataset[index] for index in range(6)])
    planned = trace(given, method, folder, batch, precision="fp32", cuda=False).peak
    assert planned == pytest.approx(measured(given, method, folder, batch), rel=0.05)


def test_four_bit_weights_by_hand() -> None:
    """100 x 64 weights: 3,200 bytes packed, 100 scales of a byte, one scale of scales."""
    packed = hollowed.PackedLinear(torch.nn.Linear(64, 100, bias=False), torch.float32)
    sizes = [tensor.nbytes for tensor in (packed.weight, packed.absmax, packed.absmax_scale)]
    assert sizes == [3200, 100, 4]
    assert not packed.weight.requires_grad and isinstance(packed, torch.nn.Linear)


@pytest.fixture
def planner(recipe, folder, samples, images) -> Callable[..., Planner]:
    def make(**train) -> Planner:
        return Planner(recipe(**train), METHODS.get("reflective"), folder, samples, images)

    return make


def machine(room: int, cuda: bool = False) -> Machine:
    return Machine("test", cuda, "fp32", room, rate=1e9, call=0.0, fixed=0)


def test_masks_and_logits_are_told_apart(planner, monkeypatch) -> None:
    """Rows of T tokens in 32 bits: a mask of 4 rows T² bytes, and of scores four heads' many times that.

    Scores stand in memory only where attention is not fused: in rows so short that a CPU is faster without.
    """
    monkeypatch.setattr(losses, "_FUSED", 10**6)
    one = planner(batch_size=8).estimate(planner(batch_size=8).recipe, machine(0))
    mask = 4 * one.rows * one.tokens**2
    assert one.parts[MASKS] == mask
    assert one.parts[SCORES] >= 4 * mask
    monkeypatch.undo()
    fused = planner(batch_size=8)
    assert SCORES not in fused.estimate(fused.recipe, machine(0)).parts
    assert SCORES not in fused.estimate(fused.recipe, machine(0, cuda=True)).parts


def test_logits_are_there_only_for_labels(planner, folder) -> None:
    one = planner(batch_size=8)
    shape = max(batches.shapes(one.dataset, one.recipe), key=lambda shape: shape.learned)
    batch = one.method.collate(folder, one.recipe)([one.dataset[index] for index in shape.members])
    parts = trace(one.recipe, one.method, folder, batch, precision="fp32", cuda=True).parts
    logits = 4 * shape.learned * folder.config["text_config"]["vocab_size"]
    assert parts.get(LOGITS, 0) <= 3 * logits < 3 * 4 * shape.size * folder.config["text_config"]["vocab_size"]


def test_what_fits_needs_no_change(planner) -> None:
    made = planner(batch_size=8)
    verdict = made.verdict(machine(2**40))
    assert verdict.fits and verdict.changes is None


def test_the_mildest_change_that_fits_is_proposed(planner) -> None:
    """A machine with a byte less than the recipe takes: checkpointing alone will do."""
    made = planner(batch_size=8)
    asked = made.estimate(made.recipe, machine(0))
    verdict = made.verdict(machine(asked.peak - 1))
    assert not verdict.fits and verdict.changes == {"gradient_checkpointing": True}
    assert verdict.proposed.peak < asked.peak
    assert changed(made.recipe, verdict.changes).train.gradient_checkpointing


def test_smaller_batches_are_gathered_to_the_same_step(planner) -> None:
    made = planner(batch_size=8, gradient_checkpointing=True)
    changes = list(made._milder())
    assert [(one["batch_size"], one["accumulation"]) for one in changes[:3]] == [(4, 2), (2, 4), (1, 8)]
    assert changes[3]["max_length"] == -(-made.longest // 64) * 64 < 2048
    assert len(changes) == 4  # the rank is 8 already
    verdict = made.verdict(machine(made.estimate(made.recipe, machine(0)).peak - 1))
    assert verdict.changes == changes[0] and verdict.proposed.peak < verdict.estimate.peak


def test_what_fits_nowhere_is_refused(planner) -> None:
    verdict = planner(batch_size=2).verdict(machine(1000))
    assert not verdict.fits and verdict.changes is None and verdict.proposed is None


def test_a_lower_rank_keeps_the_updates_scale() -> None:
    assert settings({"lora": {"rank": 64, "alpha": 128.0}, "gradient_checkpointing": True}) == [
        "train.lora.rank=64", "train.lora.alpha=128", "train.gradient_checkpointing=true",
    ]  # fmt: skip


def test_time_by_hand(planner) -> None:
    """At 10^9 operations per second a step takes its operations / 10^9; four steps four times that."""
    made = planner(batch_size=10_000)
    one = made.estimate(made.recipe, machine(0))
    (only,) = made._traces.values()
    assert one.step_seconds == pytest.approx(only.flops / 1e9)
    assert one.seconds == pytest.approx(4 * one.step_seconds)


def test_steps_by_hand(recipe) -> None:
    """1,001 records in batches of 10: 101 batches; by 4 of them 25 whole steps, two epochs 50."""
    assert batches.steps(recipe(steps=None, epochs=2, batch_size=10, accumulation=4), 1001) == 50
    assert batches.steps(recipe(steps=7), 10**6) == 7


def test_large_data_is_sampled_by_pictures_with_its_longest_records() -> None:
    turns = (Turn("user", "?"), Turn("assistant", "!"))
    records = [Sample(str(i), f"{i // 4}.png", turns) for i in range(20_000)]
    records[12_345] = Sample("long", "3086.png", (Turn("user", "?" * 999), Turn("assistant", "!")))
    found = batches.sample_of(records, 1000, seed=0)
    assert 1000 <= len(found) <= 1004 and any(one.id == "long" for one in found)
    assert found == batches.sample_of(records, 1000, seed=0)
    assert batches.sample_of(records[:5], 1000, seed=0) == records[:5]


def test_a_card_is_a_card_and_this_machine_is_this_machine() -> None:
    card = named_card(8, "auto")
    assert (card.cuda, card.precision, card.room) == (True, "bf16", 8 * 2**30)
    here = this_machine("fp32", 64)
    assert here.rate > 1e6 and here.fixed > 5 * 2**20


def full_size(folder: Path) -> Path:
    """A folder with LLaVA-Phi-3's published config and next to no weights; the words are the starter's."""
    from safetensors.torch import save_file

    from edgereverie.backbones._catalogue import catalogue
    from edgereverie.backbones.starter import WEIGHTS

    folder.mkdir()
    published = next(one.config for one in catalogue() if one.backbone == "llava_phi3" and one.layout == "llava")
    config = json.loads((WEIGHTS / "config.json").read_text(encoding="utf-8"))
    config["text_config"] |= dict(published["text_config"]) | {"original_max_position_embeddings": 4096}
    config["vision_config"] |= dict(published["vision_config"])
    config["image_seq_length"] = 576
    seen = json.loads((WEIGHTS / "preprocessor_config.json").read_text(encoding="utf-8"))
    seen |= {"size": {"shortest_edge": 336}, "crop_size": {"height": 336, "width": 336}}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "preprocessor_config.json").write_text(json.dumps(seen), encoding="utf-8")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((WEIGHTS / name).read_bytes())
    save_file({"none": torch.zeros(1)}, folder / "model.safetensors")
    return folder


def test_a_full_size_model_is_planned_without_its_weights(samples, images, tmp_path: Path) -> None:
    """LLaVA-Phi-3's 4.1 B parameters: their bytes agree with the arithmetic on the config to 1 %."""
    from edgereverie.backbones._sizes import adapter_parameters, nf4_bytes

    folder = open_folder(full_size(tmp_path / "phi3"))
    assert folder.backbone.name == "llava_phi3"
    recipe = Recipe(
        name="big", backbone={"model": str(folder.path)}, data={"scenes": {"count": 1, "diet": "reflective"}},
        train={"batch_size": 4, "gradient_checkpointing": True, "lora": {"rank": 128}},
    )  # fmt: skip
    made = Planner(recipe, METHODS.get("reflective"), folder, samples[:4], images)
    verdict = made.verdict(named_card(8, "auto"))
    parts = verdict.estimate.parts
    adapter = adapter_parameters(folder.config, folder.backbone.adapter_targets, 128)
    assert parts["weights"] == pytest.approx(nf4_bytes(folder.config), rel=0.01)
    assert parts["adapter"] == 4 * adapter
    assert parts["optimizer"] == pytest.approx((2 + 8 / 256) * adapter, rel=0.001)
    assert verdict.fits


def test_kept_features_are_counted_and_the_tower_is_not(planner, folder) -> None:
    """A picture's output in 32 bits: (patches, width) x 4 bytes, for each picture of the data; no tower in the arithmetic."""
    kept, seen = planner(features="memory", steps=1000), planner(features="off", steps=1000)
    vision = folder.config["vision_config"]
    one = 4 * (vision["image_size"] // vision["patch_size"]) ** 2 * vision["hidden_size"]
    with_store, without = (made.estimate(made.recipe, machine(0)) for made in (kept, seen))
    pictures = round(kept._drawn * kept.records)
    assert with_store.parts[FEATURES] == pictures * one and FEATURES not in without.parts
    flops = [max(trace.flops for trace in made._traces.values()) for made in (kept, seen)]
    assert flops[0] < flops[1]
    assert FEATURES not in kept.estimate(kept.recipe, machine(0, cuda=True)).parts


def test_what_this_process_holds_beside_tensors() -> None:
    """Of 100 MB in small blocks some stay as holes where the run is this process's; another machine's has a card's share."""
    here, card = this_machine("fp32", 64), named_card(8, "bf16")
    assert here.without_model() >= here.fixed and here.lost(10**9, 10**8) < 10**9
    assert here.lost(10**9, 10**8, recomputed=True) > here.lost(10**9, 10**8), "a layer is allocated and freed twice"
    assert card.without_model() == card.fixed and card.lost(10**9, 0) == int(0.03 * 10**9)


def test_code_that_is_kept_by_hand(monkeypatch) -> None:
    """290 KB for each shape in each of two caches; what the environment says is not overruled."""
    monkeypatch.setattr(processor.os, "environ", {"LRU_CACHE_CAPACITY": "10"})
    assert processor.code_bytes() == (10 + 1024) * 290 * 1024
    processor.spare()
    assert processor.code_bytes() == (10 + 64) * 290 * 1024
