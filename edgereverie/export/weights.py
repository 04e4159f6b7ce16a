"""The weights of a model folder, whatever its layout, one tensor at a time.

Names are those of the module tree in memory (``model.language_model.layers.0...``, ``lm_head.weight``). Memory stays near
the largest tensor: files are mapped, and nothing that was read is kept.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from edgereverie.backbones.base import ModelFolder
from edgereverie.errors import ExportError

if TYPE_CHECKING:
    import torch

    from edgereverie.backbones._checkpoint import Stored

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

    def tensor(self, name: str) -> torch.Tensor:
        """The tensor in the type that it is stored in, mapped where the file allows it."""
        return self._find(name).read()

    def array(self, name: str) -> np.ndarray:
        """The tensor as float32. Raises ExportError when it holds NaN or infinity."""
        values: np.ndarray = self.tensor(name).float().numpy()
        self.require_finite(name, values)
        return values

    def require_finite(self, name: str, values: np.ndarray) -> None:
        """Raise ExportError that names the weight and its file, unless all of ``values`` are finite."""
        if not np.isfinite(values).all():
            raise ExportError(
                f"{self._find(name).file}: the weight {name} holds NaN or infinity.",
                hint="The training diverged; merge an earlier checkpoint.",
            )

    def changed(self, changes: Mapping[str, Callable[[torch.Tensor], torch.Tensor]]) -> Weights:
        """The same weights, some of them changed whenever they are read. A change keeps its tensor's shape.

        For architectures that carry an equal model with other numbers in it: whoever writes the vision tower and the
        projector is handed these, and need not know why.
        """
        other = copy.copy(self)
        other._stored = dict(self._stored)
        for name, change in changes.items():
            if name in self._stored:
                stored = self._stored[name]
                other._stored[name] = stored.reshaped(stored.shape, change)
        return other

    def _find(self, name: str) -> Stored:
        if name not in self._stored:
            raise ExportError(
                f"{self.path}: the weights lack {name}.",
                hint="config.json and the weights must be of the same model.",
            )
        return self._stored[name]
