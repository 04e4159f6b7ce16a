"""Training on a processor without hoarding: what oneDNN keeps for shapes that never come again.

For each shape of a 16-bit product oneDNN makes machine code and keeps it, twice: in its own cache and in the one that torch
has around it, 1,024 of each by default. Batches of trees hardly ever have the same shape twice, so that this grows by some
15 MB in each step, up to 600 MB in the end (measured with torch 2.13 on a CPU with AVX512-BF16: 0.56 MB a shape). A few steps'
worth serves as well: code is used again by the layers of one step.
"""

from __future__ import annotations

import os

_CACHES = "ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"
_KEPT = 64
_CODE = 290 * 1024  # bytes that a cache holds for one shape, measured over 200 shapes each of three kinds of products


def spare() -> None:
    """Let both caches keep 64 shapes, unless the environment says otherwise. Only before a process's first product."""
    for name in _CACHES:
        os.environ.setdefault(name, str(_KEPT))


def code_bytes() -> int:
    """What both caches come to hold where products are made in 16 bits."""
    return _CODE * sum(_capacity(name) for name in _CACHES)


def _capacity(name: str) -> int:
    told = os.environ.get(name, "")
    return int(told) if told.isdecimal() else 1024
