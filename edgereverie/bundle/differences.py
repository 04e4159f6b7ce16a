"""What sets two bundles apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edgereverie.bundle._manifest import Bundle
from edgereverie.records import as_json

Difference = tuple[str, Any, Any]  # a dotted key, and what each of the two says there; None where it says nothing


def differences(one: Bundle, other: Bundle) -> list[Difference]:
    """Every value of the manifests that differs, in the order of the first; folders are no part of a bundle.

    A file is compared by its hash; a differing one is told with its length: ``files.model`` -> ``204 bytes, 1f2e3d4c5b6a``.
    """
    told = [dict(_flat("", _plain(bundle))) for bundle in (one, other)]
    keys = [*told[0], *(key for key in told[1] if key not in told[0])]
    return [(key, told[0].get(key), told[1].get(key)) for key in keys if told[0].get(key) != told[1].get(key)]


def _plain(bundle: Bundle) -> dict[str, Any]:
    files = {role: f"{file.bytes:,} bytes, {file.sha256[:12]}" for role, file in bundle.files.items()}
    return {key: value for key, value in as_json(bundle).items() if key != "folder"} | {"files": files}


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}" if name else key, inner)
    else:
        yield name, value
