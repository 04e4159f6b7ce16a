"""What a LLaVA weighs, and the memory that tuning and running take: arithmetic on its config, without torch.

Configs are dictionaries as transformers reads them: ``text_config``, ``vision_config``, and ``moe`` where there are experts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Config = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear of one of the language model's layers, by the last part of its name."""

    name: str
    inputs: int
    outputs: int
    bias: bool = False

    @property
    def weights(self) -> int:
        return self.inputs * self.outputs


@dataclass(frozen=True, slots=True)
class Parameters:
    """Counts. linears: weights of the language model's layers, experts included, which 4-bit quantization packs.

    gates: of experts, in 32 bits. embedding, head: the vocabulary matrices; a tied head is 0. small: the language model's
    norms and biases. active: how many of all one token passes, the embedding's row aside.
    """

    linears: int
    gates: int
    embedding: int
    head: int
    small: int
    tower: int
    projector: int
    idle: int

    @property
    def total(self) -> int:
        return self.language_model + self.tower + self.projector

    @property
    def language_model(self) -> int:
        return self.linears + self.gates + self.embedding + self.head + self.small

    @property
    def active(self) -> int:
        return self.total - self.idle


def attention_linears(text: Config) -> tuple[Linear, ...]:
    """A layer's attention, as transformers builds it for this ``model_type``."""
    kind, hidden = text["model_type"], text["hidden_size"]
    heads = text["num_attention_heads"]
    head = text.get("head_dim") or hidden // heads
    inner, cached = heads * head, (text.get("num_key_value_heads") or heads) * head
    if kind == "phi3":
        return Linear("qkv_proj", hidden, inner + 2 * cached), Linear("o_proj", inner, hidden)
    bias = kind in ("phi", "qwen2") or bool(text.get("use_qkv_bias"))
    return (
        Linear("q_proj", hidden, inner, bias),
        Linear("k_proj", hidden, cached, bias),
        Linear("v_proj", hidden, cached, bias),
        Linear("dense" if kind == "phi" else "o_proj", inner, hidden, kind == "phi"),
    )


def feed_forward_linears(text: Config) -> tuple[Linear, ...]:
    """A layer's feed-forward part, or one expert."""
    hidden, inner = text["hidden_size"], text["intermediate_size"]
    if text["model_type"] == "phi":
        return Linear("fc1", hidden, inner, True), Linear("fc2", inner, hidden, True)
    if text["model_type"] == "phi3":
        return Linear("gate_up_proj", hidden, 2 * inner), Linear("down_proj", inner, hidden)
    return Linear("gate_proj", hidden, inner), Linear("up_proj", hidden, inner), Linear("down_proj", inner, hidden)


def _experts(config: Config) -> list[int]:
    """How many feed-forward parts each layer has."""
    moe = config.get("moe") or {"moe_layers_idx": [], "num_experts": []}
    chosen = dict(zip(moe["moe_layers_idx"], moe["num_experts"], strict=True))
    return [chosen.get(layer, 1) for layer in range(config["text_config"]["num_hidden_layers"])]


def parameters(config: Config) -> Parameters:
    """Count a LLaVA's parameters from its config."""
    text, tower = config["text_config"], config["vision_config"]
    hidden, layers, rows = text["hidden_size"], text["num_hidden_layers"], text["vocab_size"]
    attention, feed_forward = attention_linears(text), feed_forward_linears(text)
    experts = _experts(config)
    biases = layers * _biases(attention) + sum(experts) * _biases(feed_forward)
    # Phi-2 has one norm for attention and feed-forward part alike; LayerNorms have biases, RMS norms do not.
    norms = layers * (1 if text["model_type"] == "phi" else 2) + 1
    norm = hidden * (2 if text["model_type"] in ("phi", "stablelm") else 1)
    tied = text.get("tie_word_embeddings") or config.get("tie_word_embeddings")
    one = sum(linear.weights for linear in feed_forward) + _biases(feed_forward)
    used = (config.get("moe") or {}).get("top_k_experts", 1)
    return Parameters(
        linears=layers * sum(linear.weights for linear in attention)
        + sum(experts) * sum(linear.weights for linear in feed_forward),
        gates=hidden * sum(count for count in experts if count > 1),
        embedding=rows * hidden,
        head=0 if tied else rows * hidden,
        small=norms * norm + biases + (rows if config.get("lm_head_bias") else 0),
        tower=_tower(tower),
        projector=(tower["hidden_size"] + 1) * hidden + (hidden + 1) * hidden,
        idle=sum(max(0, count - used) for count in experts) * one,
    )


def _biases(linears: tuple[Linear, ...]) -> int:
    return sum(linear.outputs for linear in linears if linear.bias)


def _tower(vision: Config) -> int:
    """A CLIP or SigLIP tower: patches and positions, blocks of attention and two linears with biases, norms around them."""
    width, inner = vision["hidden_size"], vision["intermediate_size"]
    patches = (vision["image_size"] // vision["patch_size"]) ** 2
    feed_forward = 2 * width * inner + inner + width
    attention = 4 * (width + 1) * width
    blocks = vision["num_hidden_layers"] * (attention + feed_forward + 2 * 2 * width)
    pixels = 3 * vision["patch_size"] ** 2 * width
    if vision["model_type"] == "clip_vision_model":  # a class token with a place of its own, norms before and after
        return blocks + pixels + (patches + 2) * width + 2 * 2 * width
    pooling = width + attention + 2 * width + feed_forward if vision.get("vision_use_head", True) else 0
    return blocks + pixels + width + patches * width + 2 * width + pooling


# What it takes

RANK = 128  # of the adapter, as recipes have it unless they say otherwise
WORDS = 256  # tokens of a conversation beside the picture's; half of them are learned


def nf4_bytes(config: Config) -> int:
    """The frozen model in bytes, the language model's linears as NF4 with double quantization.

    Per 4-bit weight half a byte, 1 byte per 64 of them for the scale, 4 bytes per 16,384 for the scales' scale. All else
    has 2 bytes (bf16), gates of experts 4.
    """
    counts = parameters(config)
    packed = counts.linears // 2 + counts.linears // 64 + 4 * (counts.linears // 16384)
    return packed + 2 * (counts.total - counts.linears - counts.gates) + 4 * counts.gates


def adapter_parameters(config: Config, targets: tuple[str, ...], rank: int) -> int:
    """LoRA on every linear of the language model that ``targets`` names, each expert's too: rank x (inputs + outputs)."""
    text, experts = config["text_config"], _experts(config)
    copies = [(linear, len(experts)) for linear in attention_linears(text)]
    copies += [(linear, sum(experts)) for linear in feed_forward_linears(text)]
    return sum(rank * (one.inputs + one.outputs) * count for one, count in copies if one.name in targets)


def tuning_bytes(config: Config, targets: tuple[str, ...]) -> int:
    """Memory of QLoRA on the language model, in bytes: one conversation with a picture at a time, gradient checkpointing.

    An estimate by addition of what must be there at once; CUDA itself takes about half a GB more.

    - The frozen model (``nf4_bytes``), and its largest linear unpacked to 16 bits.
    - The adapter of rank 128: 4 bytes for a value, 4 for its gradient, 2 for 8-bit Adam's two moments.
    - For the backward pass each layer's input in 16 bits, and in the layer that is recomputed each linear's input and
      output in 16 bits and, for the adapter, in 32. Over the learned tokens the logits in 16 bits and twice in 32.
    """
    text, vision = config["text_config"], config["vision_config"]
    attention, feed_forward = attention_linears(text), feed_forward_linears(text)
    unpacked = 2 * max(linear.weights for linear in attention + feed_forward)
    adapter = (4 + 4 + 2) * adapter_parameters(config, targets, RANK)
    used = (config.get("moe") or {}).get("top_k_experts", 1)
    recomputed = _states(attention) + used * _states(feed_forward)
    tokens = (vision["image_size"] // vision["patch_size"]) ** 2 + WORDS
    kept = tokens * (2 * text["num_hidden_layers"] * text["hidden_size"] + (2 + 4) * recomputed)
    logits = WORDS // 2 * text["vocab_size"] * (2 + 4 + 4)
    return nf4_bytes(config) + unpacked + adapter + kept + logits


def _states(linears: tuple[Linear, ...]) -> int:
    return sum(linear.inputs + linear.outputs for linear in linears)


def running_bytes(config: Config, exports: tuple[str, ...]) -> dict[str, int]:
    """Memory to answer, in bytes, by quantization: weights and a full context's cache, up to 4,096 tokens.

    GGUF where there is one: the language model in the file's types (``gguf_bytes``), a 16-bit cache, and the vision tower
    in onnxruntime in 32 bits. Else ONNX: blocks of 32 with a 32-bit scale, a 32-bit cache, embedding and tower widened to
    32 bits at load but for fp16. Else PyTorch, in bf16.
    """
    text, counts = config["text_config"], parameters(config)
    heads = text["num_attention_heads"]
    head = text.get("head_dim") or text["hidden_size"] // heads
    cached = 2 * text["num_hidden_layers"] * (text.get("num_key_value_heads") or heads) * head
    cached *= min(4096, text["max_position_embeddings"])
    vision = counts.tower + counts.projector
    if "gguf" in exports:
        files = {name: gguf_bytes(text, name, config.get("moe")) for name in ("F16", "Q8_0", "Q4_K_M")}
        return {name: size + 4 * vision + 2 * cached for name, size in files.items()}
    if "onnx" in exports:
        head = counts.embedding  # a tied one is written too: embedding and decoder are files of their own
        wide, small = 4 * (vision + counts.embedding + cached), 4 * counts.small
        eight = 9 * (counts.linears + head) // 8
        four = (5 * counts.linears + 9 * head) // 8
        half = 2 * (counts.linears + head + counts.embedding + vision) + 4 * cached
        return {"fp16": half + small, "int8": eight + wide + small, "int4": four + wide + small}
    return {"bf16": 2 * (counts.total - counts.gates + cached) + 4 * counts.gates}


_Q4_K, _Q6_K, _Q8_0 = 144 / 256, 210 / 256, 34 / 32  # bytes per weight


def gguf_bytes(text: Config, quantization: str, moe: Config | None = None) -> int:
    """The tensors of a language model as GGUF: F16, Q8_0 or llama.cpp's Q4_K_M. In that one the head has 6 bits, and so have
    values (or what they are fused with) and ``ffn_down`` in half of the layers: the first and last eighth and every third
    between (llama-quant.cpp, use_more_bits). Files have a vocabulary besides, some 0.8 MB for Phi-3's.

    With experts as export writes them: a head even where it is tied, a shared expert of zeros 256 wide, and for StableLM
    every layer with as many experts as the others.
    """
    layers, hidden = text["num_hidden_layers"], text["hidden_size"]
    rows = text["vocab_size"] * hidden
    head = 0 if text.get("tie_word_embeddings") and not moe else rows
    counts = _experts({"text_config": text, "moe": moe})
    if moe and text["model_type"] == "stablelm":
        counts = [max(counts)] * layers
    sparse = sum(count > 1 for count in counts)
    linears = [(linear, [1] * layers) for linear in attention_linears(text)]
    linears += [(linear, counts) for linear in feed_forward_linears(text)]
    shared = 0 if text["model_type"] == "stablelm" else 3 * 256 * hidden * sparse
    norms = 4 * hidden * (2 * layers + 1) * (2 if text["model_type"] == "stablelm" else 1)
    small = norms + 4 * layers * _biases(attention_linears(text)) + 4 * hidden * sum(c for c in counts if c > 1)
    if quantization != "Q4_K_M":
        weights = sum(linear.weights * sum(per_layer) for linear, per_layer in linears)
        return int((weights + shared + rows + head) * {"F16": 2, "Q8_0": _Q8_0}[quantization]) + small
    eighth = layers // 8
    more = [i < eighth or i >= 7 * layers // 8 or (i - eighth) % 3 == 2 for i in range(layers)]
    size = (shared + rows) * _Q4_K + head * _Q6_K
    for linear, per_layer in linears:
        mixed = linear.name in ("qkv_proj", "v_proj", "down_proj")
        size += sum(
            linear.weights * count * (_Q6_K if mixed and six else _Q4_K)
            for count, six in zip(per_layer, more, strict=True)
        )
    return int(size) + small
