"""llama.cpp: runs GGUF bundles through its low-level binding, with many token streams in one cache.

Image features come from the bundle's ONNX vision encoder and enter as embeddings. llama.cpp's own encoder (mtmd) is used
only where onnxruntime is missing, and only after it has encoded the bundle's probe rightly: for a CLIP tower in LLaVA
released versions feed the class token as a patch and shift every position by one (ggml-org/llama.cpp#25814), which no GGUF
content can undo.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edgereverie.bundle import Bundle
from edgereverie.errors import BackendError
from edgereverie.runtime.backends._llama_batch import Batch
from edgereverie.runtime.backends._llama_log import forget_words, last_words, quieten
from edgereverie.runtime.choosing import asked_for, on_device
from edgereverie.runtime.engine import CacheFull, Feed, check_feed, check_feeds, require_packages
from edgereverie.runtime.grammar import Constraint

if TYPE_CHECKING:
    from edgereverie.runtime.backends import _onnx
    from edgereverie.runtime.mtmd import MtmdEncoder

_STREAMS = 16
_BATCH = 512  # tokens per call: bounds the memory for logits, which is batch * vocabulary floats
_NO_ROOM = 1  # llama_decode's return value when the cache has no free cells


class LlamaEngine:
    """One model and one context with a unified cache: streams are sequence ids, forks share cells.

    All streams together hold at most ``context`` tokens, shared beginnings counted once. The cache is not made larger than
    one context: models with two sets of rotary factors (Phi-3's 128k kind) choose between them by the cache's size.
    """

    backend = "llamacpp"
    grammar = True
    branching = True

    def __init__(self, bundle: Bundle, device: str = "cpu", *, precise: bool) -> None:
        from llama_cpp import llama_cpp as lib

        from edgereverie.runtime.backends import _onnx

        quieten(lib)
        self._lib = lib
        self._owned: list[tuple[Callable[[Any], None], Any]] = []
        self._release = weakref.finalize(self, _free, self._owned)
        self.context, self.device = bundle.context, device
        self.image_token = _onnx.image_token(bundle)
        path = bundle.file("model")
        forget_words()
        settings = lib.llama_model_default_params()
        settings.n_gpu_layers = 0 if device == "cpu" else -1  # all of them
        self._model = lib.llama_model_load_from_file(str(path).encode(), settings)
        if not self._model:
            raise BackendError(
                f"{path}: llama.cpp cannot load the model ({last_words()}).",
                hint="The file is damaged or its architecture is unknown to this llama.cpp: copy it again, or "
                "pip install --upgrade llama-cpp-python.",
            )
        self._owned.append((lib.llama_model_free, self._model))
        try:
            self.vocabulary = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self._model))
            self.width = lib.llama_model_n_embd_inp(self._model)
            self._vision = self._open_vision(bundle)
            self._open_context(precise, _onnx.threads())
        except BaseException:
            self.close()
            raise
        self._free = list(range(_STREAMS - 1, -1, -1))

    def _open_vision(self, bundle: Bundle) -> _onnx.VisionEncoder | MtmdEncoder:
        from edgereverie.runtime.backends import _onnx
        from edgereverie.runtime.mtmd import MtmdEncoder, run_probe

        if find_spec("onnxruntime") is not None:
            return on_device(
                "cpu" if self.device == "cpu" else "auto",
                _onnx.lacks_cuda(),
                lambda place: _onnx.VisionEncoder(bundle, self.width, place),
                f"{bundle.name}, vision",
            )
        encoder = MtmdEncoder(bundle.file("mmproj"), bundle.image, self._model, threads=_onnx.threads())
        self._owned.append((MtmdEncoder.close, encoder))
        if not (found := run_probe(bundle, encoder)).passed:
            raise BackendError(
                f"{bundle.folder}: onnxruntime is not installed, and the installed llama.cpp {found.told()} "
                "when it is given the bundle's probe picture.",
                hint="pip install 'edgereverie[gguf]', or pip install onnxruntime: it encodes pictures for llama.cpp.",
            )
        return encoder

    def _open_context(self, precise: bool, threads: int) -> None:
        lib, settings = self._lib, self._lib.llama_context_default_params()
        settings.n_ctx = self.context
        settings.n_batch = settings.n_ubatch = min(_BATCH, self.context)
        settings.n_outputs_max_per_seq = 0  # 0 is "as many as the batch": a whole answer is scored in one call
        settings.n_seq_max = _STREAMS
        settings.kv_unified = True  # without it a sequence can be neither forked nor rewound in part
        settings.swa_full = True
        settings.offload_kqv = settings.op_offload = self.device != "cpu"
        settings.n_threads = settings.n_threads_batch = threads
        if precise:
            settings.type_k = settings.type_v = lib.GGML_TYPE_F32
        if precise or self.device == "cpu":
            # On CPUs a step behind a picture takes 1.4 times as long with it (0.5 B, 620 tokens), a prefill 0.87 times.
            settings.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self._context = lib.llama_init_from_model(self._model, settings)
        if not self._context:
            raise BackendError(
                f"llama.cpp cannot make a context of {self.context:,} tokens ({last_words()}).",
                hint="Probably too little memory: export the bundle with a shorter context.",
            )
        self._owned.append((lib.llama_free, self._context))
        self._memory = lib.llama_get_memory(self._context)
        self._size = settings.n_batch
        self._batch = Batch(lib, self._size, self.width)

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        return self._vision.encode(pixels)

    def open(self) -> LlamaStream:
        return LlamaStream(self, self._take(), 0)

    def constraint(self, grammar: str) -> Constraint:
        from edgereverie.runtime.backends._llama_grammar import LlamaGrammar

        forget_words()
        return LlamaGrammar(self._lib, self._lib.llama_model_get_vocab(self._model), grammar, last_words)

    def close(self) -> None:
        """Free context and model now, not when the last stream is forgotten. Harmless when done twice."""
        self._release()

    def _take(self) -> int:
        if not self._release.alive:
            raise BackendError("The model is closed.", hint="Load it again.")
        if not self._free:
            raise CacheFull(
                f"All {_STREAMS} token streams are in use.", hint="Close streams that are no longer needed."
            )
        return self._free.pop()

    def _give_back(self, sequence: int) -> None:
        if self._release.alive:
            self._lib.llama_memory_seq_rm(self._memory, sequence, -1, -1)
            self._free.append(sequence)

    def _forget_after(self, sequence: int, length: int) -> None:
        if not self._lib.llama_memory_seq_rm(self._memory, sequence, length, -1):
            raise BackendError(
                f"llama.cpp cannot rewind this model's cache to {length} tokens.",
                hint="Recurrent and hybrid models keep no tokens to go back to; use another backend.",
            )

    def feed_many(self, feeds: Sequence[Feed]) -> list[np.ndarray]:
        arrays = check_feeds(self, feeds)
        for feed in feeds:
            feed.stream._assert_open()
        if not feeds:
            return []
        wanted = [_wanted(len(array), feed.logits) for array, feed in zip(arrays, feeds, strict=True)]
        sequences = np.repeat([feed.stream.sequence for feed in feeds], [len(array) for array in arrays])
        places = [feed.stream.length + np.arange(len(array)) for array, feed in zip(arrays, feeds, strict=True)]
        try:
            logits = self._decode_all(np.concatenate(arrays), np.concatenate(places), sequences, np.concatenate(wanted))
        except BackendError:
            for feed in feeds:  # as if nothing had been fed
                self._forget_after(feed.stream.sequence, feed.stream.length)
            raise
        for feed, array in zip(feeds, arrays, strict=True):
            feed.stream.length += len(array)
        return np.split(logits, np.cumsum([mask.sum() for mask in wanted])[:-1])

    def _decode_all(self, ids: np.ndarray, places: np.ndarray, sequences: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """Token ids in as many calls as the batch's size makes of them. Returns the logits of the wanted ones."""
        cuts = [slice(begin, begin + self._size) for begin in range(0, len(ids), self._size)]
        parts = [self._decode(ids[cut], None, places[cut], sequences[cut], wanted[cut]) for cut in cuts]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _decode(
        self,
        ids: np.ndarray,
        rows: np.ndarray | None,
        places: np.ndarray | int,
        sequences: np.ndarray | int,
        wanted: np.ndarray | bool,
    ) -> np.ndarray:
        """One call: token ``ids``, or embedding ``rows`` in their place. Returns the logits of the wanted ones, which
        llama.cpp hands out in the order of the batch.
        """
        batch, count = self._batch, len(ids)
        status = self._lib.llama_decode(self._context, batch.filled(ids, rows, places, sequences, wanted))
        if status == _NO_ROOM:
            raise CacheFull(
                f"The cache of {self.context:,} tokens has no room for {count} more.",
                hint="Close streams that are no longer needed, or start a new conversation.",
            )
        if status != 0:
            raise BackendError(
                f"llama.cpp failed to decode {count} tokens (status {status}; {last_words()}).",
                hint="Check the bundle's hashes: edgereverie doctor BUNDLE",
            )
        shape = (int(np.count_nonzero(batch.logits[:count])), self.vocabulary)
        if not shape[0]:
            return np.empty(shape, np.float32)
        return np.ctypeslib.as_array(self._lib.llama_get_logits(self._context), shape).copy()


@dataclass(eq=False)
class LlamaStream:
    """Tokens fed so far, as one sequence id of the engine's cache."""

    engine: LlamaEngine
    sequence: int
    length: int

    def feed(
        self, ids: Sequence[int], features: np.ndarray | None = None, *, logits: Literal["last", "all"] = "last"
    ) -> np.ndarray:
        self._assert_open()
        array = check_feed(self.engine, self.length, ids, features)
        if features is not None and features.shape[1] != self.engine.width:
            raise BackendError(
                f"Image features are {features.shape[1]} wide, the language model takes {self.engine.width}.",
                hint="Use features that this same bundle encoded.",
            )
        wanted, places = _wanted(len(array), logits), self.length + np.arange(len(array))
        seen, parts = 0, []
        try:
            for begin, end, picture in _runs(array == self.engine.image_token, self.engine._size):
                rows = None
                if picture:
                    rows = features[seen : seen + end - begin]
                    seen += end - begin
                cut = slice(begin, end)
                parts.append(self.engine._decode(array[cut], rows, places[cut], self.sequence, wanted[cut]))
        except BackendError:
            self.engine._forget_after(self.sequence, self.length)  # as if nothing had been fed
            raise
        self.length += len(array)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def fork(self) -> LlamaStream:
        self._assert_open()
        sequence = self.engine._take()
        self.engine._lib.llama_memory_seq_cp(self.engine._memory, self.sequence, sequence, -1, -1)
        return LlamaStream(self.engine, sequence, self.length)

    def rewind(self, length: int) -> None:
        self._assert_open()
        if not 0 <= length <= self.length:
            raise BackendError(f"Cannot rewind a stream of {self.length} tokens to {length}.")
        self.engine._forget_after(self.sequence, length)
        self.length = length

    def close(self) -> None:
        if self.sequence >= 0:
            self.engine._give_back(self.sequence)
            self.sequence = -1

    __del__ = close

    def _assert_open(self) -> None:
        if self.sequence < 0 or not self.engine._release.alive:
            raise BackendError("This stream is closed.", hint="Open a new one.")


def _wanted(count: int, logits: str) -> np.ndarray:
    """Which of ``count`` tokens' logits are asked for."""
    wanted = np.full(count, logits == "all")
    wanted[-1] = True
    return wanted


def _runs(pictures: np.ndarray, size: int) -> Iterator[tuple[int, int, bool]]:
    """(begin, end, is picture) of each run of text or image tokens, none longer than ``size``.

    >>> list(_runs(np.array([False, True, True, True, False]), 2))
    [(0, 1, False), (1, 3, True), (3, 4, True), (4, 5, False)]
    """
    borders = [0, *(np.flatnonzero(pictures[1:] != pictures[:-1]) + 1).tolist(), len(pictures)]
    for begin, end in pairwise(borders):
        for start in range(begin, end, size):
            yield start, min(start + size, end), bool(pictures[start])


def _free(owned: list[tuple[Callable[[Any], None], Any]]) -> None:
    """Give back what was taken, the last first."""
    while owned:
        give_back, thing = owned.pop()
        give_back(thing)


@dataclass(frozen=True, slots=True)
class LlamaBackend:
    name: str = "llamacpp"
    targets: tuple[str, ...] = ("gguf",)
    packages: tuple[str, ...] = ("llama_cpp",)
    extra: str = "gguf"

    def load(self, path: Path, *, precise: bool = False, device: str = "auto") -> LlamaEngine:
        require_packages(self)
        bundle = Bundle.load(path)
        bundle.check(hashes=False)
        return on_device(
            asked_for(device), self.lacks_cuda(), lambda place: LlamaEngine(bundle, place, precise=precise), bundle.name
        )

    def lacks_cuda(self) -> str:
        from llama_cpp import llama_cpp as lib

        quieten(lib)
        if b"CUDA" not in lib.llama_print_system_info():
            return "the installed llama-cpp-python is built without it"
        return "" if lib.llama_supports_gpu_offload() else "llama.cpp finds no card"


BACKEND = LlamaBackend()
