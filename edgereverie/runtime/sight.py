"""What a model has looked at: pictures as features, and the streams that begin with them, kept for the next question.

Pictures are known by their content, so the same file asked six questions is encoded and prefilled once, and a file that
changed on disk is looked at again.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from edgereverie.errors import BackendError, BundleError
from edgereverie.image import open_image, prepare, require_size
from edgereverie.records import ImageSpec
from edgereverie.runtime.engine import CacheFull, Engine, Stream

Picture = Path | Image.Image | None
T = TypeVar("T")
_PICTURES_KEPT = 4


@dataclass(slots=True)
class Sight:
    """Features and prefilled beginnings of the last pictures. name: the model's, for messages."""

    engine: Engine
    spec: ImageSpec
    name: str
    _features: OrderedDict[str, np.ndarray] = field(default_factory=OrderedDict, repr=False)
    _prefixes: OrderedDict[tuple[str, tuple[int, ...]], Stream] = field(default_factory=OrderedDict, repr=False)

    def prefix(self, image: Path | Image.Image, ids: tuple[int, ...]) -> Stream:
        """A stream that holds exactly ``ids``, the picture among them. It stays the keeper's: fork it to go on."""
        digest = digest_of(image)
        key = (digest, ids)
        if key in self._prefixes:
            self._prefixes.move_to_end(key)
            return self._prefixes[key]
        features = self.features(image, digest)
        stream = self.room(self.engine.open)
        try:
            self.room(lambda: stream.feed(ids, features))
        except BaseException:
            stream.close()
            raise
        self._prefixes[key] = stream
        while len(self._prefixes) > _PICTURES_KEPT:
            self._prefixes.popitem(last=False)[1].close()
        return stream

    def features(self, image: Path | Image.Image, digest: str | None = None) -> np.ndarray:
        """(image tokens, width) float32."""
        digest = digest or digest_of(image)
        if digest not in self._features:
            picture = open_image(image) if isinstance(image, Path) else image.convert("RGB")
            self._features[digest] = self.encode(prepare(picture, self.spec))
            while len(self._features) > _PICTURES_KEPT:
                self._features.popitem(last=False)
        self._features.move_to_end(digest)
        return self._features[digest]

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        """Features of prepared pixels, checked: as many rows as the geometry says, and all of them finite."""
        features = self.engine.encode(pixels)
        if len(features) != self.spec.tokens:
            raise BundleError(
                f"{self.name}: the vision tower gave {len(features)} rows, the image geometry says {self.spec.tokens}.",
                hint="Export vision tower and language model from the same merged folder.",
            )
        if not np.isfinite(features).all():
            raise BackendError(
                f"{self.name}: the vision tower computed features that are not finite.",
                hint="Its weights are damaged, or overflow in half precision: export in fp32.",
            )
        return features

    def room(self, action: Callable[[], T], keep: Stream | None = None) -> T:
        """Do it; when the engine's cache is full, forget the pictures that are not in use and try once more."""
        try:
            return action()
        except CacheFull:
            if not self.forget(keep):
                raise
            return action()

    def forget(self, keep: Stream | None = None) -> int:
        """Close all prefilled beginnings but ``keep``. Returns how many were closed; features stay."""
        idle = [key for key, stream in self._prefixes.items() if stream is not keep]
        for key in idle:
            self._prefixes.pop(key).close()
        return len(idle)

    def close(self) -> None:
        self.forget()
        self._features.clear()


def digest_of(image: Path | Image.Image) -> str:
    """What a picture is known by: its file's bytes or its pixels."""
    if isinstance(image, Path):
        try:
            return hashlib.sha256(image.read_bytes()).hexdigest()
        except OSError:
            open_image(image)  # says in the project's words what is wrong
            raise
    require_size(image, "the picture")
    picture = image.convert("RGB")
    return hashlib.sha256(f"{picture.size}".encode() + picture.tobytes()).hexdigest()
