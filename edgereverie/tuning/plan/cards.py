"""The machines that a run may be planned for: this one, and cards by their memory."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import torch

from edgereverie.backbones.base import DTYPES, device
from edgereverie.tuning import processor

_GIB = 2**30
# bf16 products with 32-bit sums, dense, in 10^12 operations per second, from the makers' white papers (GA102, AD102).
_CARDS = {8: ("GeForce RTX 4060", 30.2), 12: ("GeForce RTX 3060", 25.5), 16: ("GeForce RTX 4060 Ti", 44.1),
          24: ("GeForce RTX 3090", 71.2)}  # fmt: skip
CARDS = tuple(_CARDS)
_USED = 0.4  # share of a card's rate that training reaches; published runs of this size lie between 0.3 and 0.5
_CONTEXT = 500 * 2**20  # what CUDA itself takes of a card
_SPLIT = 0.03  # of what is allocated, lost between blocks
# The C library (glibc 2.36) keeps what is freed of blocks below 32 MB and fits new ones into it badly; larger blocks go back
# to the system at once. Beside what such blocks hold at the peak, 0.45 to 1.15 times of it were measured, the most after 20
# steps of ever other shapes; and twice of it where layers are computed again, for each is then allocated and freed twice.
# Two equal runs differ by 0.2. See benchmarks/memory.py, of whose first six cases these are.
_HOLES = 0.85
_HOLES_RECOMPUTED = 2.0
_RUN = (
    "peft",
    "bitsandbytes",
    "accelerate",
    "edgereverie.tuning.trainer",
    "torch.utils.tensorboard",
)  # what a run imports


@dataclass(frozen=True, slots=True)
class Machine:
    """room: bytes that a run may take, itself included; 0 where nobody knows. rate: operations per second that it reaches.
    call: seconds that each kernel takes at least. fixed: bytes that are there before anything is loaded. here: whether a run
    would grow in this very process, or one like it.
    """

    name: str
    cuda: bool
    precision: str
    room: int
    rate: float
    call: float
    fixed: int
    here: bool = False

    def lost(self, allocated: int, small: int, *, recomputed: bool = False) -> int:
        """Bytes that the allocator holds beside what is in use. small: what is in use in blocks below 32 MB. recomputed:
        whether layers are computed again for their gradients (checkpointing).
        """
        if self.cuda:
            return int(_SPLIT * allocated)
        if not self.here or sys.platform != "linux":
            return 0
        return int((_HOLES_RECOMPUTED if recomputed else _HOLES) * small)

    def without_model(self) -> int:
        """``fixed``, and in this process what planning itself has left, which a run then begins with."""
        if not self.here:
            return self.fixed
        return max(self.fixed, _resident()) + (processor.code_bytes() if self.precision == "bf16" else 0)


def named_card(gigabytes: int, precision: str) -> Machine:
    """A card of so many GB. Its speed is that of a known card of this memory; not measured here."""
    name, rate = _CARDS[gigabytes]
    chosen = "bf16" if precision == "auto" else precision
    slower = 2 if chosen == "fp32" else 1
    return Machine(f"{gigabytes} GB ({name})", True, chosen, gigabytes * _GIB, 1e12 * rate * _USED / slower, 5e-6,
                   _CONTEXT)  # fmt: skip


def this_machine(precision: str, hidden: int) -> Machine:
    """The card that torch sees, or this computer's processor; ``hidden``: the width of products, whose rate is measured."""
    kind = device()
    dtype = getattr(torch, DTYPES[precision])
    rate = _measured(kind, dtype, hidden)
    if kind == "cuda":
        name, room = torch.cuda.get_device_name(), torch.cuda.get_device_properties(0).total_memory
        return Machine(name, True, precision, room, rate * _USED, 5e-6, _CONTEXT)
    for name in _RUN:
        with suppress(ImportError):
            import_module(name)
    fixed = _resident()
    return Machine("this CPU", False, precision, _available() + fixed if _available() else 0, rate, 15e-6, fixed, True)


def _measured(kind: str, dtype: torch.dtype, hidden: int) -> float:
    """Operations per second in products of a training step's shape; a fifth of a second."""
    a = torch.randn(512, hidden, device=kind, dtype=dtype)
    b = torch.randn(hidden, 4 * hidden, device=kind, dtype=dtype)
    (a @ b).sum().item()
    done, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < 0.2:
        (a @ b).sum().item()
        done += 1
    return done * 2 * a.numel() * b.shape[1] / spent


def _available() -> int:
    return _kilobytes(Path("/proc/meminfo"), "MemAvailable:")


def _resident() -> int:
    """What this process holds: the interpreter with the libraries of a run."""
    return _kilobytes(Path("/proc/self/status"), "VmRSS:")


def _kilobytes(path: Path, key: str) -> int:
    if not path.is_file():
        return 0
    lines = (line.split() for line in path.read_text(encoding="ascii", errors="replace").splitlines())
    return next((1024 * int(line[1]) for line in lines if line[:1] == [key]), 0)
