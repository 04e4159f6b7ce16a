"""Records become tensors. The shapes are written here once:

input_ids, labels   (rows, tokens)  int64; padded on the right
weights             (rows, tokens)  float32; what each label counts in the loss
pixel_values        (images, 3, side, side)  float32; one for each row with a picture, in row order
branch, position    (rows, tokens)  int64; only where a row holds several conversations

Conversations about one picture that come one after the other share a row: the picture with what stands before it once, as
branch 0, then each conversation's own tokens as branch 1, 2, ... A token sees branch 0 and its own branch up to itself, and is
positioned as if it stood there alone, so losses and gradients are those of separate rows, for a fraction of the tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
    """One conversation as ids. labels[i] is ids[i] where it is learned, else IGNORE; weights are 0 there.

    shared: how many tokens, up to the picture's last, other conversations about the picture begin with too; 0 without one.
    """

    id: str
    ids: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    image: Path | None
    shared: int

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
    pictured = np.flatnonzero(tokens == tokenizer.token_to_id(folder.chat.image_token)) if path else ()
    shared = int(pictured[-1]) + 1 if len(pictured) else 0
    return Example(sample.id, tokens, np.where(learned, tokens, IGNORE), weights, path, shared)


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
        self.picture = folder.image.tokens
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

    def groups(self) -> list[list[int]]:
        """Indices of the examples about each picture; one without a picture stands alone."""
        found: dict[Path | int, list[int]] = {}
        for index, example in enumerate(self.examples):
            found.setdefault(example.image or index, []).append(index)
        return list(found.values())

    def lengths(self) -> list[int]:
        """What batches are grouped by. One without a picture counts as if it had one, so that batches hold both kinds."""
        return [len(example) + (0 if example.image else self.picture) for example in self.examples]


def share_rows(examples: Sequence[Example], longest: int) -> list[list[Example]]:
    """Neighbours about one picture that begin alike, as long as their row stays within ``longest`` tokens."""
    rows: list[list[Example]] = []
    size = 0
    for example in examples:
        own = len(example) - example.shared
        first = rows[-1][0] if rows else None
        if (
            first is not None
            and example.image is not None
            and first.image == example.image
            and size + own <= longest
            and np.array_equal(first.ids[: first.shared], example.ids[: example.shared])
        ):
            rows[-1].append(example)
            size += own
        else:
            rows.append([example])
            size = len(example)
    return rows


@dataclass(frozen=True, slots=True)
class Collate:
    """Examples -> one batch. Pictures are opened here, so that data-loader workers share that work.

    longest: tokens that a row of several conversations may have.
    """

    spec: ImageSpec
    pad: int
    longest: int

    def __call__(self, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
        rows = share_rows(examples, self.longest)
        tokens = max(row[0].shared + sum(len(example) - example.shared for example in row) for row in rows)
        shape = (len(rows), tokens)
        batch = {
            "input_ids": torch.full(shape, self.pad),
            "labels": torch.full(shape, IGNORE),
            "weights": torch.zeros(shape),
        }
        if len(rows) < len(examples):
            batch |= {
                "branch": torch.zeros(shape, dtype=torch.long),
                "position": torch.arange(tokens).repeat(len(rows), 1),
            }
        for index, row in enumerate(rows):
            _fill({key: value[index] for key, value in batch.items()}, row)
        pictures = [prepare(open_image(row[0].image), self.spec) for row in rows if row[0].image is not None]
        if pictures:
            batch["pixel_values"] = torch.from_numpy(np.stack(pictures))
        return batch


def _fill(row: Mapping[str, torch.Tensor], examples: Sequence[Example]) -> None:
    """Write the conversations into one row of each tensor, what they share once."""
    start = 0
    for number, example in enumerate(examples, start=1):
        begin = example.shared if start else 0
        stop = start + len(example) - begin
        for key, values in (("input_ids", example.ids), ("labels", example.labels), ("weights", example.weights)):
            row[key][start:stop] = torch.from_numpy(values[begin:])
        if "branch" in row and len(examples) > 1:
            row["branch"][max(start, example.shared) : stop] = number
            row["position"][start:stop] = torch.arange(begin, len(example))
        start = stop
