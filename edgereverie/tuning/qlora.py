"""What is trainable, and why: an adapter on named linears, whole parts where the recipe says so, nothing else."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass

from torch import nn

from edgereverie.backbones.base import Backbone
from edgereverie.errors import MissingPackage, TrainError
from edgereverie.recipe import Train
from edgereverie.tuning.losses import base_of

_TOWER_LINEARS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")


@dataclass(frozen=True, slots=True)
class Trainable:
    """Counts of parameters. total counts 4-bit weights as what they stand for."""

    adapter: int
    whole: int
    total: int


def place(model: nn.Module, train: Train, backbone: Backbone) -> nn.Module:
    """The model with gradients only where the recipe wants them; wrapped by peft when a part is ``lora``.

    Parts that train whole beside an adapter become peft's ``modules_to_save``: the adapter then carries a copy of its own,
    and the base stays what it was. So a reference, which is the same model with its adapter switched off, does not drift
    with a trained projector, whether ``lora`` or ``full``; without any adapter there is no such reference.
    """
    parts = train.parts
    model.requires_grad_(False)
    _keep_unpacked(model)
    whole = [
        name
        for name, mode in (("vision_tower", parts.vision_tower), ("multi_modal_projector", parts.projector))
        if mode == "full"
    ]
    patterns = []
    if parts.language_model == "lora":
        patterns.append(rf"model\.language_model\..*\.({'|'.join(backbone.adapter_targets)})")
        whole += getattr(model, "beside_adapter", ())  # small modules that an adapter of their size would not serve
    if parts.vision_tower == "lora":
        patterns.append(rf"model\.vision_tower\..*\.({'|'.join(_TOWER_LINEARS)})")
    if parts.projector == "lora":
        patterns.append(r"model\.multi_modal_projector\.linear_[12]")
    if patterns:
        return _adapted(model, train, "|".join(patterns), whole)
    for name in whole:
        getattr(model.model, name).requires_grad_(True)
    if parts.language_model == "full":
        model.model.language_model.requires_grad_(True)
        model.lm_head.requires_grad_(True)
    if hasattr(model, "sight_head"):
        model.sight_head.requires_grad_(True)
    return model


def _keep_unpacked(model: nn.Module) -> None:
    """Let no 4-bit linear be packed for inference. On CPUs with AVX512-BF16, bitsandbytes (0.50) does so at the first pass in
    eval mode without a gradient, which a reference is, for good; no gradient passes such a linear any more, in silence.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _adapted(model: nn.Module, train: Train, pattern: str, whole: list[str]) -> nn.Module:
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise MissingPackage("peft", "Tuning with an adapter", "train") from None
    config = LoraConfig(
        r=train.lora.rank,
        lora_alpha=train.lora.alpha,
        lora_dropout=train.lora.dropout,
        bias="none",
        target_modules=pattern,
        modules_to_save=whole or None,
    )
    try:
        with warnings.catch_warnings():
            # peft asks for an attribute that transformers 5.23 renamed.
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
            adapted = get_peft_model(model, config)
    except ValueError as error:  # peft found no module, and says so at length
        raise TrainError(
            f"The adapter found none of its linears in this model ({str(error).splitlines()[0][:160]}).",
            hint="The backbone's adapter_targets do not fit this checkpoint.",
        ) from None
    _assert_placed(adapted, pattern, whole)
    return adapted


def _assert_placed(adapted: nn.Module, pattern: str, whole: list[str]) -> None:
    """Trainable parameters lie only in adapters on the named linears and in whole parts."""
    for name, parameter in adapted.named_parameters():
        if not parameter.requires_grad:
            continue
        inside = name.removeprefix("base_model.model.")
        module = inside.partition(".lora_")[0]
        named = ".lora_" in inside and re.fullmatch(pattern, module)
        if not named and not any(f"{part}.modules_to_save" in inside for part in whole):
            raise TrainError(f"The adapter reached {name}, which the recipe does not name.")


def checkpoint_layers(model: nn.Module) -> None:
    """Keep only what goes into each layer, and compute the rest again for the gradient.

    transformers would also make the outputs of all embeddings ask for gradients, the tower's among them, so that a frozen
    tower kept all its activations and went through a backward pass for nothing. Only checkpoints of the older, re-entrant
    kind need that.
    """
    inner = base_of(model)
    inner.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    inner.disable_input_require_grads()


def count(model: nn.Module) -> Trainable:
    adapter = whole = total = 0
    for name, parameter in model.named_parameters():
        shape = getattr(getattr(parameter, "quant_state", None), "shape", parameter.shape)
        size = shape.numel()
        if ".lora_" in name:
            adapter += size
            continue
        total += size
        whole += size if parameter.requires_grad else 0
    return Trainable(adapter, whole, total)
