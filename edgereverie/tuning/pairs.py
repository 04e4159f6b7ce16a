"""Preference pairs as training examples: two conversations with one prompt, of which the answers alone are learned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from edgereverie.backbones.base import ModelFolder
from edgereverie.errors import DataError
from edgereverie.records import PreferencePair, Sample, Turn
from edgereverie.tuning.batch import Collate, Example, encode_sample, last_run
from edgereverie.tuning.losses import sequence_log_probs
from edgereverie.tuning.preference import Answers


@dataclass(frozen=True, slots=True)
class Pair:
    """chosen and rejected: the whole conversations. index: the pair's number in its data set.

    reference: what was kept of the reference, the two answers' log-probabilities first. epoch: of this look at it.
    """

    index: int
    chosen: Example
    rejected: Example
    reference: tuple[float, ...] | None = None
    epoch: int = 0

    @property
    def id(self) -> str:
        return self.chosen.id


class Pairs(torch.utils.data.Dataset):
    """All pairs, encoded. Too long ones are an error that lists them: cutting them would cut image tokens or answers."""

    def __init__(
        self, pairs: Iterable[PreferencePair], folder: ModelFolder, images: Path | None, *, max_length: int
    ) -> None:
        tokenizer = folder.tokenizer()
        self.epoch = 0
        self.pairs: list[Pair] = []
        for index, pair in enumerate(pairs):
            if pair.rejected_image is not None and pair.rejected_image != pair.image:
                raise DataError(
                    f"Pair {pair.id!r} has another picture for the rejected answer ({pair.rejected_image!r}).",
                    hint="Preference methods here compare two answers about one picture; take such pairs out.",
                )
            sides = [
                _answered(
                    encode_sample(
                        Sample(pair.id, pair.image, (*pair.turns, Turn("assistant", text))),
                        folder, tokenizer, images, response=1.0, rationale=1.0,
                    )
                )
                for text in (pair.chosen, pair.rejected)
            ]  # fmt: skip
            self.pairs.append(Pair(index, *sides))
        long = [pair for pair in self.pairs if max(len(pair.chosen), len(pair.rejected)) > max_length]
        if long:
            told = (f"{pair.id} ({max(len(pair.chosen), len(pair.rejected))} tokens)" for pair in long[:5])
            raise DataError(
                f"{len(long)} of {len(self.pairs)} pairs are longer than {max_length} tokens: {', '.join(told)}.",
                hint="Raise train.max_length, or take these pairs out.",
            )

    def keep(self, reference: np.ndarray) -> None:
        """Give every pair what was kept of the reference: (pairs, figures), chosen and rejected first."""
        told = zip(self.pairs, reference.tolist(), strict=True)
        self.pairs = [replace(pair, reference=tuple(values)) for pair, values in told]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Pair:
        return replace(self.pairs[index], epoch=self.epoch)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def groups(self) -> list[list[int]]:
        """Indices of the pairs about each picture; one without a picture stands alone."""
        found: dict[Path | int, list[int]] = {}
        for pair in self.pairs:
            found.setdefault(pair.chosen.image or pair.index, []).append(pair.index)
        return list(found.values())

    def lengths(self) -> list[int]:
        """What batches are grouped by: a pair's own tokens, its prompt once."""
        return [len(pair.chosen) + int(pair.rejected.learned.sum()) for pair in self.pairs]


def _answered(example: Example) -> Example:
    """The last assistant turn alone is learned: those before it belong to the prompt."""
    learned = np.zeros_like(example.learned)
    learned[last_run(example.learned)] = True
    return replace(example, learned=learned, weights=learned.astype(np.float32))


@dataclass(frozen=True, slots=True)
class CollatePairs:
    """Pairs -> one batch of conversations, chosen and rejected by turns; ``pair``: (pairs,) int64, their numbers; and
    ``reference``: (pairs, figures) float32, where that was kept.
    """

    collate: Collate

    def __call__(self, pairs: Sequence[Pair]) -> dict[str, torch.Tensor]:
        batch = self.collate([side for pair in pairs for side in (pair.chosen, pair.rejected)])
        batch["pair"] = torch.tensor([pair.index for pair in pairs])
        if kept := [pair.reference for pair in pairs if pair.reference is not None]:
            batch["reference"] = torch.tensor(kept)
        return batch


def answers(log_probs: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> Answers:
    """Each pair's two log-probabilities, from those of the batch's targets."""
    sequences = 2 * len(batch["pair"])
    summed = sequence_log_probs(log_probs, batch, sequences)
    tokens = torch.bincount(batch["sequence"], minlength=sequences)
    return Answers(summed[::2], summed[1::2], tokens[::2], tokens[1::2])
