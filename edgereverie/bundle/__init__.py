"""A bundle: an exported model in one folder, with a manifest that says what it is and proves that nothing changed.

    my-model-q8_0/
        bundle.json          the manifest: roles, hashes, how to feed it, what it was made from, the parity verdict
        model.gguf ...       the files it lists; nothing else belongs here

A runtime needs this folder and nothing besides: no torch, no hub, no guessing. Folders are written beside their final
place and renamed when they are complete, so a bundle either is whole or is not there. ``bundle.packed`` puts one into a
single file, ``bundle.differences`` tells two apart.
"""

from edgereverie.bundle._files import new_folder, sha256_of, whole_file, write_text
from edgereverie.bundle._manifest import FORMAT, MANIFEST, Bundle, BundleFile, describe_file

__all__ = [
    "FORMAT",
    "MANIFEST",
    "Bundle",
    "BundleFile",
    "describe_file",
    "new_folder",
    "sha256_of",
    "whole_file",
    "write_text",
]
