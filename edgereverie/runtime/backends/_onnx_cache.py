"""Two forms in which a decoder graph keeps keys and values, behind one contract.

``JoinedCache``: the graph gives back arrays that are longer by the new tokens. ``SharedCache``: the graph writes the new
tokens into a buffer that it was given, and nothing is copied. Which one a graph wants stands in its metadata.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol
from weakref import WeakSet

import numpy as np

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, IOBinding, OrtValue

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

    def arrays(self, tokens: int, lanes: int = 1) -> list[np.ndarray]:
        """(lanes, heads, tokens, head size) each, of zeros; pages that nobody writes to take no memory."""
        return [np.zeros((lanes, heads, tokens, head), self.dtype) for heads, head in self.shapes]


class Cache(Protocol):
    """Keys and values of the tokens that were fed."""

    def binding(self, graph: InferenceSession, length: int, count: int) -> IOBinding:
        """Past and present of a step that adds ``count`` tokens to ``length``."""
        ...

    def keep(self, bound: IOBinding, length: int) -> None:
        """The step is done; ``length`` counts the new tokens."""
        ...

    def fork(self) -> Cache: ...

    def cut(self, length: int) -> None: ...

    # In company: where it lies, in which lane, and with whom it was fed last.

    buffer: Lanes | None
    lane: int
    fed_with: frozenset[int]

    def may_step(self) -> bool:
        """Whether its lane can take one more token as it is."""
        ...

    def grown(self) -> None: ...

    @staticmethod
    def gather(caches: Sequence[Cache]) -> None:
        """Bring them into one buffer, a lane each."""
        ...


class Lanes(Protocol):
    """Several caches that one step can compute together, each in a lane of its own."""

    lanes: int

    def step(self, graph: InferenceSession, lengths: np.ndarray) -> tuple[IOBinding, np.ndarray]:
        """Past and present of all lanes, (lanes,) tokens long, for one more token each; and the mask with it."""
        ...

    def stepped(self, bound: IOBinding) -> None: ...


class _Joint:
    """The arrays of several joined caches as one batch. real: (lanes, tokens) bool; rows are padded at the left."""

    def __init__(self, spec: CacheSpec, members: Sequence[JoinedCache]) -> None:
        alone = [member.alone() for member in members]
        lengths = np.array([values[0].shape()[2] for values in alone])
        longest, self._spec, self.lanes = int(lengths.max()), spec, len(members)
        self._real = np.arange(longest) >= (longest - lengths)[:, None]
        arrays = spec.arrays(longest, self.lanes)
        for lane, values in enumerate(alone):
            for value, array in zip(values, arrays, strict=True):
                array[lane, :, longest - lengths[lane] :] = value.numpy()[0]
        self._values = _values(spec, arrays)
        for lane, member in enumerate(members):
            member.buffer, member.lane = self, lane

    def step(self, graph: InferenceSession, lengths: np.ndarray) -> tuple[IOBinding, np.ndarray]:
        return _binding(graph, self._spec, self._values), self._longer()

    def stepped(self, bound: IOBinding) -> None:
        self._real = self._longer()
        self._values = list(bound.get_outputs()[: len(self._spec.present)])

    def one(self, lane: int) -> list[OrtValue]:
        """One lane's tokens as arrays of their own."""
        kept = [np.ascontiguousarray(value.numpy()[lane, None][:, :, self._real[lane]]) for value in self._values]
        return _values(self._spec, kept)

    def _longer(self) -> np.ndarray:
        return np.concatenate([self._real, np.ones((self.lanes, 1), bool)], axis=1)


class JoinedCache:
    """Arrays that are never written to, so forks hold the same ones. In company they are a lane of one batch."""

    def __init__(self, spec: CacheSpec, values: list[OrtValue]) -> None:
        self.spec, self._values = spec, values
        self.buffer: _Joint | None = None
        self.lane = 0
        self.fed_with: frozenset[int] = frozenset()

    def alone(self) -> list[OrtValue]:
        """Its arrays, out of the company's."""
        if self.buffer is not None:
            self._values, self.buffer, self.fed_with = self.buffer.one(self.lane), None, frozenset()
        return self._values

    def binding(self, graph: InferenceSession, length: int, count: int) -> IOBinding:
        return _binding(graph, self.spec, self.alone())

    def keep(self, bound: IOBinding, length: int) -> None:
        self._values = list(bound.get_outputs()[: len(self.spec.present)])  # logits were bound after them

    def fork(self) -> JoinedCache:
        return JoinedCache(self.spec, self.alone())

    def cut(self, length: int) -> None:
        kept = [np.ascontiguousarray(value.numpy()[:, :, :length]) for value in self.alone()]
        self._values = _values(self.spec, kept)

    def grown(self) -> None:
        """A step in company is done; the company keeps the tokens."""

    def may_step(self) -> bool:
        return True

    @staticmethod
    def gather(caches: Sequence[JoinedCache]) -> None:
        _Joint(caches[0].spec, caches)


@dataclass(eq=False)
class _Buffer:
    """Room for ``capacity`` tokens in each of ``lanes``, which a step can compute one by one or all together.

    users: the caches whose tokens lie in it.
    """

    spec: CacheSpec
    capacity: int
    lanes: int = 1
    users: WeakSet[SharedCache] = field(default_factory=WeakSet)
    _bound: dict[int | None, IOBinding] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.arrays = self.spec.arrays(self.capacity, self.lanes)
        self.values = _values(self.spec, self.arrays)

    def binding(self, graph: InferenceSession, lane: int | None) -> IOBinding:
        """Of one lane, or of all; made once and used for each step."""
        if lane not in self._bound:
            self._bound[lane] = bound = graph.io_binding()
            for past, present, value in zip(self.spec.past, self.spec.present, self.values, strict=True):
                shape = (self.lanes if lane is None else 1, *value.shape()[1:])
                start = value.data_ptr() + (lane or 0) * math.prod(shape[1:]) * np.dtype(self.spec.dtype).itemsize
                place = (self.spec.device, 0, self.spec.dtype, shape, start)
                bound.bind_input(past, *place)
                bound.bind_output(present, *place)
        return self._bound[lane]

    def step(self, graph: InferenceSession, lengths: np.ndarray) -> tuple[IOBinding, np.ndarray]:
        return self.binding(graph, None), np.arange(lengths.max() + 1) <= lengths[:, None]

    def stepped(self, bound: IOBinding) -> None:
        """The step wrote into the buffer itself."""

    def take(self, members: Sequence[SharedCache]) -> None:
        """Copy each member's tokens into the lane of its number; it lives here from now on."""
        for lane, member in enumerate(members):
            old, kept = member.buffer, member.length
            if kept:
                for source, target in zip(old.host(member.lane), self.arrays, strict=True):
                    target[lane, :, :kept] = source[:, :kept]
            old.users.discard(member)
            member.buffer, member.lane = self, lane
            self.users.add(member)
        if self.spec.device != "cpu":
            self.values = _values(self.spec, self.arrays)

    def host(self, lane: int) -> list[np.ndarray]:
        """One lane's arrays (heads, capacity, head), copied from the device where they are not in the host's memory."""
        return [array[lane] for array in self.arrays] if self.spec.device == "cpu" else [
            value.numpy()[lane] for value in self.values
        ]  # fmt: skip


class SharedCache:
    """The first ``length`` tokens of a buffer's lane, which forks use together.

    A step writes behind its own tokens, so it may stay in the lane for as long as nobody else's tokens lie there; otherwise
    it moves to a buffer of its own first. So a picture's prefix is never copied for the questions about it, one after the
    other, and cutting costs nothing.
    """

    def __init__(self, buffer: _Buffer, lane: int = 0, length: int = 0) -> None:
        self.buffer, self.lane, self.length = buffer, lane, length
        self.fed_with: frozenset[int] = frozenset()  # the company in which it was fed last
        buffer.users.add(self)

    def binding(self, graph: InferenceSession, length: int, count: int) -> IOBinding:
        if not self._may_write(count):
            _Buffer(self.buffer.spec, _capacity(self.buffer.spec, length + count)).take([self])
        return self.buffer.binding(graph, self.lane)

    def keep(self, bound: IOBinding, length: int) -> None:
        self.length = length

    def fork(self) -> SharedCache:
        return SharedCache(self.buffer, self.lane, self.length)

    def cut(self, length: int) -> None:
        self.length = length

    def grown(self) -> None:
        """A step in company is done."""
        self.length += 1

    def may_step(self) -> bool:
        return self._may_write(1)

    @staticmethod
    def gather(caches: Sequence[SharedCache]) -> None:
        spec = caches[0].buffer.spec
        tokens = 1 + max(cache.length for cache in caches)
        _Buffer(spec, _capacity(spec, tokens), len(caches)).take(caches)

    def _may_write(self, count: int) -> bool:
        others = (user for user in self.buffer.users if user is not self and user.lane == self.lane)
        return self.length + count <= self.buffer.capacity and all(user.length <= self.length for user in others)


def together(caches: Sequence[Cache]) -> Lanes | None:
    """What computes the next token of these caches in one step, when they are the lanes of one buffer, in any order.

    Caches that are fed together for the second time running are brought into one buffer: whoever does it twice does it for
    a whole answer, and one copy is soon earned back. The first time might have been the only one.
    """
    again = met(caches)
    found = caches[0].buffer
    settled = found is not None and all(cache.buffer is found for cache in caches)
    settled = settled and {cache.lane for cache in caches} == set(range(found.lanes))
    if not (settled and all(cache.may_step() for cache in caches)):
        if not (again or settled):
            return None
        type(caches[0]).gather(caches)
    return caches[0].buffer


def met(caches: Sequence[Cache]) -> bool:
    """Note that these caches are fed together; whether they were the last time, too."""
    company = frozenset(id(cache) for cache in caches)
    again = all(cache.fed_with == company for cache in caches)
    for cache in caches:
        cache.fed_with = company
    return again


def _binding(graph: InferenceSession, spec: CacheSpec, values: Sequence[OrtValue]) -> IOBinding:
    """Of arrays that the graph gives back longer."""
    bound = graph.io_binding()
    for name, value in zip(spec.past, values, strict=True):
        bound.bind_ortvalue_input(name, value)
    for name in spec.present:
        bound.bind_output(name, spec.device)
    return bound


def _capacity(spec: CacheSpec, tokens: int) -> int:
    """Room to grow to the next power of two."""
    return min(spec.context, max(_LEAST, 1 << (tokens - 1).bit_length()))


def _values(spec: CacheSpec, arrays: Sequence[np.ndarray]) -> list[OrtValue]:
    """On the CPU the arrays' own memory, else a copy on the device."""
    from onnxruntime import OrtValue

    return [OrtValue.ortvalue_from_numpy(array, spec.device) for array in arrays]
