"""Which backend runs a model, and what it computes on: the first that works, named, and never silently another."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

from edgereverie.errors import BackendError, EdgeReverieError, MissingPackage
from edgereverie.registry import BACKENDS
from edgereverie.runtime.engine import Backend, require_packages

Device = Literal["auto", "cpu", "cuda"]
VARIABLE = "EDGEREVERIE_DEVICE"
T = TypeVar("T")
_log = logging.getLogger(__name__)


def backend_for(name: str, target: str, path: Path) -> Backend:
    """The backend of that name, or with ``auto`` the first that runs ``target`` and has its packages.

    Raises BackendError for one that runs something else, MissingPackage where none has its packages.
    """
    fitting = [BACKENDS.get(known) for known in BACKENDS.names() if target in BACKENDS.get(known).targets]
    if name == "auto":
        if not fitting:
            raise BackendError(f"{path}: no backend runs {target!r}.", hint="Was the bundle made by a newer version?")
        return next((backend for backend in fitting if _installed(backend)), fitting[0])
    backend: Backend = BACKENDS.get(name)
    if target not in backend.targets:
        raise BackendError(
            f"{path}: the backend {name!r} runs {', '.join(backend.targets)}, this is {target!r}.",
            hint=f"Use backend {' or '.join(one.name for one in fitting)}, or 'auto'.",
        )
    return backend


def asked_for(device: str) -> str:
    """``cpu``, ``cuda`` or ``auto``: the argument, and where that is ``auto`` the environment's EDGEREVERIE_DEVICE.

    >>> asked_for("cuda")
    'cuda'
    """
    source, found = ("device", device) if device != "auto" else (VARIABLE, os.environ.get(VARIABLE, "") or "auto")
    if found not in ("auto", "cpu", "cuda"):
        raise BackendError(f"{source} is {found!r}.", hint="Use auto, cpu or cuda.")
    return found


def on_device(asked: str, lacking: str, load: Callable[[str], T], title: str) -> T:
    """What ``load`` makes on CUDA where it is wanted and works, else on the CPU.

    asked: see ``asked_for``. lacking: why this runtime has no CUDA, empty where it has. title: of what is loaded. With
    ``auto`` a CUDA that is there and fails is told in a warning before the CPU is used; with ``cuda`` it is an error.
    """
    if asked == "cuda" and lacking:
        raise BackendError(f"{title}: CUDA was asked for, and {lacking}.", hint="Use device cpu, or auto.")
    if asked == "cpu" or lacking:
        return load("cpu")
    try:
        return load("cuda")
    except MissingPackage:
        raise
    except EdgeReverieError as error:
        if asked == "cuda":
            raise
        _log.warning("%s: CUDA is there and does not work (%s) The CPU is used.", title, error)
        return load("cpu")


def _installed(backend: Backend) -> bool:
    try:
        require_packages(backend)
    except MissingPackage:
        return False
    return True
