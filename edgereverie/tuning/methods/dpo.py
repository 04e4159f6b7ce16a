"""Direct preference optimisation (arXiv 2305.18290) and what people expect beside it: IPO, label smoothing, an anchor.

The published systems that this project follows (POVID, CSR) train with exactly the default: the sigmoid loss on sums of
log-probabilities over the answer's tokens, beta 0.1. The reference is the model with its adapter switched off, or its
log-probabilities, computed once before the first step and kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgereverie.backbones.base import ModelFolder
from edgereverie.recipe import Recipe
from edgereverie.records import PreferencePair
from edgereverie.tuning.batch import Collate
from edgereverie.tuning.losses import auxiliary_loss, token_log_probs
from edgereverie.tuning.methods.base import Start
from edgereverie.tuning.pairs import CollatePairs, Pairs, answers
from edgereverie.tuning.preference import Answers, margin, preference_loss
from edgereverie.tuning.reference import Kept, adapter_off, fingerprint, kept_reference


class Dpo:
    name = "dpo"
    kind = "pairs"

    def dataset(
        self, records: Sequence[PreferencePair], folder: ModelFolder, images: Path | None, recipe: Recipe
    ) -> Pairs:
        return Pairs(records, folder, images, max_length=recipe.train.max_length)

    def collate(self, folder: ModelFolder, recipe: Recipe) -> Callable[..., dict[str, Tensor]]:
        pad = folder.config["text_config"]["pad_token_id"]
        return CollatePairs(Collate(folder.image, pad, recipe.train.max_length))

    def size(self, batch: Mapping[str, Tensor]) -> int:
        return len(batch["pair"])

    def attach(self, model: nn.Module) -> None:
        """Nothing: the model's own head is all that the loss needs."""

    def detach(self, model: nn.Module) -> None:
        """Nothing was attached."""

    def prepare(self, start: Start) -> None:
        """Compute what is kept of the reference, while the adapter is still without effect."""
        if start.recipe.train.preference.reference == "kept":
            settings = self.kept_settings(start.recipe)
            identity = fingerprint(start.dataset, start.folder, start.precision, settings)
            with start.bar("reference") as progress:
                found = kept_reference(
                    start.model, start.dataset, start.collate, start.out, identity,
                    start.recipe.train.batch_size, self.kept(start.recipe), progress,
                )  # fmt: skip
            start.dataset.keep(found)

    def kept(self, recipe: Recipe) -> Kept:
        """What a kept reference is, for each pair."""
        return Kept(("ref_chosen_logps", "ref_rejected_logps"), _both)

    def kept_settings(self, recipe: Recipe) -> dict[str, Any]:
        """What of the recipe kept figures depend on, beside data and model."""
        return {}

    def loss(
        self, model: nn.Module, batch: Mapping[str, Tensor], count: Tensor | int, recipe: Recipe
    ) -> tuple[Tensor, dict[str, Tensor]]:
        settings = recipe.train.preference
        policy = answers(token_log_probs(model, batch), batch)
        reference = self.reference(model, batch, policy)
        each = preference_loss(
            policy,
            reference,
            loss=settings.loss,
            beta=settings.beta,
            normalise=settings.normalise,
            smoothing=settings.smoothing,
            anchor=settings.anchor,
        )
        loss = each.sum() / count + auxiliary_loss(model) * (len(each) / count)
        return loss, rewards(policy, reference, settings.beta)

    def reference(self, model: nn.Module, batch: Mapping[str, Tensor], policy: Answers) -> Answers:
        if "reference" in batch:
            return kept_answers(policy, batch)
        with torch.no_grad(), adapter_off(model):
            return answers(token_log_probs(model, batch), batch)


def _both(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """(pairs, 2): log p of chosen and rejected answers."""
    both = answers(token_log_probs(model, batch), batch)
    return torch.stack([both.chosen, both.rejected], dim=1)


def kept_answers(policy: Answers, batch: Mapping[str, Tensor]) -> Answers:
    """The reference's answers, from what was kept of it."""
    return policy._replace(chosen=batch["reference"][:, 0], rejected=batch["reference"][:, 1])


def rewards(policy: Answers, reference: Answers, beta: float) -> dict[str, Tensor]:
    """What is watched while training, as means over the batch: both sides' rewards, and how often the right one is larger."""
    chosen, rejected = beta * (policy.chosen - reference.chosen), beta * (policy.rejected - reference.rejected)
    return {
        "reward_chosen": chosen.mean(),
        "reward_rejected": rejected.mean(),
        "reward_accuracy": (margin(policy, reference) > 0).float().mean(),
    }


METHOD = Dpo()
