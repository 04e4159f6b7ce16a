"""The README.md of a trained adapter or model: what it was made from, by which command, and what it may be used for."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgereverie import __version__
from edgereverie.bundle import write_text
from edgereverie.recipe import Recipe
from edgereverie.records import PreferencePair, Sample

if TYPE_CHECKING:
    from edgereverie.tuning.qlora import Trainable

NOT_STATED = "not stated"


def losses(log: Path) -> list[tuple[int, float]]:
    """(step, loss) of each line of a run's log.jsonl."""
    if not log.is_file():
        return []
    entries = map(json.loads, log.read_text(encoding="utf-8").splitlines())
    return [(entry["step"], entry["loss"]) for entry in entries]


def sources(records: Sequence[Sample | PreferencePair]) -> list[tuple[str, str, int]]:
    """(source, licence, records) of what was learned from, the largest first; ``not stated`` where the data do not tell."""
    counted = Counter((record.source or NOT_STATED, record.licence or NOT_STATED) for record in records)
    return [(source, licence, count) for (source, licence), count in counted.most_common()]


def read_sources(readme: Path) -> list[tuple[str, str, int]]:
    """What ``sources`` gave when this README.md was written."""
    found = []
    for line in readme.read_text(encoding="utf-8").partition("\n## Data\n")[2].partition("\n```")[0].splitlines():
        cells = [cell.strip() for cell in line.replace("\\|", "\0").strip().strip("|").split("|")]
        if len(cells) == 3 and cells[2].replace(",", "").isdecimal():
            source, licence = (cell.replace("\0", "|") for cell in cells[:2])
            found.append((source, licence, int(cells[2].replace(",", ""))))
    return found


def base_licence(model: str) -> str:
    """The licence of a published base, and of the language model under it where that is another; else where to look."""
    from edgereverie.backbones._catalogue import catalogue

    found = next((one for one in catalogue() if one.id == model), None)
    if found is None:
        return f"{NOT_STATED} here; see the base's own card"
    return found.licence + (f", and of the language model under it: {found.base_licence}" if found.base_licence else "")


def write(
    result: Path,
    recipe: Recipe,
    counts: Mapping[str, Any],
    numbers: Trainable,
    log: Path,
    records: Sequence[Sample | PreferencePair],
) -> None:
    """Write README.md into the result folder, in the form that model hubs read (YAML header, then text)."""
    curve = losses(log)
    train = recipe.train
    quantized = "4-bit NF4" if recipe.backbone.quantization == "nf4" else "unquantized"
    trained = f"{numbers.adapter:,} in the adapter" if numbers.adapter else f"{numbers.whole:,}"
    lines = [
        "---",
        f"base_model: {json.dumps(recipe.backbone.model, ensure_ascii=False)}",
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
        f"- Steps: {curve[-1][0] if curve else 0:,} of {train.batch_size * train.accumulation} {_unit(records)}, "
        f"learning rate {train.learning_rate:g}.",
        f"- Loss: {curve[0][1]:.3f} at step {curve[0][0]}, {curve[-1][1]:.3f} at the end."
        if curve
        else "- Loss: not logged.",
        f"- Recipe `sha256:{recipe.fingerprint()}`; the data's fingerprint stands in `run.json` beside this folder.",
        "",
        "## Data",
        "",
        "| source | licence | records |",
        "|---|---|---|",
        *(f"| {_cell(source)} | {_cell(licence)} | {count:,} |" for source, licence, count in sources(records)),
        "",
        "```json",
        json.dumps(counts, indent=2, ensure_ascii=False),
        "```",
        "",
        "## Licences",
        "",
        f"Base model `{recipe.backbone.model}`: {base_licence(recipe.backbone.model)}. The licences of base model and data "
        "hold for this result too.",
        "",
    ]
    write_text(result / "README.md", "\n".join(lines))


def _unit(records: Sequence[Sample | PreferencePair]) -> str:
    return "pairs" if records and isinstance(records[0], PreferencePair) else "samples"


def _cell(text: str) -> str:
    """Text that stays in its cell of a Markdown table.

    >>> _cell("a|b")
    'a\\\\|b'
    """
    return " ".join(text.split()).replace("|", "\\|")
