"""Tiny random checkpoints in exactly the published names and fields, each with the transformers model it was made from."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

PICTURE = 28  # 4 patches of 14
PHI3_TOKENS = ("<|endoftext|>", "<|assistant|>", "<|system|>", "<|end|>", "<|user|>")
_WORDS = ("▁t", "he", "▁the", "is", "▁is", "▁a", "in", "▁in", "er", "ER", "US", "USER", "re", "▁re", "an", "on", "or")
PIECES = 3 + 256 + len(_WORDS) + 95


def pieces() -> list[tuple[str, float, int]]:
    """(text, score, type) of a SentencePiece BPE model of Llama's kind, PIECES of them."""
    first = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3)]
    byte = [(f"<0x{value:02X}>", 0.0, 6) for value in range(256)]
    words = [(word, -float(rank), 1) for rank, word in enumerate(_WORDS)]
    letters = ["▁", *map(chr, range(33, 127))]
    return first + byte + words + [(letter, -float(len(_WORDS) + rank), 1) for rank, letter in enumerate(letters)]


def model_proto(listed: Iterable[tuple[str, float, int]]) -> bytes:
    """A serialized sentencepiece ModelProto: pieces (1) with piece (1), score (2), type (3); trainer_spec (2) model_type (3)."""

    def framed(number: int, data: bytes) -> bytes:
        size, length = b"", len(data)
        while length > 127:
            size, length = size + bytes([length & 127 | 128]), length >> 7
        return bytes([number << 3 | 2]) + size + bytes([length]) + data

    out = b""
    for text, score, kind in listed:
        out += framed(1, framed(1, text.encode()) + b"\x15" + struct.pack("<f", score) + bytes([0x18, kind]))
    return out + framed(2, bytes([0x18, 2]))


def tokenizer_json(added: Iterable[str]) -> str:
    """A ``tokenizer.json`` of these pieces and ``added`` control tokens: PHI3_TOKENS, or llava-hf's ("<image>",)."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

    ids = {text: index for index, (text, *_) in enumerate(pieces())}
    merges = [("▁", "t"), ("h", "e"), ("▁t", "he"), ("i", "s"), ("▁", "is"), ("▁", "a")]
    tokenizer = Tokenizer(models.BPE(ids, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ("<unk>", "<s>", "</s>", *added)
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in special])
    return tokenizer.to_str()


# A CLIP tower of 32 channels, three layers and four patches.
TOWER = {"model_type": "clip_vision_model", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3,
         "num_attention_heads": 2, "image_size": PICTURE, "patch_size": 14, "projection_dim": 32}  # fmt: skip
LLAMA = {"model_type": "llama", "vocab_size": 384, "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 512, "rms_norm_eps": 1e-5,
         "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip
PHI3 = LLAMA | {"model_type": "phi3", "original_max_position_embeddings": 512, "sliding_window": 511,
                "pad_token_id": PIECES, "eos_token_id": PIECES}  # fmt: skip


def make_llava(text: Mapping[str, Any], image_token: int, seed: int = 0, **tower: Any) -> Any:
    """A tiny LlavaForConditionalGeneration, made by transformers directly."""
    import torch
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    torch.manual_seed(seed)
    config = LlavaConfig(
        vision_config=TOWER | tower, text_config=dict(text), image_token_index=image_token, image_seq_length=4
    )
    model = LlavaForConditionalGeneration(config).eval()
    for parameter in model.parameters():  # biases and norms too, so that a swapped pair shows
        torch.nn.init.normal_(parameter, std=0.08)
    return model


def llava_config(text: Mapping[str, Any], model_type: str, tower: str) -> dict[str, Any]:
    """config.json as LLaVA's code writes it (the fields of liuhaotian/llava-v1.5-7b)."""
    own = {key: value for key, value in text.items() if key != "model_type"}
    return own | {
        "architectures": ["LlavaLlamaForCausalLM"],
        "model_type": model_type,
        "freeze_mm_mlp_adapter": False,
        "hidden_act": "silu",
        "image_aspect_ratio": "pad",
        "image_grid_pinpoints": None,
        "initializer_range": 0.02,
        "mm_hidden_size": 32,
        "mm_projector_type": "mlp2x_gelu",
        "mm_resampler_type": None,
        "mm_use_im_patch_token": False,
        "mm_use_im_start_end": False,
        "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": -2,
        "mm_vision_tower": tower,
        "pretraining_tp": 1,
        "rope_scaling": None,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "transformers_version": "4.31.0",
        "tune_mm_mlp_adapter": False,
        "unfreeze_mm_vision_tower": False,
        "use_cache": True,
        "use_mm_proj": True,
    }


def original_names(model: Any) -> dict[str, Any]:
    """A LLaVA's tensors under the names of LLaVA's own code."""
    renamed = {
        "model.language_model.": "model.",
        "model.multi_modal_projector.linear_1.": "model.mm_projector.0.",
        "model.multi_modal_projector.linear_2.": "model.mm_projector.2.",
        "model.vision_tower.": "model.vision_tower.vision_tower.vision_model.",
    }
    out = {}
    for name, tensor in model.state_dict().items():
        old = next((prefix for prefix in renamed if name.startswith(prefix)), "")
        out[renamed.get(old, "") + name.removeprefix(old)] = tensor.detach().clone()
    return out


def split_tower(tensors: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(language model and projector, the tower under the names of its own folder)."""
    prefix = "model.vision_tower.vision_tower."
    inside = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    return {name: value for name, value in tensors.items() if not name.startswith(prefix)}, inside


def write_json(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data, indent=2), encoding="utf-8")


def write_weights(folder: Path, tensors: Mapping[str, Any], form: str = "safetensors", shards: int = 2) -> None:
    """Shards with their index, as ``safetensors`` or ``bin``."""
    import torch
    from safetensors.torch import save_file

    stem, end = ("model", "safetensors") if form == "safetensors" else ("pytorch_model", "bin")
    names, weight_map = sorted(tensors), {}
    for index in range(shards):
        file = f"{stem}-{index + 1:05d}-of-{shards:05d}.{end}"
        part = {name: tensors[name].contiguous() for name in names[index::shards]}
        weight_map |= dict.fromkeys(part, file)
        if form == "safetensors":
            save_file(part, folder / file, metadata={"format": "pt"})
        else:
            torch.save(part, folder / file)
    write_json(folder / f"{stem}.{end}.index.json", {"metadata": {"total_size": 0}, "weight_map": weight_map})


def write_tower(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Any]) -> None:
    """A CLIP folder as published: both halves' config, the pictures' half of the weights, some of the texts'."""
    import torch

    folder.mkdir(parents=True)
    write_json(
        folder / "config.json",
        {"model_type": "clip", "text_config": {}, "vision_config": dict(config), "projection_dim": 32},
    )
    write_json(
        folder / "preprocessor_config.json",
        {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
         "do_center_crop": True, "crop_size": config["image_size"]},
    )  # fmt: skip
    other = {"text_model.final_layer_norm.bias": torch.zeros(4), "logit_scale": torch.ones(()),
             "vision_model.embeddings.position_ids": torch.arange(5)[None]}  # fmt: skip
    torch.save(dict(tensors) | other, folder / "pytorch_model.bin")


def logits(model: Any, image_token: int, seed: int = 0, vocabulary: int = 300, patches: int = 4) -> Any:
    """The logits of a prompt with a picture, both drawn by seed."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(3, vocabulary, (12,), generator=generator).tolist()
    ids = torch.tensor([[1, *words[:4], *[image_token] * patches, *words[4:]]])
    pixels = torch.randn(1, 3, PICTURE, PICTURE, generator=generator)
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=pixels).logits


def write_huggingface(
    folder: Path, model: Any, names: Mapping[str, str], tokenizer: str, **shown: Any
) -> dict[str, Any]:
    """A folder in transformers' layout; the tensors as they are written. names: our prefixes and the published ones."""
    folder.mkdir(parents=True)
    config = model.config.to_dict()
    config["text_config"] = {key: value for key, value in config["text_config"].items() if key != "dtype"}
    write_json(folder / "config.json", config)
    (folder / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    settings = {"image_processor_type": "CLIPImageProcessor", "do_center_crop": True, "image_mean": [0.5, 0.4, 0.3],
                "image_std": [0.25, 0.26, 0.27]}  # fmt: skip
    write_json(folder / "preprocessor_config.json", settings | shown)
    out = {}
    for name, tensor in model.state_dict().items():
        old = next(prefix for prefix in names if name.startswith(prefix))
        out[names[old] + name.removeprefix(old)] = tensor.detach().clone()
    write_weights(folder, out)
    return out
