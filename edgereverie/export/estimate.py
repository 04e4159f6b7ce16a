"""What an export will take, from shapes alone: bytes of the bundle, memory at its peak, room on disk meanwhile, and time.

Sizes are arithmetic: each group of tensors times the bytes per weight of the type it will be stored in. Memory and time are
rules of thumb made of the same sums, with the constants that stand below.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from edgereverie.backbones.base import ModelFolder
from edgereverie.export.base import Profile
from edgereverie.export.shapes import Shapes, used_layers

# Bytes per weight of ggml's types: bytes of a block over the weights in it.
_GGML = {
    "F32": 4, "F16": 2, "BF16": 2, "Q8_0": 34 / 32, "Q6_K": 210 / 256, "Q5_K": 176 / 256, "Q5_1": 24 / 32, "Q5_0": 22 / 32,
    "Q4_K": 144 / 256, "Q4_1": 20 / 32, "Q4_0": 18 / 32, "IQ4_NL": 18 / 32, "IQ4_XS": 136 / 256, "Q3_K": 110 / 256,
    "IQ3_S": 110 / 256, "IQ3_XXS": 98 / 256, "Q2_K": 84 / 256, "IQ2_S": 82 / 256, "IQ2_XS": 74 / 256, "IQ2_XXS": 66 / 256,
}  # fmt: skip
# Bytes per weight of onnxruntime's blocks of 32: a 32-bit scale each and, at 4 bits, half a byte of zero point.
_ONNX = {"fp32": 4, "fp16": 2, "int8": 1 + 4 / 32, "int4": 0.5 + 4.5 / 32}
_PACKED_HERE = ("F32", "F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0")  # by numpy, without a 16-bit file before


@dataclass(frozen=True, slots=True)
class Estimate:
    """size: bytes of the bundle. temporary: bytes on disk besides, while it is made. peak: bytes of memory. seconds: on this
    machine. parts: of the size, by file.
    """

    profile: str
    size: int
    temporary: int
    peak: int
    seconds: float
    parts: Mapping[str, int] = field(default_factory=dict)


def estimate(
    folder: ModelFolder, profile: Profile, shapes: Shapes, *, rate: float, resident: int, available: int
) -> Estimate:
    """What exporting ``folder`` as ``profile`` takes, its comparison with the model included.

    rate: operations per second of this machine in 32-bit products. resident: bytes that this process holds already, the
    libraries included. available: bytes of memory that are free.
    """
    parts = (_gguf_parts if profile.target == "gguf" else _onnx_parts)(folder, profile, shapes)
    size = sum(parts.values())
    packed = profile.target == "gguf" and profile.quantization not in _PACKED_HERE
    temporary = _gguf_model(shapes, "F16") if packed else 0
    seen = int(profile.prompts * 0.75)
    tokens = seen * folder.image.tokens + profile.prompts * _PROMPT_TOKENS
    logits = profile.prompts * _PROMPT_TOKENS * folder.config["text_config"]["vocab_size"] * 4
    return Estimate(
        profile.name,
        size,
        temporary + logits,
        resident + max(_peaks(profile, shapes, size, available).values()),
        _seconds(profile, shapes, tokens, rate),
        parts,
    )


# Sizes

_PROMPT_TOKENS = 60
_GRAPH = 5_500  # bytes of a graph's nodes, for each layer
_NAMES = 16  # bytes of a GGUF for each token beside its text: length, score, type


def _gguf_parts(folder: ModelFolder, profile: Profile, shapes: Shapes) -> dict[str, int]:
    tokenizer = folder.tokenizer()
    words = sum(len(word.encode()) for word in tokenizer.get_vocab(with_added_tokens=True))
    rows = folder.config["text_config"]["vocab_size"]
    copied = _copied_experts(folder.config)
    return {
        "model": _gguf_model(shapes, profile.quantization, copied) + words + _NAMES * rows,
        "mmproj": int(_GGML[str(profile.settings.get("mmproj", "F16")).upper()] * shapes.projected),
        "vision": 4 * shapes.vision + used_layers(folder.config) * _GRAPH,
        "tokenizer": _tokenizer_bytes(folder),
        "probe": _probe_bytes(folder),
    }


def _gguf_model(shapes: Shapes, quantization: str, copied: Callable[[int, str], int] = lambda layer, kind: 1) -> int:
    """The tensors of model.gguf. copied: how often a linear is written, where an architecture wants experts everywhere."""
    size = 4 * shapes.vectors
    size += _GGML[_outer(quantization, "embedding", not shapes.head)] * shapes.embedding
    size += _GGML[_outer(quantization, "head", False)] * shapes.head
    for layer, kind, count in shapes.linears:
        size += _GGML[mixed(quantization, kind, layer, shapes.layers)] * count * copied(layer, kind)
    return int(size)


def _outer(quantization: str, part: str, tied: bool) -> str:
    """The type of a vocabulary matrix: finer than the layers', the head's above all (llama-quant.cpp, and our own Q4_0)."""
    if quantization == "Q4_0":
        return "Q8_0"
    base = _base(quantization)
    if quantization in ("F32", "F16", "BF16", "Q8_0"):
        return base
    if part == "head" or tied:
        return "Q5_K" if quantization.startswith(("IQ1", "IQ2")) else "Q6_K"
    return {"IQ3_XXS": "IQ3_S", "IQ2_S": "IQ3_S", "IQ2_M": "IQ3_S", "IQ2_XS": "Q2_K", "IQ2_XXS": "Q2_K"}.get(
        quantization, base
    )


def _base(quantization: str) -> str:
    """The type that most weights of a llama.cpp mix have.

    >>> [_base(name) for name in ("Q4_K_M", "Q8_0", "Q2_K", "IQ3_M", "IQ4_XS")]
    ['Q4_K', 'Q8_0', 'Q2_K', 'IQ3_S', 'IQ4_XS']
    """
    if quantization in _GGML:
        return quantization
    stem = quantization.rpartition("_")[0]
    return stem if stem in _GGML else f"{stem}_S"


def mixed(quantization: str, kind: str, layer: int, layers: int) -> str:
    """The type of one linear in a llama.cpp mix (llama-quant.cpp, llama_tensor_get_type): some get more bits than others."""
    eighth = layers // 8
    first = layer < eighth
    more = first or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2
    mixes: dict[str, dict[str, str]] = {
        "Q2_K": {"v": "Q3_K", "down": "Q3_K", "o": "Q3_K"},
        "Q3_K_M": {
            "v": "Q5_K" if layer < 2 else "Q4_K",
            "down": "Q5_K" if layer < layers // 16 else "Q4_K",
            "o": "Q4_K",
        },
        "Q3_K_L": {"v": "Q5_K", "down": "Q5_K", "o": "Q5_K"},
        "Q4_K_S": {"v": "Q5_K" if layer < 4 else "Q4_K", "down": "Q5_K" if first else "Q4_K"},
        "Q4_K_M": dict.fromkeys(("v", "down"), "Q6_K" if more else "Q4_K"),
        "Q5_K_M": dict.fromkeys(("v", "down"), "Q6_K" if more else "Q5_K"),
        "IQ3_M": {"v": "Q4_K", "o": "Q4_K", "down": "Q4_K" if first else "IQ3_S"},
        "IQ3_XXS": {"v": "IQ3_XXS", "o": "IQ3_S", "q": "IQ2_S", "k": "IQ2_S"},
    }
    return mixes.get(quantization, {}).get(kind, _base(quantization))


def _onnx_parts(folder: ModelFolder, profile: Profile, shapes: Shapes) -> dict[str, int]:
    """Vision encoder and embedding keep 16 bits where the decoder has fewer; a 4-bit decoder's head has 8."""
    quantization = profile.quantization
    outer = 4 if quantization == "fp32" else 2
    head = _ONNX["int8" if quantization == "int4" else quantization] * (shapes.head or shapes.embedding)
    linears = sum(count for *_, count in shapes.linears)
    small = 2 if quantization == "fp16" else 4
    tables = _rotary_bytes(folder, small) if profile.settings.get("cache") == "shared" else 0
    return {
        "vision": outer * shapes.vision + used_layers(folder.config) * _GRAPH,
        "embed": outer * shapes.embedding,
        "decoder": int(_ONNX[quantization] * linears + head + small * shapes.vectors) + shapes.layers * _GRAPH + tables,
        "tokenizer": _tokenizer_bytes(folder),
        "probe": _probe_bytes(folder),
    }


def _rotary_bytes(folder: ModelFolder, width: int) -> int:
    """Cosines and sines of every position, which onnxruntime's attention over a shared cache takes as tables."""
    text = folder.config["text_config"]
    return folder.context * (text.get("head_dim") or text["hidden_size"] // text["num_attention_heads"]) * width


def _copied_experts(config: Mapping[str, Any]) -> Callable[[int, str], int]:
    """llama.cpp's only architecture for StableLM's norms has experts in every layer: dense layers are written as equal ones."""
    moe = config.get("moe") or {}
    if not moe or config["text_config"]["model_type"] != "stablelm":
        return lambda layer, kind: 1
    sparse, experts = set(moe["moe_layers_idx"]), max(moe["num_experts"])
    return lambda layer, kind: experts if kind in ("up", "down") and layer not in sparse else 1


def _tokenizer_bytes(folder: ModelFolder) -> int:
    return len(json.dumps(json.loads(folder.tokenizer().to_str()), indent=2, ensure_ascii=False).encode())


def _probe_bytes(folder: ModelFolder) -> int:
    """The reference features in 32 bits, and a drawn picture at about a byte for each pixel."""
    return 4 * folder.image.tokens * folder.config["text_config"]["hidden_size"] + folder.image.size**2


# Memory and time

_TENSOR = 3  # 32-bit copies of a tensor that packing it makes
_TRACED = 3  # 32-bit copies of what becomes a graph: torch's, the exporter's, and the file's bytes
_PACKED = 60e6  # weights per second through numpy, to disk
_TRACE = (5.0, 1.5)  # seconds to trace a graph, and for each layer in it


def _peaks(profile: Profile, shapes: Shapes, size: int, available: int) -> dict[str, int]:
    """Bytes of memory by step; the largest counts. A model that does not fit in 32 bit is compared in 16, block by block."""
    halved = shapes.projected + shapes.embedding + shapes.head + shapes.total // max(1, shapes.layers)
    reference = 4 * shapes.total
    found = {
        "write": _TENSOR * 4 * shapes.largest,
        "vision": _TRACED * 4 * shapes.projected,
        "reference": reference if reference < available else 2 * shapes.total + 4 * halved,
        "artefact": size,
    }
    if profile.target == "onnx":
        found["graphs"] = _TRACED * 4 * (shapes.total - shapes.projected)
    return found


def _seconds(profile: Profile, shapes: Shapes, tokens: int, rate: float) -> float:
    traced, layer = _TRACE
    seconds = shapes.total / _PACKED + traced
    if profile.target == "onnx":
        seconds += traced + layer * shapes.layers
    return seconds + 2 * 2 * shapes.total * tokens / rate  # the model and the artefact
