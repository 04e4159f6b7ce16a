"""LLaVA-Interleave: a SigLIP tower, all of whose patches are seen, and a Qwen1.5; at half a billion parameters an edge model."""

from __future__ import annotations

from edgereverie.backbones.base import Backbone
from edgereverie.chat import CHATML

BACKBONE = Backbone(
    name="llava_qwen",
    exports={"qwen2": ("gguf", "onnx")},
    chats=(CHATML,),
    adapter_targets=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
)
