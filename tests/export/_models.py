"""Tiny folders of every kind whose language model leaves as GGUF, in the layouts that it is published in.

Weights are strong: each layer adds as much as it is given, no norm is all ones and no bias zero, so that a tensor in the
wrong place, order or scale shows in every logit.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

_BACKBONES = Path(__file__).parents[1] / "backbones"


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"_published_{name}", _BACKBONES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


tiny, layouts, moe, qwen = (_load(name) for name in ("_tiny", "test_layouts", "test_moe_llava", "test_llava_qwen"))
GROUPED = {"num_key_value_heads": 2}


def strengthen(model: Any, seed: int = 1) -> Any:
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "norm" in name and name.endswith("weight"):
                value.copy_(1 + 0.3 * torch.randn_like(value))
            elif value.ndim == 1:
                value.copy_(0.2 * torch.randn_like(value))
            elif "embed_tokens" in name:
                value.copy_(torch.randn_like(value))
            else:
                value.copy_(torch.randn_like(value) * 1.4 * value[0].numel() ** -0.5)
    return model


def llava15_own(out: Path) -> Path:
    """LLaVA's layout: pickled shards, tokenizer.model, the tower apart, one row less than tokens."""
    model = strengthen(tiny.make_llava(tiny.LLAMA | {"vocab_size": layouts.VICUNA_ROWS}, 5))
    config = tiny.llava_config(tiny.LLAMA | {"vocab_size": layouts.VICUNA_ROWS}, "llava", layouts.TOWER)
    rest, tower = tiny.split_tower(tiny.original_names(model))
    folder = out / "llava-v1.5-7b"
    folder.mkdir(parents=True)
    tiny.write_json(folder / "config.json", config)
    (folder / "tokenizer.model").write_bytes(tiny.model_proto(tiny.pieces()))
    tiny.write_weights(folder, rest, "bin")
    tiny.write_tower(out / "clip-vit-tiny-patch14-28", tiny.TOWER, tower)
    return folder


def phi3_own(out: Path) -> Path:
    """LLaVA's layout with Phi-3's fused linears; its words are Phi-3's own, which swallow blanks."""
    model = strengthen(tiny.make_llava(tiny.PHI3 | GROUPED, layouts.PHI3_IMAGE))
    folder = out / "LLaVA-Phi-3-mini-4k-instruct"
    folder.mkdir(parents=True)
    tiny.write_json(folder / "config.json", tiny.llava_config(tiny.PHI3 | GROUPED, "llava_phi", layouts.TOWER))
    (folder / "tokenizer.json").write_text(tiny.tokenizer_json(tiny.PHI3_TOKENS), encoding="utf-8")
    tensors = tiny.original_names(model)
    tiny.write_weights(folder, tensors)
    tiny.write_tower(out / "clip-vit-tiny-patch14-28", tiny.TOWER, tiny.split_tower(tensors)[1])
    return folder


def phi3_lora(out: Path) -> Path:
    """LLaVA's layout of an adapter that is merged as it is read: W + alpha / r B A."""
    model = strengthen(tiny.make_llava(tiny.PHI3, layouts.PHI3_IMAGE))
    rest, tower = tiny.split_tower(tiny.original_names(model))
    base, folder = out / "Phi-3-mini-4k-instruct", out / "LLaVA-Phi-3-mini-4k-instruct-lora"
    base.mkdir(parents=True)
    folder.mkdir()
    tiny.write_tower(out / "clip-vit-tiny-patch14-28", tiny.TOWER, tower)
    tiny.write_json(base / "config.json", tiny.PHI3)
    tiny.write_weights(base, {name: value for name, value in rest.items() if "mm_projector" not in name})
    tiny.write_json(folder / "config.json", tiny.llava_config(tiny.PHI3, "llava_phi", layouts.TOWER))
    (folder / "tokenizer.json").write_text(tiny.tokenizer_json(tiny.PHI3_TOKENS), encoding="utf-8")
    whole = {f"base_model.model.{name}": value for name, value in rest.items() if "mm_projector" in name}
    torch.save(whole, folder / "non_lora_trainables.bin")
    names = ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]
    tiny.write_json(folder / "adapter_config.json", {
        "base_model_name_or_path": "microsoft/Phi-3-mini-4k-instruct", "r": 4, "lora_alpha": 6, "peft_type": "LORA",
        "fan_in_fan_out": False, "modules_to_save": None, "bias": "none", "target_modules": names})  # fmt: skip
    adapter = {}
    for name, module in model.model.language_model.named_modules():
        if isinstance(module, torch.nn.Linear):
            adapter[f"base_model.model.model.{name}.lora_A.weight"] = torch.randn(4, module.in_features) * 0.1
            adapter[f"base_model.model.model.{name}.lora_B.weight"] = torch.randn(module.out_features, 4) * 0.1
    torch.save(adapter, folder / "adapter_model.bin")
    return folder


def huggingface(text: dict[str, Any], tokens: tuple[str, ...] = (), version: str = "5") -> Callable[[Path], Path]:
    """transformers' layout, under the names of one of its versions."""

    def write(out: Path) -> Path:
        model = strengthen(tiny.make_llava(text, layouts.PIECES + len(tokens)))
        tokenizer = tiny.tokenizer_json((*tokens, "<image>"))
        tiny.write_huggingface(out / "published", model, layouts.NAMES[version], tokenizer)
        return out / "published"

    return write


def qwen2_tokenizer(folder: Path) -> int:
    """A byte-level BPE of Qwen2's form with merges learned from this file; the id of the image token, which is its last."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    from edgereverie.backbones._tokenizers import _SPLIT

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(Path(__file__).read_text(encoding="utf-8").splitlines(), trainer)
    words = [AddedToken(token, special=True, normalized=False) for token in (*qwen.TOKENS, "<image>")]
    tokenizer.add_special_tokens(words)
    tokenizer.save(str(folder / "tokenizer.json"))
    tiny.write_json(folder / "tokenizer_config.json", {"eos_token": "<|im_end|>", "bos_token": None})
    return tokenizer.token_to_id("<image>")


def llava_qwen(tied: bool) -> Callable[[Path], Path]:
    """LLaVA-Interleave: SigLIP, all of its patches, and a Qwen2, whose head is its embedding or is not."""

    def write(out: Path) -> Path:
        from transformers import LlavaConfig, LlavaForConditionalGeneration

        folder = out / "llava-interleave-qwen-0.5b-hf"
        folder.mkdir(parents=True)
        image = qwen2_tokenizer(folder)
        text = {"model_type": "qwen2", "vocab_size": image + 20, "hidden_size": 48, "intermediate_size": 80,
                "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 1024,
                "eos_token_id": image - 1, "tie_word_embeddings": tied}  # fmt: skip
        config = LlavaConfig(
            vision_config=qwen.TOWER, text_config=text, image_token_index=image, image_seq_length=4,
            vision_feature_layer=-1, vision_feature_select_strategy="full", tie_word_embeddings=tied,
        )  # fmt: skip
        model = strengthen(LlavaForConditionalGeneration(config).eval())
        tensors = {name: value for name, value in model.state_dict().items() if not (tied and name == "lm_head.weight")}
        written = {
            qwen.NAMES[old] + name.removeprefix(old): value.detach().clone()
            for name, value in tensors.items()
            for old in qwen.NAMES
            if name.startswith(old)
        }
        tiny.write_json(folder / "config.json", model.config.to_dict())
        tiny.write_weights(folder, written)
        settings = {"image_processor_type": "SiglipImageProcessor", "do_resize": True, "size": {"height": 28, "width": 28},
                    "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}  # fmt: skip
        tiny.write_json(folder / "preprocessor_config.json", settings)
        return folder

    return write


def moe_llava(base: str, tower: str = "clip", **changes: Any) -> Callable[[Path], Path]:
    """MoE-LLaVA's own layout."""
    return lambda out: moe.publish(out, base, tower, **changes).path


def upcycled(dense: Callable[[Path], Path], *, tied: bool = False, **choices: Any) -> Callable[[Path], Path]:
    """A dense folder with experts, which differ from each other as trained ones do. tied: its head is its embedding."""

    def write(out: Path) -> Path:
        from safetensors.torch import load_file, save_file

        from edgereverie.backbones._upcycle import write_upcycled
        from edgereverie.backbones.base import open_folder

        folder = out / "upcycled"
        folder.mkdir(parents=True)
        write_upcycled(open_folder(dense(out / "dense")), folder, **choices)
        torch.manual_seed(5)
        for file in folder.glob("*.safetensors"):
            tensors = load_file(file)
            for name, value in tensors.items():
                if ".experts." in name or name.endswith(".wg.weight"):
                    tensors[name] = value + torch.randn_like(value) * value.shape[-1] ** -0.5
            if tied:
                tensors.pop("lm_head.weight", None)
            save_file(tensors, file, metadata={"format": "pt"})
        if tied:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            config["text_config"]["tie_word_embeddings"] = True
            tiny.write_json(folder / "config.json", config | {"tie_word_embeddings": True})
        return folder

    return write


def trained_starter(_: Path) -> Path:
    """The one with trained weights, as it is shipped."""
    import edgereverie.backbones

    return Path(edgereverie.backbones.__file__).parent / "weights" / "starter"


_PHI3 = huggingface(tiny.PHI3 | GROUPED, tiny.PHI3_TOKENS)
_LLAMA = huggingface(tiny.LLAMA | GROUPED)
# By kind: llama.cpp's architecture and how the folder is written.
KINDS: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "the starter": ("phi3", trained_starter),
    "LLaVA-1.5 in LLaVA's layout": ("llama", llava15_own),
    "LLaVA-1.5 in transformers' layout": ("llama", huggingface(tiny.LLAMA | GROUPED, version="4.36")),
    "LLaVA-1.5, wide heads and biases": ("llama", huggingface(tiny.LLAMA | {"head_dim": 16, "attention_bias": True,
                                                                            "mlp_bias": True})),
    "LLaVA-1.5, stretched": ("llama", huggingface(tiny.LLAMA | {"rope_scaling": {"rope_type": "linear", "factor": 2.0}})),
    "LLaVA-Phi-3 in LLaVA's layout": ("phi3", phi3_own),
    "LLaVA-Phi-3's adapter": ("phi3", phi3_lora),
    "LLaVA-Phi-3, half of a head turned": ("phi3", huggingface(tiny.PHI3 | {"partial_rotary_factor": 0.5},
                                                               tiny.PHI3_TOKENS)),
    "XTuner's LLaVA-Phi-3": ("llama", huggingface(tiny.LLAMA, tiny.PHI3_TOKENS, "4.52")),
    "LLaVA-Interleave": ("qwen2", llava_qwen(False)),
    "LLaVA-Interleave, tied": ("qwen2", llava_qwen(True)),
    "MoE-LLaVA on Qwen": ("step35", moe_llava("qwen")),
    "MoE-LLaVA on StableLM-2": ("phimoe", moe_llava("stablelm")),
    "MoE-LLaVA on StableLM-2 with SigLIP": ("phimoe", moe_llava("stablelm", "siglip")),
    "MoE-LLaVA on Phi-3": ("step35", upcycled(_PHI3)),
    "MoE-LLaVA on Phi-3, three experts in layer 1": ("step35", upcycled(_PHI3, layers="1", experts=3)),
    "MoE-LLaVA on Phi-3, best expert": ("step35", upcycled(_PHI3, top_k=1)),
    "MoE-LLaVA on a Llama": ("step35", upcycled(_LLAMA, layers="all")),
    "MoE-LLaVA on a Llama, tied": ("step35", upcycled(_LLAMA, tied=True)),
}  # fmt: skip
