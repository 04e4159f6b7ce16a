"""LLaVA-Phi-3: a CLIP tower and a Phi-3-mini, whose linears are fused; XTuner's has them apart, as a Llama's."""

from __future__ import annotations

from edgereverie.backbones.base import Backbone
from edgereverie.chat import PHI3, PHI3_INSTRUCT

_FUSED = ("qkv_proj", "gate_up_proj")
_APART = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")

BACKBONE = Backbone(
    name="llava_phi3",
    exports={"phi3": ("gguf", "onnx"), "llama": ("gguf", "onnx")},
    chats=(PHI3, PHI3_INSTRUCT),
    adapter_targets=(*_FUSED, *_APART, "o_proj", "down_proj"),
)
