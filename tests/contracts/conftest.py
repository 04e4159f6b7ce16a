"""Models that the contracts are checked on: the runtime's own fixtures, and the starter as bundles."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

from edgereverie.registry import BACKENDS

RUNTIME = Path(__file__).parents[1] / "runtime"
PROFILES = {"gguf": "gguf-f16", "onnx": "onnx-fp32"}


def module(name: str) -> ModuleType:
    """A test module of tests/runtime, by its name."""
    spec = importlib.util.spec_from_file_location(name, RUNTIME / f"{name}.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.fixture(scope="session")
def talking() -> ModuleType:
    """tests/runtime/_talker.py"""
    return module("_talker")


@pytest.fixture(scope="session")
def starter_at(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The shipped starter as what a backend loads; a bundle is exported when it is first asked for."""
    pytest.importorskip("transformers")
    from edgereverie.backbones import starter
    from edgereverie.export.base import load_profile
    from edgereverie.export.write import export_bundle

    @cache
    def find(backend: str) -> Path:
        chosen = BACKENDS.get(backend)
        for package in chosen.packages:
            if find_spec(package) is None:
                pytest.skip(f"the {backend} backend needs {package}")
        target = chosen.targets[0]
        if target == "torch":
            return starter.shipped().path
        out = tmp_path_factory.mktemp("starter") / target
        export_bundle(starter.shipped(), load_profile(PROFILES[target]), out, made_from={})
        return out

    return find
