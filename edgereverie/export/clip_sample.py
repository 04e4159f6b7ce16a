"""A CLIP tower of a few hundred kilobytes with its probe, made on the spot: what llama.cpp is tried with when no bundle is there.

Random weights, llama.cpp's file, and numpy's answer to what a CLIP tower in LLaVA is: class token first, positions from 0,
features of the last layer but one without the class token.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgereverie.bundle import Bundle, describe_file
from edgereverie.export.probe import draw_probe, write_probe
from edgereverie.image import prepare
from edgereverie.records import ImageSpec

IMAGE = ImageSpec(size=56, patch=14, mean=(0.48, 0.46, 0.41), std=(0.27, 0.26, 0.28))
_WIDE, _INNER, _HEADS, _LAYERS, _TEXT = 32, 64, 2, 3, 48
_EPS = 1e-5


def write_sample(out: Path) -> Bundle:
    """A bundle of ``mmproj``, probe, and a ``model`` without weights in the existing folder ``out``; always the same."""
    weights, picture = _weights(), draw_probe(IMAGE)
    _write_mmproj(out / "mmproj.gguf", weights)
    _write_model(out / "model.gguf")
    files = {"model": "model.gguf", "mmproj": "mmproj.gguf"} | write_probe(
        out, picture, features(weights, prepare(picture, IMAGE))
    )
    return Bundle(
        folder=out, name="sample", target="gguf", quantization="F32", chat="phi3", image=IMAGE, context=64,
        files={role: describe_file(out, path) for role, path in files.items()},
    )  # fmt: skip


def _weights() -> dict[str, np.ndarray]:
    """By GGUF tensor name, rows first. Large enough that attention mixes the tokens, so that each position matters."""
    rng = np.random.default_rng(5)

    def matrix(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) * 1.5 / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    def norm(name: str) -> dict[str, np.ndarray]:
        return {f"{name}.weight": 1 + 0.1 * matrix(_WIDE), f"{name}.bias": 0.1 * matrix(_WIDE)}

    found = {
        "v.class_embd": matrix(_WIDE),
        "v.patch_embd.weight": matrix(_WIDE, 3, IMAGE.patch, IMAGE.patch),
        "v.position_embd.weight": matrix(IMAGE.tokens + 1, _WIDE) * 3,
        **norm("v.pre_ln"),
    }
    shapes = dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_out"), (_WIDE, _WIDE))
    for layer in range(_LAYERS):
        found |= norm(f"v.blk.{layer}.ln1") | norm(f"v.blk.{layer}.ln2")
        for part, shape in (shapes | {"ffn_up": (_INNER, _WIDE), "ffn_down": (_WIDE, _INNER)}).items():
            found |= {
                f"v.blk.{layer}.{part}.weight": matrix(*shape),
                f"v.blk.{layer}.{part}.bias": matrix(shape[0]) * 0.1,
            }
    for number, width in ((0, _WIDE), (2, _TEXT)):
        found |= {f"mm.{number}.weight": matrix(_TEXT, width), f"mm.{number}.bias": matrix(_TEXT) * 0.1}
    return found


def features(weights: Mapping[str, np.ndarray], pixels: np.ndarray) -> np.ndarray:
    """(3, side, side) float32 -> (image tokens, width), as transformers' LLaVA computes them."""
    grid, patch = IMAGE.size // IMAGE.patch, IMAGE.patch
    patches = pixels.reshape(3, grid, patch, grid, patch).transpose(1, 3, 0, 2, 4).reshape(grid * grid, -1)
    embedded = patches @ weights["v.patch_embd.weight"].reshape(_WIDE, -1).T
    stream = np.vstack([weights["v.class_embd"], embedded]) + weights["v.position_embd.weight"]
    stream = _norm(stream, weights, "v.pre_ln")
    for layer in range(_LAYERS - 1):
        name = f"v.blk.{layer}"
        stream = stream + _attention(_norm(stream, weights, f"{name}.ln1"), weights, name)
        inner = _linear(_norm(stream, weights, f"{name}.ln2"), weights, f"{name}.ffn_up")
        stream = stream + _linear(inner / (1 + np.exp(-1.702 * inner)), weights, f"{name}.ffn_down")
    projected = _linear(stream[1:], weights, "mm.0")
    curved = 0.5 * projected * (1 + np.tanh(np.sqrt(2 / np.pi) * (projected + 0.044715 * projected**3)))
    return _linear(curved, weights, "mm.2")


def _linear(values: np.ndarray, weights: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    return values @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def _norm(values: np.ndarray, weights: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    centred = values - values.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + _EPS)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def _attention(values: np.ndarray, weights: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    q, k, v = (
        _linear(values, weights, f"{name}.attn_{part}").reshape(len(values), _HEADS, -1).swapaxes(0, 1)
        for part in "qkv"
    )
    scores = q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1])
    chances = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = chances / chances.sum(-1, keepdims=True) @ v
    return _linear(mixed.swapaxes(0, 1).reshape(len(values), -1), weights, f"{name}.attn_out")


def _write_model(path: Path) -> None:
    """What mtmd asks of a language model before it looks at a picture: to be there."""
    from gguf import GGUFWriter

    writer = GGUFWriter(path, "llama")
    try:
        writer.add_tokenizer_model("no_vocab")
        writer.add_vocab_size(2)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def _write_mmproj(path: Path, weights: Mapping[str, np.ndarray]) -> None:
    from gguf import GGUFWriter

    writer = GGUFWriter(path, "clip")
    try:
        writer.add_type("mmproj")
        writer.add_clip_has_vision_encoder(True)
        writer.add_clip_projector_type("mlp")
        writer.add_vision_use_gelu(False)
        writer.add_vision_image_size(IMAGE.size)
        writer.add_vision_patch_size(IMAGE.patch)
        writer.add_vision_embedding_length(_WIDE)
        writer.add_vision_feed_forward_length(_INNER)
        writer.add_vision_block_count(_LAYERS)
        writer.add_vision_projection_dim(_TEXT)
        writer.add_vision_head_count(_HEADS)
        writer.add_vision_attention_layernorm_eps(_EPS)
        writer.add_vision_image_mean(list(IMAGE.mean))
        writer.add_vision_image_std(list(IMAGE.std))
        writer.add_array("clip.vision.feature_layer", [_LAYERS - 1])
        for name, values in weights.items():
            writer.add_tensor(name, np.ascontiguousarray(values, np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()
