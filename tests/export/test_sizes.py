"""What the catalogue says that files weigh is what they weigh."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from edgereverie.backbones._sizes import gguf_bytes
from edgereverie.backbones.base import ModelFolder
from edgereverie.bundle import Bundle


@pytest.mark.parametrize("profile", ["gguf-f16", "gguf-q8-0", "gguf-q4-k-m"])
def test_gguf_tensors(profile: str, tiny: ModelFolder, bundles: Callable[[str], Bundle]) -> None:
    """To the byte, in the types that this llama.cpp mixes."""
    gguf = pytest.importorskip("gguf")
    if profile == "gguf-q4-k-m":
        pytest.importorskip("llama_cpp")
    tensors = gguf.GGUFReader(bundles(profile).file("model")).tensors
    quantization = profile.removeprefix("gguf-").upper().replace("-", "_")
    assert gguf_bytes(tiny.config["text_config"], quantization) == sum(int(tensor.n_bytes) for tensor in tensors)
