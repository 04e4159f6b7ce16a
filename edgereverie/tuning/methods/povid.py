"""POVID (arXiv 2402.11411): answers made worse on purpose, and the model's own slips on a drowned picture, as dispreferred.

Stage ``text`` is DPO on answers that somebody rewrote to hallucinate. Stage ``noise`` adds a dispreference that is made while
training: at each token of the preferred answer, what the model holds most likely when it sees a noised picture.

loss ``repo``, as published in code: 0.5 DPO(chosen, own) + 0.5 DPO(chosen, rejected), where own are those tokens, read from
the noised picture and scored under the clean one; the reference has its own such tokens. loss ``paper``: one sigmoid over
alpha log-ratio(chosen) - text_beta log-ratio(rejected) - noise_beta log-ratio(own), the last under the noised picture.
The first one's reference can be kept where noise is drawn once; the second's is asked about words that change with the policy.
The two were never reconciled (github.com/YiyangZhou/POVID, thread 3); the first is what made the published checkpoints.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from edgereverie.backbones.base import ModelFolder
from edgereverie.image import open_image
from edgereverie.recipe import Povid as Settings
from edgereverie.recipe import Recipe
from edgereverie.tuning.losses import auxiliary_loss, hidden_states, log_probs_at, most_likely_at
from edgereverie.tuning.methods.dpo import Dpo, kept_answers, rewards
from edgereverie.tuning.noise import noised
from edgereverie.tuning.pairs import CollatePairs, Pair, answers
from edgereverie.tuning.preference import Answers, preference_loss
from edgereverie.tuning.reference import Kept, adapter_off


@dataclass(frozen=True, slots=True)
class CollateNoised:
    """A batch of pairs, and under ``noised`` one of their preferred answers alone, about the same pictures drowned in noise."""

    pairs: CollatePairs
    settings: Settings
    seed: int

    def __call__(self, pairs: Sequence[Pair]) -> dict[str, Any]:
        epoch = pairs[0].epoch if self.settings.redraw else 0
        alone = self.pairs.collate([pair.chosen for pair in pairs], lambda image: self._drowned(image, epoch))
        return self.pairs(pairs) | {"noised": alone}

    def _drowned(self, image: Path, epoch: int) -> Image.Image:
        """Noise depends on the picture's bytes, the seed and the epoch: not on who else is in the batch, nor on a restart."""
        digest = int.from_bytes(hashlib.sha256(image.read_bytes()).digest()[:8], "little")
        generator = np.random.default_rng([self.seed, epoch, digest])
        return noised(open_image(image), self.settings.step, generator, wrap=self.settings.wrap)


class Povid(Dpo):
    name = "povid"

    def collate(self, folder: ModelFolder, recipe: Recipe) -> Callable[..., dict[str, Any]]:
        pairs = super().collate(folder, recipe)
        if recipe.train.povid.stage == "text":
            return pairs
        return CollateNoised(pairs, recipe.train.povid, recipe.train.seed)

    def kept(self, recipe: Recipe) -> Kept:
        text = super().kept(recipe)
        return text if recipe.train.povid.stage == "text" else Kept((*text.names, "ref_own_logps"), _all_three)

    def kept_settings(self, recipe: Recipe) -> dict[str, Any]:
        if recipe.train.povid.stage == "text":
            return {}
        return recipe.train.povid.model_dump(include={"step", "wrap"}) | {"seed": recipe.train.seed}

    def loss(
        self, model: nn.Module, batch: Mapping[str, Any], count: Tensor | int, recipe: Recipe
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if "noised" not in batch:
            return super().loss(model, batch, count, recipe)
        compare = _as_published if recipe.train.povid.loss == "repo" else _as_written
        each, policy, reference = compare(model, batch, recipe)
        loss = each.sum() / count + auxiliary_loss(model) * (len(each) / count)
        return loss, rewards(policy, reference, recipe.train.preference.beta)


class _Passes:
    """What one model, policy or reference, makes of a batch and of its noised half.

    own: the tokens that it holds most likely on the noised pictures, one for each label of the preferred answers.
    """

    def __init__(self, model: nn.Module, batch: Mapping[str, Any], *, learn_noised: bool = False) -> None:
        self.model, self.batch, noised = model, batch, batch["noised"]
        self.clean = hidden_states(model, batch)
        with torch.set_grad_enabled(learn_noised and torch.is_grad_enabled()):
            self.drowned = hidden_states(model, noised)
        # Labels come in the order of the conversations, in both batches; the preferred ones have even numbers in the first.
        self.behind_drowned = noised["before"][noised["label"]]
        preferred = batch["sequence"] % 2 == 0
        self.behind_clean = batch["before"][batch["label"][preferred]]
        self.pair = batch["sequence"][preferred] // 2
        self.own = most_likely_at(model, self.drowned, self.behind_drowned)

    def answers(self, own: Tensor) -> tuple[Answers, Tensor]:
        """The pairs' answers, and log p of the tokens ``own`` summed for each pair, all on the clean pictures."""
        targets = len(self.batch["target"])
        found = log_probs_at(
            self.model,
            self.clean,
            torch.cat([self.batch["before"], self.behind_clean]),
            torch.cat([self.batch["target"], own]),
        )
        return answers(found[:targets], self.batch), self._by_pair(found[targets:])

    def answers_drowned(self, own: Tensor) -> tuple[Answers, Tensor]:
        """The pairs' answers on the clean pictures, and log p of ``own`` for each pair on the noised ones."""
        found = log_probs_at(self.model, self.clean, self.batch["before"], self.batch["target"])
        drowned = log_probs_at(self.model, self.drowned, self.behind_drowned, own)
        return answers(found, self.batch), self._by_pair(drowned)

    def _by_pair(self, log_probs: Tensor) -> Tensor:
        return log_probs.new_zeros(len(self.batch["pair"])).index_add(0, self.pair, log_probs)


def _all_three(model: nn.Module, batch: Mapping[str, Any]) -> Tensor:
    """(pairs, 3): log p of chosen and rejected answers, and of the model's own tokens, on the clean pictures."""
    passes = _Passes(model, batch)
    both, own = passes.answers(passes.own)
    return torch.stack([both.chosen, both.rejected, own], dim=1)


def _as_published(model: nn.Module, batch: Mapping[str, Any], recipe: Recipe) -> tuple[Tensor, Answers, Answers]:
    passes = _Passes(model, batch)
    policy, own = passes.answers(passes.own)
    if "reference" in batch:
        reference, reference_own = kept_answers(policy, batch), batch["reference"][:, 2]
    else:
        with torch.no_grad(), adapter_off(model):
            passes = _Passes(model, batch)
            reference, reference_own = passes.answers(passes.own)
    settings = recipe.train.preference
    chosen = {"loss": settings.loss, "beta": settings.beta, "normalise": settings.normalise}
    same = policy.chosen_tokens
    against_own = preference_loss(
        policy._replace(rejected=own, rejected_tokens=same),
        reference._replace(rejected=reference_own, rejected_tokens=same),
        **chosen,
        smoothing=settings.smoothing,
    )
    against_text = preference_loss(policy, reference, **chosen, smoothing=settings.smoothing, anchor=settings.anchor)
    return 0.5 * against_own + 0.5 * against_text, policy, reference


def _as_written(model: nn.Module, batch: Mapping[str, Any], recipe: Recipe) -> tuple[Tensor, Answers, Answers]:
    settings = recipe.train.povid
    passes = _Passes(model, batch, learn_noised=True)
    policy, own = passes.answers_drowned(passes.own)
    with torch.no_grad(), adapter_off(model):
        reference, reference_own = _Passes(model, batch).answers_drowned(passes.own)
    weighed = (
        settings.alpha * (policy.chosen - reference.chosen)
        - settings.text_beta * (policy.rejected - reference.rejected)
        - settings.noise_beta * (own - reference_own)
    )
    return -logsigmoid(weighed), policy, reference


METHOD = Povid()
