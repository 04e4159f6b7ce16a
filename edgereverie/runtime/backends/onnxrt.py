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
from edgereverie.runtime.engine import check_feed, require_packages

if TYPE_CHECKING:
    from onnxruntime import OrtValue

_PAST = re.compile(r"past_key_values\.(\d+)\.(key|value)")


class OnnxEngine:
    """Three graphs: vision, embedding, decoder. The cache goes in as past and comes out as present, one step behind."""

    backend = "onnxrt"

    def __init__(self, bundle: Bundle) -> None:
        from edgereverie.runtime.backends import _onnx

        self.context = bundle.context
        self.image_token = _onnx.image_token(bundle)
        self._embed = _onnx.session(bundle.file("embed"))
        _onnx.names_of(self._embed, bundle.file("embed"), {"input_ids"}, {"inputs_embeds"})
        path = bundle.file("decoder")
        self._decoder = _onnx.session(path)
        inputs = {entry.name: entry for entry in self._decoder.get_inputs()}
        self._past = sorted((name for name in inputs if _PAST.fullmatch(name)), key=_by_layer)
        self._present = [_PAST.sub(r"present.\1.\2", name) for name in self._past]
        _onnx.names_of(self._decoder, path, {"inputs_embeds"}, {"logits", *self._present})
        self._takes = frozenset(inputs)
        self.vocabulary = _number(self._decoder.get_outputs()[0].shape[-1], "logits", path)
        self._width = _number(inputs["inputs_embeds"].shape[-1], "inputs_embeds", path)
        self._dtype = _onnx.DTYPES[inputs["inputs_embeds"].type]
        self._empty = [
            np.zeros(
                (1, _number(inputs[name].shape[1], name, path), 0, _number(inputs[name].shape[3], name, path)),
                _onnx.DTYPES[inputs[name].type],
            )
            for name in self._past
        ]
        self._device = "cuda" if "CUDAExecutionProvider" in self._decoder.get_providers() else "cpu"
        self._vision = _onnx.VisionEncoder(bundle, self._width)

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        return self._vision.encode(pixels)

    def open(self) -> OnnxStream:
        from onnxruntime import OrtValue

        return OnnxStream(self, cache=[OrtValue.ortvalue_from_numpy(empty, self._device) for empty in self._empty])

    def close(self) -> None:
        """Let go of the graphs and their memory."""
        self._vision = self._embed = self._decoder = None

    def _run(self, rows: np.ndarray, past: int, cache: list[OrtValue]) -> tuple[np.ndarray, list[OrtValue]]:
        """Logits (tokens, vocabulary) and the grown cache; keys and values stay on the device they were computed on."""
        binding = self._decoder.io_binding()
        tokens = rows.shape[1]
        binding.bind_cpu_input("inputs_embeds", rows)
        if "attention_mask" in self._takes:
            binding.bind_cpu_input("attention_mask", np.ones((1, past + tokens), np.int64))
        if "position_ids" in self._takes:
            binding.bind_cpu_input("position_ids", np.arange(past, past + tokens, dtype=np.int64)[None])
        for name, value in zip(self._past, cache, strict=True):
            binding.bind_ortvalue_input(name, value)
        binding.bind_output("logits", "cpu")
        for name in self._present:
            binding.bind_output(name, self._device)
        try:
            self._decoder.run_with_iobinding(binding)
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            raise BackendError(
                f"The decoder graph failed ({str(error).splitlines()[0]}).",
                hint="Out of memory, or a graph that this onnxruntime does not run: export it again.",
            ) from None
        logits, *grown = binding.get_outputs()
        return logits.numpy()[0].astype(np.float32, copy=False), grown

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
    """Tokens fed so far, as one key and one value array per layer. Arrays are never written to, so forks share them."""

    engine: OnnxEngine
    length: int = 0
    cache: list[OrtValue] = field(default_factory=list, repr=False)

    def feed(
        self, ids: Sequence[int], features: np.ndarray | None = None, *, logits: Literal["last", "all"] = "last"
    ) -> np.ndarray:
        self._assert_open()
        array = check_feed(self.engine, self.length, ids, features)
        out, self.cache = self.engine._run(self.engine._rows(array, features), self.length, self.cache)
        self.length += len(array)
        return out if logits == "all" else out[-1:].copy()

    def fork(self) -> OnnxStream:
        self._assert_open()
        return OnnxStream(self.engine, self.length, self.cache)

    def rewind(self, length: int) -> None:
        from onnxruntime import OrtValue

        self._assert_open()
        if not 0 <= length <= self.length:
            raise BackendError(f"Cannot rewind a stream of {self.length} tokens to {length}.")
        if length < self.length:
            self.cache = [
                OrtValue.ortvalue_from_numpy(np.ascontiguousarray(value.numpy()[:, :, :length]), self.engine._device)
                for value in self.cache
            ]
            self.length = length

    def close(self) -> None:
        self.cache = []

    def _assert_open(self) -> None:
        if not self.cache:
            raise BackendError("This stream is closed.", hint="Open a new one.")


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

    def load(self, path: Path, *, precise: bool = False) -> OnnxEngine:
        """precise changes nothing here: a graph computes in the precision that it was exported in."""
        require_packages(self)
        bundle = Bundle.load(path)
        bundle.check(hashes=False)
        return OnnxEngine(bundle)


BACKEND = OnnxBackend()
