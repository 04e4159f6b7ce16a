"""llama.cpp's log: kept off the terminal, and its last words kept for error messages."""

from __future__ import annotations

import ctypes
import logging
from collections import deque
from typing import Any

_ERROR = 4  # ggml_log_level

_log = logging.getLogger(__name__)
_recent: deque[str] = deque(maxlen=8)
_callback: Any = None  # ctypes frees a callback that nobody holds, and llama.cpp calls it for ever


def quieten(lib: Any) -> None:
    """Send llama.cpp's log to ``logging`` at debug level, and keep its last words for error messages."""
    global _callback
    if _callback is None:

        def write(level: int, text: bytes, _: ctypes.c_void_p) -> None:
            line = text.decode("utf-8", "replace").strip()
            if level == _ERROR and line:
                _recent.append(line)
            _log.debug("%s", line)

        _callback = lib.llama_log_callback(write)
        lib.llama_backend_init()
    lib.llama_log_set(_callback, ctypes.c_void_p(0))


def last_words() -> str:
    return _recent[0] if _recent else "it gives no reason"


def forget_words() -> None:
    """What was said until now explains no later error."""
    _recent.clear()
