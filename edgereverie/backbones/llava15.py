"""LLaVA-1.5: a CLIP tower and a Vicuna."""

from __future__ import annotations

from edgereverie.backbones.base import Backbone
from edgereverie.chat import VICUNA_V1

BACKBONE = Backbone(
    name="llava15",
    exports={"llama": ("gguf", "onnx")},
    chats=(VICUNA_V1,),
    adapter_targets=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
)
