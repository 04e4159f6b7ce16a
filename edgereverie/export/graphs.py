"""The vision tower: as a torch module, for reference features, and as the ONNX file that every bundle carries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgereverie.backbones.base import ModelFolder
from edgereverie.errors import ExportError
from edgereverie.export.onnx_layers import Precision
from edgereverie.export.onnx_vision import vision_graph
from edgereverie.export.weights import PROJECTOR, VISION, Weights
from edgereverie.records import ImageSpec

if TYPE_CHECKING:
    from torch import nn


def load_vision(folder: ModelFolder, weights: Weights) -> nn.Module:
    """Vision tower and projector alone, float32, as one module from pixel values to features; no language model is loaded."""
    import torch
    from torch import nn
    from transformers import AutoModel, LlavaConfig
    from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

    config = LlavaConfig.from_dict(dict(folder.config))

    class VisionEncoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.config = config
            self.vision = AutoModel.from_config(config.vision_config)
            self.projector = LlavaMultiModalProjector(config)

        def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
            states = self.vision(pixel_values, output_hidden_states=True).hidden_states
            layers = config.vision_feature_layer
            layers = [layers] if isinstance(layers, int) else layers
            first = 1 if config.vision_feature_select_strategy == "default" else 0
            return self.projector(torch.cat([states[layer][:, first:] for layer in layers], dim=-1))

    with torch.device("meta"):
        module = VisionEncoder()
    parameters = dict(module.named_parameters())
    for name in parameters:
        stable = _stable(name)
        owner = module.get_submodule(name.rpartition(".")[0])
        values = torch.from_numpy(weights.array(stable))
        if values.shape != parameters[name].shape:
            found, expected = tuple(values.shape), tuple(parameters[name].shape)
            raise ExportError(
                f"{weights.path}: {stable} has shape {found}, config.json says {expected}.",
                hint="Take config.json and the weights from the same model.",
            )
        setattr(owner, name.rpartition(".")[2], nn.Parameter(values, requires_grad=False))
    for name, buffer in list(module.named_buffers()):
        # The only buffers are position counters.
        owner = module.get_submodule(name.rpartition(".")[0])
        setattr(owner, name.rpartition(".")[2], torch.arange(buffer.numel(), dtype=buffer.dtype).reshape(buffer.shape))
    return module.eval()


def vision_features(encoder: nn.Module, pixels: np.ndarray) -> np.ndarray:
    """Features (image tokens, width) of one prepared picture (3, size, size), by torch."""
    import torch

    with torch.no_grad():
        return encoder(torch.from_numpy(pixels)[None])[0].numpy()


def write_vision(encoder: nn.Module, image: ImageSpec, path: Path) -> None:
    """``pixel_values`` (batch, 3, size, size) -> ``image_features`` (batch, image tokens, width), in float32."""
    vision_graph(encoder.config, image, _InMemory(encoder), Precision()).save(path)


class _InMemory:
    """A loaded encoder's weights, by stable name."""

    def __init__(self, encoder: nn.Module) -> None:
        self._parameters = {_stable(name): value for name, value in encoder.named_parameters()}

    def __contains__(self, name: str) -> bool:
        return name in self._parameters

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._parameters[name].shape)

    def array(self, name: str) -> np.ndarray:
        return self._parameters[name].detach().numpy()


def _stable(name: str) -> str:
    """``vision.encoder...`` of the module -> ``model.vision_tower.encoder...``."""
    part, _, rest = name.partition(".")
    return {"vision": VISION, "projector": PROJECTOR}[part] + rest
