"""Losses over what is learned only: prompt, image and padding never reach the language model's head."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers import LlavaForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutputWithPooling

_LOGITS = 1 << 25  # elements of logits at a time; 128 MB in 32 bits
# Tokens in a row from which fused attention, forward and backward, is faster on CPUs (torch 2.13, AVX-512, two cores).
_FUSED, _FUSED_HALF = 128, 640


def base_of(model: nn.Module) -> nn.Module:
    """The LlavaForConditionalGeneration itself, inside whatever wraps it (adapter, data parallel).

    By type and not by attribute: an adapter answers for the attributes of what it wraps, its ``model`` is another one.
    """
    return next(part for part in model.modules() if isinstance(part, LlavaForConditionalGeneration))


def tree_mask(model: nn.Module, segment: Tensor, sees: Tensor) -> Tensor:
    """What each token may see, added to attention scores. (rows, 1, tokens, tokens).

    segment: (rows, tokens); sees: (rows, segments, segments). A token sees its own segment and those above it, up to itself.
    In the precision in which attention computes, which fused kernels insist on.
    """
    kind = segment.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else model.lm_head.weight.dtype
    rows = torch.arange(len(segment), device=segment.device)[:, None, None]
    seen = sees[rows, segment[:, :, None], segment[:, None, :]].tril()
    hidden = torch.zeros(seen.shape, dtype=dtype, device=segment.device)
    return hidden.masked_fill_(~seen, torch.finfo(dtype).min)[:, None]


def hidden_states(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """The language model's last hidden states. (rows, tokens, hidden).

    Padding needs no mask: it stands on the right, where a causal model's tokens never look.
    """
    inner = base_of(model)
    choose_attention(inner.model.language_model, batch["input_ids"].shape[1])
    return inner.model(
        input_ids=batch["input_ids"],
        **_seen(inner, batch),
        attention_mask=tree_mask(inner, batch["segment"], batch["sees"]) if "segment" in batch else None,
        position_ids=batch.get("position"),
        use_cache=False,
    ).last_hidden_state


def _seen(inner: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, object]:
    """The pictures as transformers takes them: pixels, or what a frozen tower made of them before."""
    if "features" not in batch:
        return {"pixel_values": batch.get("pixel_values")}
    projector = inner.model.multi_modal_projector
    features = batch["features"]
    if not torch.is_autocast_enabled(features.device.type):
        features = features.to(next(projector.parameters()).dtype)
    return {"mm_encoder_outputs": {"image": BaseModelOutputWithPooling(pooler_output=list(projector(features)))}}


def choose_attention(part: nn.Module, tokens: int) -> None:
    """Make a language model or tower on a CPU attend in the way that is faster for rows of so many tokens.

    torch's fused attention wins only from some hundreds of tokens on in bf16, and from a hundred in 32 bits. Elsewhere
    the model's own choice stays, also in a plan for a card, which goes through the card's model on the CPU.
    """
    weight = next(part.parameters())
    if weight.device.type == "cpu" and not getattr(part, "stands_for_cuda", False):
        half = torch.is_autocast_enabled("cpu") or weight.dtype != torch.float32
        part.config._attn_implementation = "sdpa" if tokens >= (_FUSED_HALF if half else _FUSED) else "eager"


def log_probs_at(model: nn.Module, hidden: Tensor, before: Tensor, target: Tensor) -> Tensor:
    """Log-probability of each target behind its place ``before`` in the flattened rows, in nats. (targets,) float32.

    Only hidden states that predict a target go through lm_head, in pieces whose logits are computed anew for the gradient, so
    that memory does not grow with targets x vocabulary.
    """
    head, predicting = base_of(model).lm_head, hidden.flatten(0, 1)[before]
    size = max(1, _LOGITS // head.out_features)
    if len(predicting) <= size:
        return _log_probs(head, predicting, target)
    pieces = zip(predicting.split(size), target.split(size), strict=True)
    return torch.cat([checkpoint(_log_probs, head, *piece, use_reentrant=False) for piece in pieces])


def most_likely_at(model: nn.Module, hidden: Tensor, before: Tensor) -> Tensor:
    """The most likely token behind each place. (places,) int64, without a gradient."""
    head, predicting = base_of(model).lm_head, hidden.detach().flatten(0, 1)[before]
    with torch.no_grad():
        pieces = predicting.split(max(1, _LOGITS // head.out_features))
        return torch.cat([head(piece).argmax(-1) for piece in pieces])


def token_log_probs(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """Log-probability of each of the batch's targets, in nats. (targets,) float32."""
    return log_probs_at(model, hidden_states(model, batch), batch["before"], batch["target"])


def _log_probs(head: nn.Module, hidden: Tensor, target: Tensor) -> Tensor:
    return -functional.cross_entropy(head(hidden).float(), target, reduction="none")


def sequence_log_probs(log_probs: Tensor, batch: Mapping[str, Tensor], sequences: int) -> Tensor:
    """Each conversation's log-probability of all it learns, in nats, from its tokens'. (sequences,)."""
    return log_probs.new_zeros(sequences).index_add(0, batch["sequence"], log_probs[batch["label"]])


def weighted_negative_log_likelihood(model: nn.Module, batch: Mapping[str, Tensor], labels: Tensor | int) -> Tensor:
    """- sum of weight x log-probability over all labels, divided by ``labels``, the number of labels in the whole step.

    With weights of 1 this is the mean cross-entropy over assistant tokens (LLaVA's loss, which REVERIE trains with).
    Dividing by the step's count, not the micro-batch's, keeps gradient accumulation exact. What the model itself asks for
    is added, in the micro-batch's share of the step.
    """
    log_probs = token_log_probs(model, batch)
    labels = torch.as_tensor(labels).clamp(min=1)
    loss = -(log_probs[batch["label"]] * batch["weight"]).sum() / labels
    return loss + auxiliary_loss(model) * (len(batch["label"]) / labels)


def auxiliary_loss(model: nn.Module) -> Tensor | float:
    """The model's own loss of its last training forward, times its coefficient: balance among experts, and 0 without any."""
    inner = base_of(model)
    return inner.auxiliary_loss() if hasattr(inner, "auxiliary_loss") else 0.0
