"""A drawn picture with its reference features, so that any runtime can prove that it encodes pictures as torch did."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
from PIL import Image, ImageDraw

from edgereverie.records import ImageSpec

_SHAPES = 24


def draw_probe(spec: ImageSpec) -> Image.Image:
    """A picture of ``spec.size`` squared, always the same: a gradient, so that no two patches are equal, and shapes."""
    side, rng = spec.size, Random("probe image")
    ramp = np.linspace(0, 255, side)
    pixels = np.stack(
        [np.tile(ramp, (side, 1)), np.tile(ramp[:, None], (1, side)), np.full((side, side), 96.0)], axis=-1
    )
    picture = Image.fromarray(pixels.astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    for index in range(_SHAPES):
        left, top = rng.randrange(side), rng.randrange(side)
        box = (left, top, left + rng.randrange(4, side // 3), top + rng.randrange(4, side // 3))
        colour = tuple(rng.randrange(256) for _ in range(3))
        (pen.rectangle if index % 2 else pen.ellipse)(box, fill=colour)
    return picture


def write_probe(out: Path, picture: Image.Image, features: np.ndarray) -> dict[str, str]:
    """Write picture and features (tokens, width) into ``out``; returns their roles."""
    from safetensors.numpy import save_file

    picture.save(out / "probe.png", optimize=False)
    save_file({"features": np.ascontiguousarray(features, dtype=np.float32)}, out / "probe.safetensors")
    (out / "probe.safetensors").chmod(0o644)
    return {"probe_image": "probe.png", "probe_features": "probe.safetensors"}
