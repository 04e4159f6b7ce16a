"""Memory and arithmetic of a computation that is not done: every tensor it would make, for as long as it would live.

The computation runs on fake tensors, which have shapes and types and no values. What is counted is therefore what the code
itself does (checkpointing, masks of trees, logits in pieces, a second pass for a reference), not a formula about it.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

_aten = torch.ops.aten
SMALL = 32 * 2**20  # bytes from which glibc maps a block by itself, whatever it has learned


class Ledger(TorchDispatchMode):
    """Inside, each new tensor is booked under a part while it lives. live, peak: bytes by part; small: bytes at the peak
    in storages below 32 MB; flops: of all products; calls: of kernels.

    name: which part a tensor belongs to. routed: of a boolean table (tokens, choices), which an expert picks its tokens by,
    how many of its entries are true; picked: of a boolean row of so many, how many are. Fake tensors cannot tell.
    """

    def __init__(
        self,
        name: Callable[[Tensor], str],
        *,
        routed: Callable[[Tensor], int],
        picked: Mapping[int, int],
    ) -> None:
        super().__init__()
        self.name, self.routed, self.picked = name, routed, picked
        self.live: Counter[str] = Counter()
        self.peak: Counter[str] = Counter()
        self.flops = self.calls = 0
        self.small = 0
        self._highest = self._small = 0
        self._parts: dict[int, tuple[str, int]] = {}
        self._watched: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def book(self, tensors: Iterable[Tensor], part: str) -> None:
        """Put tensors that exist, or what they were booked under, under ``part``."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            if (found := self._parts.get(storage._cdata)) is not None:
                self.live[found[0]] -= found[1]
                self._small -= found[1] if found[1] < SMALL else 0
            self._open(storage, part)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        self.calls += 1
        out = self._untold(func, args, kwargs)
        if out is None:
            out = func(*args, **kwargs)
        if (count := flop_registry.get(getattr(func, "_overloadpacket", None))) is not None:
            self.flops += count(*args, **kwargs, out_val=out)
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and (storage := leaf.untyped_storage())._cdata not in self._parts:
                self._open(storage, self.name(leaf))
        return out

    def _untold(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Results whose sizes hang on values: given the sizes that this ledger was told."""
        if func is _aten.nonzero.default:
            return args[0].new_zeros((self.routed(args[0]), args[0].ndim), dtype=torch.long)
        if func is _aten.bincount.default:
            return args[0].new_zeros(kwargs.get("minlength", args[2] if len(args) > 2 else 0), dtype=torch.long)
        if func is _aten.index.Tensor and len(args[1]) == 1 and args[1][0].dtype == torch.bool:
            return args[0].new_zeros((self.picked[len(args[1][0])], *args[0].shape[1:]))
        return None

    def _open(self, storage: torch.UntypedStorage, part: str) -> None:
        key, size = storage._cdata, storage.nbytes()
        self._parts[key] = part, size
        if key not in self._watched:
            self._watched[key] = weakref.ref(storage, lambda _, key=key: self._close(key))
        self.live[part] += size
        self._small += size if size < SMALL else 0
        self._look()

    def _close(self, key: int) -> None:
        part, size = self._parts.pop(key)
        del self._watched[key]
        self.live[part] -= size
        self._small -= size if size < SMALL else 0

    def _look(self) -> None:
        total = sum(self.live.values())
        if total > self._highest:
            self._highest, self.peak, self.small = total, Counter(self.live), self._small
