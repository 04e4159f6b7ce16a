"""What a bundle must hold, and that none of its files makes a runtime look for others."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from edgereverie.bundle import _gguf, _onnx

if TYPE_CHECKING:
    from edgereverie.bundle._manifest import Bundle

_PROBE = {"probe_image": ".png", "probe_features": ".safetensors"}
# By target, the roles that its runtime cannot do without, with the ends of their names: onnxruntime takes a file for one of
# its own format by its name alone.
ROLES = {
    "gguf": {"model": ".gguf", "vision": ".onnx", "tokenizer": ".json"} | _PROBE,
    "onnx": {"vision": ".onnx", "embed": ".onnx", "decoder": ".onnx", "config": ".json", "tokenizer": ".json"} | _PROBE,
}


def faults(bundle: Bundle) -> list[str]:
    """Absent roles, and what is wrong inside GGUF and ONNX files, by their headers. Files that are missing are left out."""
    found = []
    for role, end in ROLES.get(bundle.target, {}).items():
        if role not in bundle.files:
            found.append(f"There is no {role!r} file, which a {bundle.target} bundle must have.")
        elif not bundle.files[role].path.endswith(end):
            found.append(f"{bundle.files[role].path} ({role}) should be a {end} file.")
    for role, entry in bundle.files.items():
        path = bundle.file(role)
        if not path.is_file():
            continue
        if entry.path.endswith(".gguf"):
            found += [f"{entry.path} ({role}): {fault}." for fault in _gguf_faults(bundle, role)]
        elif entry.path.endswith(".onnx"):
            found += [f"{entry.path} ({role}): {fault}." for fault in _onnx_faults(bundle, role)]
    return found


def strangers(bundle: Bundle) -> list[str]:
    """Files in the folder that the manifest does not list."""
    from edgereverie.bundle._manifest import MANIFEST

    listed = {MANIFEST, *(entry.path for entry in bundle.files.values())}
    there = (path for path in sorted(bundle.folder.rglob("*")) if path.is_symlink() or not path.is_dir())
    names = (path.relative_to(bundle.folder).as_posix() for path in there)
    return [f"{name} does not belong here: the manifest does not list it." for name in names if name not in listed]


def _gguf_faults(bundle: Bundle, role: str) -> list[str]:
    try:
        header = _gguf.read_header(bundle.file(role))
    except _gguf.Broken as error:
        return [str(error)]
    if (parts := header.scalars.get("split.count", 0)) not in (0, 1):
        return [f"it is one of {parts} parts, and llama.cpp would look for the others"]
    return []


def _onnx_faults(bundle: Bundle, role: str) -> list[str]:
    try:
        asked = _onnx.external_data(bundle.file(role))
    except _onnx.Broken as error:
        return [str(error)]
    here = PurePosixPath(bundle.files[role].path).parent
    sizes = {entry.path: entry.bytes for entry in bundle.files.values()}
    found: dict[str, None] = {}
    for one in asked:
        # Compared as text: every path of a manifest is plain, so no other spelling of one of them passes.
        path = one.location if here == PurePosixPath(".") else f"{here}/{one.location}"
        if path not in sizes:
            found[f"it takes weights from {one.location!r}, which is no file of the bundle"] = None
        elif one.offset + (one.length or 0) > sizes[path]:
            found[f"it takes weights from beyond the end of {path}"] = None
    return list(found)
