"""Two forms in which a decoder graph keeps keys and values, behind one contract.

``JoinedCache``: the graph gives back arrays that are longer by the new tokens. ``SharedCache``: the graph writes the new
tokens into a buffer that it was given, and nothing is copied. Which one a graph wants stands in its metadata.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol
from weakref import WeakSet

import numpy as np

if TYPE_CHECKING:
    from onnxruntime import IOBinding, OrtValue

_LEAST = 256  # tokens that a new buffer has room for


@dataclass(frozen=True, slots=True)
class CacheSpec:
    """What all caches of an engine have in common.

    past, present: names of the graph's inputs and outputs, in one order. shapes: (heads, head size) of each. context: most
    tokens. shared: the form.
    """

    past: tuple[str, ...]
    present: tuple[str, ...]
    shapes: tuple[tuple[int, int], ...]
    dtype: type[np.generic]
    device: str
    context: int
    shared: bool

    def empty(self) -> Cache:
        return SharedCache(_Buffer(self, 0)) if self.shared else JoinedCache(self, _values(self, self.arrays(0)))

    def arrays(self, tokens: int) -> list[np.ndarray]:
        """Of zeros; pages that nobody writes to take no memory."""
        return [np.zeros((1, heads, tokens, head), self.dtype) for heads, head in self.shapes]


class Cache(Protocol):
    """Keys and values of the tokens that were fed."""

    def bind(self, binding: IOBinding, length: int, count: int) -> None:
        """Past and present of a step that adds ``count`` tokens to ``length``; ``logits`` is bound already."""
        ...

    def keep(self, outputs: Sequence[OrtValue], length: int) -> None:
        """The step is done: ``outputs`` are all that was bound, ``length`` counts the new tokens."""
        ...

    def fork(self) -> Cache: ...

    def cut(self, length: int) -> None: ...


class JoinedCache:
    """Arrays that are never written to, so forks hold the same ones."""

    def __init__(self, spec: CacheSpec, values: list[OrtValue]) -> None:
        self._spec, self._values = spec, values

    def bind(self, binding: IOBinding, length: int, count: int) -> None:
        for name, value in zip(self._spec.past, self._values, strict=True):
            binding.bind_ortvalue_input(name, value)
        for name in self._spec.present:
            binding.bind_output(name, self._spec.device)

    def keep(self, outputs: Sequence[OrtValue], length: int) -> None:
        self._values = list(outputs[1:])

    def fork(self) -> JoinedCache:
        return JoinedCache(self._spec, self._values)

    def cut(self, length: int) -> None:
        kept = [np.ascontiguousarray(value.numpy()[:, :, :length]) for value in self._values]
        self._values = _values(self._spec, kept)


@dataclass(eq=False)
class _Buffer:
    """Room for ``capacity`` tokens. users: the caches whose tokens lie in it."""

    spec: CacheSpec
    capacity: int
    users: WeakSet[SharedCache] = field(default_factory=WeakSet)

    def __post_init__(self) -> None:
        self.arrays = self.spec.arrays(self.capacity)
        self.values = _values(self.spec, self.arrays)


class SharedCache:
    """The first ``length`` tokens of a buffer, which forks use together.

    A step writes behind its own tokens, so it may stay in the buffer for as long as nobody else's tokens lie there;
    otherwise it moves to one of its own first. So a picture's prefix is never copied for the questions about it, one after
    the other, and cutting costs nothing.
    """

    def __init__(self, buffer: _Buffer, length: int = 0) -> None:
        self._buffer, self._length = buffer, length
        buffer.users.add(self)

    def bind(self, binding: IOBinding, length: int, count: int) -> None:
        overwritten = any(user._length > length for user in self._buffer.users if user is not self)
        if overwritten or length + count > self._buffer.capacity:
            self._move(length + count)
        spec = self._buffer.spec
        for past, present, value in zip(spec.past, spec.present, self._buffer.values, strict=True):
            binding.bind_ortvalue_input(past, value)
            binding.bind_ortvalue_output(present, value)

    def keep(self, outputs: Sequence[OrtValue], length: int) -> None:
        self._length = length

    def fork(self) -> SharedCache:
        return SharedCache(self._buffer, self._length)

    def cut(self, length: int) -> None:
        self._length = length

    def _move(self, tokens: int) -> None:
        """To a buffer for that many tokens, with room to grow to the next power of two."""
        old, spec = self._buffer, self._buffer.spec
        new = _Buffer(spec, min(spec.context, max(_LEAST, 1 << (tokens - 1).bit_length())))
        if self._length:
            for source, target in zip(old.values, new.arrays, strict=True):
                target[:, :, : self._length] = source.numpy()[:, :, : self._length]
            new.values = _values(spec, new.arrays)
        old.users.discard(self)
        self._buffer = new
        new.users.add(self)


def _values(spec: CacheSpec, arrays: Sequence[np.ndarray]) -> list[OrtValue]:
    """On the CPU the arrays' own memory, else a copy on the device."""
    from onnxruntime import OrtValue

    return [OrtValue.ortvalue_from_numpy(array, spec.device) for array in arrays]
