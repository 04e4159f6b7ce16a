"""The losses against TRL's trainers: its own chat template, processor, collator, fused head and reference, on one model folder.

    pip install 'edgereverie[peers]'

TRL sees one pair at a time: its anchor is a mean over a batch's tokens, ours over each pair's, and its ``aot`` compares sorted
batches; for one pair they are RPO's anchor and smoothed DPO. Ours sees all pairs in one batch of trees.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from edgereverie.backbones.base import ModelFolder, open_folder
from edgereverie.chat import PHI3
from edgereverie.recipe import Recipe, Train
from edgereverie.records import ImageSpec, PreferencePair, Sample, Turn
from edgereverie.tuning.methods.dpo import METHOD as DPO
from edgereverie.tuning.methods.reflective import METHOD as REFLECTIVE
from edgereverie.tuning.qlora import place

pytest.importorskip("trl", reason="the comparison needs trl and datasets")
pytest.importorskip("datasets", reason="the comparison needs trl and datasets")
pytestmark = pytest.mark.filterwarnings("ignore")  # what they say about themselves

IMAGE = ImageSpec(size=48, patch=16, mean=(0.48, 0.46, 0.41), std=(0.27, 0.26, 0.28), fit="pad")
WORDS = (
    "a red ring stands left of the blue box",
    "there is no ring",
    "yes",
    "two green stars and a box",
    "it is a star",
)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    """A random LLaVA that edgereverie and transformers' own processors both read."""
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
    from edgereverie.data.scenes.talk import corpus

    out = tmp_path_factory.mktemp("models") / "both"
    tokenizer = starter.build_tokenizer(corpus(200))
    ids = {name: tokenizer.token_to_id(name) for name in ("<s>", "<|end|>", "<|endoftext|>", "<image>")}
    text = Phi3Config(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=512, original_max_position_embeddings=512,
        bos_token_id=ids["<s>"], eos_token_id=ids["<|end|>"], pad_token_id=ids["<|endoftext|>"], tie_word_embeddings=False,
    )  # fmt: skip
    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4, image_size=IMAGE.size,
        patch_size=IMAGE.patch, projection_dim=32, hidden_act="quick_gelu",
    )  # fmt: skip
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(
        LlavaConfig(vision_config=vision, text_config=text, image_token_index=ids["<image>"], vision_feature_layer=-2,
                    vision_feature_select_strategy="default", image_seq_length=IMAGE.tokens, tie_word_embeddings=False)
    )  # fmt: skip
    out.mkdir()
    model.save_pretrained(out)
    LlavaProcessor(
        CLIPImageProcessor(
            size={"shortest_edge": IMAGE.size}, crop_size={"height": IMAGE.size, "width": IMAGE.size},
            image_mean=list(IMAGE.mean), image_std=list(IMAGE.std),
        ),
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, bos_token="<s>", eos_token="<|end|>", pad_token="<|endoftext|>"
        ),
        patch_size=IMAGE.patch, vision_feature_select_strategy="default", num_additional_image_tokens=1,
        chat_template=PHI3.jinja,
    ).save_pretrained(out / "processor")  # fmt: skip
    write_companions(out, tokenizer, IMAGE, PHI3.name)
    return open_folder(out)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures of the tower's own size, which nobody's resizing changes."""
    out = tmp_path_factory.mktemp("pictures")
    for index in range(2):
        pixels = np.random.default_rng(index).integers(0, 256, (IMAGE.size, IMAGE.size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(out / f"{index}.png")
    return out


@pytest.fixture
def model(both: ModelFolder) -> torch.nn.Module:
    torch.manual_seed(1)
    return place(both.load(), Train(lora={"rank": 4, "alpha": 8, "dropout": 0.0}), both.backbone).train()


def learned(model: torch.nn.Module, std: float = 0.2) -> None:
    """Give the adapter an effect, so that policy and reference differ; none with std 0."""
    torch.manual_seed(2)
    for name, parameter in model.named_parameters():
        if "lora_B.default" in name:
            torch.nn.init.normal_(parameter, std=std)


PAIRS = [
    PreferencePair(f"{at}", f"{at % 2}.png", (Turn("user", f"What is there? {WORDS[at]}"),), *sides, reason="drawn")
    for at, sides in enumerate(((WORDS[0], WORDS[4]), (WORDS[1], WORDS[3]), (WORDS[2], WORDS[2] + ", " + WORDS[0])))
]


def recipe_of(both: ModelFolder, **train: Any) -> Recipe:
    return Recipe(name="test", backbone={"model": str(both.path), "quantization": "none"},
                  data={"scenes": {"count": 1}}, train={"precision": "fp32"} | train)  # fmt: skip


def rows_of(records: list[Any], pictures: Path, told: Callable[[Any], dict[str, str]]) -> Any:
    from datasets import Dataset, Features, Sequence, Value
    from datasets import Image as ImageFeature

    rows = []
    for record in records:
        asked = [{"role": turn.role, "content": turn.text} for turn in record.turns if turn.role == "user"]
        sides = {name: [{"role": "assistant", "content": text}] for name, text in told(record).items()}
        rows.append({"images": [str(pictures / record.image)], "prompt": asked} | sides)
    message = {"role": Value("string"), "content": Value("string")}
    names = [name for name in rows[0] if name != "images"]
    return Dataset.from_list(
        rows, features=Features({"images": Sequence(ImageFeature())} | {name: [message] for name in names})
    )


def theirs(
    kind: str, both: ModelFolder, model: torch.nn.Module, rows: Any, out: Path, batch: int, **settings: Any
) -> list[Any]:
    """TRL's losses of its own batches, each with the gradients of the adapter."""
    import trl
    from transformers import AutoProcessor
    from transformers.utils import logging

    logging.set_verbosity_error()
    common = dict(
        output_dir=str(out), per_device_train_batch_size=batch, report_to="none", bf16=False, fp16=False, use_cpu=True,
        disable_tqdm=True, gradient_checkpointing=False, max_length=None, dataloader_pin_memory=False,
    )  # fmt: skip
    make, config = (trl.DPOTrainer, trl.DPOConfig) if kind == "dpo" else (trl.SFTTrainer, trl.SFTConfig)
    processor = AutoProcessor.from_pretrained(both.path / "processor")
    learned(model, 0.0)  # TRL keeps the adapter that it is given as the reference
    trainer = make(model, args=config(**common, **settings), train_dataset=rows, processing_class=processor)
    learned(model)
    found = []
    for start in range(0, len(rows), batch):
        inputs = trainer._prepare_inputs(
            trainer.data_collator([trainer.train_dataset[at] for at in range(start, start + batch)])
        )
        labels = (inputs["labels"] != -100).sum() if "labels" in inputs else None
        model.zero_grad()
        loss = trainer.compute_loss(model, inputs, num_items_in_batch=labels)
        loss.backward()
        found.append((loss.item(), gradients(model)))
    return found


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if "lora" in name and p.grad is not None}


def ours(
    method: Any, both: ModelFolder, model: torch.nn.Module, records: list[Any], pictures: Path, recipe: Recipe
) -> Any:
    data = method.dataset(records, both, pictures, recipe)
    batch = method.collate(both, recipe)([data[at] for at in range(len(data))])
    learned(model)
    model.zero_grad()
    loss, _ = method.loss(model, batch, method.size(batch), recipe)
    loss.backward()
    return loss.item(), gradients(model)


def same(found: tuple[float, Any], wanted: list[tuple[float, Any]]) -> None:
    assert found[0] == pytest.approx(np.mean([loss for loss, _ in wanted]), abs=1e-5)
    assert len(found[1]) >= 8 and all(each.keys() == found[1].keys() for _, each in wanted)
    for name, gradient in found[1].items():
        theirs = torch.stack([each[name] for _, each in wanted]).mean(0)
        torch.testing.assert_close(
            gradient, theirs, atol=1e-5, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )
    assert max(float(gradient.abs().max()) for gradient in found[1].values()) > 1e-4


CASES = {
    "sigmoid": ({"beta": 0.3}, {"loss_type": ["sigmoid"], "beta": 0.3}),
    "ipo": ({"loss": "ipo", "beta": 0.2}, {"loss_type": ["ipo"], "beta": 0.2}),
    "smoothed": ({"beta": 0.3, "smoothing": 0.1}, {"loss_type": ["aot"], "beta": 0.3, "label_smoothing": 0.1}),
    "normalised": ({"beta": 2.0, "normalise": True}, {"loss_type": ["sigmoid_norm"], "beta": 2.0}),
    "anchored": ({"anchor": 0.7}, {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.7]}),
    "ipo, anchored": ({"loss": "ipo", "anchor": 0.7}, {"loss_type": ["ipo", "sft"], "loss_weights": [1.0, 0.7]}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_preference_losses_and_gradients_are_trls(case: str, both, model, pictures: Path, tmp_path: Path) -> None:
    preference, settings = CASES[case]
    found = ours(DPO, both, model, PAIRS, pictures, recipe_of(both, method="dpo", preference=preference))
    rows = rows_of(PAIRS, pictures, lambda pair: {"chosen": pair.chosen, "rejected": pair.rejected})
    same(found, theirs("dpo", both, model, rows, tmp_path, 1, **settings))
    assert found[0] != pytest.approx(np.log(2), abs=1e-3), "policy and reference differ"


def test_the_loss_of_answers_is_trls(both, model, pictures: Path, tmp_path: Path) -> None:
    """Question and answer, in one batch of each; the mean is over all answer tokens of the batch."""
    samples = [Sample(pair.id, pair.image, (*pair.turns, Turn("assistant", pair.chosen))) for pair in PAIRS]
    found = ours(REFLECTIVE, both, model, samples, pictures, recipe_of(both))
    rows = rows_of(samples, pictures, lambda sample: {"completion": sample.turns[-1].text})
    same(found, theirs("sft", both, model, rows, tmp_path, len(samples)))
