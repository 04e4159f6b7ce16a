"""A conversation as a file: JSON for programs, HTML for people."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from edgereverie.records import Answer
from edgereverie.told.markup import page
from edgereverie.told.parts import Why, figures
from edgereverie.told.values import json_of

VERSION = 1
Said = Iterable[tuple[Path | None, str, Answer]]
"""Picture, question and answer, in the order in which they were said."""


def transcript_json(model: str, said: Said, why: Why = figures) -> str:
    """One object: edgereverie "transcript", version, model, and a list of exchanges with image, question and answer."""
    exchanges = [
        {"image": str(image) if image else None, "question": question, "answer": json_of(answer, why)}
        for image, question, answer in said
    ]
    values = {"edgereverie": "transcript", "version": VERSION, "model": model, "exchanges": exchanges}
    return json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def transcript_html(model: str, said: Said, why: Why = figures) -> str:
    """A page that loads nothing; pictures are in it. Raises DataError for a picture that is no longer there."""
    return page(f"A conversation with {model}", said, why)
