"""Fixtures of the backbones' tests."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's client reads HF_HUB_OFFLINE once, when it is imported, which may have been before."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    """The writers of tiny published checkpoints, in ``_tiny.py``."""
    pytest.importorskip("transformers").logging.set_verbosity_error()
    spec = importlib.util.spec_from_file_location("_tiny_checkpoints", Path(__file__).parent / "_tiny.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
