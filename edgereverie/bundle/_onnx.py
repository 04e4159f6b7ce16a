"""Which bytes of other files an ONNX graph asks for, read from the protobuf itself, without the onnx package.

onnxruntime opens what a graph names as external data, so that is looked at before any graph is opened. Only messages that
can hold a tensor are walked; everything else, weights above all, is skipped unread. Field numbers: onnx/onnx.proto.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_DEEPEST = 64  # graphs inside graphs
_VARINT, _EIGHT, _LENGTH, _FOUR = 0, 1, 2, 5
# Message -> the fields that lead to tensors.
_INSIDE: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_DATA_LOCATION, _EXTERNAL = 14, 1


class Broken(ValueError):
    """What is wrong with the file, in words."""


@dataclass(frozen=True, slots=True)
class External:
    """A stretch of another file. location: relative to the graph. length: None where the tensor's own size says it."""

    location: str
    offset: int
    length: int | None


def external_data(path: Path) -> list[External]:
    """Everything that a graph takes from other files. Raises Broken for what is no ONNX file."""
    if path.stat().st_size == 0:
        raise Broken("it is empty")
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return list(_walk(data, "model", 0, len(data), 0))
        except (IndexError, UnicodeDecodeError) as error:
            raise Broken(f"it is no ONNX graph, or cut short ({error})") from None


def _walk(data: mmap.mmap, message: str, begin: int, end: int, depth: int) -> Iterator[External]:
    if depth > _DEEPEST:
        raise Broken("its graphs are nested too deeply")
    told: list[tuple[str, str]] = []
    outside = False
    for number, wire, first, last in _fields(data, begin, end):
        inner = _INSIDE[message].get(number)
        if wire == _VARINT and message == "tensor" and number == _DATA_LOCATION:
            outside = outside or first == _EXTERNAL
        elif wire != _LENGTH or inner is None:
            continue
        elif inner == "entry":
            told.append(_entry(data, first, last))
        else:
            yield from _walk(data, inner, first, last, depth + 1)
    if told or outside:
        yield from _external(told)


def _external(told: list[tuple[str, str]]) -> Iterator[External]:
    """What one tensor names. Readers differ in which of several equal keys they believe, so each counts once."""
    keys = [key for key, _ in told]
    named = dict(told)
    if len(named) != len(keys) or "location" not in named:
        raise Broken("a tensor in it names its data file not exactly once")
    numbers = [named.get(key, "0" if key == "offset" else None) for key in ("offset", "length")]
    if not all(number is None or (number.isascii() and number.isdecimal() and len(number) < 20) for number in numbers):
        raise Broken(f"a tensor in it lies at {numbers[0]!r}, {numbers[1]!r} of its data file")
    offset, length = (None if number is None else int(number) for number in numbers)
    yield External(named["location"], offset or 0, length)


def _entry(data: mmap.mmap, begin: int, end: int) -> tuple[str, str]:
    """A StringStringEntryProto."""
    pair = ["", ""]
    for number, wire, first, last in _fields(data, begin, end):
        if wire == _LENGTH and number in (1, 2):
            pair[number - 1] = data[first:last].decode("utf-8")
    return pair[0], pair[1]


def _fields(data: Any, begin: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """(number, wire type, begin, end) of each field of a message; of a varint its value in place of the begin."""
    at = begin
    while at < end:
        tag, at = _varint(data, at, end)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, at = _varint(data, at, end)
            yield number, wire, value, at
            continue
        if wire == _LENGTH:
            length, at = _varint(data, at, end)
        elif wire in (_EIGHT, _FOUR):
            length = 8 if wire == _EIGHT else 4
        else:
            raise Broken(f"it is no ONNX graph (wire type {wire})")
        if number == 0 or length > end - at:
            raise Broken("it is no ONNX graph, or cut short")
        yield number, wire, at, at + length
        at += length


def _varint(data: Any, at: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise Broken("it is no ONNX graph, or cut short")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise Broken("it is no ONNX graph (a number without end)")
