"""Every example in a docstring does what it says."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import edgereverie

_PACKAGE = Path(edgereverie.__file__).parent
_HEAVY = {"tuning": "peft", "backbones": "torch", "export": "torch", "runtime": "onnxruntime"}
WITH_EXAMPLES = sorted(path for path in _PACKAGE.rglob("*.py") if ">>> " in path.read_text(encoding="utf-8"))


def test_there_are_examples() -> None:
    assert len(WITH_EXAMPLES) >= 8
    assert {"records.py", "registry.py", "chat.py", "wording.py", "world.py"} <= {path.name for path in WITH_EXAMPLES}


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: path.relative_to(_PACKAGE).as_posix())
def test_examples(path: Path) -> None:
    parts = path.relative_to(_PACKAGE).with_suffix("").parts
    if parts[0] in _HEAVY:
        pytest.importorskip(_HEAVY[parts[0]])
    result = doctest.testmod(import_module(".".join(("edgereverie", *parts))), report=True)
    assert result.attempted > 0 and result.failed == 0
