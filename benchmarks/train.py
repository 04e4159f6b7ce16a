"""Training speed against TRL's SFTTrainer and DPOTrainer: same model folder, pictures, texts, adapter, precision, batch, machine.

    pip install 'edgereverie[peers]'            # measured with trl 1.16, transformers 5.23
    python benchmarks/train.py sft dpo --rounds 3
    python benchmarks/train.py sft dpo --rounds 2 --parts --no-trl   # where the gain comes from: one thing off at a time

The model is a LLaVA of some 70 million random weights (12 layers of Phi-3, 576 image tokens of a CLIP tower, vocabulary
32,064), so that arithmetic decides and not Python. The data have REVERIE's shape: 3.5 instances for each picture, questions
and answers with a positive or a negative reflection each; for DPO, two pairs for each picture. Every arm runs in a process
of its own, arms take turns, and the medians of their samples per second are told: of the first epoch (no picture was seen
before), and for ours of later epochs too. Results: benchmarks/results/train.json, an entry for each kind, with parts or without.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

from edgereverie import stages
from edgereverie.bundle import write_text
from edgereverie.recipe import Recipe
from edgereverie.records import ImageSpec, PreferencePair, Sample, Turn
from edgereverie.stages.benching import Speed, alone, measure, some_of

RESULTS = Path(__file__).parent / "results"
IMAGE = ImageSpec(size=336, patch=14, mean=(0.48, 0.46, 0.41), std=(0.27, 0.26, 0.28), fit="pad")
RANK, ALPHA, RATE = 16, 32, 2e-4
TARGETS = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")


# ---- model and data -------------------------------------------------------------------------------------------------


def build_model(out: Path) -> Path:
    """A random LLaVA that edgereverie and transformers' own processors both read."""
    import torch
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        Phi3Config,
        PreTrainedTokenizerFast,
    )  # fmt: skip

    from edgereverie.backbones import starter
    from edgereverie.backbones._writing import write_companions
    from edgereverie.chat import PHI3
    from edgereverie.data.scenes.talk import corpus

    tokenizer = starter.build_tokenizer(corpus())
    ids = {name: tokenizer.token_to_id(name) for name in ("<s>", "<|end|>", "<|endoftext|>", "<image>")}
    text = Phi3Config(
        vocab_size=32064, hidden_size=512, intermediate_size=1152, num_hidden_layers=12, num_attention_heads=8,
        num_key_value_heads=8, max_position_embeddings=4096, original_max_position_embeddings=4096,
        bos_token_id=ids["<s>"], eos_token_id=ids["<|end|>"], pad_token_id=ids["<|endoftext|>"], tie_word_embeddings=False,
    )  # fmt: skip
    vision = CLIPVisionConfig(
        hidden_size=256, intermediate_size=1024, num_hidden_layers=8, num_attention_heads=8, image_size=IMAGE.size,
        patch_size=IMAGE.patch, projection_dim=256, hidden_act="quick_gelu",
    )  # fmt: skip
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(
        LlavaConfig(vision_config=vision, text_config=text, image_token_index=ids["<image>"], vision_feature_layer=-2,
                    vision_feature_select_strategy="default", image_seq_length=IMAGE.tokens, tie_word_embeddings=False)
    )  # fmt: skip
    out.mkdir(parents=True)
    model.save_pretrained(out)
    processor = LlavaProcessor(
        CLIPImageProcessor(
            size={"shortest_edge": IMAGE.size}, crop_size={"height": IMAGE.size, "width": IMAGE.size},
            image_mean=list(IMAGE.mean), image_std=list(IMAGE.std),
        ),
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, bos_token="<s>", eos_token="<|end|>", pad_token="<|endoftext|>"
        ),
        patch_size=IMAGE.patch, vision_feature_select_strategy="default", num_additional_image_tokens=1,
        chat_template=PHI3.jinja,
    )  # fmt: skip
    processor.save_pretrained(out / "processor")
    write_companions(out, tokenizer, IMAGE, PHI3.name)
    return out


def draw(out: Path, pictures: int) -> Path:
    """Pictures of 640 x 480, of smooth noise, as photographs are to a reader of JPEGs."""
    import numpy as np
    from PIL import Image

    out.mkdir(parents=True)
    for index in range(pictures):
        coarse = np.random.default_rng(index).integers(0, 256, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC).save(out / f"{index}.jpg", quality=90)
    return out


def reverie_shaped(pictures: int) -> list[Sample]:
    """3 and 4 instances by turns: two questions for each picture, with a positive reflection, one or both with a negative."""
    say = _words(1)
    found = []
    for index in range(pictures):
        for question in range(2):
            trunk = (Turn("user", say(12)), Turn("assistant", say(12)))
            for kind in ("positive", "negative")[: 1 if question == 1 and index % 2 == 0 else 2]:
                reason = say(40)
                turns = (*trunk, Turn("user", say(6)), Turn("assistant", reason))
                found.append(Sample(f"{index}-{question}-{kind}", f"{index}.jpg", turns, rationale=reason))
    return found


def preferences(pictures: int) -> list[PreferencePair]:
    """Two pairs for each picture, with descriptions for answers, as POVID and CSR have them."""
    say = _words(2)
    return [
        PreferencePair(f"{index}-{number}", f"{index}.jpg", (Turn("user", say(12)),), say(50), say(50), reason="drawn")
        for index in range(pictures)
        for number in range(2)
    ]


def _words(seed: int) -> Callable[[int], str]:
    from edgereverie.data.scenes.talk import corpus

    words = sorted({word for text in corpus() for word in text.split() if word.isalpha()})
    chooser = random.Random(seed)
    return lambda count: " ".join(chooser.choice(words) for _ in range(count)) + "."


# ---- arms -----------------------------------------------------------------------------------------------------------


def our_recipe(kind: str, model: Path, chosen: argparse.Namespace) -> Recipe:
    return Recipe(
        name=kind,
        backbone={"model": str(model), "quantization": "none"},
        data={"scenes": {"count": 1}},  # not drawn: records are given
        train={
            "method": "reflective" if kind == "sft" else "dpo", "batch_size": chosen.batch, "learning_rate": RATE,
            "schedule": "constant", "warmup": 0.0, "precision": chosen.precision,
            "gradient_checkpointing": chosen.checkpointing,
            "lora": {"rank": RANK, "alpha": ALPHA, "dropout": 0.0},
        },
    )  # fmt: skip


def ours(recipe: Recipe, records: list[Any], images: Path, out: Path, arm: str) -> Speed:
    """Our trainer, with what the arm's name says switched off."""
    with ExitStack() as changed:
        if arm == "ours, all logits":
            changed.enter_context(patch("edgereverie.tuning.losses.log_probs_at", _all_logits))
        if arm == "ours, no packing":
            changed.enter_context(patch("edgereverie.tuning.batch.pack", _a_row_for_each_tree))
        way = {"ours, no tree": "plain", "ours, keeping nothing": "shared"}.get(arm, "shared, kept")
        return measure(recipe, records, images, out, way)


def _all_logits(model: Any, hidden: Any, before: Any, target: Any) -> Any:
    from torch.nn.functional import cross_entropy

    from edgereverie.tuning.losses import base_of

    logits = base_of(model).lm_head(hidden).float().flatten(0, 1)
    return -cross_entropy(logits[before], target, reduction="none")


def _a_row_for_each_tree(conversations: Any, roots: Any, longest: int) -> Any:
    from edgereverie.tuning.tree import Row, trees

    rows = []
    for _, group in trees(conversations, roots, longest):
        rows.append(Row())
        rows[-1].plant(conversations, group)
    return rows


def trl(kind: str, model: Path, records: list[Any], images: Path, out: Path, chosen: argparse.Namespace) -> Speed:
    """One epoch of TRL's trainer with its own collator for pictures, adapter and reference as it makes them."""
    import torch
    from datasets import Dataset, Features, Sequence, Value
    from datasets import Image as ImageFeature
    from peft import LoraConfig
    from transformers import AutoProcessor, LlavaForConditionalGeneration
    from transformers.utils.logging import set_verbosity_error
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

    from edgereverie.tuning.watch import Stopwatch, peak_bytes

    set_verbosity_error()
    processor = AutoProcessor.from_pretrained(model / "processor")
    message = {"role": Value("string"), "content": Value("string")}
    rows, names = [], ("messages",) if kind == "sft" else ("prompt", "chosen", "rejected")
    for record in records:
        turns = [{"role": turn.role, "content": turn.text} for turn in record.turns]
        told = [turns]
        if kind == "dpo":
            told += [[{"role": "assistant", "content": text}] for text in (record.chosen, record.rejected)]
        rows.append({"images": [str(images / record.image)]} | dict(zip(names, told, strict=True)))
    features = Features({"images": Sequence(ImageFeature())} | {name: [message] for name in names})
    data = Dataset.from_list(rows, features=features)
    settings = dict(
        output_dir=str(out), per_device_train_batch_size=chosen.batch, num_train_epochs=1, learning_rate=RATE,
        lr_scheduler_type="constant", warmup_steps=0, save_strategy="no", report_to="none", logging_steps=10**9,
        disable_tqdm=True, bf16=chosen.precision == "bf16", fp16=False, use_cpu=not torch.cuda.is_available(), seed=0,
        activation_checkpointing=chosen.checkpointing, gradient_checkpointing=chosen.checkpointing, max_length=None,
        dataloader_pin_memory=False,
    )  # fmt: skip
    peft = LoraConfig(
        r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules=rf"model\.language_model\..*\.({'|'.join(TARGETS)})"
    )
    on_card = torch.cuda.is_available() and chosen.precision == "bf16"
    loaded = LlavaForConditionalGeneration.from_pretrained(
        model, dtype=torch.bfloat16 if on_card else torch.float32, attn_implementation=chosen.attention
    )
    if kind == "sft":
        trainer = SFTTrainer(
            loaded, SFTConfig(**settings), train_dataset=data, processing_class=processor, peft_config=peft
        )
    else:
        trainer = DPOTrainer(
            loaded,
            args=DPOConfig(**settings, beta=0.1),
            train_dataset=data,
            processing_class=processor,
            peft_config=peft,
        )
    watch = Stopwatch()
    trainer.add_callback(watch)
    trainer.train()
    seconds = watch.ends[-1] - watch.ends[0]
    shutil.rmtree(out, ignore_errors=True)
    speed = (len(records) - chosen.batch) / seconds
    return Speed("trl", speed, speed, 0.0, peak_bytes())


# ---- the measurement ------------------------------------------------------------------------------------------------

PARTS = ("ours", "ours, no tree", "ours, no packing", "ours, all logits", "ours, keeping nothing")


def run(kind: str, chosen: argparse.Namespace, place: Path) -> dict[str, Any]:
    model, images = place / "model", place / "images"
    if not model.is_dir():
        alone(build_model, model)
        draw(images, chosen.pictures)
    records: list[Any] = reverie_shaped(chosen.pictures) if kind == "sft" else preferences(chosen.pictures)
    records = some_of(records, len(records) // chosen.batch * chosen.batch)  # whole batches only
    recipe = our_recipe(kind, model, chosen)
    arms = [*(PARTS if chosen.parts else PARTS[:1]), *(() if chosen.no_trl else ("trl",))]
    found: dict[str, list[Speed]] = {arm: [] for arm in arms}
    for turn in range(chosen.rounds):
        for arm in arms if turn % 2 == 0 else arms[::-1]:
            begun = time.perf_counter()
            speed = (
                alone(trl, kind, model, records, images, place / "run", chosen)
                if arm == "trl"
                else alone(ours, recipe, records, images, place / "run", arm)
            )
            found[arm].append(speed)
            told = f"{speed.samples_per_second:.3f} samples/s, later epochs {speed.later:.3f}"
            print(
                f"{kind} {arm}: {told}, {speed.peak_bytes / 1e9:.2f} GB ({time.perf_counter() - begun:.0f} s)",
                flush=True,
            )
    return {
        arm: {
            "samples_per_second": median(speed.samples_per_second for speed in speeds),
            "later_epochs": median(speed.later for speed in speeds),
            "peak_bytes": median(speed.peak_bytes for speed in speeds),
            "runs": [speed.samples_per_second for speed in speeds],
        }
        for arm, speeds in found.items()
    } | {"samples": len(records)}


def table(kind: str, result: dict[str, Any]) -> str:
    arms = {arm: told for arm, told in result.items() if isinstance(told, dict)}
    against = "trl" if "trl" in arms else "ours"
    lines = [f"| {kind} | samples/s | against {against} | later epochs | peak memory |", "|---|---|---|---|---|"]
    for arm, told in arms.items():
        ratios = [told[key] / arms[against][key] for key in ("samples_per_second", "later_epochs")]
        lines.append(
            f"| {arm} | {told['samples_per_second']:.3f} | {ratios[0]:.2f}x | {ratios[1]:.2f}x "
            f"| {told['peak_bytes'] / 1e9:.2f} GB |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="+", choices=("sft", "dpo"))
    parser.add_argument("--pictures", type=int, default=16)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--attention", choices=("sdpa", "eager"), default="sdpa", help="TRL's; ours chooses by itself")
    parser.add_argument("--parts", action="store_true", help="also ours with one thing off at a time")
    parser.add_argument("--no-trl", action="store_true")
    parser.add_argument("--dry", action="store_true", help="write no results")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edgereverie-train-") as place:
        results = {kind: run(kind, chosen, Path(place)) for kind in chosen.kinds}
    for kind, result in results.items():
        print(table(kind, result))
    if not chosen.dry:
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / "train.json"
        kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        about = {"settings": vars(chosen), "versions": stages.versions()}
        new = {f"{kind}, parts" if chosen.parts else kind: result | about for kind, result in results.items()}
        write_text(path, json.dumps(kept | new, indent=1) + "\n")


if __name__ == "__main__":
    main()
