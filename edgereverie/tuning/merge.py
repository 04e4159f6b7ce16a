"""The adapter goes into the 16-bit base, never into the 4-bit one it was trained on, with a figure that shows it arrived.

Merging into 4-bit weights rounds the adapter away with them; here base and adapter meet in 32 bit, and the sum is stored
in the base's own 16-bit type. All on the CPU: a card that tunes a model in 4 bit seldom holds it in 32.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from edgereverie.backbones.base import ModelFolder, open_folder, save_folder
from edgereverie.bundle import new_folder, sha256_of, write_text
from edgereverie.errors import ExportError

_MOST_LOST = 0.5  # of the adapter's largest effect, by rounding to the stored type
_SAME_TOP = 0.98  # share of positions


@dataclass(frozen=True, slots=True)
class MergeParity:
    """Merged and stored weights against the base with its adapter switched on, over all positions of the probe prompts.

    max_logit_diff: largest absolute difference. top1: share of positions with the same likeliest token. adapter_effect:
    largest difference that the adapter makes at all; near zero it would mean that nothing was merged.
    """

    max_logit_diff: float
    top1: float
    adapter_effect: float
    positions: int


def merge(
    folder: ModelFolder, adapter: Path, out: Path, prompts: Sequence[dict[str, Any]], *, force: bool = False
) -> MergeParity:
    """Write a model folder ``out`` and return its parity. prompts: batches of model inputs, with and without a picture.

    Raises ExportError when the adapter does not belong to the base, did nothing, or did not arrive.
    """
    from peft import PeftModel

    stored = stored_dtype(folder)
    base = folder.load("fp32", on="cpu")
    before = _logits(base, prompts)
    try:
        with warnings.catch_warnings():
            # peft asks for an attribute that transformers 5.23 renamed.
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
            model = PeftModel.from_pretrained(base, adapter, local_files_only=True).eval()
    except (RuntimeError, ValueError, OSError, SafetensorError) as error:
        raise ExportError(
            f"{adapter}: the adapter does not fit {folder.path} ({error}).",
            hint="Name the base that it was trained on with --base.",
        ) from None
    switched_on = _logits(model, prompts)
    merged = model.merge_and_unload(safe_merge=True)
    _require_arrived(adapter, _compare(switched_on, _logits(merged, prompts), before))
    merged.to(stored)
    merged.config.dtype = stored
    with new_folder(out, replace=force) as beside:
        try:
            save_folder(merged, folder, beside)
        except (OSError, SafetensorError) as error:
            raise ExportError(
                f"{out}: the merged weights cannot be written ({error}).",
                hint="Is the disk full? Nothing was left behind; make room, or name another --out.",
            ) from error
        del base, model, merged  # a second model of 32 bit has no room beside the first
        parity = _compare(switched_on, _logits(open_folder(beside).load("fp32", on="cpu"), prompts), before)
        lost = parity.max_logit_diff / parity.adapter_effect
        if lost > _MOST_LOST or parity.top1 < _SAME_TOP:
            raise ExportError(
                f"{adapter}: in {str(stored).removeprefix('torch.')} as much as {lost:.0%} of what it changes is rounded "
                f"away (same top token at {parity.top1:.1%} of positions).",
                hint="Its changes are as small as the steps between the base's weights: train longer, or with a higher "
                "train.learning_rate.",
            )
        told = {
            "base": folder.path.name,
            "adapter": sha256_of(adapter / "adapter_model.safetensors"),
            "merge": asdict(parity),
        }
        write_text(beside / "merge.json", json.dumps(told, indent=2) + "\n")
    return parity


def _require_arrived(adapter: Path, exact: MergeParity) -> None:
    """Raise ExportError when the adapter does nothing, or base and adapter, added in 32 bit, are not what it was."""
    if exact.adapter_effect < 1e-4:
        raise ExportError(
            f"{adapter}: the adapter changes nothing (largest logit difference {exact.adapter_effect:.1e}).",
            hint="Was it trained? Its B matrices are zero.",
        )
    if exact.max_logit_diff > 0.1 * exact.adapter_effect or exact.top1 < _SAME_TOP:
        raise ExportError(f"The merged weights do not say what the adapter says: {asdict(exact)}.")


def base_of_adapter(adapter: Path) -> str:
    """The base that an adapter was trained on, as its config names it."""
    try:
        named = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8")).get("base_model_name_or_path")
    except FileNotFoundError:
        raise ExportError(
            f"{adapter}: not an adapter, it has no adapter_config.json.",
            hint="Name the adapter folder of a run, such as runs/NAME/adapter.",
        ) from None
    except (OSError, ValueError) as error:
        raise ExportError(f"{adapter / 'adapter_config.json'}: cannot be read ({error}).") from None
    if not named:
        raise ExportError(
            f"{adapter}: the adapter does not say which base it was trained on.", hint="Name it with --base."
        )
    return str(named)


def stored_dtype(folder: ModelFolder) -> torch.dtype:
    """The type of the base's weights on disk; 32-bit ones are merged into bfloat16's larger sister, float16."""
    dtype: torch.dtype = getattr(torch, folder.dtype())
    return torch.float16 if dtype == torch.float32 else dtype


@torch.no_grad()
def _logits(model: nn.Module, prompts: Sequence[dict[str, Any]]) -> list[torch.Tensor]:
    return [model(**prompt).logits[prompt["attention_mask"].bool()].float() for prompt in prompts]


def _compare(wanted: list[torch.Tensor], got: list[torch.Tensor], before: list[torch.Tensor]) -> MergeParity:
    a, b, c = (torch.cat(part) for part in (wanted, got, before))
    return MergeParity(
        (a - b).abs().max().item(),
        (a.argmax(-1) == b.argmax(-1)).float().mean().item(),
        (a - c).abs().max().item(),
        len(a),
    )
