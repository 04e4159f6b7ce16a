"""The words that teachers are asked with: one text file for each, named on the data card by its SHA-256."""

from __future__ import annotations

from edgereverie.text.prompt import Prompt, shipped_prompt


def prompt(name: str) -> Prompt:
    """The shipped prompt of that name."""
    return shipped_prompt(__name__, name)
