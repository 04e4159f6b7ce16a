"""llama.cpp's own picture encoder (mtmd): whether it encodes as the model was trained, and its features when it does.

Released llama.cpp versions evaluate CLIP towers wrongly (docs/llama-cpp-clip.md). A bundle therefore carries a probe: a
picture and the features that torch gave for it. ``run_probe`` encodes that picture by the installed llama.cpp and compares.

    python -m edgereverie.runtime.mtmd BUNDLE       the comparison as JSON, in a process of its own
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import sys
import weakref
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from edgereverie.bundle import Bundle
from edgereverie.errors import BackendError, BundleError
from edgereverie.image import open_image
from edgereverie.records import ImageSpec

# The worst token of a right encoder with 8-bit weights stays above; with the class token fed in the wrong place, the last
# image token is the class token, which resembles no patch.
CLOSE = 0.97


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """Features of the probe picture against the reference. cosine: mean over image tokens; worst: that of the worst one.

    tokens: how many came, and how many should.
    """

    cosine: float
    worst: float
    tokens: int
    expected: int

    @property
    def passed(self) -> bool:
        return self.tokens == self.expected and self.worst >= CLOSE

    def told(self) -> str:
        """The finding in one sentence."""
        if self.tokens != self.expected:
            return f"gives {self.tokens} image tokens, the model was trained with {self.expected}"
        figures = f"cosine {self.cosine:.2f}, worst token {self.worst:.2f}"
        return f"encodes as the model was trained ({figures})" if self.passed else f"encodes wrongly ({figures})"


def compare_features(found: np.ndarray, expected: np.ndarray) -> ProbeResult:
    """Compare (tokens, width) with (tokens, width), token by token.

    >>> compare_features(np.eye(2), np.eye(2)).passed, compare_features(np.eye(2)[::-1], np.eye(2)).worst
    (True, 0.0)
    """
    if found.shape != expected.shape:
        return ProbeResult(0.0, 0.0, len(found), len(expected))
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    cosines = (found * expected).sum(1) / np.maximum(lengths, 1e-30)
    cosines = np.where(np.isfinite(cosines), cosines, -1.0)
    return ProbeResult(float(cosines.mean()), float(cosines.min()), len(found), len(expected))


class MtmdEncoder:
    """Pictures to features by an mmproj file. Close it: freeing it at interpreter exit writes to streams that are closed.

    model: llama.cpp's language model; its vocabulary is enough. (Without one, mtmd counts image tokens by a field that nobody
    set.) Raises BackendError with llama.cpp's last words where the file does not load.
    """

    def __init__(self, mmproj: Path, image: ImageSpec, model: Any, *, threads: int = 1) -> None:
        from llama_cpp import mtmd_cpp as lib

        self._lib, self._image = lib, image
        self.width = _width(mmproj)
        settings = lib.mtmd_context_params_default()
        settings.use_gpu = settings.warmup = settings.print_timings = False
        settings.n_threads = threads
        with _log_off(lib) as lines:
            self._context = lib.mtmd_init_from_file(str(mmproj).encode(), model, settings)
        if not self._context:
            reason = lines[-1] if lines else "it gives no reason"
            raise BackendError(f"{mmproj}: llama.cpp cannot load the vision tower ({reason}).",
                               hint="Export the bundle again; an old llama-cpp-python may not know the file.",
                               )  # fmt: skip
        self._release = weakref.finalize(self, lib.mtmd_free, self._context)

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        """(3, side, side) float32, prepared by image.prepare -> (tokens, width) float32 features."""
        # llama.cpp normalises for itself: what it gets are the picture's bytes, which prepare came from.
        mean, std = (np.asarray(values, np.float32)[:, None, None] for values in (self._image.mean, self._image.std))
        picture = np.rint((pixels * std + mean) * 255).clip(0, 255).astype(np.uint8).transpose(1, 2, 0)
        return self.encode_bytes(np.ascontiguousarray(picture))

    def encode_bytes(self, picture: np.ndarray) -> np.ndarray:
        """(side, side, 3) bytes, already of the tower's size -> (tokens, width) float32 features."""
        if not self._release.alive:
            raise BackendError("The vision tower is closed.", hint="Load it again.")
        side = self._image.size
        if picture.shape != (side, side, 3):
            raise BackendError(f"The picture has shape {picture.shape}, this vision tower takes ({side}, {side}, 3).")
        lib = self._lib
        with contextlib.ExitStack() as stack, _log_off(lib):
            data = picture.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
            bitmap = lib.mtmd_bitmap_init(side, side, data)
            stack.callback(lib.mtmd_bitmap_free, bitmap)
            chunks = lib.mtmd_input_chunks_init()
            stack.callback(lib.mtmd_input_chunks_free, chunks)
            marker = lib.mtmd_default_marker()
            text = lib.mtmd_input_text(marker, len(marker), False, True)
            if status := lib.mtmd_tokenize(self._context, chunks, ctypes.byref(text), (ctypes.c_void_p * 1)(bitmap), 1):
                raise BackendError(f"llama.cpp cannot take the picture (status {status}).")
            parts = (lib.mtmd_input_chunks_get(chunks, at) for at in range(lib.mtmd_input_chunks_size(chunks)))
            chunk = next(one for one in parts if lib.mtmd_input_chunk_get_type(one) == lib.MTMD_INPUT_CHUNK_TYPE_IMAGE)
            if status := lib.mtmd_encode_chunk(self._context, chunk):
                raise BackendError(f"llama.cpp cannot encode the picture (status {status}).")
            tokens = lib.mtmd_input_chunk_get_n_tokens(chunk)
            features = lib.mtmd_get_output_embd(self._context)
            return np.ctypeslib.as_array(features, (tokens, self.width)).copy()

    def close(self) -> None:
        """Free it now. Harmless when done twice."""
        self._release()


def _width(mmproj: Path) -> int:
    """Of the features: the length of the projector's last bias, where mtmd takes it from too without telling."""
    from gguf import GGUFReader

    try:
        return next(int(tensor.shape[0]) for tensor in GGUFReader(mmproj).tensors if tensor.name == "mm.2.bias")
    except (OSError, ValueError, IndexError, StopIteration) as error:
        raise BackendError(f"{mmproj}: not an mmproj file with a two-layer projector ({error}).",
                           hint="Copy the bundle or export it again.") from None  # fmt: skip


def run_probe(bundle: Bundle, encoder: MtmdEncoder | None = None) -> ProbeResult:
    """The bundle's probe picture, encoded by the installed llama.cpp from its mmproj.

    encoder: one that is open already. Raises BundleError for a bundle without mmproj or probe, BackendError where llama.cpp
    cannot load it.
    """
    expected = _reference(bundle)
    picture = np.ascontiguousarray(np.asarray(open_image(bundle.file("probe_image"))))
    if encoder is not None:
        return compare_features(encoder.encode_bytes(picture), expected)
    with vocabulary(bundle.file("model")) as model:
        own = MtmdEncoder(bundle.file("mmproj"), bundle.image, model)
        try:
            return run_probe(bundle, own)
        finally:
            own.close()


@contextlib.contextmanager
def vocabulary(path: Path) -> Iterator[Any]:
    """A GGUF language model's vocabulary without its weights, in llama.cpp, quietly. Raises BackendError."""
    from llama_cpp import llama_cpp as lib

    before, data = lib.llama_log_callback(), ctypes.c_void_p()
    lib.llama_log_get(ctypes.byref(before), ctypes.byref(data))
    lib.llama_log_set(_callback(), None)
    try:
        lib.llama_backend_init()
        settings = lib.llama_model_default_params()
        settings.vocab_only = True
        model = lib.llama_model_load_from_file(str(path).encode(), settings)
        if not model:
            raise BackendError(f"{path}: llama.cpp cannot load the model's vocabulary ({' '.join(list(_lines)[-2:])}).",
                               hint="Copy the bundle or export it again.")  # fmt: skip
        try:
            yield model
        finally:
            lib.llama_model_free(model)
    finally:
        lib.llama_log_set(before, data)


def _reference(bundle: Bundle) -> np.ndarray:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = bundle.file("probe_features")
    try:
        found: np.ndarray = load_file(path)["features"]
    except (OSError, KeyError, SafetensorError) as error:
        raise BundleError(
            f"{path}: the reference features cannot be read ({error}).", hint="Export it again."
        ) from None
    return found


_lines: deque[str] = deque(maxlen=20)


@cache
def _callback() -> Any:
    """Keeps log lines in ``_lines``. Held for ever, as llama.cpp may call it for ever."""
    from llama_cpp import llama_cpp

    def keep(_: int, text: bytes, __: ctypes.c_void_p) -> None:
        _lines.append(text.decode("utf-8", "replace").strip())

    return llama_cpp.llama_log_callback(keep)


@contextlib.contextmanager
def _log_off(lib: Any) -> Iterator[deque[str]]:
    """mtmd's log kept from the console; yields the lines that come in meanwhile."""
    lib.mtmd_log_set(_callback(), None)
    _lines.clear()
    yield _lines


if __name__ == "__main__":
    print(json.dumps(asdict(run_probe(Bundle.load(Path(sys.argv[1]))))))
