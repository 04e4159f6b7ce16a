"""Runs on disk: everything that comparing and reporting need, so that no model is asked twice.

    folder/runs/LABEL.json     {"edgereverie": "kept run", "version": 1, "label": ..., "runs": [...]}

Answers are kept with their claims and confidence, without the record of their tokens. Each way of scoring names the source of
its rule, the counts of each unit and what it made of each answer. Questions come back as plain ``Item``s.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgereverie import __version__
from edgereverie.bundle import write_text
from edgereverie.errors import DataError
from edgereverie.evaluation.kept_rows import run_from_json, run_json
from edgereverie.evaluation.rows import parsed, text_of, value_of
from edgereverie.evaluation.run import Run

VERSION = 1
KIND = "kept run"


@dataclass(frozen=True, slots=True, eq=False)
class KeptRun:
    """What one model said on one or more benchmarks, and what the scorers made of it.

    label: what people call it ("starter", "Q8_0 GGUF"). artefact: fingerprint of what answered, empty where not known. guard: the
    guards that it answered with. versions: of the packages that took part; edgereverie's is that of the scorers.
    """

    label: str
    backend: str
    artefact: str
    guard: str
    seed: int
    versions: Mapping[str, str] = field(default_factory=dict)
    runs: tuple[Run, ...] = ()


def keep(folder: Path, kept: KeptRun) -> Path:
    """Write ``folder``/runs/LABEL.json, written beside and renamed; an earlier one of the same label is replaced.

    Paths of pictures inside ``folder`` are kept relative to it, so that the folder can move.
    """
    path = folder / "runs" / f"{file_name(kept.label)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {
        "edgereverie": KIND,
        "version": VERSION,
        "label": kept.label,
        "backend": kept.backend,
        "artefact": kept.artefact,
        "guard": kept.guard,
        "seed": kept.seed,
        "versions": {"edgereverie": __version__, **kept.versions},
        "runs": [run_json(run, folder.resolve()) for run in kept.runs],
    }
    write_text(path, json.dumps(values, allow_nan=False) + "\n")
    return path


def load(path: Path) -> list[KeptRun]:
    """The runs of a file, or of a folder with ``runs/`` in the order of its report. Raises DataError for anything else.

    It says in which file what is missing, of a wrong type, or does not belong to the rest.
    """
    if path.is_file():
        return [_load(path)]
    files = sorted((path / "runs").glob("*.json"))
    if not files:
        raise DataError(
            f"{path}: no kept runs are there.",
            hint="Name a report folder that `edgereverie eval` or `score --out` wrote, or a file of its runs/.",
        )
    kept = [_load(file) for file in files]
    order = {label: place for place, label in enumerate(_reported(path / "report.json"))}
    return sorted(kept, key=lambda one: order.get(one.label, len(order)))


def _load(path: Path) -> KeptRun:
    row = parsed(text_of(path), str(path))
    if not isinstance(row, dict) or (row.get("edgereverie"), row.get("version")) != (KIND, VERSION):
        raise DataError(
            f"{path}: not a version {VERSION} kept run of edgereverie.",
            hint="`edgereverie eval` and `edgereverie score --out` write them into FOLDER/runs.",
        )
    where, told = str(path), {}
    for key in ("label", "backend", "artefact", "guard"):
        told[key] = value_of(row, key, str, where)
    versions = value_of(row, "versions", dict, where)
    for package in versions:
        value_of(versions, package, str, f"{where}, versions")
    folder = path.resolve().parent.parent
    runs = [
        run_from_json(run, folder, f"{where}, run {number}")
        for number, run in enumerate(value_of(row, "runs", list, where), start=1)
    ]
    return KeptRun(**told, seed=value_of(row, "seed", int, where), versions=versions, runs=tuple(runs))


def file_name(label: str) -> str:
    """A name for a file on every system; labels that would share one get some of their hash.

    >>> file_name("Q8_0 GGUF"), file_name("starter-int4")
    ('Q8_0-GGUF-5d3aec', 'starter-int4')
    """
    plain = re.sub(r"[^A-Za-z0-9_.+-]+", "-", label).strip("-.")[:80]
    if plain == label:
        return plain
    return f"{plain or 'run'}-{hashlib.sha256(label.encode()).hexdigest()[:6]}"


def _reported(report: Path) -> list[str]:
    """Labels in the order of the report beside the runs; empty where there is none."""
    try:
        runs = json.loads(report.read_text(encoding="utf-8"))["runs"]
        return [str(run["label"]) for run in runs]
    except (OSError, ValueError, KeyError, TypeError):
        return []
