"""The layout of LLaVA's own code, in which Vicuna's and Phi-3's checkpoints are published.

Language model, projector and, where it was saved, the vision tower lie under one ``model.``; config.json is the language
model's with the fields of the picture added (llava/model/llava_arch.py). ``liuhaotian/llava-v1.5-*``,
``MBZUAI/LLaVA-Phi-3-mini-4k-instruct``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgereverie.backbones._checkpoint import Stored, open_weights, weight_names
from edgereverie.backbones._keys import KeyMap, PadRows, Rule
from edgereverie.backbones._layouts.base import Described
from edgereverie.backbones._tokenizers import read_tokenizer, with_image_token
from edgereverie.backbones._towers import Tower, find_tower
from edgereverie.errors import BackboneError
from edgereverie.records import ImageSpec

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOWER_PREFIX = "model.vision_tower.vision_tower.vision_model."
IMAGE_TOKEN = "<image>"
_ROWS = 64  # embeddings are padded to multiples of it, as llava-hf's are


@dataclass(frozen=True, slots=True)
class Family:
    """What the language model behind a ``model_type`` of LLaVA's code is to transformers. fields: those of its config."""

    text_type: str
    chat: str
    defaults: Mapping[str, Any]


_FIELDS = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
    "hidden_act", "max_position_embeddings", "original_max_position_embeddings", "rms_norm_eps", "rope_theta",
    "rope_scaling", "sliding_window", "attention_bias", "attention_dropout", "resid_pdrop", "embd_pdrop",
    "initializer_range", "tie_word_embeddings", "bos_token_id", "eos_token_id", "pad_token_id",
)  # fmt: skip
# The classes' defaults, for configs that hold only what differs from them.
_LLAMA = Family("llama", "vicuna_v1", {"vocab_size": 32000, "max_position_embeddings": 2048, "hidden_size": 4096})
_PHI3 = Family("phi3", "phi3_instruct", {"vocab_size": 32064, "max_position_embeddings": 4096, "hidden_size": 3072})
FAMILIES = {"llava": _LLAMA, "llava_llama": _LLAMA, "llava_phi": _PHI3}


class Llava:
    name = "llava"

    def recognises(self, path: Path, config: Mapping[str, Any]) -> bool:
        return is_llava(config) and not (path / "adapter_config.json").is_file()

    def read(self, path: Path, config: Mapping[str, Any]) -> Described:
        names = weight_names(path)
        if not any(name.startswith("model.mm_projector.") for name in names):
            raise BackboneError(
                f"{path}: no projector among its {len(names)} tensors (model.mm_projector.*).",
                hint="Wanted: a whole LLaVA, or an adapter with adapter_config.json. A pretrained projector alone, or a language "
                "model alone, is neither.",
            )
        return describe(path, config, inside=has_tower(names), tensors=lambda: open_weights(path))


def is_llava(config: Mapping[str, Any]) -> bool:
    return config.get("model_type") in FAMILIES and "mm_vision_tower" in config and "text_config" not in config


def has_tower(names: frozenset[str]) -> bool:
    return any(name.startswith(TOWER_PREFIX) for name in names)


def describe(
    path: Path, config: Mapping[str, Any], *, inside: bool, tensors: Callable[[], dict[str, Stored]]
) -> Described:
    """The description of a LLaVA config. inside: the vision tower's weights are among ``tensors``."""
    family = FAMILIES[config["model_type"]]
    _refuse(path, config)
    text = dict(family.defaults) | {key: config[key] for key in _FIELDS if config.get(key) is not None}
    tower = find_tower(config["mm_vision_tower"], path, inside=inside, hidden=int(config.get("mm_hidden_size", 1024)))

    @cache
    def tokenizer() -> Tokenizer:
        made = read_tokenizer(path)
        with_image_token(made, IMAGE_TOKEN)
        return made

    rows, image_token = int(text["vocab_size"]), tokenizer().token_to_id(IMAGE_TOKEN)
    if image_token > rows:
        raise BackboneError(
            f"{path}: the tokenizer has {image_token:,} tokens, the embedding {rows:,} rows (vocab_size in config.json).",
            hint="Take config.json and the tokenizer from the same checkpoint.",
        )
    # Vicuna's 32,000 rows have none left for <image>; Phi-3's 32,064 have.
    padded = rows if image_token < rows else -(-(rows + 1) // _ROWS) * _ROWS
    image = image_spec(tower, config)
    return Described(
        config=llava_config(
            text | {"model_type": family.text_type, "vocab_size": padded}, tower, config, image, image_token
        ),
        image=image,
        chat=family.chat,
        tokenizer=tokenizer,
        tensors=tensors if inside else lambda: tensors() | tower.tensors(TOWER_PREFIX),
        keys=key_map(rows, padded),
    )


def image_spec(tower: Tower, config: Mapping[str, Any]) -> ImageSpec:
    """As the checkpoint was trained: padded to a square with the tower's mean colour, or the tower's own centre crop."""
    return ImageSpec(
        size=int(tower.config["image_size"]),
        patch=int(tower.config["patch_size"]),
        mean=tower.mean,
        std=tower.std,
        fit="pad" if config.get("image_aspect_ratio") == "pad" else "crop",
        dropped=tower.dropped,
    )


def llava_config(
    text: Mapping[str, Any], tower: Tower, config: Mapping[str, Any], image: ImageSpec, image_token: int
) -> dict[str, Any]:
    """transformers' LlavaConfig for a published config of LLaVA's or MoE-LLaVA's code."""
    return {
        "model_type": "llava",
        "architectures": ["LlavaForConditionalGeneration"],
        "text_config": dict(text),
        "vision_config": dict(tower.config),
        "image_token_index": image_token,
        "image_seq_length": image.tokens,
        "projector_hidden_act": "gelu",
        "vision_feature_layer": int(config.get("mm_vision_select_layer", -2)),
        "vision_feature_select_strategy": "default",
        "tie_word_embeddings": bool(text.get("tie_word_embeddings", False)),
    }


def key_map(rows: int, padded: int) -> KeyMap:
    pad = PadRows(rows, padded) if padded != rows else None
    return KeyMap(
        (
            Rule("lm_head.weight", "lm_head.weight", pad),
            Rule("model.embed_tokens.weight", "model.language_model.embed_tokens.weight", pad),
            Rule("model.mm_projector.0.{rest}", "model.multi_modal_projector.linear_1.{rest}"),
            Rule("model.mm_projector.2.{rest}", "model.multi_modal_projector.linear_2.{rest}"),
            Rule(TOWER_PREFIX + "{rest}", "model.vision_tower.{rest}"),
            Rule("model.layers.{rest}", "model.language_model.layers.{rest}"),
            Rule("model.norm.{rest}", "model.language_model.norm.{rest}"),
        )
    )


_WANTED = {
    "mm_projector_type": ("mlp2x_gelu", "the projector of LLaVA-1.5"),
    "mm_vision_select_feature": ("patch", "features without the class token"),
    "mm_patch_merge_type": ("flat", "one picture, not LLaVA-1.6's tiles"),
    "mm_use_im_start_end": (False, "a picture without start and end tokens"),
    "mm_use_im_patch_token": (False, "a picture without patch tokens"),
}


def _refuse(path: Path, config: Mapping[str, Any]) -> None:
    """What this layout can say and LLaVA-1.5 does not do."""
    for key, (wanted, meaning) in _WANTED.items():
        if (found := config.get(key, "linear" if key == "mm_projector_type" else wanted)) != wanted:
            raise BackboneError(
                f"{path / 'config.json'}: {key} is {found!r}, wanted {wanted!r} ({meaning}).",
                hint="This checkpoint is of another generation of LLaVA; use LLaVA-1.5 or LLaVA-Phi-3.",
            )
    if str(config.get("image_aspect_ratio", "")).startswith("anyres"):
        raise BackboneError(
            f"{path / 'config.json'}: image_aspect_ratio is {config['image_aspect_ratio']!r} (LLaVA-1.6's tiles).",
            hint="Use LLaVA-1.5 or LLaVA-Phi-3, which see one square picture.",
        )


LAYOUT = Llava()
