"""Tiny random checkpoints of every backbone: as published, and in transformers' layout at sizes that blocks of 32 divide."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from edgereverie.backbones.base import ModelFolder, open_folder

_BACKBONES = Path(__file__).parents[1] / "backbones"
_SIGLIP = {"model_type": "siglip_vision_model", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
           "num_attention_heads": 2, "image_size": 28, "patch_size": 14, "hidden_act": "gelu_pytorch_tanh"}  # fmt: skip
_SIZES = {"vocab_size": 416, "hidden_size": 128, "intermediate_size": 96, "num_hidden_layers": 2,
          "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "pad_token_id": 0,
          "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip
_PARTLY = {"num_attention_heads": 2, "num_key_value_heads": 2}  # heads of 64, so that a quarter of one is 16
_MOE = {"num_experts": [3], "top_k_experts": 2, "moe_layers_idx": [1]}

# By name: chat format, text config, what else the config says, experts.
SIZED: dict[str, tuple[str, dict[str, Any], dict[str, Any], dict[str, Any] | None]] = {
    "llava15, four heads over two": ("vicuna_v1", {"model_type": "llama", "attention_bias": True, "mlp_bias": True}, {}, None),
    "llava_phi3, a window of seven": ("phi3", {"model_type": "phi3", "original_max_position_embeddings": 512,
                                               "sliding_window": 7}, {}, None),
    "llava_phi3 as XTuner's, yarn": ("phi3", {"model_type": "llama", "rope_parameters": {
        "rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 128}}, {}, None),
    "llava_qwen, tied": ("chatml", {"model_type": "qwen2", "tie_word_embeddings": True}, {
        "vision_config": _SIGLIP, "vision_feature_layer": -1, "vision_feature_select_strategy": "full",
        "tie_word_embeddings": True}, None),
    "moe_llava on StableLM-2": ("stablelm", _PARTLY | {"model_type": "stablelm", "use_qkv_bias": True, "rope_parameters": {
        "rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25}}, {}, _MOE),
    "moe_llava on Phi-2": ("phi", _PARTLY | {"model_type": "phi", "rope_parameters": {
        "rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}},
        {"lm_head_bias": True, "vision_config": _SIGLIP}, _MOE | {"num_experts": [4, 2], "moe_layers_idx": [0, 1]}),
    "moe_llava on Qwen, one expert": ("qwen", {"model_type": "qwen2"}, {}, _MOE | {"top_k_experts": 1}),
    "moe_llava on Phi-3, one expert at weight one": ("phi3", {"model_type": "phi3", "original_max_position_embeddings": 512},
                                                     {"vision_feature_layer": [-2, -1]},
                                                     _MOE | {"top_k_experts": 1, "normalise_top1": True}),
    "moe_llava on Llama": ("vicuna_v1", {"model_type": "llama"}, {}, _MOE),
}  # fmt: skip
PUBLISHED = (
    "liuhaotian/llava-v1.5",
    "MBZUAI/LLaVA-Phi-3",
    "MoE-LLaVA-StableLM",
    "MoE-LLaVA-Phi2-384",
    "MoE-LLaVA-Qwen",
)


def sized(name: str, path: Path) -> ModelFolder:
    """One of SIZED in transformers' layout."""
    import torch
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    from edgereverie.backbones._moe import MoeLlavaConfig, MoeLlavaForConditionalGeneration

    tiny = _module("_tiny")
    chat, text, rest, moe = SIZED[name]
    added = {"phi3": tiny.PHI3_TOKENS, "chatml": ("<|endoftext|>", "<|im_start|>", "<|im_end|>")}.get(
        chat, ("<|endoftext|>",)
    )
    image = tiny.PIECES + len(added)
    config = {
        "vision_config": tiny.TOWER,
        "text_config": _SIZES | text,
        "image_token_index": image,
        "image_seq_length": 4,
    }
    built, kind = (LlavaForConditionalGeneration, LlavaConfig) if moe is None else (
        MoeLlavaForConditionalGeneration, MoeLlavaConfig)  # fmt: skip
    torch.manual_seed(len(name))
    model = built(kind(**config | rest | ({} if moe is None else {"moe": moe})))
    _draw(model)
    model.save_pretrained(path)
    (path / "tokenizer.json").write_text(tiny.tokenizer_json((*added, "<image>")), encoding="utf-8")
    tiny.write_json(path / "tokenizer_config.json", {"chat_format": chat})
    picture = {"do_pad": True, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.25, 0.26, 0.27]}
    tiny.write_json(path / "preprocessor_config.json", picture)
    return open_folder(path)


def published(name: str, path: Path) -> ModelFolder:
    """One of PUBLISHED under the names and in the files of its publisher."""
    tiny = _module("_tiny")
    if name.startswith("MoE-LLaVA"):
        base = {"Sta": "stablelm", "Phi": "phi", "Qwe": "qwen"}[name.split("-")[2][:3]]
        made = _module("test_moe_llava").publish(path, base, "siglip" if name.endswith("384") else "clip")
        return open_folder(made.path)
    folder, tower = path / "published", "openai/clip-vit-tiny-patch14-28"
    folder.mkdir(parents=True)
    vicuna = name.startswith("liuhaotian")
    text = tiny.LLAMA | {"vocab_size": tiny.PIECES} if vicuna else tiny.PHI3
    model = tiny.make_llava(text, 5 if vicuna else tiny.PIECES + 5)
    _draw(model)
    rest, inside = tiny.split_tower(tiny.original_names(model))
    tiny.write_json(folder / "config.json", tiny.llava_config(text, "llava" if vicuna else "llava_phi", tower))
    if vicuna:
        (folder / "tokenizer.model").write_bytes(tiny.model_proto(tiny.pieces()))
    else:
        (folder / "tokenizer.json").write_text(tiny.tokenizer_json(tiny.PHI3_TOKENS), encoding="utf-8")
    tiny.write_weights(folder, rest, "bin" if vicuna else "safetensors")
    tiny.write_tower(path / tower.rpartition("/")[2], tiny.TOWER, inside)
    return open_folder(folder)


def _draw(model: Any) -> None:
    """Weights that keep the size of what they multiply; none at a value that hides a mistake."""
    import torch

    for name, value in model.named_parameters():
        if value.ndim > 1:
            torch.nn.init.normal_(value, std=1.4 * value.shape[-1] ** -0.5)
        else:
            torch.nn.init.normal_(value, mean=float("norm" in name and name.endswith("weight")), std=0.2)


def _module(name: str) -> ModuleType:
    """A file of tests/backbones: their writers of checkpoints are the ones."""
    known = f"_edgereverie_{name}"
    if known not in sys.modules:
        spec = importlib.util.spec_from_file_location(known, _BACKBONES / f"{name}.py")
        sys.modules[known] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[known])
    return sys.modules[known]
