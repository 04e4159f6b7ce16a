"""What stands inside a bundle's GGUF and ONNX files cannot make a runtime read other files, or beyond their ends."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgereverie.bundle import Bundle, describe_file
from edgereverie.bundle import _gguf as gguf_header
from edgereverie.bundle._onnx import Broken, External, external_data
from edgereverie.errors import BundleError


def text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def gguf(
    *, version: int = 3, pairs: bytes = b"", count: int = 0, tensors: bytes = b"", infos: int = 1, data: int = 128
) -> bytes:
    """A GGUF file from its parts; by default one tensor ``w`` of 32 32-bit floats at offset 0."""
    tensors = tensors or tensor("w", (32,), 0, 0)
    header = struct.pack("<4sIQQ", b"GGUF", version, infos, count) + pairs + tensors
    return header + bytes(-len(header) % 32) + bytes(data)


def tensor(name: str, shape: tuple[int, ...], kind: int, offset: int) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def field(number: int, content: bytes | int) -> bytes:
    """A protobuf field: a varint, or bytes with their length."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def outside(**told: str) -> bytes:
    """A TensorProto whose values lie in another file: data_location (14) EXTERNAL, external_data (13)."""
    entries = b"".join(field(13, field(1, key.encode()) + field(2, value.encode())) for key, value in told.items())
    return field(1, 8) + field(2, 1) + field(8, b"w") + entries + field(14, 1)


def graph_of(tensor: bytes) -> bytes:
    return field(1, 10) + field(7, field(2, b"main") + field(5, tensor))


def put(bundle: Bundle, role: str, content: bytes) -> Bundle:
    """The bundle with another content in that role, honestly listed."""
    bundle.file(role).write_bytes(content)
    files = dict(bundle.files) | {role: describe_file(bundle.folder, bundle.files[role].path)}
    changed = replace(bundle, files=files)
    changed.write()
    return changed


def refused(bundle: Bundle, message: str) -> None:
    """By the check that every runtime makes before it opens a file."""
    with pytest.raises(BundleError, match=message):
        Bundle.load(bundle.folder).check(hashes=False)


# GGUF


def test_the_types_of_ggml_are_those_of_the_gguf_package() -> None:
    constants = pytest.importorskip("gguf").constants
    known = {int(kind): size for kind, size in constants.GGML_QUANT_SIZES.items()}
    assert {kind: gguf_header._BLOCKS[kind] for kind in known if kind in gguf_header._BLOCKS} == {
        kind: size for kind, size in known.items() if kind in gguf_header._BLOCKS
    }
    assert set(known) >= set(gguf_header._BLOCKS) and len(gguf_header._BLOCKS) >= 30


def test_a_real_file_reads_as_the_gguf_package_reads_it(tmp_path: Path) -> None:
    package = pytest.importorskip("gguf")
    np = pytest.importorskip("numpy")
    path = tmp_path / "real.gguf"
    writer = package.GGUFWriter(path, "phi3")
    writer.add_name("a name")
    writer.add_token_list(["a", "▁b", "c"])
    writer.add_token_scores([0.0, -1.0, -2.0])
    writer.add_bool("phi3.some.flag", True)
    for index, shape in enumerate([(3, 64), (32,), (2, 2, 256)]):
        writer.add_tensor(f"t{index}", np.ones(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    header = gguf_header.read_header(path)
    theirs = package.GGUFReader(path)
    assert header.tensors == {one.name: int(one.n_bytes) for one in theirs.tensors}
    assert header.scalars["general.name"] == "a name" and header.scalars["phi3.some.flag"] is True
    assert header.scalars["tokenizer.ggml.tokens"] is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no GGUF file"),
        (b"GGML" + bytes(100), "no GGUF file"),
        (gguf(version=1), "version is 1"),
        (gguf(version=0x03000000), "version is 50331648"),
        (gguf(data=64), "ends at byte 192, the file at 128"),
        (gguf(tensors=tensor("w", (1 << 62,), 0, 0)), "ends at byte"),
        (gguf(tensors=tensor("w", (32,), 0, 1 << 63)), "ends at byte"),
        (gguf(tensors=tensor("w", (32,), 0, 16)), "between the places"),
        (gguf(tensors=tensor("w", (33,), 8, 0)), "does not fill blocks of 32"),
        (gguf(tensors=tensor("w", (32,), 5, 0)), "unknown type 5"),
        (gguf(tensors=tensor("w", (32,) * 5, 0, 0)), "5 dimensions"),
        (gguf(tensors=tensor("w", (0,), 0, 0)), "does not fill"),
        (gguf(tensors=tensor("a", (32,), 0, 0) + tensor("b", (32,), 0, 32), infos=2, data=256), "lies across"),
        (gguf(tensors=tensor("a", (32,), 0, 0) + tensor("a", (32,), 0, 128), infos=2, data=256), "in it twice"),
        (gguf(infos=1 << 60), "0 dimensions"),
        (gguf(count=1 << 60), "metadata twice"),
        (gguf(count=1, pairs=struct.pack("<Q", 1 << 62)), "bytes long, and the file ends before"),
        (gguf(count=1, pairs=text("k") + struct.pack("<IIQ", 9, 8, 1 << 62)), "ends before"),
        (gguf(count=1, pairs=text("k") + struct.pack("<IIQ", 9, 4, 1 << 62)), "ends before"),
        (gguf(count=1, pairs=text("k") + struct.pack("<IIQ", 9, 9, 1)), "array of the unknown type 9"),
        (gguf(count=1, pairs=text("k") + struct.pack("<I", 77)), "unknown type 77"),
        (gguf(count=1, pairs=text("general.alignment") + struct.pack("<II", 4, 0)), "alignment is 0"),
        (gguf(count=2, pairs=(text("k") + struct.pack("<IB", 0, 1)) * 2), "'k' stands in its metadata twice"),
        (gguf(count=1, pairs=text("split.count") + struct.pack("<IH", 2, 3)), "one of 3 parts"),
    ],
)
def test_a_crafted_gguf_is_refused(small_bundle: Bundle, content: bytes, message: str) -> None:
    refused(put(small_bundle, "model", content), message)


def test_a_gguf_that_is_right_is_not_refused(small_bundle: Bundle) -> None:
    put(small_bundle, "model", gguf(count=1, pairs=text("split.count") + struct.pack("<IH", 2, 1))).check()


# ONNX


@pytest.mark.parametrize(
    "location",
    ["/etc/passwd", "../secret", "../small/../secret", "secret", "./vision.onnx_data", "VISION.onnx_data", "deep/../x",
     "vision.onnx_data\0", "vision.onnx_data/", "*/_ORT_MEM_ADDR_/*", "C:\\x", "file:///etc/passwd", "", "bundle.json"],
)  # fmt: skip
def test_a_graph_may_read_listed_files_only(small_bundle: Bundle, tmp_path: Path, location: str) -> None:
    (tmp_path / "secret").write_bytes(bytes(64))
    (small_bundle.folder / "vision.onnx_data").write_bytes(bytes(64))
    files = dict(small_bundle.files) | {"vision_data": describe_file(small_bundle.folder, "vision.onnx_data")}
    listed = replace(small_bundle, files=files)
    put(listed, "vision", graph_of(outside(location="vision.onnx_data", offset="32", length="32"))).check()
    refused(put(listed, "vision", graph_of(outside(location=location))), "which is no file of the bundle")


def test_a_listed_data_file_that_is_a_link_is_refused(small_bundle: Bundle, tmp_path: Path) -> None:
    (small_bundle.folder / "vision.onnx_data").write_bytes(bytes(64))
    files = dict(small_bundle.files) | {"vision_data": describe_file(small_bundle.folder, "vision.onnx_data")}
    bundle = put(replace(small_bundle, files=files), "vision", graph_of(outside(location="vision.onnx_data")))
    (tmp_path / "secret").write_bytes(bytes(64))
    (small_bundle.folder / "vision.onnx_data").unlink()
    (small_bundle.folder / "vision.onnx_data").symlink_to(tmp_path / "secret")
    refused(bundle, "is a link")


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"location": "tokenizer.json", "offset": "0", "length": "19"}, "beyond the end of tokenizer.json"),
        ({"location": "tokenizer.json", "offset": "19"}, "beyond the end"),
        ({"location": "tokenizer.json", "offset": "-1"}, "lies at '-1'"),
        ({"location": "tokenizer.json", "offset": "1e3"}, "lies at '1e3'"),
        ({"location": "tokenizer.json", "length": "9" * 30}, "lies at"),
        ({"offset": "0"}, "not exactly once"),
    ],
)
def test_stretches_of_data_files(small_bundle: Bundle, told: dict[str, str], message: str) -> None:
    refused(put(small_bundle, "vision", graph_of(outside(**told))), message)


def hidden(tensor: bytes) -> Iterator[bytes]:
    """The tensor in every place of an ONNX model that can hold one (onnx.proto)."""
    yield graph_of(tensor)
    yield field(7, b"") + graph_of(tensor)  # protobuf puts two graphs together
    yield field(7, field(15, field(1, tensor)))  # sparse_initializer.values
    yield field(7, field(15, field(2, tensor)))  # .indices
    for inner in (field(5, tensor), field(10, tensor), field(6, field(5, tensor)), field(11, field(5, tensor)),
                  field(22, field(1, tensor)), field(23, field(2, tensor))):  # fmt: skip
        yield field(7, field(1, field(5, inner)))  # node.attribute
        yield field(25, field(7, field(5, inner)))  # functions.node.attribute
        yield field(25, field(11, inner))  # functions.attribute_proto
    yield field(20, field(1, field(5, tensor)))  # training_info.initialization
    yield field(20, field(2, field(5, tensor)))  # .algorithm


def test_no_place_hides_a_data_file(tmp_path: Path) -> None:
    found = [External("x", 4, None)]
    path = tmp_path / "x.onnx"
    forms = list(hidden(outside(location="x", offset="4")))
    assert len(forms) == 24
    for form in forms:
        path.write_bytes(form)
        assert external_data(path) == found
    path.write_bytes(graph_of(field(13, field(1, b"location") + field(2, b"x"))))  # without saying that it is external
    assert external_data(path) == [External("x", 0, None)]
    path.write_bytes(graph_of(field(14, 1)))  # and the other way round
    with pytest.raises(Broken, match="not exactly once"):
        external_data(path)
    double = [field(13, field(1, b"location") + field(2, name)) for name in (b"x", b"y")]
    path.write_bytes(graph_of(b"".join(double) + field(14, 1)))  # readers differ in which of the two they take
    with pytest.raises(Broken, match="not exactly once"):
        external_data(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x3a",
        b"\x3a\xff",
        b"\x3a\x05\x00",
        b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x3b",
        b"\xff" * 40,
        b"{}",
    ],
)
def test_what_is_no_graph_is_refused(small_bundle: Bundle, content: bytes) -> None:
    refused(put(small_bundle, "vision", content), "vision.onnx .vision.: it is ")


def test_graphs_inside_graphs_without_end_are_refused(tmp_path: Path) -> None:
    inner = b""
    for _ in range(200):
        inner = field(1, field(5, field(6, inner)))
    (tmp_path / "x.onnx").write_bytes(field(7, inner))
    with pytest.raises(Broken, match="nested too deeply"):
        external_data(tmp_path / "x.onnx")


def test_the_walk_finds_what_the_onnx_package_finds(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    np = pytest.importorskip("numpy")
    weights = [onnx.numpy_helper.from_array(np.full((8, size), 1.0, np.float32), f"w{size}") for size in (16, 64, 256)]
    node = onnx.helper.make_node("Identity", ["w16"], ["y"])
    output = onnx.helper.make_tensor_value_info("y", 1, [8, 16])
    graph = onnx.helper.make_graph([node], "g", [], [output], initializer=weights)
    onnx.save_model(
        onnx.helper.make_model(graph), tmp_path / "m.onnx", save_as_external_data=True, location="m.onnx_data",
        size_threshold=1024,
    )  # fmt: skip
    raw = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    expected = []
    for one in raw.graph.initializer:
        told = {entry.key: entry.value for entry in one.external_data}
        if told:
            expected.append(External(told["location"], int(told["offset"]), int(told["length"])))
    assert external_data(tmp_path / "m.onnx") == expected and len(expected) == 2


# The folder


def test_what_a_target_must_have_is_asked_for(small_bundle: Bundle) -> None:
    files = {role: file for role, file in small_bundle.files.items() if role != "vision"}
    (small_bundle.folder / "vision.onnx").unlink()
    replace(small_bundle, files=files).write()
    refused(small_bundle, "no 'vision' file, which a gguf bundle must have")


def test_a_graph_that_onnxruntime_would_take_for_its_own_format_is_refused(small_bundle: Bundle) -> None:
    (small_bundle.folder / "vision.onnx").rename(small_bundle.folder / "vision.ort")
    files = dict(small_bundle.files) | {"vision": describe_file(small_bundle.folder, "vision.ort")}
    replace(small_bundle, files=files).write()
    refused(small_bundle, r"vision.ort \(vision\) should be a \.onnx file")


def test_files_that_nobody_listed_are_told(small_bundle: Bundle) -> None:
    (small_bundle.folder / "deep").mkdir()
    (small_bundle.folder / "deep" / "more.gguf").write_bytes(b"x")
    os.symlink("nowhere", small_bundle.folder / "link")
    assert small_bundle.faults() == [
        "deep/more.gguf does not belong here: the manifest does not list it.",
        "link does not belong here: the manifest does not list it.",
    ]
    assert small_bundle.faults(strangers=False) == small_bundle.faults(hashes=False) == []
