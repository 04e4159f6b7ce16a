"""The configuration files beside the graphs, as transformers.js and the hub's community read them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgereverie.backbones.base import ModelFolder
from edgereverie.backbones.base import write_companions as write_tokenizer_and_picture
from edgereverie.bundle import write_text
from edgereverie.export.onnx_text import TextModel


def write_companions(
    folder: ModelFolder, text: TextModel, out: Path, dtype: str, data_files: Mapping[str, int], *, half_cache: bool
) -> dict[str, str]:
    """Write them from what the model folder is, whatever its layout; returns their roles.

    dtype: as in the graphs' file names. data_files: of each graph that has some, how many. half_cache: it is 16 bit.
    """
    write_tokenizer_and_picture(folder, out)
    js = {"dtype": dtype, "use_external_data_format": dict(data_files)}
    if half_cache:
        js["kv_cache_dtype"] = {dtype: "float16"}
    picture = json.loads((out / "preprocessor_config.json").read_text(encoding="utf-8"))
    written = {
        "config": ("config.json", _config(folder, text) | {"transformers.js_config": js}),
        "generation_config": ("generation_config.json", _generation(folder)),
        "preprocessor_config": ("preprocessor_config.json", picture | {"processor_class": "LlavaProcessor"}),
        # transformers.js inserts (side / patch)^2 + num_additional_image_tokens image tokens and, unlike transformers, takes
        # none off again for "default": with these two values both count the tokens that the graph returns.
        "processor_config": (
            "processor_config.json",
            {
                "processor_class": "LlavaProcessor",
                "image_token": folder.chat.image_token,
                "patch_size": folder.image.patch,
                "num_additional_image_tokens": -folder.image.dropped,
                "vision_feature_select_strategy": "full",
            },
        ),
    }
    for name, content in written.values():
        write_text(out / name, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    return {role: name for role, (name, _) in written.items()} | {
        "tokenizer": "tokenizer.json",
        "tokenizer_config": "tokenizer_config.json",
    }


def _config(folder: ModelFolder, text: TextModel) -> dict[str, Any]:
    """A plain LLaVA's: experts are inside the decoder's graph. Sizes are written out, for readers without our defaults."""
    sizes = {
        "num_hidden_layers": text.layers,
        "hidden_size": text.hidden,
        "num_attention_heads": text.heads,
        "num_key_value_heads": text.kv_heads,
        "head_dim": text.head,
        "vocab_size": text.vocabulary,
    }
    return dict(folder.config) | {
        "model_type": "llava",
        "architectures": ["LlavaForConditionalGeneration"],
        "text_config": dict(folder.config["text_config"]) | sizes,
    }


def _generation(folder: ModelFolder) -> dict[str, Any]:
    """The published file, or the ids that the config tells; always with every token that ends an answer."""
    path, text = folder.path / "generation_config.json", folder.config["text_config"]
    published = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    told = {key: text[key] for key in ("bos_token_id", "pad_token_id") if text.get(key) is not None}
    stops = [folder.tokenizer().token_to_id(token) for token in folder.chat.stops]
    return told | published | {"eos_token_id": [stop for stop in stops if stop is not None]}
