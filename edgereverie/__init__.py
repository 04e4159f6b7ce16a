"""Tune small vision-language models against hallucination, export them, and run them with their claims checked.

    import edgereverie as er

    model = er.load("starter")                            # or a bundle, a model folder, a hub id that was downloaded
    print(model.ask("photo.jpg", "Is there a ring?"))

``ask`` returns an ``Answer``: printed it is its text, and ``answer.claims`` says of each thing that it names whether the
picture supports it. ``guards="verify"`` takes back what the picture contradicts, ``stream=True`` gives the answer as it
comes, and other keywords are those of ``Options`` (``max_tokens=64, temperature=0.7``):

    with er.load("starter") as model:                     # gives its memory back at the end
        for event in model.ask("photo.jpg", "Describe the image.", guards="verify", stream=True):
            ...                                           # Piece, Retraction, and at the end Done

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
    "Done": "runtime.request",
    "EdgeReverieError": "errors",
    "ImageSpec": "records",
    "Options": "records",
    "Piece": "runtime.request",
    "PreferencePair": "records",
    "Recipe": "recipe",
    "Responder": "records",
    "Retraction": "runtime.request",
    "Sample": "records",
    "Session": "runtime.session",
    "Turn": "records",
    "load": "stages",
    "load_recipe": "recipe",
}
__all__ = ["__version__", *_WHERE]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
