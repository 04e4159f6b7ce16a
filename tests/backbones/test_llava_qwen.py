"""A backbone of one file: LLaVA-Interleave, whose SigLIP tower and Qwen1.5 the others do not have together."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edgereverie.backbones.base import open_folder
from edgereverie.chat import CHATML
from edgereverie.errors import BackboneError

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

# The published names: everything as transformers 4.44 wrote it.
NAMES = {
    "lm_head.": "language_model.lm_head.",
    "model.language_model.": "language_model.model.",
    "model.vision_tower.": "vision_tower.vision_model.",
    "model.multi_modal_projector.": "multi_modal_projector.",
}
TOWER = {
    "model_type": "siglip_vision_model",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
    "vision_use_head": False,
}
TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def write_tokenizer(folder: Path, end: str = "<|im_end|>", image: tuple[str, ...] = ("<image>",)) -> int:
    """A byte-level tokenizer as Qwen1.5's, and its settings; the id of the image token."""
    import json

    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    bytes_ = {letter: index for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(bytes_, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in (*TOKENS, *image)])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": end, "bos_token": None}), encoding="utf-8")
    return len(bytes_) + len(TOKENS)


@pytest.fixture(params=[True, False], ids=["tied", "own head"])
def published(request: pytest.FixtureRequest, tiny: ModuleType, tmp_path: Path) -> tuple[Path, Any, int]:
    """(folder, the transformers model it was written from, its image token)."""
    from safetensors.torch import save_file
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    folder = tmp_path / "llava-interleave-qwen-0.5b-hf"
    folder.mkdir()
    image = write_tokenizer(folder)
    text = {
        "model_type": "qwen2", "vocab_size": 320, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 1024, "eos_token_id": image - 1,
        "tie_word_embeddings": request.param,
    }  # fmt: skip
    torch.manual_seed(0)
    config = LlavaConfig(
        vision_config=TOWER,
        text_config=text,
        image_token_index=image,
        image_seq_length=4,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=request.param,
    )
    model = LlavaForConditionalGeneration(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.08)
    written = {}
    for name, tensor in model.state_dict().items():
        old = next(prefix for prefix in NAMES if name.startswith(prefix))
        if not (request.param and old == "lm_head."):
            written[NAMES[old] + name.removeprefix(old)] = tensor.detach().clone()
    tiny.write_json(folder / "config.json", model.config.to_dict())
    save_file(written, folder / "model.safetensors", metadata={"format": "pt"})
    settings = {"image_processor_type": "SiglipImageProcessor", "do_resize": True, "size": {"height": 28, "width": 28},
                "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}  # fmt: skip
    tiny.write_json(folder / "preprocessor_config.json", settings)
    return folder, model, image


def test_it_loads_as_published(tiny: ModuleType, published: Any) -> None:
    path, reference, image = published
    folder = open_folder(path)
    assert (folder.layout, folder.backbone.name, folder.chat) == ("huggingface", "llava_qwen", CHATML)
    assert folder.image.tokens == 4  # all patches: a SigLIP has no class token to drop, and none is
    got = tiny.logits(folder.load(), image, vocabulary=250)
    assert (got - tiny.logits(reference, image, vocabulary=250)).abs().max() <= 1e-5


def test_it_tunes_by_the_same_recipe_sections(published: Any) -> None:
    """LoRA on all seven linears of both layers, nothing else; a step moves the adapter only."""
    pytest.importorskip("peft")
    from edgereverie.backbones.llava_qwen import BACKBONE
    from edgereverie.recipe import Lora, Train
    from edgereverie.tuning.qlora import place

    model = open_folder(published[0]).load()
    placed = place(model, Train(lora=Lora(rank=2, alpha=4)), BACKBONE)
    trained = {name for name, parameter in placed.named_parameters() if parameter.requires_grad}
    assert len(trained) == 2 * 7 * 2 and all(".language_model.layers." in name and ".lora_" in name for name in trained)


def test_a_qwen_that_ends_its_answers_otherwise_is_not_taken_for_it(published: Any) -> None:
    """MoE-LLaVA's Qwen speaks vicuna_v1: the same architecture and tokens under another chat format is no llava_qwen."""
    write_tokenizer(published[0], end="<|endoftext|>")
    with pytest.raises(BackboneError, match="no backbone stands for") as caught:
        open_folder(published[0])
    assert "llava_qwen" in (caught.value.hint or "") or "qwen" in str(caught.value)


def test_runs_in_the_hf_backend(published: Any, tmp_path: Path) -> None:
    from PIL import Image

    from edgereverie.records import Options, Turn
    from edgereverie.runtime.model import Model

    picture = tmp_path / "p.png"
    Image.new("RGB", (40, 30), "red").save(picture)
    with Model.load(published[0]) as model:
        ask = [Turn("user", "Is there a ring?")]
        text = model.answer(picture, ask, Options(max_tokens=6)).text
        assert text == model.answer(picture, ask, Options(max_tokens=6)).text
        assert model.score(picture, ask, "Yes.") < 0


def test_leaves_as_onnx(published: Any, tmp_path: Path) -> None:
    """What the backbone claims to leave as, it does: the same logits from the bundle, with and without a picture."""
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package)
    import numpy as np

    from edgereverie.chat import encode
    from edgereverie.export.base import ParityBound, load_profile
    from edgereverie.export.parity import compare
    from edgereverie.export.write import export_bundle
    from edgereverie.records import Turn
    from edgereverie.runtime.model import Model

    folder = open_folder(published[0])
    bundle = export_bundle(folder, load_profile("onnx-fp32"), tmp_path / "bundle", made_from={})
    turns = [Turn("user", "Is there a ring?"), Turn("assistant", "Yes, a red ring.")]
    pixels = np.random.default_rng(1).standard_normal((3, 28, 28)).astype(np.float32)
    cases = [
        (encode(folder.tokenizer(), CHATML, turns, image_tokens=4)[0], pixels),
        (encode(folder.tokenizer(), CHATML, turns, image_tokens=0)[0], None),
    ]
    with Model.load(published[0], precise=True) as reference, Model.load(bundle.folder, precise=True) as exported:
        assert exported.image == folder.image and exported.chat == CHATML
        parity = compare(reference.engine, exported.engine, cases, ParityBound(max_logit_diff=1e-4, min_top1=1.0))
    assert parity.passed, parity.faults
