"""Memory as planned and as measured, on the CPU: the starter, and a random model of some 60 million parameters with 576
image tokens, each trained for some steps by the stage that ``edgereverie train`` calls.

    python benchmarks/memory.py --out runs/memory

Every case runs in processes of its own. ``resident`` is the process's peak (VmHWM), everything included: interpreter,
libraries, what the C library keeps of freed blocks. ``allocated`` is what torch's CPU allocator held at most during the second
step by the profiler's memory events, with the parameters, buffers and optimizer states that were there before it; the plan
for that is its sum without interpreter, allocator, mapped files and kept features. Result: benchmarks/results/memory.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from edgereverie.bundle import write_text

RESULTS = Path(__file__).parent / "results"
CASES = {
    "starter, reflective, NF4": ("starter", "reflective", ["train.batch_size=24"]),
    "starter, reflective, checkpointing": (
        "starter", "reflective", ["train.batch_size=24", "train.gradient_checkpointing=true", "backbone.quantization=none"],
    ),
    "60 M, reflective, NF4": ("middle", "reflective", ["train.batch_size=8"]),
    "60 M, reflective, fp32, checkpointing": (
        "middle", "reflective",
        ["train.batch_size=8", "train.gradient_checkpointing=true", "backbone.quantization=none", "train.precision=fp32"],
    ),
    "60 M, dpo, NF4": ("middle", "dpo", ["train.batch_size=2", "data.scenes.diet=preferences"]),
    "starter, povid with noise, NF4": ("starter", "povid", ["train.batch_size=24", "data.scenes.diet=preferences"]),
    # The plan's shares of what the C library keeps are taken from the six above; these two judge them.
    "60 M, dpo, fp32, checkpointing": (
        "middle", "dpo",
        ["train.batch_size=4", "data.scenes.diet=preferences", "train.gradient_checkpointing=true",
         "backbone.quantization=none", "train.precision=fp32"],
    ),
    "starter, dpo, fp32": (
        "starter", "dpo",
        ["train.batch_size=16", "data.scenes.diet=preferences", "backbone.quantization=none", "train.precision=fp32"],
    ),
}  # fmt: skip
STEPS = 8, 24  # of the larger model and of the starter, whose memory grows longer: its batches have more shapes
_BESIDE = "interpreter, libraries or driver", "allocator", "weight files, mapped", "pictures' features"


def middle(folder: Path) -> Path:
    """A LLaVA of some 60 million random parameters that reads pictures of 336 pixels, with the starter's words."""
    import torch
    from transformers import CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration, Phi3Config

    from edgereverie.backbones import starter
    from edgereverie.backbones._writing import write_companions
    from edgereverie.records import ImageSpec

    shipped = starter.shipped()
    words = shipped.config["text_config"]
    text = Phi3Config(
        vocab_size=8192, hidden_size=640, intermediate_size=1792, num_hidden_layers=8, num_attention_heads=10,
        num_key_value_heads=10, max_position_embeddings=2048, original_max_position_embeddings=2048,
        **{key: words[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")},
    )  # fmt: skip
    vision = CLIPVisionConfig(
        hidden_size=256, intermediate_size=1024, num_hidden_layers=6, num_attention_heads=4, image_size=336,
        patch_size=14, projection_dim=256,
    )  # fmt: skip
    torch.manual_seed(0)
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=shipped.config["image_token_index"],
        image_seq_length=576,
    )  # fmt: skip
    folder.mkdir(parents=True)
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    image = ImageSpec(size=336, patch=14, mean=shipped.image.mean, std=shipped.image.std)
    write_companions(folder, shipped.tokenizer(), image, shipped.chat.name)
    return folder


def train(model: str, method: str, settings: list[str], out: Path, allocator: bool) -> dict[str, object]:
    """One case in this process."""
    from edgereverie import stages
    from edgereverie.recipe import load_recipe
    from edgereverie.tuning import trainer
    from edgereverie.tuning.watch import peak_bytes

    held: list[int] = []
    steps = 3 if allocator else STEPS[model == "starter"]
    if allocator:
        _count_allocations(trainer.Watch, held)
    recipe = load_recipe(
        "starter/reverie",
        [f"backbone.model={model}", f"train.method={method}", f"train.steps={steps}", "train.log_every=1",
         "data.scenes.count=60", "train.per_picture=4", *settings],
    )  # fmt: skip
    stages.train(recipe, out, force=True)
    plan = json.loads((out / "plan.json").read_text(encoding="utf-8"))["machines"][0]
    return {
        "parts": plan["estimate"]["parts"],
        "precision": plan["precision"],
        "resident": peak_bytes(),
        "allocated": held[0] if held else None,
    }


def _count_allocations(watch: type, held: list[int]) -> None:
    """Have the second step profiled; ``held`` gets the most bytes that were allocated."""
    from torch.profiler import ProfilerActivity, profile

    profiler = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
    before: list[int] = []

    def begin(self, args, state, control, model=None, optimizer=None, **_):
        if state.global_step == 1:
            tensors = [*model.parameters(), *model.buffers()]
            tensors += [
                value for kept in optimizer.state.values() for value in kept.values() if hasattr(value, "nbytes")
            ]
            sizes = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
            quantized = (getattr(getattr(part, "weight", None), "quant_state", None) for part in model.modules())
            scales = sum(
                q.absmax.nbytes + (q.state2.absmax.nbytes if q.nested else 0) for q in quantized if q is not None
            )
            before.append(sum(sizes.values()) + scales)
            profiler.start()

    def end(self, args, state, control, **rest):
        usual(self, args, state, control, **rest)
        if state.global_step == 2:
            profiler.stop()
            events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
            now = most = 0
            for event in sorted(events, key=lambda event: event.start_ns()):
                now += event.nbytes()
                most = max(most, now)
            held.append(before[0] + most)

    usual, watch.on_step_begin, watch.on_step_end = watch.on_step_end, begin, end


def measure(case: str, models: dict[str, str], out: Path) -> dict[str, object]:
    """One case in two processes of its own, one of them with the profiler."""
    model, method, settings = CASES[case]
    told = []
    for allocator in (False, True):
        words = [models[model], method, json.dumps(settings), str(out / "run"), str(int(allocator))]
        done = subprocess.run(
            [sys.executable, __file__, "--child", *words], capture_output=True, text=True, check=True, env=os.environ
        )
        told.append(json.loads(done.stdout.splitlines()[-1]))
    parts = told[0]["parts"]
    planned = sum(parts.values())
    tensors = planned - sum(parts.get(part, 0) for part in _BESIDE)
    resident, allocated = told[0]["resident"], told[1]["allocated"]
    return {
        "parts": parts, "precision": told[0]["precision"],
        "planned": planned, "resident": resident, "planned_over_resident": round(planned / resident, 3),
        "planned_tensors": tensors, "allocated": allocated, "planned_over_allocated": round(tensors / allocated, 3),
    }  # fmt: skip


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        model, method, settings, out, allocator = sys.argv[2:]
        print(json.dumps(train(model, method, json.loads(settings), Path(out), allocator == "1")))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/memory"))
    parser.add_argument("--only", nargs="+", choices=list(CASES), help="Cases to run; the others' results stay.")
    chosen = parser.parse_args()
    out = chosen.out
    folder = out / "middle"
    models = {"starter": "starter", "middle": str(folder if folder.is_dir() else middle(folder))}
    kept = RESULTS / "memory.json"
    result = json.loads(kept.read_text(encoding="utf-8")) if chosen.only and kept.is_file() else {}
    result |= {case: measure(case, models, out) for case in chosen.only or CASES}
    RESULTS.mkdir(exist_ok=True)
    write_text(kept, json.dumps(result, indent=1) + "\n")
    for case, found in result.items():
        print(f"{case}: planned {found['planned'] / 2**20:,.0f} MB, resident {found['resident'] / 2**20:,.0f} MB "
              f"({found['planned_over_resident']:.2f}); tensors {found['planned_tensors'] / 2**20:,.1f} MB, allocated "
              f"{found['allocated'] / 2**20:,.1f} MB ({found['planned_over_allocated']:.3f})")  # fmt: skip


if __name__ == "__main__":
    main()
