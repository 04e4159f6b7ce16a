"""A LLaVA-Phi-3 of 0.55 billion random parameters and 576 image tokens, and its bundles: what speed is measured on.

The starter's words and a small vision tower; hidden 1536, 16 layers, 16 heads, a vocabulary of 32,064. Speed depends on
shapes alone, so random weights serve.
"""

from __future__ import annotations

from pathlib import Path

PROFILES = ("gguf-q4-k-m", "onnx-int4-shared")
SIDE, PATCH = 384, 16  # 24 x 24 = 576 image tokens


def half_billion(folder: Path, seed: int = 0) -> Path:
    """The model folder, in 16 bit; whole or not there."""
    if folder.is_dir():
        return folder
    import torch
    from safetensors.torch import save_file
    from transformers import CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration, Phi3Config

    from edgereverie.backbones import starter
    from edgereverie.backbones._writing import write_companions
    from edgereverie.bundle import new_folder
    from edgereverie.records import ImageSpec

    shipped = starter.shipped()
    words = {key: shipped.config["text_config"][key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    text = Phi3Config(
        vocab_size=32064, hidden_size=1536, intermediate_size=4096, num_hidden_layers=16, num_attention_heads=16,
        num_key_value_heads=16, max_position_embeddings=2048, original_max_position_embeddings=2048, **words,
    )  # fmt: skip
    tower = shipped.config["vision_config"] | {"image_size": SIDE, "patch_size": PATCH}
    image = ImageSpec(size=SIDE, patch=PATCH, mean=shipped.image.mean, std=shipped.image.std)
    config = LlavaConfig(vision_config=CLIPVisionConfig(**tower), text_config=text, image_seq_length=image.tokens,
                         image_token_index=shipped.config["image_token_index"])  # fmt: skip
    with torch.device("meta"):
        model = LlavaForConditionalGeneration(config)
    generator = torch.Generator().manual_seed(seed)
    with new_folder(folder) as beside:
        weights = {
            name: torch.empty(value.shape, dtype=torch.bfloat16).uniform_(-0.03, 0.03, generator=generator)
            + float("norm" in name and value.ndim == 1)
            for name, value in model.state_dict().items()
        }
        save_file(weights, beside / "model.safetensors", metadata={"format": "pt"})
        config.save_pretrained(beside)
        write_companions(beside, shipped.tokenizer(), image, shipped.chat.name)
    return folder


def bundle(model: Path, profile: str, out: Path) -> Path:
    """The model's bundle of a shipped profile; not compared with the model, which is random."""
    if not out.is_dir():
        from edgereverie.backbones.base import open_folder
        from edgereverie.export.base import load_profile
        from edgereverie.export.write import export_bundle

        export_bundle(open_folder(model), load_profile(profile), out, made_from={"model": model.name})
    return out
