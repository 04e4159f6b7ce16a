"""MoE-LLaVA in plain PyTorch: feed-forward layers that send each token to its best one or two of several experts.

The routing is DeepSpeed 0.9.5's (``deepspeed/moe/sharded_moe.py``), which MoE-LLaVA was trained with, without DeepSpeed:
experts are copies of the language model's own feed-forward module, of ordinary linears, so that 4-bit weights, adapters
and merging reach them as they reach any other linear. Three things differ, on purpose: inference drops no token (as the
published eval capacity does with four experts), the second expert is chosen without noise unless asked for, so that an
answer does not depend on a seed, and where top-1 training has more tokens than room, the first come are served instead
of a random part.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    LlavaConfig,
    LlavaForConditionalGeneration,
)


@dataclass(frozen=True, slots=True)
class Routing:
    """How tokens find experts; the names of MoE-LLaVA's ``moe`` section of config.json where it has them.

    capacity_factor, min_capacity: in training an expert takes at most ceil(tokens / experts x capacity_factor x top_k)
    tokens, at least min_capacity. second_expert: ``argmax`` of the logits without the first expert, or ``gumbel``, which
    adds Gumbel noise to them, as published. normalise_top1: with top-1 an expert's output is weighted with 1 instead of
    its probability, whose gradient is kept; what upcycling needs to start from the dense model's outputs.
    """

    top_k_experts: Literal[1, 2] = 2
    capacity_factor: float = 1.5
    min_capacity: int = 0
    second_expert: Literal["argmax", "gumbel"] = "argmax"
    normalise_top1: bool = False

    @classmethod
    def of(cls, moe: Mapping[str, Any]) -> Routing:
        return cls(**{name: moe[name] for name in cls.__dataclass_fields__ if moe.get(name) is not None})

    def capacity(self, tokens: int, experts: int) -> int:
        return max(math.ceil(tokens / experts * self.capacity_factor * self.top_k_experts), self.min_capacity)


@dataclass(frozen=True, slots=True)
class Routes:
    """Where each token goes. experts: (tokens, top_k) int64. weights: (tokens, top_k) float32. kept: (tokens, top_k) bool,
    False for choices beyond their expert's capacity, whose weights are 0. auxiliary: the balancing loss, a scalar.
    """

    experts: Tensor
    weights: Tensor
    kept: Tensor
    auxiliary: Tensor


def route(logits: Tensor, routing: Routing, *, limited: bool) -> Routes:
    """Choose experts by the gate's logits, (tokens, experts) in float32. limited: heed the capacity, as in training.

    Second choices queue behind all first choices of the same expert, dropped ones included. Of two experts the weights
    are the softmax's, renormalised over those that were not dropped. The auxiliary loss is Switch Transformer's times the
    number of experts for top-2: experts squared x mean over experts of (mean probability x share of first choices).
    """
    tokens, experts = logits.shape
    gates = logits.softmax(-1)
    first = gates.argmax(-1)
    chosen = first[:, None]
    if routing.top_k_experts == 2:
        noisy = logits + _gumbel(logits) if routing.second_expert == "gumbel" else logits
        second = noisy.scatter(1, chosen, -math.inf).argmax(-1)
        chosen = torch.stack([first, second], 1)
    # (top_k x tokens, experts), all first choices before all second ones: a running count is each one's place in its queue.
    wanted = functional.one_hot(chosen.T.flatten(), experts)
    kept = torch.ones_like(chosen, dtype=torch.bool)
    if limited:
        places = ((wanted.cumsum(0) - 1) * wanted).sum(-1).view(chosen.shape[1], tokens).T
        kept = places < routing.capacity(tokens, experts)
    weights = gates.gather(1, chosen) * kept
    if routing.top_k_experts == 2:
        weights = weights / weights.sum(-1, keepdim=True).clamp(min=torch.finfo(weights.dtype).eps)
    elif routing.normalise_top1:
        weights = weights / weights.detach().clamp(min=torch.finfo(weights.dtype).eps)
    share = functional.one_hot(first, experts).to(gates.dtype).mean(0)
    return Routes(chosen, weights, kept, (gates.mean(0) * share).sum() * experts)


def _gumbel(like: Tensor) -> Tensor:
    return -torch.empty_like(like).exponential_().log()


class Gate(nn.Module):
    """A linear without bias that stays and computes in float32, whatever the precision around it: which expert comes first
    hangs on small differences. Not an nn.Linear, so that whatever quantizes or adapts linears leaves it alone.
    """

    def __init__(self, hidden: int, experts: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(experts, hidden, dtype=torch.float32))
        nn.init.uniform_(self.weight, -(hidden**-0.5), hidden**-0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        with torch.autocast(tokens.device.type, enabled=False):
            return functional.linear(tokens.float(), self.weight)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Gate:
        """Moves to another device with the model, and does not follow it to another type."""

        def moved(tensor: Tensor) -> Tensor:
            there = fn(tensor)
            return there if there.dtype == tensor.dtype else tensor.to(there.device)

        return super()._apply(moved, recurse)


class SparseMoe(nn.Module):
    """A feed-forward layer of several experts, each a copy of ``expert``; takes and gives (..., hidden).

    auxiliary: the balancing loss of the last training forward, until somebody takes it. assigned, (experts,): choices per
    expert over all training forwards since the last ``take_load``, and dropped: how many of them found no room.
    """

    def __init__(self, expert: nn.Module, hidden: int, experts: int, routing: Routing) -> None:
        super().__init__()
        self.routing = routing
        self.wg = Gate(hidden, experts)
        self.experts = nn.ModuleList([expert, *(copy.deepcopy(expert) for _ in range(experts - 1))])
        self.auxiliary: Tensor | None = None
        self.assigned: Tensor | None = None
        self.dropped: Tensor | None = None

    def forward(self, hidden: Tensor) -> Tensor:
        tokens = hidden.reshape(-1, hidden.shape[-1])
        routes = route(self.wg(tokens), self.routing, limited=self.training)
        # Gradient checkpointing runs this again inside the backward pass, when the loss has been taken already.
        if self.training and torch._C._current_graph_task_id() == -1:
            self._note(routes)
        # Summed in float32: equal outputs of two experts, weighted and added in 16 bits, would not give themselves back.
        out = torch.zeros_like(tokens, dtype=torch.float32)
        for index, expert in enumerate(self.experts):
            token, choice = ((routes.experts == index) & routes.kept).nonzero(as_tuple=True)
            if len(token):
                out = out.index_add(0, token, expert(tokens[token]).float() * routes.weights[token, choice, None])
        return out.to(hidden.dtype).view_as(hidden)

    def _note(self, routes: Routes) -> None:
        self.auxiliary = routes.auxiliary
        counts = torch.bincount(routes.experts.flatten(), minlength=len(self.experts))
        dropped = (~routes.kept).sum()
        self.assigned = counts if self.assigned is None else self.assigned + counts
        self.dropped = dropped if self.dropped is None else self.dropped + dropped

    def take_load(self) -> tuple[list[float], float] | None:
        """The experts' shares of all choices since the last call, and the share that was dropped."""
        if self.assigned is None:
            return None
        total = int(self.assigned.sum())
        load = [round(count / total, 4) for count in self.assigned.tolist()], round(int(self.dropped) / total, 4)
        self.assigned = self.dropped = None
        return load


@strict
class MoeLlavaConfig(LlavaConfig):
    """LLaVA's config, and beside it ``moe`` with MoE-LLaVA's published field names and those of ``Routing``.

    moe.moe_layers_idx: which layers of the language model have experts. moe.num_experts: how many, one entry for each of
    those layers. lm_head_bias: Phi-2's head has one.
    """

    model_type = "moe_llava"

    moe: dict | None = None
    lm_head_bias: bool = False


class MoeLlavaForConditionalGeneration(LlavaForConditionalGeneration):
    """LLaVA whose language model has SparseMoe in place of some layers' ``mlp``."""

    config: MoeLlavaConfig
    config_class = MoeLlavaConfig
    _keep_in_fp32_modules_strict = ("wg",)
    # Gates train whole beside an adapter of the language model: balance among experts is theirs to learn.
    beside_adapter = ("wg",)

    def __init__(self, config: MoeLlavaConfig) -> None:
        super().__init__(config)
        text = config.text_config
        if config.lm_head_bias:
            self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=True)
        routing = Routing.of(config.moe)
        layers = self.model.language_model.layers
        for index, experts in zip(config.moe["moe_layers_idx"], config.moe["num_experts"], strict=True):
            layers[index].mlp = SparseMoe(layers[index].mlp, text.hidden_size, experts, routing)
        self.post_init()

    def _moe_layers(self) -> dict[int, SparseMoe]:
        layers = self.model.language_model.layers
        return {index: layers[index].mlp for index in self.config.moe["moe_layers_idx"]}

    def auxiliary_loss(self) -> Tensor | float:
        """``router_aux_loss_coef`` x the sum over layers of the last training forward's loss; each is given once."""
        total: Tensor | float = 0.0
        for layer in self._moe_layers().values():
            if layer.auxiliary is not None:
                total, layer.auxiliary = total + layer.auxiliary, None
        return self.config.moe.get("router_aux_loss_coef", 0.01) * total

    def expert_load(self) -> dict[str, dict[str, Any]]:
        """By layer, each expert's share of the choices since the last call, and the share that found no room."""
        loads = {index: layer.take_load() for index, layer in self._moe_layers().items()}
        return {str(i): {"shares": load[0], "dropped": load[1]} for i, load in loads.items() if load is not None}


AutoConfig.register(MoeLlavaConfig.model_type, MoeLlavaConfig)
AutoModelForImageTextToText.register(MoeLlavaConfig, MoeLlavaForConditionalGeneration)
