"""The vision tower and projector as llama.cpp's ``mmproj`` file, for tools that bring their own picture pipeline.

All layers are written with ``feature_layer``, which is right in llama.cpp versions that drop a layer and in those that do
not; ``post_ln`` is left out, because it would be applied to features that LLaVA takes before it. Released llama.cpp
versions still feed the class token in the wrong place (ggml-org/llama.cpp#25814), so our own runtime does not use
this file: it encodes with the ONNX tower that lies beside it, and the probe tells whether an installed llama.cpp is mended.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgereverie.errors import ExportError
from edgereverie.export.base import Progress
from edgereverie.export.gguf_file import Placed, check_complete, weight_type, write_gguf
from edgereverie.export.weights import PROJECTOR, VISION, Weights
from edgereverie.records import ImageSpec

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType, GGUFWriter

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
_LEFT_OUT = ("model.vision_tower.post_layernorm.weight", "model.vision_tower.post_layernorm.bias")


def feature_layer(config: Mapping[str, Any]) -> int:
    """Index of the layer whose output the projector reads, counted as transformers' hidden_states are: 0 is the input.

    >>> feature_layer({"vision_feature_layer": -2, "vision_config": {"num_hidden_layers": 24}})
    23
    """
    layer, layers = int(config["vision_feature_layer"]), int(config["vision_config"]["num_hidden_layers"])
    return layer if layer >= 0 else layers + 1 + layer


def check_mmproj(config: Mapping[str, Any]) -> None:
    """Raise ExportError for towers and projectors that the mmproj format cannot carry."""
    vision = config["vision_config"]
    found = {
        "vision_config.model_type": (vision.get("model_type"), ("clip_vision_model",)),
        "vision_config.hidden_act": (vision.get("hidden_act", "quick_gelu"), ("quick_gelu", "gelu")),
        "projector_hidden_act": (config.get("projector_hidden_act", "gelu"), ("gelu",)),
        "vision_feature_select_strategy": (config.get("vision_feature_select_strategy", "default"), ("default",)),
    }
    for key, (value, known) in found.items():
        if value not in known:
            raise ExportError(
                f"config.json: {key} is {value!r}; a GGUF can carry {' or '.join(known)}.",
                hint="Export this model as ONNX.",
            )
    if not isinstance(config["vision_feature_layer"], int):
        raise ExportError(
            "config.json: vision_feature_layer lists several layers; a GGUF can carry one.",
            hint="Export this model as ONNX.",
        )
    if vision["intermediate_size"] == vision["hidden_size"]:
        # llama.cpp tells swapped old files by the width of ffn_down's input, and would swap these.
        raise ExportError(
            "config.json: the tower's intermediate_size equals its hidden_size, which llama.cpp misreads.",
            hint="Export this model as ONNX.",
        )


def write_mmproj(
    path: Path, config: Mapping[str, Any], image: ImageSpec, weights: Weights, name: str, progress: Progress
) -> None:
    """Write the mmproj: matrices F16, norms, biases, class and position embeddings F32."""
    placed = _placed(config, weights)
    check_complete(weights, placed, (VISION, PROJECTOR), _LEFT_OUT)
    write_gguf(path, "clip", lambda writer: _describe(writer, config, image, weights, name), placed, weights, progress)


def _describe(writer: GGUFWriter, config: Mapping[str, Any], image: ImageSpec, weights: Weights, name: str) -> None:
    from gguf import LlamaFileType

    vision = config["vision_config"]
    writer.add_type("mmproj")
    writer.add_name(name)
    writer.add_file_type(LlamaFileType.MOSTLY_F16)
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_projector_type("mlp")
    # Neither use_gelu nor use_silu means quick-GELU, the activation of OpenAI's CLIP.
    writer.add_vision_use_gelu(vision.get("hidden_act", "quick_gelu") == "gelu")
    writer.add_vision_image_size(image.size)
    writer.add_vision_patch_size(image.patch)
    writer.add_vision_embedding_length(vision["hidden_size"])
    writer.add_vision_feed_forward_length(vision["intermediate_size"])
    writer.add_vision_block_count(vision["num_hidden_layers"])
    writer.add_vision_projection_dim(weights.shape("model.multi_modal_projector.linear_2.weight")[0])
    writer.add_vision_head_count(vision["num_attention_heads"])
    writer.add_vision_attention_layernorm_eps(vision.get("layer_norm_eps", 1e-5))
    writer.add_vision_image_mean(list(image.mean))
    writer.add_vision_image_std(list(image.std))
    writer.add_array("clip.vision.feature_layer", [feature_layer(config)])


def _placed(config: Mapping[str, Any], weights: Weights) -> list[Placed]:
    from gguf import GGMLQuantizationType

    f16, f32 = GGMLQuantizationType.F16, GGMLQuantizationType.F32
    vision = config["vision_config"]
    wide, inner, patch = vision["hidden_size"], vision["intermediate_size"], vision["patch_size"]
    positions = (vision["image_size"] // patch) ** 2 + 1
    text = config["text_config"]["hidden_size"]
    found = [
        Placed("v.class_embd", "model.vision_tower.embeddings.class_embedding", (wide,), f32),
        Placed(
            "v.patch_embd.weight", "model.vision_tower.embeddings.patch_embedding.weight", (wide, 3, patch, patch), f16
        ),
        Placed(
            "v.position_embd.weight", "model.vision_tower.embeddings.position_embedding.weight", (positions, wide), f32
        ),
        *_pair("v.pre_ln", "model.vision_tower.pre_layrnorm", (wide,), f16),
    ]
    for layer in range(vision["num_hidden_layers"]):
        for theirs, ours in _LAYER.items():
            shape = (
                (wide,)
                if "norm" in theirs
                else {"ffn_up": (inner, wide), "ffn_down": (wide, inner)}.get(ours, (wide, wide))
            )
            found += _pair(f"v.blk.{layer}.{ours}", f"model.vision_tower.encoder.layers.{layer}.{theirs}", shape, f16)
    for number, (ours, shape) in {"linear_1": ("mm.0", (text, wide)), "linear_2": ("mm.2", (text, text))}.items():
        bias = f"model.multi_modal_projector.{number}.bias" in weights
        found += _pair(ours, f"model.multi_modal_projector.{number}", shape, f16)[: 2 if bias else 1]
    return found


def _pair(name: str, source: str, shape: tuple[int, ...], wanted: GGMLQuantizationType) -> list[Placed]:
    """A module's weight and bias."""
    from gguf import GGMLQuantizationType

    f32 = GGMLQuantizationType.F32
    return [
        Placed(f"{name}.weight", f"{source}.weight", shape, weight_type(shape, wanted, f32)),
        Placed(f"{name}.bias", f"{source}.bias", shape[:1], f32),
    ]
