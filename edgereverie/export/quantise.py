"""llama.cpp's quantizer and vocabulary through llama-cpp-python's ctypes; its high-level class offers neither."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from edgereverie.errors import ExportError, MissingPackage

_WARNING, _ERROR, _CONTINUED = 2, 3, 5  # ggml_log_level


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


def quantise(source: Path, out: Path, quantization: str, threads: int = 0) -> None:
    """Write the F16 or F32 GGUF ``source`` as ``quantization`` (``Q4_K_M``, ``Q6_K`` ...) to ``out``.

    threads 0: as many as the machine has. Raises ExportError with llama.cpp's own words; a half-written ``out`` is removed.
    """
    llama = open_llama(f"Quantizing to {quantization}")
    file_type = getattr(llama, f"LLAMA_FTYPE_MOSTLY_{quantization}", None)
    if file_type is None:
        raise ExportError(f"llama.cpp knows no quantization {quantization!r}.")
    llama.llama_backend_init()
    params = llama.llama_model_quantize_default_params()
    params.ftype, params.nthread = file_type, threads
    with collected_log(llama) as lines:
        status = llama.llama_model_quantize(str(source).encode(), str(out).encode(), ctypes.byref(params))
    if status != 0:
        out.unlink(missing_ok=True)
        reason = " ".join(lines[-3:]) or "no reason given"
        raise ExportError(
            f"llama.cpp could not quantize to {quantization} (status {status}): {reason}",
            hint="Is the disk full? Otherwise try gguf-q8-0, which does not need llama.cpp.",
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
