"""A model that is ready to answer, and the pictures that a command line means."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgereverie.errors import DataError
from edgereverie.stages.backbones import open_model

if TYPE_CHECKING:
    from edgereverie.runtime.model import Model
    from edgereverie.runtime.sight import Picture

STDIN = Path("-")


def load(model: str | os.PathLike[str], *, backend: str = "auto", device: str = "auto") -> Model:
    """A bundle, a merged model folder, ``starter``, or a hub id that was downloaded before, ready to answer: offline.

    backend: ``llamacpp``, ``onnxrt`` or ``hf``; ``auto`` takes what the model is made for. device: ``cpu``, ``cuda``, or
    ``auto`` for CUDA where it works. Use the result as a context
    manager, or close it. Raises EdgeReverieError with what is wrong and what to do about it.
    """
    return open_model(str(model), backend=backend, device=device)


@dataclass(frozen=True, slots=True)
class Named:
    """A picture and what it is called; the name of no picture is empty."""

    name: str
    picture: Picture


def pictures(paths: Sequence[Path]) -> tuple[list[Named], list[str]]:
    """The pictures that the paths mean, in their order, and the names of what was passed over.

    A file is one picture, a folder all of its pictures by name (those in folders inside it are not), and ``-`` the picture
    whose bytes come on standard input. Without paths there is one: none. Every named file is decoded, so that what cannot
    be read is told before a model is loaded; of a folder's files only the beginning is looked at, and what is no picture is
    passed over. Raises DataError.
    """
    from edgereverie.image import open_image

    found: list[Named] = []
    passed: list[str] = []
    for path in paths:
        if path == STDIN:
            found.append(Named("-", open_image(sys.stdin.buffer.read())))
        elif path.is_dir():
            here, others = _in_folder(path)
            found += here
            passed += others
        else:
            open_image(path)
            found.append(Named(str(path), path))
    return found or [Named("", None)], passed


def _in_folder(folder: Path) -> tuple[list[Named], list[str]]:
    from edgereverie.data.looks import glance, image_root

    root = image_root(folder)
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_file())
    usable = [name for name in names if not glance(root, name)[1].kind]
    if not usable:
        raise DataError(
            f"{folder}: none of its {len(names)} files is a picture that can be read.",
            hint="Name a folder of pictures; those in folders inside it are not looked for.",
        )
    return [Named(str(folder / name), folder / name) for name in usable], [n for n in names if n not in set(usable)]
