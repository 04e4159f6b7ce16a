"""onnxruntime sessions, and the vision encoder that ONNX and GGUF bundles share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgereverie.bundle import Bundle
from edgereverie.errors import BackendError, BundleError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


def threads() -> int:
    """OMP_NUM_THREADS where it is set, else the processors that this process may use."""
    wished = os.environ.get("OMP_NUM_THREADS", "")
    if wished.isdigit() and int(wished) > 0:
        return int(wished)
    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable else os.cpu_count() or 1


_CUDA, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


def lacks_cuda() -> str:
    """Why this onnxruntime cannot compute on CUDA; empty where it should."""
    import onnxruntime

    return "" if _CUDA in onnxruntime.get_available_providers() else "the installed onnxruntime is built without it"


def session(path: Path, device: str) -> InferenceSession:
    """The graph on ``cpu`` or ``cuda``.

    Raises BundleError when it does not load, BackendError where CUDA does not start, which onnxruntime itself would pass over.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    providers = [_CUDA, _CPU] if device == "cuda" else [_CPU]
    try:
        graph = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # onnxruntime's exceptions share no base class of their own
        raise BundleError(f"{path}: onnxruntime cannot load the graph ({str(error).splitlines()[0]}).",
                          hint="Copy the bundle or export it again; an old onnxruntime may not know its opset.",
                          ) from None  # fmt: skip
    if device == "cuda" and _CUDA not in graph.get_providers():
        raise BackendError(f"{path}: onnxruntime could not start CUDA.",
                           hint="Its CUDA and cuDNN must be the ones that this onnxruntime-gpu was built for.",
                           )  # fmt: skip
    return graph


def names_of(graph: InferenceSession, path: Path, inputs: set[str], outputs: set[str]) -> None:
    """Raise BundleError when the graph lacks an input or output of these names."""
    lacking = (inputs - {entry.name for entry in graph.get_inputs()}) | (
        outputs - {entry.name for entry in graph.get_outputs()}
    )
    if lacking:
        raise BundleError(f"{path}: the graph has no {', '.join(sorted(lacking))}.",
                          hint="Export the bundle again with this version.")  # fmt: skip


class VisionEncoder:
    """pixel_values (1, 3, side, side) -> image_features (1, tokens, width), from the bundle's ``vision`` file.

    width: of the language model that reads the features; a graph that promises another, or another number of tokens
    than the manifest's image geometry, is refused before any picture is looked at.
    """

    def __init__(self, bundle: Bundle, width: int, device: str) -> None:
        self._bundle, self._width = bundle, width
        self._path = bundle.file("vision")
        self._session = session(self._path, device)
        names_of(self._session, self._path, {"pixel_values"}, {"image_features"})
        self._dtype = DTYPES[self._session.get_inputs()[0].type]
        self._check(next(out.shape for out in self._session.get_outputs() if out.name == "image_features")[-2:])

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        side = self._bundle.image.size
        if pixels.shape != (3, side, side):
            raise BackendError(f"Pixel values have shape {pixels.shape}, this vision tower takes (3, {side}, {side}).",
                               hint="Prepare the picture with the bundle's own image geometry.")  # fmt: skip
        (found,) = self._session.run(["image_features"], {"pixel_values": pixels[None].astype(self._dtype)})
        self._check(found.shape[-2:])
        return np.ascontiguousarray(found.reshape(found.shape[-2:]), dtype=np.float32)

    def _check(self, shape: tuple[int | str | None, ...]) -> None:
        """Compare (tokens, width); a dimension that the graph leaves open is checked when features come out."""
        tokens, width = shape
        if isinstance(width, int) and width != self._width:
            raise BundleError(f"{self._path}: image features are {width} wide, the language model takes {self._width}.",
                              hint="Export vision tower and language model from the same merged folder.")  # fmt: skip
        if isinstance(tokens, int) and tokens != self._bundle.image.tokens:
            raise BundleError(f"{self._path}: made for {tokens} image tokens, the manifest says "
                              f"{self._bundle.image.tokens}.",
                              hint="Export vision tower and language model from the same merged folder.")  # fmt: skip


def image_token(bundle: Bundle) -> int:
    """The id of the chat format's image token in the bundle's own tokenizer."""
    from tokenizers import Tokenizer

    from edgereverie.chat import chat_format

    text = chat_format(bundle.chat).image_token
    try:
        found = Tokenizer.from_file(str(bundle.file("tokenizer"))).token_to_id(text)
    except Exception as error:  # the Rust side raises plain Exception
        raise BundleError(
            f"{bundle.folder}: the tokenizer cannot be read ({error}).", hint="Export the bundle again."
        ) from None
    if found is None:
        raise BundleError(f"{bundle.folder}: the tokenizer does not know the image token {text!r}.",
                          hint="Export the bundle again; its tokenizer belongs to another model.")  # fmt: skip
    return found
