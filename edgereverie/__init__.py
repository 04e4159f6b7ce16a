"""Tune small vision-language models against hallucination, export them, and run them with their claims checked.

Importing this package is cheap: each name below loads its module when it is first used, and none of them loads torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_WHERE = {
    "Answer": "records",
    "Bundle": "bundle",
    "Claim": "records",
    "EdgeReverieError": "errors",
    "ImageSpec": "records",
    "Options": "records",
    "PreferencePair": "records",
    "Recipe": "recipe",
    "Responder": "records",
    "Sample": "records",
    "Turn": "records",
    "load_recipe": "recipe",
    "open_model": "stages",
}
__all__ = ["__version__", *_WHERE]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
