"""onnxruntime: runs ONNX bundles on the CPU, or on CUDA where the installed onnxruntime has it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from edgereverie.bundle import Bundle
from edgereverie.errors import BackendError, BundleError
from edgereverie.runtime.choosing import asked_for, on_device
from edgereverie.runtime.engine import Feed, check_feed, check_feeds, feed_in_turn, no_grammar, require_packages
from edgereverie.runtime.grammar import Constraint

if TYPE_CHECKING:
    from onnxruntime import IOBinding

    from edgereverie.runtime.backends._onnx_cache import Cache

_PAST = re.compile(r"past_key_values\.(\d+)\.(key|value)")
_FORM = "edgereverie.cache"  # in a graph's metadata: concat, as where it is missing, or shared


class OnnxEngine:
    """Three graphs: vision, embedding, decoder. The cache goes in as past and comes out as present."""

    backend = "onnxrt"
    grammar = False
    branching = False

    def __init__(self, bundle: Bundle, device: str) -> None:
        from edgereverie.runtime.backends import _onnx
        from edgereverie.runtime.backends._onnx_cache import CacheSpec

        self.context, self.device = bundle.context, device
        self.image_token = _onnx.image_token(bundle)
        self._embed = _onnx.session(bundle.file("embed"), device)
        _onnx.names_of(self._embed, bundle.file("embed"), {"input_ids"}, {"inputs_embeds"})
        path = bundle.file("decoder")
        self._decoder = _onnx.session(path, device)
        inputs = {entry.name: entry for entry in self._decoder.get_inputs()}
        past = sorted((name for name in inputs if _PAST.fullmatch(name)), key=_by_layer)
        present = [_PAST.sub(r"present.\1.\2", name) for name in past]
        _onnx.names_of(self._decoder, path, {"inputs_embeds", *past[:1]}, {"logits", *present})
        self._takes = frozenset(inputs)
        logits = next(entry for entry in self._decoder.get_outputs() if entry.name == "logits")
        self.vocabulary = _number(logits.shape[-1], "logits", path)
        self._logits = _onnx.DTYPES[logits.type]
        self._width = _number(inputs["inputs_embeds"].shape[-1], "inputs_embeds", path)
        self._dtype = _onnx.DTYPES[inputs["inputs_embeds"].type]
        self._cache = CacheSpec(
            past=tuple(past),
            present=tuple(present),
            shapes=tuple(tuple(_number(inputs[name].shape[at], name, path) for at in (1, 3)) for name in past),
            dtype=_onnx.DTYPES[inputs[past[0]].type],
            device=device,
            context=self.context,
            shared=self._decoder.get_modelmeta().custom_metadata_map.get(_FORM) == "shared",
        )
        self._vision = _onnx.VisionEncoder(bundle, self._width, device)

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        return self._vision.encode(pixels)

    def open(self) -> OnnxStream:
        return OnnxStream(self, 0, self._cache.empty())

    def feed_many(self, feeds: Sequence[Feed]) -> list[np.ndarray]:
        """One token each is computed together. GroupQueryAttention takes several tokens behind a past for one row alone (its
        documentation: ``sequence_length > 1`` requires ``batch_size == 1``), so longer feeds go one after the other.
        """
        from edgereverie.runtime.backends._onnx_cache import met, together

        several = len(feeds) > 1 and "attention_mask" in self._takes
        if not several or any(len(feed.ids) != 1 for feed in feeds):
            out = feed_in_turn(self, feeds)
            if several:
                met([feed.stream._opened() for feed in feeds])
            return out
        arrays = check_feeds(self, feeds)
        caches = [feed.stream._opened() for feed in feeds]
        lanes = together(caches)
        if lanes is None:
            return feed_in_turn(self, feeds)
        order = np.argsort([cache.lane for cache in caches])
        lengths = np.array([feed.stream.length for feed in feeds])[order]
        rows = self._rows(np.concatenate(arrays)[order], None).reshape(len(feeds), 1, -1)
        bound, mask = lanes.step(self._decoder, lengths)
        logits = self._compute(bound, rows, lengths, mask)
        lanes.stepped(bound)
        for feed, cache in zip(feeds, caches, strict=True):
            feed.stream.length += 1
            cache.grown()
        return [logits[cache.lane] for cache in caches]

    def constraint(self, grammar: str) -> Constraint:
        no_grammar(self)

    def close(self) -> None:
        """Let go of the graphs and their memory."""
        self._vision = self._embed = self._decoder = None

    def _run(self, rows: np.ndarray, past: int, cache: Cache) -> np.ndarray:
        """Logits (tokens, vocabulary); keys and values stay in the cache, on the device they were computed on."""
        bound = cache.binding(self._decoder, past, rows.shape[1])
        logits = self._compute(bound, rows, np.array([past]), np.ones((1, past + rows.shape[1]), bool))
        cache.keep(bound, past + rows.shape[1])
        return logits[0]

    def _compute(self, bound: IOBinding, rows: np.ndarray, past: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """rows: (lanes, tokens, width) behind ``past`` tokens in each lane. mask: (lanes, places) bool, which are real.

        Logits (lanes, tokens, vocabulary) float32.
        """
        logits = np.empty((*rows.shape[:2], self.vocabulary), self._logits)
        bound.bind_output("logits", "cpu", 0, self._logits, logits.shape, logits.ctypes.data)
        bound.bind_cpu_input("inputs_embeds", rows)
        if "attention_mask" in self._takes:
            bound.bind_cpu_input("attention_mask", mask.astype(np.int64))
        if "position_ids" in self._takes:
            bound.bind_cpu_input("position_ids", past[:, None] + np.arange(rows.shape[1]))
        try:
            self._decoder.run_with_iobinding(bound)
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            raise BackendError(
                f"The decoder graph failed ({str(error).splitlines()[0]}).",
                hint="Out of memory, or a graph that this onnxruntime does not run: export it again.",
            ) from None
        return logits.astype(np.float32, copy=False)

    def _rows(self, ids: np.ndarray, features: np.ndarray | None) -> np.ndarray:
        rows = self._embed.run(["inputs_embeds"], {"input_ids": ids[None]})[0].astype(self._dtype)
        if features is not None:
            if features.shape[1] != self._width:
                raise BackendError(
                    f"Image features are {features.shape[1]} wide, the language model takes {self._width}.",
                    hint="Use features that this same bundle encoded.",
                )
            rows[0, ids == self.image_token] = features
        return rows


@dataclass(eq=False)
class OnnxStream:
    """Tokens fed so far: their number, and their keys and values."""

    engine: OnnxEngine
    length: int
    cache: Cache | None = field(repr=False)

    def feed(
        self, ids: Sequence[int], features: np.ndarray | None = None, *, logits: Literal["last", "all"] = "last"
    ) -> np.ndarray:
        cache = self._opened()
        array = check_feed(self.engine, self.length, ids, features)
        out = self.engine._run(self.engine._rows(array, features), self.length, cache)
        self.length += len(array)
        return out if logits == "all" or len(out) == 1 else out[-1:].copy()  # not a view that keeps all alive

    def fork(self) -> OnnxStream:
        return OnnxStream(self.engine, self.length, self._opened().fork())

    def rewind(self, length: int) -> None:
        cache = self._opened()
        if not 0 <= length <= self.length:
            raise BackendError(f"Cannot rewind a stream of {self.length} tokens to {length}.")
        if length < self.length:
            cache.cut(length)
            self.length = length

    def close(self) -> None:
        self.cache = None

    def _opened(self) -> Cache:
        if self.cache is None:
            raise BackendError("This stream is closed.", hint="Open a new one.")
        return self.cache


def _by_layer(name: str) -> tuple[int, str]:
    layer, kind = _PAST.fullmatch(name).groups()
    return int(layer), kind


def _number(dimension: int | str | None, name: str, path: Path) -> int:
    if not isinstance(dimension, int):
        raise BundleError(
            f"{path}: {name} leaves open a dimension ({dimension!r}) that must be fixed.",
            hint="Export the bundle again with this version.",
        )
    return dimension


@dataclass(frozen=True, slots=True)
class OnnxBackend:
    name: str = "onnxrt"
    targets: tuple[str, ...] = ("onnx",)
    packages: tuple[str, ...] = ("onnxruntime",)
    extra: str = "onnx"

    def load(self, path: Path, *, precise: bool = False, device: str = "auto") -> OnnxEngine:
        """precise changes nothing here: a graph computes in the precision that it was exported in."""
        require_packages(self)
        bundle = Bundle.load(path)
        bundle.check(hashes=False)
        return on_device(asked_for(device), self.lacks_cuda(), lambda place: OnnxEngine(bundle, place), bundle.name)

    def lacks_cuda(self) -> str:
        from edgereverie.runtime.backends import _onnx

        return _onnx.lacks_cuda()


BACKEND = OnnxBackend()
