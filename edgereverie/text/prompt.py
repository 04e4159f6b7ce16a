"""Prompts that ship in the package: one text file for each, known by its SHA-256."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from string import Template


@dataclass(frozen=True, slots=True)
class Prompt:
    """A text with ``$blanks``. sha256: of the text as it lies in the package."""

    name: str
    text: str
    sha256: str

    def filled(self, **blanks: str) -> str:
        """The text with every blank filled. A blank without a value, or a value without a blank, is a KeyError."""
        template = Template(self.text)
        if unknown := set(blanks) - set(template.get_identifiers()):
            raise KeyError(*sorted(unknown))
        return template.substitute(blanks).strip()


@cache
def shipped_prompt(package: str, name: str) -> Prompt:
    """NAME.txt of a package of prompts."""
    content = (files(package) / f"{name}.txt").read_bytes()
    return Prompt(name, content.decode("utf-8"), hashlib.sha256(content).hexdigest())
