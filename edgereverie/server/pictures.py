"""The picture that a request names, decoded within bounds: from a data: URI, or a file of the one allowed folder."""

from __future__ import annotations

import binascii
import math
import os
import stat
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

from PIL import Image

from edgereverie.errors import DataError
from edgereverie.image import TooManyPixels, open_image, resolve_under, square
from edgereverie.records import ImageSpec
from edgereverie.server.limits import Limits
from edgereverie.server.refusal import Refusal, told

_FIELD = "messages"
_LONGEST = 100  # times the short side


def decoded(content: bytes, spec: ImageSpec, limits: Limits) -> Image.Image:
    """The picture as the model sees it, ``spec.size`` squared: a queue of these is small, whatever was sent."""
    require_size(len(content), limits)
    try:
        picture = open_image(content, limits.image_pixels)
        _require_shape(picture.size, limits)
        return square(picture, spec)
    except DataError as error:
        raise _refused(told(error), status=413 if isinstance(error, TooManyPixels) else 400) from None
    except Refusal:
        raise
    except MemoryError:
        raise _refused("The picture does not fit into memory.", status=413) from None
    except Exception as error:  # decoders and EXIF readers raise what they like on bytes made to harm
        raise _refused(f"The picture cannot be read ({type(error).__name__}).") from None


def _require_shape(size: tuple[int, int], limits: Limits) -> None:
    """A strip of few pixels is padded to a square of many, or stretched until its short side fits."""
    short, long = sorted(size)
    if long > 2 * math.isqrt(limits.image_pixels) or long > _LONGEST * short:
        raise _refused(f"The picture is {size[0]} x {size[1]}: too long a strip.", status=413)


def inline(url: str, limits: Limits) -> bytes:
    """The bytes of a ``data:`` URI. Its media type must be a picture's; which kind, the bytes say."""
    head, comma, content = url.partition(",")
    kind, *parameters = head[len("data:") :].lower().split(";")
    if not comma or "base64" not in parameters:
        raise _refused("A data: URI is written data:image/png;base64,... here.")
    if not kind.startswith("image/"):
        raise _refused(f"The data: URI says that it is {kind[:60] or 'text/plain'!r}, and not a picture.")
    require_size(len(content) * 3 // 4 - 2, limits)
    try:
        return binascii.a2b_base64(content, strict_mode=True)
    except (binascii.Error, ValueError):
        raise _refused("The data: URI's base64 is damaged.") from None


def from_folder(name: str, folder: Path | None, limits: Limits) -> bytes:
    """The bytes of a file under ``folder``, by a relative path or a file: URL. Says nothing about what lies elsewhere."""
    if folder is None:
        raise _refused("This server reads no files; send the picture as a data: URI.", code="files_not_allowed")
    root = folder.resolve()
    try:
        path = resolve_under(root, _relative(name, root))
        # A pipe would have the server wait for its writer, and a link that was put there since would lead elsewhere.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except (DataError, OSError, ValueError):
        raise _not_there() from None
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise _not_there()
    with os.fdopen(descriptor, "rb") as file:
        require_size(found.st_size, limits)
        return file.read(limits.image_bytes + 1)


def _not_there() -> Refusal:
    return _refused("There is no such picture in the allowed folder.", code="file_not_found")


def _relative(name: str, root: Path) -> str:
    """Raises ValueError for what no honest name has: backslashes, control characters, other hosts."""
    if name.lower().startswith("file:"):
        parts = urlsplit(name)
        if parts.netloc not in ("", "localhost") or parts.query or parts.fragment:
            raise ValueError("a file: URL with a host or a query")
        name = os.fsdecode(unquote_to_bytes(parts.path))
        name = str(Path(name).relative_to(root)) if Path(name).is_absolute() else name
    if "\\" in name or ":" in name or not name.isprintable():
        raise ValueError("not a plain path")
    return name


def require_size(size: int, limits: Limits) -> None:
    if size > limits.image_bytes:
        raise _refused(f"The picture has more than {limits.image_bytes:,} bytes.", status=413, code="image_too_large")


def _refused(message: str, *, status: int = 400, code: str = "invalid_image") -> Refusal:
    return Refusal(status, message, param=_FIELD, code="image_too_large" if status == 413 else code)
