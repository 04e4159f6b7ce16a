"""The weights of a model folder, whatever its layout, one tensor at a time as numpy arrays.

Names are those of the module tree in memory (``model.language_model.layers.0...``, ``lm_head.weight``). Memory stays near
the largest tensor: files are mapped, and nothing that was read is kept.
"""

from __future__ import annotations

import numpy as np

from edgereverie.backbones.base import ModelFolder
from edgereverie.errors import ExportError

TEXT, VISION, PROJECTOR = "model.language_model.", "model.vision_tower.", "model.multi_modal_projector."


class Weights:
    """All tensors of a folder. Raises BackboneError where config and weights disagree, before any value is read."""

    def __init__(self, folder: ModelFolder) -> None:
        self.path = folder.path
        self._stored = folder.tensors()

    def __contains__(self, name: str) -> bool:
        return name in self._stored

    def names(self, prefix: str = "") -> list[str]:
        return sorted(name for name in self._stored if name.startswith(prefix))

    def shape(self, name: str) -> tuple[int, ...]:
        return self._find(name).shape

    def array(self, name: str) -> np.ndarray:
        """The tensor as float32. Raises ExportError when it holds NaN or infinity."""
        values: np.ndarray = self._find(name).read().float().numpy()
        if not np.isfinite(values).all():
            raise ExportError(
                f"{self._find(name).file}: the weight {name} holds NaN or infinity.",
                hint="The training diverged; merge an earlier checkpoint.",
            )
        return values

    def _find(self, name: str):
        if name not in self._stored:
            raise ExportError(
                f"{self.path}: the weights lack {name}.",
                hint="config.json and the weights must be of the same model.",
            )
        return self._stored[name]
