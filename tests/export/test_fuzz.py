"""Whatever is done to the bytes of a bundle's files, its check says so, and no runtime reads beyond the bundle."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgereverie.bundle import MANIFEST, Bundle, describe_file
from edgereverie.errors import BundleError

ROUNDS = 4


def flip(content: bytearray, rng: random.Random) -> None:
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def overwrite(content: bytearray, rng: random.Random) -> None:
    at, count = rng.randrange(len(content)), rng.randrange(1, 64)
    before = bytes(content)
    while content == before:
        content[at : at + count] = rng.randbytes(len(content[at : at + count]))


def truncate(content: bytearray, rng: random.Random) -> None:
    del content[rng.randrange(len(content)) :]


def extend(content: bytearray, rng: random.Random) -> None:
    content += rng.choice((b"\0", b"\n", b" ", rng.randbytes(rng.randrange(1, 100))))


def insert(content: bytearray, rng: random.Random) -> None:
    content[rng.randrange(len(content)) : 0] = rng.randbytes(rng.randrange(1, 9))


def shift(content: bytearray, rng: random.Random) -> None:
    """The same length, one byte out of place."""
    moved = bytes([content[-1] ^ 1]) + content[:-1]
    content[:] = moved


@pytest.fixture(scope="module", params=["gguf-q8-0", "onnx-int8"])
def whole(request, bundles: Callable[[str], Bundle], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A real bundle that may be spoilt: each test leaves it as it was."""
    bundle = bundles(request.param)
    folder = shutil.copytree(bundle.folder, tmp_path_factory.mktemp("fuzz") / "bundle")
    judged = replace(
        bundle, folder=folder, parity=dict(bundle.parity) | {"passed": True, "top1": 0.99, "mean_kl": 0.001}
    )
    judged.write()
    return judged


def caught(folder: Path) -> bool:
    try:
        Bundle.load(folder).check()
    except BundleError:
        return True
    return False


def test_every_corruption_of_every_file(whole: Bundle) -> None:
    rng, tried = random.Random(5), 0
    for path in sorted(path for path in whole.folder.rglob("*") if path.is_file()):
        original = path.read_bytes()
        for spoil in (flip, overwrite, truncate, extend, insert, shift):
            for _ in range(ROUNDS):
                content = bytearray(original)
                spoil(content, rng)
                assert content != original
                path.write_bytes(content)
                assert caught(whole.folder), f"{path.name}: {spoil.__name__}"
                tried += 1
        path.unlink()
        assert caught(whole.folder), f"{path.name}: deleted"
        path.write_bytes(original)
    whole.check()
    assert tried >= 6 * ROUNDS * 7


def test_every_two_files_exchanged(whole: Bundle) -> None:
    paths = [whole.file(role) for role in whole.files]
    for index, one in enumerate(paths):
        for other in paths[:index]:
            first, second = one.read_bytes(), other.read_bytes()
            one.write_bytes(second)
            other.write_bytes(first)
            assert caught(whole.folder), f"{one.name} and {other.name}"
            one.write_bytes(first)
            other.write_bytes(second)
    whole.check()


def leaves(value: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of each value in a JSON document."""
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        if isinstance(value[key], (dict, list)):
            yield from leaves(value[key])
        else:
            yield value, key


def other(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return not value
    return value + ("x" if isinstance(value, str) else 1)


def test_every_edited_value_of_the_manifest(whole: Bundle) -> None:
    path = whole.folder / MANIFEST
    original = path.read_text(encoding="utf-8")
    count = len(list(leaves(json.loads(original))))
    assert count > 30
    for number in range(count):
        data = json.loads(original)
        container, key = list(leaves(data))[number]
        container[key] = other(container[key])
        path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        assert caught(whole.folder), key
        data = json.loads(original)
        container, key = list(leaves(data))[number]
        if isinstance(container, dict):
            del container[key]
            path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            assert caught(whole.folder), f"{key} removed"
    path.write_text(original, encoding="utf-8")
    whole.check()


def test_no_backend_opens_a_graph_that_reads_elsewhere(whole: Bundle, tmp_path: Path, monkeypatch) -> None:
    """Honest hashes and a fitting seal, and weights from beside the bundle: refused before onnxruntime sees the graph."""
    onnx = pytest.importorskip("onnx")
    from edgereverie.runtime.backends import _onnx
    from edgereverie.runtime.model import Model

    folder = shutil.copytree(whole.folder, tmp_path / "bundle")
    graph = onnx.load(folder / whole.files["vision"].path, load_external_data=False)
    tensor = max(graph.graph.initializer, key=lambda one: len(one.raw_data))
    (tmp_path / "secret").write_bytes(tensor.raw_data)
    outside = "../" * whole.files["vision"].path.count("/") + "../secret"
    onnx.external_data_helper.set_external_data(tensor, outside, 0, len(tensor.raw_data))
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    (folder / whole.files["vision"].path).write_bytes(graph.SerializeToString())
    files = dict(whole.files) | {"vision": describe_file(folder, whole.files["vision"].path)}
    replace(whole, folder=folder, files=files).write()
    monkeypatch.setattr(_onnx, "session", lambda path: pytest.fail(f"{path} was opened"))
    with pytest.raises(BundleError, match=r"takes weights from '.*\.\./secret', which is no file of the bundle"):
        Model.load(folder)


def test_a_bundle_that_failed_its_parity_is_told_once(whole: Bundle, tmp_path: Path, caplog) -> None:
    from edgereverie.runtime.model import Model

    failed = replace(whole, folder=shutil.copytree(whole.folder, tmp_path / "bundle"), name="a failure")
    replace(failed, parity={"passed": False, "faults": ["It differs."]}).write()
    for _ in range(2):
        Model.load(failed.folder).close()
    assert [record.message for record in caplog.records if "failed the comparison" in record.message] == [
        "a failure failed the comparison with the model it was made from; its answers may not be that model's "
        "(edgereverie bundle show tells how)."
    ]
