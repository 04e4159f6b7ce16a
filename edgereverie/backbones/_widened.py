"""A 16-bit model that computes in float32 without ever being held in float32.

The weights stay as they lie in their files, mapped; a layer's are widened when it begins to compute and let go when it is
done. The results are those of the whole model in float32, to the bit, for every float16 and bfloat16 is a float32; the
memory is that of one layer, and of the parts that look at pictures, which are small.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import nn


def widen(model: nn.Module) -> nn.Module:
    """Have a loaded LLaVA, its weights of any float type, compute in float32. Returns the model, which cannot be trained."""
    looking = {id(part) for part in (model.model.vision_tower, model.model.multi_modal_projector)}
    for unit in _units(model):
        if id(unit) in looking:
            unit.float()
            continue
        held: list[tuple[nn.Parameter, torch.Tensor]] = []
        unit.register_forward_pre_hook(partial(_widen, held))
        # always_call: a failed forward must not leave a layer in float32.
        unit.register_forward_hook(partial(_restore, held), always_call=True)
    return model.requires_grad_(False)


def _units(module: nn.Module) -> Iterator[nn.Module]:
    """What is widened at once: a layer of a stack, or a part that has weights of its own."""
    for name, part in module.named_children():
        if name in ("vision_tower", "multi_modal_projector") or next(part.parameters(recurse=False), None) is not None:
            yield part
        elif isinstance(part, nn.ModuleList):
            yield from part
        else:
            yield from _units(part)


def _widen(held: list[tuple[nn.Parameter, torch.Tensor]], unit: nn.Module, _: Any) -> None:
    for weight in unit.parameters():
        if weight.dtype != torch.float32:
            held.append((weight, weight.data))
            weight.data = weight.data.float()


def _restore(held: list[tuple[nn.Parameter, torch.Tensor]], *_: Any) -> None:
    for weight, narrow in held:
        weight.data = narrow
    held.clear()
