"""Records become tensors. The shapes are written here once:

input_ids, labels   (batch, tokens)  int64; padded on the right
weights             (batch, tokens)  float32; what each label counts in the loss
pixel_values        (images, 3, side, side)  float32; one for each row with a picture, in row order
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgereverie.backbones.base import ModelFolder
from edgereverie.chat import encode
from edgereverie.errors import DataError
from edgereverie.image import open_image, prepare, resolve_under
from edgereverie.records import ImageSpec, Sample

IGNORE = -100  # a label that the loss does not see: prompt, image and padding


@dataclass(frozen=True, slots=True)
class Example:
    """One conversation as ids. labels[i] is ids[i] where it is learned, else IGNORE; weights are 0 there."""

    id: str
    ids: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    image: Path | None

    def __len__(self) -> int:
        return len(self.ids)


def encode_sample(
    sample: Sample, folder: ModelFolder, tokenizer: Any, images: Path | None, *, response: float, rationale: float
) -> Example:
    """The sample's ids and labels. response, rationale: loss weights of the two kinds of assistant turns.

    The last assistant turn of a sample that has a rationale is the rationale, all others are responses.
    """
    try:
        ids, learn = encode(
            tokenizer,
            folder.chat,
            sample.turns,
            image_tokens=folder.image.tokens if sample.image else 0,
            image_id=folder.config.get("image_token_index"),
        )
        path = resolve_under(images, sample.image) if sample.image and images else None
    except DataError as error:
        raise DataError(f"Sample {sample.id!r}: {error}", hint=error.hint) from None
    if sample.image and path is None:
        raise DataError(
            f"Sample {sample.id!r} has an image, but no image root is given.", hint="Set data.images in the recipe."
        )
    tokens, learned = np.array(ids, dtype=np.int64), np.array(learn)
    weights = np.where(learned, np.float32(response), np.float32(0))
    if sample.rationale is not None:
        weights[_last_run(learned)] = rationale
    return Example(sample.id, tokens, np.where(learned, tokens, IGNORE), weights, path)


def _last_run(learned: np.ndarray) -> slice:
    """The last unbroken run of True, which is the last assistant turn (turns never touch: control tokens part them)."""
    ends = np.flatnonzero(learned)
    stop = int(ends[-1]) + 1
    gaps = np.flatnonzero(~learned[:stop])
    return slice(int(gaps[-1]) + 1 if len(gaps) else 0, stop)


class Conversations(torch.utils.data.Dataset):
    """All samples, encoded. Too long ones are an error that lists them: cutting them would cut image tokens or answers."""

    def __init__(
        self,
        samples: Iterable[Sample],
        folder: ModelFolder,
        images: Path | None,
        *,
        max_length: int,
        response: float = 1.0,
        rationale: float = 1.0,
    ) -> None:
        tokenizer = folder.tokenizer()
        self.examples = [
            encode_sample(sample, folder, tokenizer, images, response=response, rationale=rationale)
            for sample in samples
        ]
        long = [example for example in self.examples if len(example) > max_length]
        if long:
            shown = ", ".join(f"{example.id} ({len(example)} tokens)" for example in long[:5])
            raise DataError(
                f"{len(long)} of {len(self.examples)} samples are longer than {max_length} tokens: {shown}.",
                hint="Raise train.max_length, or take these samples out.",
            )

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Example:
        return self.examples[index]

    def lengths(self) -> list[int]:
        return [len(example) for example in self.examples]


@dataclass(frozen=True, slots=True)
class Collate:
    """Examples -> one batch. Pictures are opened here, so that data-loader workers share that work."""

    spec: ImageSpec
    pad: int

    def __call__(self, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
        longest = max(map(len, examples))
        shape = (len(examples), longest)
        batch = {
            "input_ids": torch.full(shape, self.pad),
            "labels": torch.full(shape, IGNORE),
            "weights": torch.zeros(shape),
        }
        for row, example in enumerate(examples):
            for key, values in (("input_ids", example.ids), ("labels", example.labels), ("weights", example.weights)):
                batch[key][row, : len(example)] = torch.from_numpy(values)
        pictures = [prepare(open_image(example.image), self.spec) for example in examples if example.image is not None]
        if pictures:
            batch["pixel_values"] = torch.from_numpy(np.stack(pictures))
        return batch
