"""The README.md of a trained adapter or model: what it was made from, by which command, and what it may be used for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgereverie import __version__
from edgereverie.bundle import write_text
from edgereverie.recipe import Recipe

if TYPE_CHECKING:
    from edgereverie.tuning.qlora import Trainable


def losses(log: Path) -> list[tuple[int, float]]:
    """(step, loss) of each line of a run's log.jsonl."""
    if not log.is_file():
        return []
    entries = map(json.loads, log.read_text(encoding="utf-8").splitlines())
    return [(entry["step"], entry["loss"]) for entry in entries]


def write(result: Path, recipe: Recipe, counts: Mapping[str, Any], numbers: Trainable, log: Path) -> None:
    """Write README.md into the result folder, in the form that model hubs read (YAML header, then text)."""
    curve = losses(log)
    train = recipe.train
    quantized = "4-bit NF4" if recipe.backbone.quantization == "nf4" else "unquantized"
    trained = f"{numbers.adapter:,} in the adapter" if numbers.adapter else f"{numbers.whole:,}"
    lines = [
        "---",
        f"base_model: {recipe.backbone.model}",
        "library_name: peft" if numbers.adapter else "library_name: transformers",
        "pipeline_tag: image-text-to-text",
        "tags: [edgereverie, hallucination]",
        "---",
        "",
        f"# {recipe.name}",
        "",
        f"Made by edgereverie {__version__} with the recipe `recipe.yaml` beside this folder "
        f"(method `{train.method}`, seed {train.seed}).",
        "",
        f"- Base: `{recipe.backbone.model}`, {quantized} while training, {numbers.total:,} parameters; trained: {trained}.",
        f"- Steps: {curve[-1][0] if curve else 0:,} of {train.batch_size * train.accumulation} samples, "
        f"learning rate {train.learning_rate:g}.",
        f"- Loss: {curve[0][1]:.3f} at step {curve[0][0]}, {curve[-1][1]:.3f} at the end."
        if curve
        else "- Loss: not logged.",
        "",
        "## Data",
        "",
        "```json",
        json.dumps(counts, indent=2, ensure_ascii=False),
        "```",
        "",
        "The licences of base model and data hold for this result too.",
        "",
    ]
    write_text(result / "README.md", "\n".join(lines))
