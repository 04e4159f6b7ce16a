"""Several processes, one run: who writes, who waits, and how their gradients come together.

``accelerate launch`` (or torchrun) starts the same command once for each card or machine. Each takes its part of every step's
batch, and the result is that of one process with the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

from accelerate import PartialState
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from edgereverie.backbones.base import device

Result = TypeVar("Result")


def is_main() -> bool:
    """Whether this process is the one that writes. True where there is only one."""
    return _state().is_main_process


@contextmanager
def main_first() -> Iterator[None]:
    """The main process does what stands inside before the others do it, so that these find it done."""
    with _state().main_process_first():
        yield


def _state() -> PartialState:
    """What accelerate knows of this process and the others; joins them at the first call."""
    # What one process does first may be a search of hours; torch would give the others up after minutes.
    return PartialState(cpu=device() == "cpu", timeout=timedelta(days=7))


def inside(model: nn.Module, work: Callable[[nn.Module], Result]) -> Result:
    """What ``work`` makes of the model itself.

    DistributedDataParallel brings only those gradients together whose forward went through its own; a loss that calls a
    model's parts does not. So the work takes the forward's place for that time.
    """
    if not isinstance(model, DistributedDataParallel):
        return work(model)
    inner = model.module
    before = inner.__dict__.get("forward")
    inner.forward = lambda work: work(inner)
    try:
        return model(work)
    finally:
        del inner.forward
        if before is not None:
            inner.forward = before
