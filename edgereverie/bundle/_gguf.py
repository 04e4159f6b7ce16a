"""The header of a GGUF file, read without any package: is every tensor it promises inside the file?

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little-endian.
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MAGIC, _VERSIONS = b"GGUF", (2, 3)
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_MOST_DIMENSIONS = 4
# ggml's types: number -> (weights in a block, bytes of a block), as ggml.c lists them.
_BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 40), 10: (256, 84),
    11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292), 16: (256, 66), 17: (256, 74),
    18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82), 23: (256, 136), 24: (1, 1), 25: (1, 2),
    26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2), 34: (256, 54), 35: (256, 66), 39: (32, 17),
    40: (64, 36), 41: (128, 18),
}  # fmt: skip


class Broken(ValueError):
    """What is wrong with the file, in words."""


@dataclass(frozen=True, slots=True)
class Header:
    """scalars: metadata that is no array. tensors: bytes of each, by name."""

    version: int
    scalars: dict[str, Any]
    tensors: dict[str, int]


def read_header(path: Path) -> Header:
    """Read and check a file's header; no weight is read. Raises Broken."""
    with path.open("rb") as stream:
        if path.stat().st_size < 24 or stream.read(4) != _MAGIC:
            raise Broken("it is no GGUF file")
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                return _Reader(data).header()
            except (struct.error, UnicodeDecodeError, IndexError, OverflowError) as error:
                raise Broken(f"its header ends before it should, or is no text ({error})") from None


class _Reader:
    def __init__(self, data: mmap.mmap) -> None:
        self._data, self._size, self._at = data, len(data), 4

    def header(self) -> Header:
        version = self._take("<I")
        if version not in _VERSIONS:
            raise Broken(f"its GGUF version is {version}, known are {', '.join(map(str, _VERSIONS))}")
        count, pairs = self._take("<Q"), self._take("<Q")
        scalars: dict[str, Any] = {}
        for _ in range(pairs):
            key = self._text()
            if key in scalars:
                raise Broken(f"{key!r} stands in its metadata twice")
            scalars[key] = self._value(self._take("<I"))
        infos = [self._info() for _ in range(count)]
        alignment = scalars.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 8 or alignment % 8:
            raise Broken(f"its alignment is {alignment!r}")
        begin = -(-self._at // alignment) * alignment
        return Header(version, scalars, self._placed(infos, begin, alignment))

    def _placed(self, infos: list[tuple[str, int, int]], begin: int, alignment: int) -> dict[str, int]:
        tensors: dict[str, int] = {}
        end = begin
        for name, offset, size in sorted(infos, key=lambda info: info[1]):
            if name in tensors:
                raise Broken(f"the tensor {name!r} stands in it twice")
            if offset % alignment or begin + offset < end:
                raise Broken(f"the tensor {name!r} lies across another one or between the places")
            end = begin + offset + size
            if end > self._size:
                raise Broken(f"the tensor {name!r} ends at byte {end:,}, the file at {self._size:,}")
            tensors[name] = size
        return tensors

    def _info(self) -> tuple[str, int, int]:
        name, dimensions = self._text(), self._take("<I")
        if not 1 <= dimensions <= _MOST_DIMENSIONS:
            raise Broken(f"the tensor {name!r} has {dimensions} dimensions")
        shape = [self._take("<Q") for _ in range(dimensions)]
        kind, offset = self._take("<I"), self._take("<Q")
        if kind not in _BLOCKS:
            raise Broken(f"the tensor {name!r} is of the unknown type {kind}")
        block, size = _BLOCKS[kind]
        if shape[0] % block or not all(shape):
            raise Broken(f"the tensor {name!r} of shape {shape} does not fill blocks of {block}")
        return name, offset, math.prod(shape) // block * size

    def _value(self, kind: int) -> Any:
        """A scalar or text; of an array, None."""
        if kind == _STRING:
            return self._text()
        if kind == _ARRAY:
            inner, length = self._take("<I"), self._take("<Q")
            if inner == _STRING:
                for _ in range(length):
                    self._skip(self._take("<Q"))
            elif inner in _SCALARS:
                self._skip(length * struct.calcsize(_SCALARS[inner]))
            else:
                raise Broken(f"its metadata hold an array of the unknown type {inner}")
            return None
        if kind not in _SCALARS:
            raise Broken(f"its metadata hold the unknown type {kind}")
        return self._take(_SCALARS[kind])

    def _take(self, form: str) -> Any:
        (value,) = struct.unpack_from(form, self._data, self._at)
        self._at += struct.calcsize(form)
        return value

    def _text(self) -> str:
        length = self._take("<Q")
        begin = self._at
        self._skip(length)
        return self._data[begin : begin + length].decode("utf-8")

    def _skip(self, length: int) -> None:
        if length > self._size - self._at:
            raise Broken(f"something in its header is {length:,} bytes long, and the file ends before")
        self._at += length
