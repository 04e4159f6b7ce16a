"""One training step, gone through without doing it: the memory it takes by part, and its arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from edgereverie.backbones.base import ModelFolder
from edgereverie.recipe import Recipe
from edgereverie.tuning.features import Pictures
from edgereverie.tuning.losses import base_of
from edgereverie.tuning.methods.base import Method
from edgereverie.tuning.plan.ledger import Ledger
from edgereverie.tuning.plan.model import fill_with_fakes, hollow

WEIGHTS, TRAINED, ADAPTER, GRADIENTS, OPTIMIZER = "weights", "trained weights", "adapter", "gradients", "optimizer"
ACTIVATIONS, SCORES, MASKS, LOGITS = "activations", "attention scores", "tree masks", "logits"


@dataclass(frozen=True, slots=True)
class Trace:
    """parts: bytes at the moment when they are most; small: in storages below 32 MB. flops: of a micro-batch, forward and
    backward. calls: of kernels. seen: bytes that the frozen tower's output for one picture has; 0 where it is not kept.
    """

    parts: dict[str, int]
    flops: int
    calls: int
    small: int = 0
    seen: int = 0

    @property
    def peak(self) -> int:
        return sum(self.parts.values())


def trace(
    recipe: Recipe, method: Method, folder: ModelFolder, batch: Mapping[str, Any], *, precision: str, cuda: bool
) -> Trace:
    """What a step on ``batch`` takes once the optimizer has its states, as after the first step."""
    model = hollow(folder, recipe, method, precision=precision, cuda=cuda)
    ledger = Ledger(_namer(folder, batch), routed=_routed(model), picked=_picked(batch))
    with FakeTensorMode() as fake, ledger:
        fill_with_fakes(model)
        _book_parameters(ledger, model)
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        eight_bit = cuda and recipe.backbone.quantization == "nf4"
        states = [torch.empty(_state_bytes(parameter, eight_bit), dtype=torch.uint8) for parameter in trainable]
        ledger.book(states, OPTIMIZER)
        held = [parameter.register_post_accumulate_grad_hook(_gradient_booker(ledger)) for parameter in trainable]
        if recipe.train.accumulation > 1:  # the micro-batches before this one have left theirs
            for parameter in trainable:
                parameter.grad = torch.empty_like(parameter)
                ledger.book([parameter.grad], GRADIENTS)
        inputs = _faked(batch, fake)
        ledger.book(_tensors(inputs), ACTIVATIONS)
        inputs, seen = _looked_at(model, inputs, recipe, precision)
        with _autocast(precision):
            loss, _ = method.loss(model, inputs, method.size(batch), recipe)
        loss.backward()
        del loss
        _book_update(ledger, trainable, eight_bit, cuda)
        for handle in held:
            handle.remove()
    parts = {part: size for part, size in ledger.peak.items() if size}
    return Trace(dict(sorted(parts.items(), key=lambda item: -item[1])), ledger.flops, ledger.calls, ledger.small, seen)


def _looked_at(model: nn.Module, batch: dict[str, Any], recipe: Recipe, precision: str) -> tuple[dict[str, Any], int]:
    """The batch as a frozen tower leaves it, and the bytes of a picture's output that are kept.

    What is kept is there after the first epoch: one picture is looked at, which is the most that filling takes at a time.
    Noised pictures are never kept; a tower that trains sees pixels in the step itself.
    """
    if any(parameter.requires_grad for parameter in base_of(model).model.vision_tower.parameters()):
        return batch, 0
    tower = Pictures(None, "", precision)
    if recipe.train.features == "off" or "pixel_values" not in batch:
        return tower.filled(model, batch), 0
    pixels = batch.pop("pixel_values")
    one = tower.see(model, pixels[0])
    features = one.new_empty((len(pixels), *one.shape))
    return tower.filled(model, batch) | {"features": features}, one.nbytes


def _autocast(precision: str) -> AbstractContextManager[Any]:
    if precision == "fp32":
        return nullcontext()
    return torch.autocast("cpu", torch.bfloat16 if precision == "bf16" else torch.float16)


def _book_parameters(ledger: Ledger, model: nn.Module) -> None:
    ledger.book(model.buffers(), WEIGHTS)
    for name, parameter in model.named_parameters():
        adapter = ".lora_" in name or ".modules_to_save." in name
        part = ADAPTER if adapter else TRAINED if parameter.requires_grad else WEIGHTS
        ledger.book([parameter], part)


def _gradient_booker(ledger: Ledger) -> Callable[[Tensor], None]:
    def book(parameter: Tensor) -> None:
        if parameter.grad is not None:
            ledger.book([parameter.grad], GRADIENTS)

    return book


def _state_bytes(parameter: Tensor, eight_bit: bool) -> int:
    """Adam's two moments. bitsandbytes' have 8 bits and a 32-bit scale for 256 of them; 32 bits in tensors below 4,096."""
    count = parameter.numel()
    if eight_bit and count >= 4096:
        return 2 * count + 2 * 4 * -(-count // 256)
    return 2 * count * (4 if eight_bit else parameter.element_size())


def _book_update(ledger: Ledger, trainable: list[Tensor], eight_bit: bool, cuda: bool) -> None:
    """The optimizer's own room: torch's AdamW holds a root of the second moments, of all tensors at once on CUDA."""
    if eight_bit or not trainable:
        return
    largest = max(trainable, key=Tensor.numel)
    room = [torch.empty_like(one) for one in (trainable if cuda else (largest, largest))]
    ledger.book(room, OPTIMIZER)


def _namer(folder: ModelFolder, batch: Mapping[str, Any]) -> Callable[[Tensor], str]:
    """Tells logits by the vocabulary's length, masks and scores of attention by the rows'."""
    vocabulary = folder.config["text_config"]["vocab_size"]
    halves = [half for half in (batch, batch.get("noised")) if half is not None and "input_ids" in half]
    shapes = {half["input_ids"].shape for half in halves}

    def name(tensor: Tensor) -> str:
        shape = tensor.shape
        # Other linears may be as wide, but theirs are of all tokens.
        if tensor.ndim == 2 and shape[-1] == vocabulary and shape[0] not in {rows * tokens for rows, tokens in shapes}:
            return LOGITS
        if tensor.ndim >= 3 and shape[-1] == shape[-2]:
            for rows, tokens in shapes:
                if shape[-1] == tokens:
                    return MASKS if tensor.numel() == rows * tokens * tokens else SCORES
        return ACTIVATIONS

    return name


def _routed(model: nn.Module) -> Callable[[Tensor], int]:
    """Experts are taken to share the tokens evenly."""
    experts = next((len(part.experts) for part in model.modules() if hasattr(part, "take_load")), 1)
    return lambda table: -(-table.numel() // experts)


def _picked(batch: Mapping[str, Any]) -> dict[int, int]:
    """How many labels of a batch belong to preferred answers: those that its noised half has too."""
    return {len(batch["label"]): len(batch["noised"]["label"])} if "noised" in batch else {}


def _faked(batch: Mapping[str, Any], fake: FakeTensorMode) -> dict[str, Any]:
    return {
        key: _faked(value, fake) if isinstance(value, Mapping) else fake.from_tensor(value)
        for key, value in batch.items()
    }


def _tensors(batch: Mapping[str, Any]) -> list[Tensor]:
    return [
        tensor for value in batch.values() for tensor in (_tensors(value) if isinstance(value, Mapping) else [value])
    ]
