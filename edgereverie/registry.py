"""Registries: the folder is the list.

A registry is a package whose modules each expose one named object, such as ``BACKEND`` or ``METHOD``. Names are listed
without importing anything; a module is imported when its name is asked for, so ``--help`` loads no torch. Packages
outside join by an entry-point group of the same name as the package (``edgereverie.runtime.backends``, say).
"""

from __future__ import annotations

import difflib
import pkgutil
from collections.abc import Iterable
from functools import cached_property
from importlib import import_module, metadata
from importlib.util import find_spec
from typing import Any

from edgereverie.errors import EdgeReverieError


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence that suggests the nearest known name, and lists all of them.

    >>> did_you_mean("llamacp", ["hf", "llamacpp"])
    "Did you mean 'llamacpp'? Known: hf, llamacpp."
    >>> did_you_mean("x", ["hf"])
    'Known: hf.'
    """
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1)
    return (f"Did you mean {near[0]!r}? " if near else "") + f"Known: {', '.join(known)}."


class Registry:
    """Objects called ``attribute``, one in each module of ``package``.

    kind: the word for one of them in messages. A module whose name starts with an underscore, or equals ``base``, is
    not an entry. An ImportError inside an entry's module passes through untouched: it is not "unknown name".
    """

    def __init__(self, kind: str, package: str, attribute: str) -> None:
        self.kind = kind
        self.package = package
        self.attribute = attribute

    def names(self) -> list[str]:
        """All names, sorted, without importing the entries."""
        spec = find_spec(self.package)
        folders = list(spec.submodule_search_locations or []) if spec else []
        own = [m.name for m in pkgutil.iter_modules(folders) if not m.name.startswith("_") and m.name != "base"]
        return sorted({*own, *self._outside})

    def get(self, name: str) -> Any:
        """The object of that name. Raises EdgeReverieError with the nearest names when there is none."""
        if name in self._outside:
            return self._outside[name].load()
        if name not in self.names():
            raise EdgeReverieError(f"Unknown {self.kind} {name!r}.", hint=did_you_mean(name, self.names()))
        return getattr(import_module(f"{self.package}.{name}"), self.attribute)

    @cached_property
    def _outside(self) -> dict[str, metadata.EntryPoint]:
        """Looked up once: it reads a file of every installed package."""
        return {entry.name: entry for entry in metadata.entry_points(group=self.package)}


BACKBONES = Registry("backbone", "edgereverie.backbones", "BACKBONE")
SOURCES = Registry("data source", "edgereverie.data.sources", "SOURCE")
METHODS = Registry("tuning method", "edgereverie.tuning.methods", "METHOD")
TARGETS = Registry("export target", "edgereverie.export.targets", "TARGET")
BACKENDS = Registry("runtime backend", "edgereverie.runtime.backends", "BACKEND")
GUARDS = Registry("guard", "edgereverie.runtime.guards", "GUARD")
BENCHMARKS = Registry("benchmark", "edgereverie.evaluation.benchmarks", "BENCHMARK")
SIMILARITIES = Registry("similarity of words", "edgereverie.evaluation.similarities", "SIMILARITY")
