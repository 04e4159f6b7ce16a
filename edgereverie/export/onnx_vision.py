"""The vision tower and projector as an ONNX graph: ``pixel_values`` (batch, 3, side, side) -> ``image_features``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgereverie.errors import ExportError
from edgereverie.export.onnx_file import Graph
from edgereverie.export.onnx_layers import ACTIVATIONS, Layers, Precision, Source
from edgereverie.export.weights import PROJECTOR, VISION
from edgereverie.records import ImageSpec

if TYPE_CHECKING:
    from transformers import LlavaConfig

_TOWERS = ("clip_vision_model", "siglip_vision_model")


def check_vision(config: LlavaConfig) -> None:
    """Raise ExportError for towers that no graph here computes."""
    vision = config.vision_config
    wanted = {
        "vision_config.model_type": (vision.model_type, _TOWERS),
        "vision_config.hidden_act": (vision.hidden_act, ACTIVATIONS),
        "projector_hidden_act": (config.projector_hidden_act, ACTIVATIONS),
    }
    for key, (found, known) in wanted.items():
        if found not in known:
            raise ExportError(f"config.json: {key} is {found!r}; an ONNX graph is written for {', '.join(known)}.",
                              hint="PyTorch runs this model where it lies.")  # fmt: skip


def vision_graph(config: LlavaConfig, image: ImageSpec, source: Source, precision: Precision) -> Graph:
    """As transformers' LLaVA computes it: the chosen layers' outputs, without the first token where the config says so."""
    vision, io = config.vision_config, precision.io
    graph = Graph("vision_encoder")
    layers = Layers(graph, source, precision)
    pixels = graph.input("pixel_values", io, ["batch_size", vision.num_channels, image.size, image.size])
    chosen = config.vision_feature_layer
    chosen = [chosen] if isinstance(chosen, int) else list(chosen)
    numbers = [index if index >= 0 else vision.num_hidden_layers + 1 + index for index in chosen]
    states = [_embedded(layers, vision, pixels)]
    for index in range(max(numbers)):
        states.append(_block(layers, vision, states[-1], f"{VISION}encoder.layers.{index}."))
    seen = [states[number] for number in numbers]
    if config.vision_feature_select_strategy == "default":
        first, last, axis = (graph.constant([value]) for value in (1, np.iinfo(np.int64).max, 1))
        seen = [graph.op("Slice", state, first, last, axis) for state in seen]
    whole = seen[0] if len(seen) == 1 else graph.op("Concat", *seen, axis=-1)
    inner = layers.activate(layers.linear(whole, [f"{PROJECTOR}linear_1"]), config.projector_hidden_act)
    layers.linear(inner, [f"{PROJECTOR}linear_2"], into="image_features")
    graph.output("image_features", io, ["batch_size", image.tokens, config.text_config.hidden_size])
    return graph


def _embedded(layers: Layers, vision: Any, pixels: str) -> str:
    """Patches with their positions; CLIP's class token before them, and its norm behind."""
    graph, name, wide = layers.graph, f"{VISION}embeddings.", vision.hidden_size
    weights = [layers.stored(f"{name}patch_embedding.weight")]
    if f"{name}patch_embedding.bias" in layers.source:
        weights.append(layers.stored(f"{name}patch_embedding.bias"))
    patches = graph.op("Conv", pixels, *weights, strides=[vision.patch_size] * 2)
    x = graph.op("Transpose", graph.op("Reshape", patches, graph.constant([0, wide, -1])), perm=[0, 2, 1])
    clip = vision.model_type == "clip_vision_model"
    if clip:
        batch = graph.op("Shape", pixels, start=0, end=1)
        shape = graph.op("Concat", batch, graph.constant([1, wide]), axis=0)
        x = graph.op("Concat", graph.op("Expand", layers.stored(f"{name}class_embedding"), shape), x, axis=1)
    places = (vision.image_size // vision.patch_size) ** 2 + clip
    x = graph.op("Add", x, layers.stored(f"{name}position_embedding.weight", (1, places, wide)))
    return layers.layer_norm(x, f"{VISION}pre_layrnorm", vision.layer_norm_eps) if clip else x


def _block(layers: Layers, vision: Any, x: str, prefix: str) -> str:
    graph = layers.graph
    read = layers.layer_norm(x, f"{prefix}layer_norm1", vision.layer_norm_eps)
    x = graph.op("Add", x, _attention(layers, vision, read, f"{prefix}self_attn."))
    read = layers.layer_norm(x, f"{prefix}layer_norm2", vision.layer_norm_eps)
    inner = layers.activate(layers.linear(read, [f"{prefix}mlp.fc1"]), vision.hidden_act)
    return graph.op("Add", x, layers.linear(inner, [f"{prefix}mlp.fc2"]))


def _attention(layers: Layers, vision: Any, x: str, prefix: str) -> str:
    graph, heads = layers.graph, vision.num_attention_heads
    head = vision.hidden_size // heads
    qkv = layers.linear(x, [f"{prefix}{part}_proj" for part in "qkv"])
    apart = graph.constant([0, 0, heads, head])
    query, key, value = (
        graph.op("Reshape", part, apart) for part in graph.ops("Split", qkv, into=("",) * 3, axis=-1, num_outputs=3)
    )
    query = graph.op("Mul", query, graph.constant(head**-0.5, layers.io))
    query, value = (graph.op("Transpose", part, perm=[0, 2, 1, 3]) for part in (query, value))
    scores = graph.op("MatMul", query, graph.op("Transpose", key, perm=[0, 2, 3, 1]))
    seen = graph.op("Transpose", graph.op("MatMul", graph.op("Softmax", scores, axis=-1), value), perm=[0, 2, 1, 3])
    return layers.linear(graph.op("Reshape", seen, graph.constant([0, 0, heads * head])), [f"{prefix}out_proj"])
