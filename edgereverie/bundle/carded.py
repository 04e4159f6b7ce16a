"""The hallucination card inside a bundle: two files that the manifest lists, and that say which artefact was measured.

They describe the artefact and are no part of it: its fingerprint stays what it was, and so does its calibration.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from edgereverie.bundle._files import write_text
from edgereverie.bundle._manifest import DESCRIBING, Bundle, describe_file
from edgereverie.errors import BundleError

KIND = "hallucination-card"
VERSION = 1
NAMES = dict(zip(DESCRIBING, ("card.md", "card.json"), strict=True))
MOST_BYTES = 4 << 20
_ANEW = "Measure it again: edgereverie eval {folder}"


def attach(bundle: Bundle, markdown: str, card: Mapping[str, Any]) -> Bundle:
    """The bundle with this card in place of any earlier one. Raises BundleError when it was measured on another artefact."""
    told = card["artefact"]["fingerprint"]
    if told != bundle.fingerprint():
        raise BundleError(
            f"{bundle.folder}: the card is of artefact {str(told)[:12]}, this is {bundle.fingerprint()[:12]}.",
            hint=_ANEW.format(folder=bundle.folder),
        )
    write_text(bundle.folder / NAMES["card"], markdown)
    write_text(bundle.folder / NAMES["card_data"], text_of(card))
    files = {role: describe_file(bundle.folder, name) for role, name in NAMES.items()}
    carded = replace(bundle, files={**bundle.files, **files})
    carded.write()
    return carded


def text_of(card: Mapping[str, Any]) -> str:
    """The card as its JSON file has it."""
    return json.dumps(card, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read(bundle: Bundle) -> dict[str, Any] | None:
    """The bundle's card, None where it has none. Raises BundleError for one that cannot be read."""
    if "card_data" not in bundle.files:
        return None
    path = bundle.file("card_data")
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"it has {path.stat().st_size:,} bytes")
        card = json.loads(path.read_text(encoding="utf-8"))
        if (card["edgereverie"], card["version"]) != (KIND, VERSION):
            raise ValueError(f"it is not a version {VERSION} hallucination card")
        if not all(isinstance(card["artefact"][key], str) for key in ("fingerprint", "calibration")):
            raise TypeError("'artefact'")
        return card
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(
            f"{path}: the card cannot be read ({error}).", hint=_ANEW.format(folder=bundle.folder)
        ) from None


def stale(bundle: Bundle, card: Mapping[str, Any]) -> str:
    """Why the card does not tell of this bundle as it is now; empty when it does."""
    told = card["artefact"]
    if told["fingerprint"] != bundle.fingerprint():
        return f"measured on artefact {told['fingerprint'][:12]}, this is {bundle.fingerprint()[:12]}"
    if told["calibration"] != calibration_hash(bundle):
        return "measured before the bundle was calibrated as it is now"
    return ""


def calibration_hash(bundle: Bundle) -> str:
    """SHA-256 of the calibration's values, empty without one."""
    if bundle.calibration is None:
        return ""
    plain = json.dumps(bundle.calibration, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(plain.encode()).hexdigest()
