"""The vision tower and projector as llama.cpp's ``mmproj`` file, for tools that bring their own picture pipeline.

All layers are written with ``feature_layer``, which is right in llama.cpp versions that drop a layer and in those that do
not; ``post_ln`` is left out, because it would be applied to features that LLaVA takes before it. Released llama.cpp
versions still feed the class token in the wrong place (ggml-org/llama.cpp#25814), so our own runtime does not use
this file: it encodes with the ONNX tower that lies beside it, and the probe tells whether an installed llama.cpp is mended.
A SigLIP tower has no class token, and the same graph evaluates it rightly.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edgereverie.errors import ExportError
from edgereverie.export.base import Progress
from edgereverie.export.gguf_file import Placed, check_complete, weight_type, write_gguf
from edgereverie.export.weights import PROJECTOR, VISION, Weights
from edgereverie.records import ImageSpec

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType, GGUFWriter

Packing = Literal["f32", "f16", "bf16", "q8_0"]

_LAYER = {
    "layer_norm1": "ln1",
    "layer_norm2": "ln2",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.out_proj": "attn_out",
    "mlp.fc1": "ffn_up",
    "mlp.fc2": "ffn_down",
}
# By the tower's type: the activations that llama.cpp has for it, and how LLaVA must take its features. llama.cpp projects
# every patch and never the class token: a CLIP's "full" and a SigLIP's "default", which drops a patch, are neither.
_TOWERS = {
    "clip_vision_model": (("quick_gelu", "gelu"), "default"),
    "siglip_vision_model": (("gelu_pytorch_tanh",), "full"),
}
_ONNX = "Export this model as ONNX."


def feature_layer(config: Mapping[str, Any]) -> int:
    """Index of the layer whose output the projector reads, counted as transformers' hidden_states are: 0 is the input.

    >>> feature_layer({"vision_feature_layer": -2, "vision_config": {"num_hidden_layers": 24}})
    23
    """
    layer, layers = int(config.get("vision_feature_layer", -2)), int(config["vision_config"]["num_hidden_layers"])
    return layer if layer >= 0 else layers + 1 + layer


def check_mmproj(config: Mapping[str, Any]) -> None:
    """Raise ExportError for towers and projectors that llama.cpp cannot evaluate exactly from an mmproj."""
    vision = config["vision_config"]
    kind = vision.get("model_type")
    activations, strategy = _TOWERS.get(kind, ((), ""))
    found = {
        "vision_config.model_type": (kind, tuple(_TOWERS)),
        "vision_config.hidden_act": (_activation(vision), activations),
        "projector_hidden_act": (config.get("projector_hidden_act", "gelu"), ("gelu",)),
        "vision_feature_select_strategy": (config.get("vision_feature_select_strategy", "default"), (strategy,)),
        "multimodal_projector_bias": (config.get("multimodal_projector_bias", True), (True,)),
    }
    for key, (value, known) in found.items():
        if value not in known:
            raise ExportError(
                f"config.json: {key} is {value!r}; a GGUF can carry {' or '.join(map(str, known))}.", hint=_ONNX
            )
    if not isinstance(config.get("vision_feature_layer", -2), int):
        raise ExportError("config.json: vision_feature_layer lists several layers; a GGUF can carry one.", hint=_ONNX)
    if vision["intermediate_size"] == vision["hidden_size"]:
        # llama.cpp tells swapped old files by the width of ffn_down's input, and would swap these.
        raise ExportError(
            "config.json: the tower's intermediate_size equals its hidden_size, which llama.cpp misreads.", hint=_ONNX
        )


def _activation(vision: Mapping[str, Any]) -> str:
    """As the config says it, or as its class's default is where it is silent."""
    activations, _ = _TOWERS.get(vision.get("model_type"), (("",), ""))
    return str(vision.get("hidden_act", activations[0]))


def write_mmproj(
    path: Path,
    config: Mapping[str, Any],
    image: ImageSpec,
    weights: Weights,
    name: str,
    progress: Progress,
    packing: Packing = "f16",
) -> None:
    """Write the mmproj: matrices as ``packing`` says, norms, biases, class and position embeddings in F32."""
    placed = _placed(config, weights, packing)
    check_complete(weights, placed, (VISION, PROJECTOR), _left_out(weights))

    def describe(writer: GGUFWriter) -> None:
        _describe(writer, config, image, weights, name, packing)

    write_gguf(path, "clip", describe, placed, weights, progress)


def _left_out(weights: Weights) -> tuple[str, ...]:
    """What LLaVA has no use for: the norm after the last layer, and SigLIP's pooling head."""
    return tuple(weights.names(f"{VISION}post_layernorm.") + weights.names(f"{VISION}head."))


def _describe(
    writer: GGUFWriter, config: Mapping[str, Any], image: ImageSpec, weights: Weights, name: str, packing: Packing
) -> None:
    from gguf import LlamaFileType

    vision = config["vision_config"]
    writer.add_type("mmproj")
    writer.add_name(name)
    writer.add_file_type(LlamaFileType.ALL_F32 if packing == "f32" else LlamaFileType[f"MOSTLY_{packing.upper()}"])
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_projector_type("mlp")
    # Neither use_gelu nor use_silu means quick-GELU, the activation of OpenAI's CLIP; use_gelu is its tanh form.
    writer.add_vision_use_gelu(_activation(vision) != "quick_gelu")
    writer.add_vision_image_size(image.size)
    writer.add_vision_patch_size(image.patch)
    writer.add_vision_embedding_length(vision["hidden_size"])
    writer.add_vision_feed_forward_length(vision["intermediate_size"])
    writer.add_vision_block_count(vision["num_hidden_layers"])
    writer.add_vision_projection_dim(weights.shape(f"{PROJECTOR}linear_2.weight")[0])
    writer.add_vision_head_count(vision["num_attention_heads"])
    eps = 1e-6 if vision["model_type"] == "siglip_vision_model" else 1e-5
    writer.add_vision_attention_layernorm_eps(vision.get("layer_norm_eps", eps))
    writer.add_vision_image_mean(list(image.mean))
    writer.add_vision_image_std(list(image.std))
    writer.add_array("clip.vision.feature_layer", [feature_layer(config)])


def _placed(config: Mapping[str, Any], weights: Weights, packing: Packing) -> list[Placed]:
    from gguf import GGMLQuantizationType as Type

    wanted, f32 = Type[packing.upper()], Type.F32
    # llama.cpp unrolls the picture into the type of the patch embedding, and can do so in F32 and F16.
    unrolled = f32 if packing == "f32" else Type.F16
    vision = config["vision_config"]
    wide, inner, patch = vision["hidden_size"], vision["intermediate_size"], vision["patch_size"]
    classed = vision["model_type"] == "clip_vision_model"
    positions = (vision["image_size"] // patch) ** 2 + classed
    text = config["text_config"]["hidden_size"]
    patches = f"{VISION}embeddings.patch_embedding"
    found = [
        Placed("v.patch_embd.weight", f"{patches}.weight", (wide, 3, patch, patch), unrolled),
        Placed("v.position_embd.weight", f"{VISION}embeddings.position_embedding.weight", (positions, wide), f32),
    ]
    if classed:
        found.append(Placed("v.class_embd", f"{VISION}embeddings.class_embedding", (wide,), f32))
        found += _pair("v.pre_ln", f"{VISION}pre_layrnorm", (wide,), wanted)
    else:
        found.append(Placed("v.patch_embd.bias", f"{patches}.bias", (wide,), f32))
    wider = {"ffn_up": (inner, wide), "ffn_down": (wide, inner)}
    for layer in range(vision["num_hidden_layers"]):
        for theirs, ours in _LAYER.items():
            shape = (wide,) if "norm" in theirs else wider.get(ours, (wide, wide))
            found += _pair(f"v.blk.{layer}.{ours}", f"{VISION}encoder.layers.{layer}.{theirs}", shape, wanted)
    found += _pair("mm.0", f"{PROJECTOR}linear_1", (text, wide), wanted)
    return found + _pair("mm.2", f"{PROJECTOR}linear_2", (text, text), wanted)


def _pair(name: str, source: str, shape: tuple[int, ...], wanted: GGMLQuantizationType) -> list[Placed]:
    """A module's weight and bias. A matrix whose rows do not fill the wanted type's blocks stays F16."""
    from gguf import GGMLQuantizationType

    return [
        Placed(f"{name}.weight", f"{source}.weight", shape, weight_type(shape, wanted, GGMLQuantizationType.F16)),
        Placed(f"{name}.bias", f"{source}.bias", shape[:1], GGMLQuantizationType.F32),
    ]
