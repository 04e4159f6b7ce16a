"""A model to plan with: the module tree that a run would train, adapter and 4-bit linears in place, without any values."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgereverie.backbones._loading import _in_four_bit, skeleton
from edgereverie.backbones.base import DTYPES, ModelFolder
from edgereverie.recipe import Recipe
from edgereverie.tuning.losses import base_of
from edgereverie.tuning.methods.base import Method
from edgereverie.tuning.qlora import checkpoint_layers, place


class _Unpacked(torch.autograd.Function):
    """What bitsandbytes' MatMul4Bit makes: the weight in the computing type, in either direction, and nothing kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, outputs: int, bias: Tensor | None) -> Tensor:
        ctx.shape = outputs, x.shape[-1]
        with torch.autocast("cpu", enabled=False):  # a kernel of its own, which autocast does not enter
            return functional.linear(x, x.new_empty(ctx.shape), bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return grads[0] @ grads[0].new_empty(ctx.shape), None, None


class PackedLinear(nn.Linear):
    """The shape of a bitsandbytes Linear4bit with double quantization, for peft an ordinary linear.

    Bytes: half of one per weight, one per 64 for the scale, 4 per 16,384 for the scales' scale.
    """

    def __init__(self, linear: nn.Linear, compute: torch.dtype) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features, self.compute = linear.in_features, linear.out_features, compute
        count = linear.in_features * linear.out_features
        self.weight = nn.Parameter(torch.empty(-(-count // 2), 1, dtype=torch.uint8, device="meta"), False)
        self.bias = linear.bias
        self.register_buffer("absmax", torch.empty(-(-count // 64), dtype=torch.uint8, device="meta"))
        self.register_buffer("absmax_scale", torch.empty(-(-count // 16384), device="meta"))

    def forward(self, x: Tensor) -> Tensor:
        out = _Unpacked.apply(x.to(self.compute), self.out_features, self.bias)
        return out.to(x.dtype).clone()  # peft copies what a 4-bit linear gives


def hollow(folder: ModelFolder, recipe: Recipe, method: Method, *, precision: str, cuda: bool) -> nn.Module:
    """The model on torch's meta device, as ``trainer.run`` would place it: types, adapter, checkpointing, attention."""
    train = recipe.train
    whole = "full" in (train.parts.language_model, train.parts.vision_tower)
    dtype = getattr(torch, DTYPES["fp32" if whole or not cuda else precision])
    model = skeleton(folder)
    strict = getattr(model, "_keep_in_fp32_modules_strict", None) or ()
    for name, parameter in model.named_parameters():
        if not set(strict) & set(name.split(".")):
            parameter.data = parameter.data.to(dtype)
    if recipe.backbone.quantization == "nf4":
        _pack(model, folder, dtype)
    model.model.language_model.stands_for_cuda = cuda
    with torch.device("meta"):
        method.attach(model)
        model = place(model, train, folder.backbone)
    if train.gradient_checkpointing:
        checkpoint_layers(model)
    image, inner = folder.config["image_token_index"], base_of(model).model
    # transformers counts the places of image tokens, which fake ids do not tell.
    inner.get_placeholder_mask = lambda ids, inputs_embeds, image_features: (ids == image)[..., None].expand_as(
        inputs_embeds
    )
    return model.train()


def replaced_bytes(folder: ModelFolder) -> int:
    """What 4-bit weights leave of their files in a CPU run's memory: tensors that are used as they are stored keep the whole
    files mapped. Nothing where all of them are converted.
    """
    stored = folder.described.tensors().values()
    kept = [math.prod(one.shape) for one in stored if one.dtype == "float32" and one.file.suffix == ".safetensors"]
    packed = sum(
        module.weight.numel()
        for name, module in skeleton(folder).named_modules()
        if isinstance(module, nn.Linear) and _in_four_bit(name, folder)
    )
    return 4 * min(sum(kept), packed)


def _pack(model: nn.Module, folder: ModelFolder, dtype: torch.dtype) -> None:
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and _in_four_bit(name, folder):
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, PackedLinear(module, dtype))


def fill_with_fakes(model: nn.Module) -> None:
    """Put tensors of the mode that is on, on the CPU, in place of those on the meta device; shared ones stay shared."""
    known: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, old in module._parameters.items():
            if old is not None:
                if id(old) not in known:
                    known[id(old)] = nn.Parameter(torch.empty(old.shape, dtype=old.dtype), old.requires_grad)
                module._parameters[name] = known[id(old)]
        for name, old in module._buffers.items():
            if old is not None:
                module._buffers[name] = torch.empty(old.shape, dtype=old.dtype)
