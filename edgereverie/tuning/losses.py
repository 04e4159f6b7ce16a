"""Losses over labelled positions only: prompt, image and padding never reach the language model's head."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlavaForConditionalGeneration

from edgereverie.tuning.batch import IGNORE


def base_of(model: nn.Module) -> nn.Module:
    """The LlavaForConditionalGeneration itself, inside whatever wraps it (adapter, data parallel).

    By type and not by attribute: an adapter answers for the attributes of what it wraps, its ``model`` is another one.
    """
    return next(part for part in model.modules() if isinstance(part, LlavaForConditionalGeneration))


def branch_mask(model: nn.Module, branch: Tensor) -> Tensor:
    """What each token may see, added to attention scores: branch 0 and its own branch, up to itself. (rows, 1, tokens, tokens).

    branch: (rows, tokens). In the precision in which attention computes, which fused kernels insist on.
    """
    kind = branch.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else model.lm_head.weight.dtype
    seen = (branch[:, None, :] == 0) | (branch[:, None, :] == branch[:, :, None])
    seen &= torch.ones(seen.shape[1:], dtype=torch.bool, device=branch.device).tril()
    return torch.zeros(seen.shape, dtype=dtype, device=branch.device).masked_fill(~seen, torch.finfo(dtype).min)[
        :, None
    ]


def answer_log_probs(model: nn.Module, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Log-probability of each labelled token, in nats, with the place of each: (labels,), and a (batch, tokens) bool mask.

    The shift by one happens here: labels are aligned with input_ids. Only hidden states that predict a label go through
    lm_head, so the logits are (labels, vocabulary) and not (batch, tokens, vocabulary). Padding needs no mask: it stands on
    the right, where a causal model's tokens never look.
    """
    inner = base_of(model)
    hidden = inner.model(
        input_ids=batch["input_ids"],
        pixel_values=batch.get("pixel_values"),
        attention_mask=branch_mask(inner, batch["branch"]) if "branch" in batch else None,
        position_ids=batch.get("position"),
        use_cache=False,
    ).last_hidden_state
    mask = batch["labels"] != IGNORE
    mask[:, 0] = False
    before = mask.roll(-1, dims=1)
    logits = inner.lm_head(hidden[before]).float()
    return -functional.cross_entropy(logits, batch["labels"][mask], reduction="none"), mask


def weighted_negative_log_likelihood(model: nn.Module, batch: Mapping[str, Tensor], labels: Tensor | int) -> Tensor:
    """- sum of weight x log-probability over all labels, divided by ``labels``, the number of labels in the whole step.

    With weights of 1 this is the mean cross-entropy over assistant tokens (LLaVA's loss, which REVERIE trains with).
    Dividing by the step's count, not the micro-batch's, keeps gradient accumulation exact. What the model itself asks for
    is added, in the micro-batch's share of the step.
    """
    log_probs, mask = answer_log_probs(model, batch)
    labels = torch.as_tensor(labels).clamp(min=1)
    return -(log_probs * batch["weights"][mask]).sum() / labels + auxiliary_loss(model) * (mask.sum() / labels)


def auxiliary_loss(model: nn.Module) -> Tensor | float:
    """The model's own loss of its last training forward, times its coefficient: balance among experts, and 0 without any."""
    inner = base_of(model)
    return inner.auxiliary_loss() if hasattr(inner, "auxiliary_loss") else 0.0
