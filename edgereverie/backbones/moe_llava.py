"""MoE-LLaVA: a CLIP or SigLIP tower and a StableLM-2, Phi-2 or Qwen with experts; and whatever was upcycled to it."""

from __future__ import annotations

from edgereverie.backbones.base import Backbone
from edgereverie.chat import PHI, PHI3, PHI3_INSTRUCT, QWEN, STABLELM, VICUNA_V1

BACKBONE = Backbone(
    name="moe_llava",
    exports={
        "stablelm": ("gguf", "onnx"), "phi": ("onnx",), "qwen2": ("gguf", "onnx"), "phi3": ("gguf", "onnx"),
        "llama": ("gguf", "onnx"),
    },
    chats=(STABLELM, PHI, QWEN, PHI3, PHI3_INSTRUCT, VICUNA_V1),
    # Attention, then the feed-forward layers, experts among them: Llama-like, Phi-2's, Phi-3's fused ones.
    adapter_targets=(
        "q_proj", "k_proj", "v_proj", "o_proj", "dense", "qkv_proj",
        "gate_proj", "up_proj", "down_proj", "fc1", "fc2", "gate_up_proj",
    ),
    model_type="moe_llava",
    model="edgereverie.backbones._moe.MoeLlavaForConditionalGeneration",
)  # fmt: skip
