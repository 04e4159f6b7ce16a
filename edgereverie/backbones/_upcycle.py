"""Sparse upcycling (arXiv 2212.05055): a dense LLaVA becomes a MoE-LLaVA that says the same, until it is tuned.

Each chosen feed-forward layer is copied to several experts, and a gate with random weights comes before them. Whichever
experts a token goes to, their equal outputs, weighted with weights that sum to one, are the dense layer's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgereverie.backbones._checkpoint import Stored
from edgereverie.backbones._keys import KeyMap, Rule
from edgereverie.backbones._layouts.base import Described
from edgereverie.backbones._layouts.moe_llava import moe_layers, moe_section
from edgereverie.backbones._writing import write_folder
from edgereverie.backbones.base import ModelFolder, find_backbone
from edgereverie.errors import BackboneError

if TYPE_CHECKING:
    import torch

MODES = {"sparse": "sparse", "all": "dense", "first_half": "first_half", "second_half": "second_half"}
_FEED_FORWARD = re.compile(r"(model\.language_model\.layers\.(\d+)\.mlp\.)(.+)")
_LARGE = 1_000_000_000  # parameters, from which on outputs are compared in 16 bits


@dataclass(frozen=True, slots=True)
class Likeness:
    """How near two models' logits are. max_logit_diff: the largest absolute difference. top1: share of positions with the
    same likeliest token. scale: the largest absolute logit. precision: what both computed in."""

    max_logit_diff: float
    top1: float
    scale: float
    positions: int
    precision: str


def upcycled(
    folder: ModelFolder, *, layers: str = "sparse", experts: int = 4, top_k: int = 2, seed: int = 0
) -> ModelFolder:
    """The MoE-LLaVA that ``folder`` becomes; ``write_folder`` writes it, and nothing is written here.

    layers: one of MODES, or numbers with commas between. seed: of the gates' weights. Raises BackboneError for a model that
    has experts already, and for numbers that do not fit it.
    """
    if folder.config["model_type"] != "llava":
        raise BackboneError(
            f"{folder.path}: a {folder.config['model_type']} cannot be upcycled.",
            hint="Name a dense LLaVA; this one has experts already."
            if "moe" in folder.config
            else "Name a dense LLaVA.",
        )
    moe = _section(folder, layers, experts, top_k)
    config = dict(folder.config) | {
        "model_type": "moe_llava",
        "architectures": ["MoeLlavaForConditionalGeneration"],
        "moe": moe,
    }
    described = Described(
        config=config,
        image=folder.image,
        chat=folder.described.chat,
        tokenizer=folder.tokenizer,
        tensors=lambda: _tensors(folder, moe, seed),
        keys=KeyMap((Rule("{rest}", "{rest}"),)),
    )
    return ModelFolder(folder.path, folder.layout, find_backbone(config, described.chat, folder.path), described)


def write_upcycled(folder: ModelFolder, out: Path, **choices: Any) -> None:
    """Write ``upcycled(folder, **choices)`` into the existing folder ``out``, holding one shard at a time in memory."""
    write_folder(upcycled(folder, **choices), out)


def _section(folder: ModelFolder, layers: str, experts: int, top_k: int) -> dict[str, Any]:
    """The config's ``moe``, by MoE-LLaVA's names and with its training settings."""
    count = int(folder.config["text_config"]["num_hidden_layers"])
    if re.fullmatch(r"\d+(,\d+)*", layers):
        mode, chosen = "custom", [int(index) for index in layers.split(",")]
    elif layers in MODES:
        mode, chosen = MODES[layers], list(moe_layers(MODES[layers], count))
    else:
        raise BackboneError(
            f"Unknown choice of layers {layers!r}.", hint=f"Known: {', '.join(MODES)}, or numbers such as 0,2,5."
        )
    if top_k not in (1, 2):
        raise BackboneError(f"Each token can go to 1 or 2 experts, not to {top_k}.")
    try:
        return moe_section(
            {
                "moe_enable": True,
                "moe_mode": mode,
                "moe_layers_idx": chosen,
                "num_experts": [experts],
                "ep_size": 1,
                "top_k_experts": top_k,
                "capacity_factor": 1.5,
                "eval_capacity_factor": 2.0,
                "min_capacity": 0,
                "use_residual": False,
                "router_aux_loss_coef": 0.01,
                # Weighted with its probability, as published, a single expert would not give the dense output back.
                "normalise_top1": top_k == 1,
            },
            count,
        )
    except ValueError as error:
        raise BackboneError(
            f"{folder.path}: cannot be upcycled so: {error}.", hint=f"It has {count} layers, numbered from 0."
        ) from None


def _tensors(folder: ModelFolder, moe: dict[str, Any], seed: int) -> dict[str, Stored]:
    """All tensors under our names: a feed-forward layer's once for each expert, unread, and the gates'."""
    experts = dict(zip(moe["moe_layers_idx"], moe["num_experts"], strict=True))
    hidden = int(folder.config["text_config"]["hidden_size"])
    tensors: dict[str, Stored] = {}
    for name, stored in folder.tensors().items():
        found = _FEED_FORWARD.fullmatch(name)
        if found is None or int(found[2]) not in experts:
            tensors[name] = stored
        else:
            tensors |= {f"{found[1]}experts.{expert}.{found[3]}": stored for expert in range(experts[int(found[2])])}
    for index, count in experts.items():
        name = f"model.language_model.layers.{index}.mlp.wg.weight"
        tensors[name] = Stored((count, hidden), "float32", folder.path, _Gate(count, hidden, seed * 10_007 + index))
    return tensors


@dataclass(frozen=True, slots=True)
class _Gate:
    """A gate's first weights: uniform, as those of a linear in PyTorch, which MoE-LLaVA's training begins with."""

    experts: int
    hidden: int
    seed: int

    def __call__(self) -> torch.Tensor:
        import torch

        generator = torch.Generator().manual_seed(self.seed)
        return (torch.rand(self.experts, self.hidden, generator=generator) * 2 - 1) * self.hidden**-0.5


def compare(first: ModelFolder, second: ModelFolder, prompts: Sequence[dict[str, Any]]) -> Likeness:
    """Two models' logits on prompts (batches of model inputs), loaded one after the other.

    In 32 bit, or bfloat16 where that would take too much memory for most machines.
    """
    import torch

    large = sum(prod(stored.shape) for stored in second.tensors().values()) >= _LARGE
    precision = "bf16" if large else "fp32"

    @torch.no_grad()
    def logits(folder: ModelFolder) -> torch.Tensor:
        model = folder.load(precision)
        inputs = [{key: value.to(model.device) for key, value in prompt.items()} for prompt in prompts]
        for prompt in inputs:
            if "pixel_values" in prompt:
                prompt["pixel_values"] = prompt["pixel_values"].to(model.dtype)
        return torch.cat([model(**prompt).logits[0].float().cpu() for prompt in inputs])

    a, b = logits(first), logits(second)
    return Likeness(
        max_logit_diff=float((a - b).abs().max()),
        top1=float((a.argmax(-1) == b.argmax(-1)).float().mean()),
        scale=float(a.abs().max()),
        positions=len(a),
        precision=precision,
    )


def require_alike(likeness: Likeness) -> None:
    """Raise BackboneError unless differences are those of rounding: a 1e-5th of the largest logit, in 16 bits 1 / 32."""
    bound = likeness.scale * (1e-5 if likeness.precision == "fp32" else 2**-5)
    if likeness.max_logit_diff > bound:
        raise BackboneError(
            f"The upcycled model does not say what the dense one says: logits differ by {likeness.max_logit_diff:.2e}, "
            f"up to {bound:.2e} was expected.",
            hint="This is a fault of the conversion; please report it with the model's name.",
        )
