"""The starter's tower and projector learn to see: each image token comes to mean the words for what stands there.

Big sisters get a tower that CLIP trained on millions of captions, and a projector that was aligned on half a million more.
The starter's are taught in minutes on drawn scenes: the projected patch shall be the sum of the language model's own input
embeddings of shape, colour, size and place (or of "no" and the place). Image tokens then speak the language model's
language, one that looks a name up finds it by likeness, for all names at once. Without this, models that described
scenes well still answered "is there a ...?" no better than a coin.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from edgereverie.backbones.base import ModelFolder
from edgereverie.data.scenes.world import PLACES
from edgereverie.errors import DataError
from edgereverie.image import open_image, prepare, resolve_under
from edgereverie.recipe import Recipe
from edgereverie.records import ImageSpec, Sample
from edgereverie.tuning.losses import base_of

TRUTH = "scenes.jsonl"
_EMPTY = "no"
_MOST_WORDS = 5  # shape, colour, size and two words of the place


def place_words(place: int) -> list[str]:
    """>>> place_words(0), place_words(4)
    (['top', 'left'], ['centre'])
    """
    return [word for word in PLACES[place].split() if word not in ("at", "in", "the")]


class Places(Dataset):
    """(image path, (9, 5) int64): the ids of the words for what stands at each place, padded with -1."""

    def __init__(self, truth: Path, images: Path, tokenizer: Any) -> None:
        try:
            lines = truth.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            raise DataError(
                f"{truth}: no such file.", hint="The method 'sight' learns from drawn scenes: set data.scenes."
            ) from None
        self.rows = []
        for line in map(json.loads, lines):
            things = {thing["place"]: [thing["shape"], thing["colour"], thing["size"]] for thing in line["things"]}
            words = np.full((9, _MOST_WORDS), -1, dtype=np.int64)
            for place in range(9):
                ids = [_word_id(tokenizer, word) for word in things.get(place, [_EMPTY]) + place_words(place)]
                words[place, : len(ids)] = ids
            self.rows.append((resolve_under(images, line["image"]), words))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Path, np.ndarray]:
        return self.rows[index]

    def lengths(self) -> list[int]:
        return [1] * len(self.rows)


def _word_id(tokenizer: Any, word: str) -> int:
    found = tokenizer.token_to_id("\N{LOWER ONE EIGHTH BLOCK}" + word)
    if found is None:
        raise DataError(
            f"The tokenizer has no token of its own for {word!r}.", hint="The method 'sight' is made for the starter."
        )
    return found


@dataclass(frozen=True, slots=True)
class CollatePlaces:
    spec: ImageSpec

    def __call__(self, rows: Sequence[tuple[Path, np.ndarray]]) -> dict[str, Tensor]:
        pixels = np.stack([prepare(open_image(path), self.spec) for path, _ in rows])
        return {
            "pixel_values": torch.from_numpy(pixels),
            "labels": torch.from_numpy(np.stack([words for _, words in rows])),
        }


def place_of_patch(side: int) -> Tensor:
    """The place, 0 to 8, in which each patch lies, for a grid of ``side`` x ``side`` patches: (side²,) int64."""
    row = torch.arange(side) // (side // 3)
    return (3 * row[:, None] + row[None, :]).flatten()


class Sight:
    name = "sight"

    def dataset(self, samples: Sequence[Sample], folder: ModelFolder, images: Path | None, recipe: Recipe) -> Places:
        if images is None or folder.image.size // folder.image.patch % 3:
            raise DataError("The method 'sight' needs drawn scenes and a tower whose patches divide into three rows.")
        return Places(images.parent / TRUTH, images, folder.tokenizer())

    def collate(self, folder: ModelFolder) -> Callable[..., dict[str, Tensor]]:
        return CollatePlaces(folder.image)

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor], labels: Tensor | int) -> Tensor:
        """Squared distance of each projected patch to the sum of its words' embeddings, relative to that sum's square."""
        inner = base_of(model)
        hidden = inner.model.vision_tower(batch["pixel_values"], output_hidden_states=True)
        features = hidden.hidden_states[inner.config.vision_feature_layer][:, 1:]
        words = batch["labels"][:, place_of_patch(int(features.shape[1] ** 0.5))]
        embedded = inner.get_input_embeddings().weight[words.clamp(min=0)] * (words >= 0)[..., None]
        wanted = embedded.sum(dim=2).float()
        projected = inner.model.multi_modal_projector(features).float()
        return ((projected - wanted).square().sum(-1) / wanted.square().sum(-1)).mean()


METHOD = Sight()
