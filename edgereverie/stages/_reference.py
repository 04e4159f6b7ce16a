"""The model that bundles are compared with, in 32 bit, also where 32 bits of all its weights have no room."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgereverie.stages.backbones import open_model

if TYPE_CHECKING:
    from torch import nn

    from edgereverie.backbones.base import ModelFolder
    from edgereverie.runtime.engine import Engine

_SPARE = 0.85  # share of the free memory that weights may take
_HALVES = {"float16": "fp16", "bfloat16": "bf16"}


@contextmanager
def reference_engine(folder: ModelFolder) -> Iterator[Engine]:
    """The model in PyTorch on the CPU or a card, its products in 32 bit."""
    if folder.dtype() in _HALVES and 4 * _weights(folder) > _SPARE * available_bytes():
        from edgereverie.runtime.backends.hf import HfEngine

        model = folder.load(_HALVES[folder.dtype()], on="cpu")
        widen_by_layer(model)
        yield HfEngine(model, folder.context)
        return
    with open_model(str(folder.path), precise=True) as model:
        yield model.engine


def widen_by_layer(model: nn.Module) -> None:
    """Compute a 16-bit model in 32 bit, each block's weights widened while it is at work.

    The logits are those of the model loaded in 32 bit, to the last bit, for half of its memory and the time of widening
    all weights in every pass.
    """
    from torch import nn

    blocks = [block for inner in model.modules() if isinstance(inner, nn.ModuleList) and not _is_inside(model, inner)
              for block in inner]  # fmt: skip
    widened = {id(weight) for block in blocks for weight in (*block.parameters(), *block.buffers())}
    for tensor in (*model.parameters(), *model.buffers()):
        if id(tensor) not in widened and tensor.is_floating_point():
            tensor.data = tensor.data.float()
    for block in blocks:
        narrow: list[tuple[Any, Any]] = []

        def widen(module: nn.Module, *_: Any, narrow: list[tuple[Any, Any]] = narrow) -> None:
            for tensor in (*module.parameters(), *module.buffers()):
                if tensor.is_floating_point():
                    narrow.append((tensor, tensor.data))
                    tensor.data = tensor.data.float()

        def forget(*_: Any, narrow: list[tuple[Any, Any]] = narrow) -> None:
            while narrow:
                tensor, data = narrow.pop()
                tensor.data = data

        block.register_forward_pre_hook(widen)
        block.register_forward_hook(forget, always_call=True)


def _is_inside(model: nn.Module, inner: nn.Module) -> bool:
    """Whether a list of modules lies inside another list, as experts do in a block."""
    from torch import nn

    lists = [one for one in model.modules() if isinstance(one, nn.ModuleList) and one is not inner]
    return any(inner is part for one in lists for part in one.modules())


def _weights(folder: ModelFolder) -> int:
    from edgereverie.export.shapes import shapes_of

    return shapes_of(folder).total


def available_bytes() -> int:
    """Memory that is free or can be freed; a terabyte where the system does not tell."""
    path = Path("/proc/meminfo")
    lines = path.read_text(encoding="ascii", errors="replace").splitlines() if path.is_file() else []
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return found[0] if found else 1 << 40
