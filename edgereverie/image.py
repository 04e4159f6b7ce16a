"""A picture file becomes the vision tower's input, the same way in training, in parity checks and in every runtime."""

from __future__ import annotations

import io
import warnings
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from edgereverie.errors import DataError
from edgereverie.records import ImageSpec

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
MAX_PIXELS = 64_000_000  # an 8000 x 8000 photograph; anything larger is a mistake or a decompression bomb


class TooManyPixels(DataError):
    """A picture larger than is read."""

    def __init__(self, found: str, most: int) -> None:
        super().__init__(
            f"{found}; at most {most:,} are read.",
            hint="Scale it down first; the vision tower sees a few hundred pixels a side.",
        )


def open_image(source: Path | bytes, most: int = MAX_PIXELS) -> Image.Image:
    """Decode a picture fully, upright (EXIF) and in RGB; transparency is laid on white.

    Raises DataError that names the file when it is missing, empty, not a picture or cut short, TooManyPixels when it has more
    than ``most``.
    Only the first frame of an animation is read.
    """
    name = str(source) if isinstance(source, Path) else f"<{len(source)} bytes>"
    try:
        stream = source if isinstance(source, Path) else io.BytesIO(source)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(stream, formats=FORMATS) as opened:
                require_size(opened, name, most)
                opened.load()
                picture = ImageOps.exif_transpose(opened)
                if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
                    layer = picture.convert("RGBA")
                    picture = Image.new("RGBA", layer.size, "white")
                    picture.alpha_composite(layer)
                return picture.convert("RGB")
    except FileNotFoundError:
        raise DataError(
            f"{name}: no such image.", hint="Check the path, and the image root that it is relative to."
        ) from None
    except IsADirectoryError:
        raise DataError(f"{name}: this is a folder, not an image.") from None
    except UnidentifiedImageError:
        raise DataError(
            f"{name}: not an image that can be read.", hint=f"Formats read: {', '.join(FORMATS)}."
        ) from None
    except Image.DecompressionBombError:  # Pillow's own bound, met before the size can be asked
        raise TooManyPixels(f"{name}: the image has hundreds of millions of pixels", most) from None
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(
            f"{name}: the image is damaged or cut short ({error}).", hint="Copy or download it again."
        ) from None


def require_size(picture: Image.Image, name: str, most: int = MAX_PIXELS) -> None:
    """Raise TooManyPixels for a picture of more than ``most``. name: the file's, for the message."""
    width, height = picture.size
    if width * height > most:
        raise TooManyPixels(f"{name}: the image has {width} x {height} pixels", most)


def square(picture: Image.Image, spec: ImageSpec) -> Image.Image:
    """The picture as RGB of ``spec.size`` squared: padded with the mean colour (LLaVA's "pad") or centre-cropped."""
    side = spec.size
    if picture.size == (side, side):
        return picture
    if spec.fit == "pad":
        colour = tuple(int(channel * 255) for channel in spec.mean)
        longest = max(picture.size)
        top, left = (longest - picture.height) // 2, (longest - picture.width) // 2
        if picture.width == longest:
            # Pillow scales along rows first and then along columns, and a row of one colour stays what it is: so the rows
            # of padding may come in between, already narrow, and the result is the same to the last bit.
            picture = picture.resize((side, picture.height), Image.Resampling.BICUBIC)
            canvas = Image.new("RGB", (side, longest), colour)
        else:
            canvas = Image.new("RGB", (longest, longest), colour)
        canvas.paste(picture, (left, top))
        return canvas.resize((side, side), Image.Resampling.BICUBIC)
    # Cut off, not rounded, as CLIP's own preparation and transformers' do.
    width, height = (side * length // min(picture.size) for length in picture.size)
    resized = picture.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - side) // 2, (height - side) // 2
    return resized.crop((left, top, left + side, top + side))


def prepare(picture: Image.Image, spec: ImageSpec) -> np.ndarray:
    """Pixel values for the tower: (3, size, size) float32, normalised by ``spec.mean`` and ``spec.std``."""
    pixels = np.asarray(square(picture, spec))
    values = np.empty((3, spec.size, spec.size), dtype=np.float32)
    for channel, table in enumerate(_normalised(tuple(spec.mean), tuple(spec.std))):
        np.take(table, pixels[:, :, channel], out=values[channel], mode="clip")  # clip: without a copy in between
    return values


@lru_cache(maxsize=16)
def _normalised(mean: tuple[float, ...], std: tuple[float, ...]) -> np.ndarray:
    """What each of the 256 pixel values becomes, (channels, 256): looked up, it is the same float32 that arithmetic gives."""
    pixels = np.arange(256, dtype=np.float32) / 255.0
    return np.stack([(pixels - channel_mean) / channel_std for channel_mean, channel_std in
                     zip(np.float32(mean), np.float32(std), strict=True)])  # fmt: skip


def resolve_under(root: Path, relative: str) -> Path:
    """``relative`` as a path inside ``root``, wherever links point; anything that leads outside is refused."""
    path = Path(relative)
    if path.is_absolute() or ".." in path.parts or not relative:
        raise DataError(
            f"Image path {relative!r} leaves the image root {str(root)!r}.",
            hint="Write image paths relative to the image root, without '..'.",
        )
    full = (root / path).resolve()
    if not full.is_relative_to(root.resolve()):
        raise DataError(f"Image path {relative!r} is a link that leads out of the image root {str(root)!r}.")
    return full
