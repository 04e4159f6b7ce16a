"""llama.cpp's quantizer and vocabulary through llama-cpp-python's ctypes; its high-level class offers neither."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from edgereverie.errors import ExportError, MissingPackage

# Code books this coarse are chosen by what the inputs weigh; llama.cpp refuses to choose without.
NEED_IMPORTANCE = ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS", "IQ3_XS", "Q2_K_S")
_WARNING, _ERROR, _CONTINUED = 3, 4, 5  # ggml_log_level


def open_llama(purpose: str) -> ModuleType:
    """llama_cpp, or MissingPackage that says what for."""
    try:
        import llama_cpp
    except ImportError:
        raise MissingPackage("llama-cpp-python", purpose, "export") from None
    return llama_cpp


@contextmanager
def collected_log(llama: ModuleType) -> Iterator[list[str]]:
    """llama.cpp's warnings and errors as a list instead of on the console; its former log is put back afterwards."""
    lines: list[str] = []
    wanted = False

    @llama.llama_log_callback
    def collect(level: int, text: bytes, _: ctypes.c_void_p) -> None:
        nonlocal wanted
        wanted = level in (_WARNING, _ERROR) or (level == _CONTINUED and wanted)
        if wanted:
            lines.append(text.decode("utf-8", "replace").strip())

    before, data = llama.llama_log_callback(), ctypes.c_void_p()
    llama.llama_log_get(ctypes.byref(before), ctypes.byref(data))
    llama.llama_log_set(collect, None)
    try:
        yield lines
    finally:
        llama.llama_log_set(before, data)


def quantise(
    source: Path,
    out: Path,
    quantization: str,
    *,
    importance: Mapping[str, np.ndarray] | None = None,
    threads: int = 0,
) -> None:
    """Write the F32, F16 or BF16 GGUF ``source`` as ``quantization`` (``Q4_K_M``, ``IQ3_XXS`` ...) to ``out``.

    importance: how much each input of a tensor weighs, by GGUF tensor name, positive float32: one value for each column,
    and for stacked experts one such row for each of them. Errors of heavy columns are then kept smaller at the cost of
    light ones. threads 0: as many as the machine has. Raises ExportError with llama.cpp's own words; a half-written
    ``out`` is removed.
    """
    llama = open_llama(f"Quantizing to {quantization}")
    file_type = getattr(llama, f"LLAMA_FTYPE_MOSTLY_{quantization}", None)
    if file_type is None:
        raise ExportError(f"llama.cpp knows no quantization {quantization!r}.")
    if quantization in NEED_IMPORTANCE and not importance:
        raise ExportError(
            f"{quantization} cannot be chosen well without an importance matrix.",
            hint="Take importance: false out of the profile's settings, or quantize to Q3_K_M.",
        )
    llama.llama_backend_init()
    params = llama.llama_model_quantize_default_params()
    params.ftype, params.nthread = file_type, threads
    if importance:
        _check_importance(source, importance)
        params.imatrix = weighed = _as_imatrix(llama, importance)
    with collected_log(llama) as lines:
        status = llama.llama_model_quantize(str(source).encode(), str(out).encode(), ctypes.byref(params))
    if importance:
        del weighed  # until here ctypes has to hold what the struct only points to
    if status != 0:
        out.unlink(missing_ok=True)
        reason = " ".join(lines[-3:]) or "no reason given"
        raise ExportError(
            f"llama.cpp could not quantize to {quantization} (status {status}): {reason}",
            hint="Is the disk full? Otherwise try gguf-q8-0, which does not need llama.cpp.",
        )


def _as_imatrix(llama: ModuleType, importance: Mapping[str, np.ndarray]) -> Any:
    """The C array of ``llama_model_imatrix_data``, which ends with an entry without a name."""
    entries = (llama.llama_model_imatrix_data * (len(importance) + 1))()
    held = []
    for entry, (name, values) in zip(entries, importance.items(), strict=False):
        flat = np.ascontiguousarray(values, dtype=np.float32).reshape(-1)
        held.append(flat)
        entry.name, entry.size = name.encode(), flat.size
        entry.data = flat.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    entries.held = held
    return entries


def _check_importance(source: Path, importance: Mapping[str, np.ndarray]) -> None:
    """llama.cpp passes over names that it does not know and would quantize those tensors blindly."""
    from gguf import GGUFReader

    try:
        shapes = {tensor.name: [int(length) for length in tensor.shape] for tensor in GGUFReader(source).tensors}
    except (ValueError, OSError, IndexError) as error:
        raise ExportError(f"{source}: not a GGUF that can be read ({error}).") from None
    for name, values in importance.items():
        if name not in shapes:
            raise ExportError(f"{source.name} holds no tensor {name!r}, of which the importance matrix speaks.",
                              hint="Measure it anew for this architecture.")  # fmt: skip
        width, matrices = shapes[name][0], shapes[name][2] if len(shapes[name]) > 2 else 1
        if values.size != width * matrices or not (np.isfinite(values).all() and (values >= 0).all()):
            raise ExportError(
                f"The importance of {name} should be {matrices} x {width} values of 0 or more; found {values.shape}.",
                hint="Measure it anew for this model.",
            )


@contextmanager
def load_vocabulary(llama: ModuleType, gguf: Path) -> Iterator[Callable[[str], list[int]]]:
    """A function from text to llama.cpp's own ids, control tokens parsed, nothing added. Loads no weights."""
    llama.llama_backend_init()
    params = llama.llama_model_default_params()
    params.vocab_only = True
    with collected_log(llama) as lines:
        model = llama.llama_model_load_from_file(str(gguf).encode(), params)
        if not model:
            raise ExportError(f"{gguf}: llama.cpp cannot read it: {' '.join(lines[-3:])}")
        vocabulary = llama.llama_model_get_vocab(model)

        def tokenize(text: str) -> list[int]:
            raw = text.encode()
            ids = (llama.llama_token * (len(raw) * 2 + 16))()
            count = llama.llama_tokenize(vocabulary, raw, len(raw), ids, len(ids), False, True)
            if count < 0:
                raise ExportError(f"{gguf}: llama.cpp cannot tokenize {text!r}.")
            return list(ids[:count])

        try:
            yield tokenize
        finally:
            llama.llama_model_free(model)
