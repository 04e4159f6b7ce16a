"""The short way to ask: a picture in any form, a question, and keywords."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from edgereverie.image import open_image
from edgereverie.records import Answer, Options, Turn
from edgereverie.runtime.profiles import DEFAULT

if TYPE_CHECKING:
    from PIL import Image

    from edgereverie.runtime.guarding import Guarding
    from edgereverie.runtime.request import Event

    AnyPicture = str | os.PathLike[str] | bytes | Image.Image | None


class Asking:
    """``ask`` for a model that has ``answer`` and ``events``."""

    __slots__ = ()

    @overload
    def ask(
        self, image: AnyPicture, question: str | Sequence[Turn], *, guards: Guarding = ..., stream: Literal[False] = ...,
        **options: Any,
    ) -> Answer: ...  # fmt: skip

    @overload
    def ask(
        self, image: AnyPicture, question: str | Sequence[Turn], *, guards: Guarding = ..., stream: Literal[True],
        **options: Any,
    ) -> Iterator[Event]: ...  # fmt: skip

    def ask(
        self, image: AnyPicture, question: str | Sequence[Turn], *, guards: Guarding = DEFAULT, stream: bool = False,
        **options: Any,
    ) -> Answer | Iterator[Event]:  # fmt: skip
        """The answer to one question, or to a conversation that ends with one.

        image: a path, a picture file's bytes, a PIL image, or None for a question without a picture. guards: a name,
        several with commas between them, or guards. stream: give the answer as it comes instead: Pieces of text,
        Retractions of what a guard takes back, and Done with the answer. options: fields of ``Options``, such as
        ``max_tokens=64, temperature=0.7, seed=3``.

        Raises DataError for a picture that cannot be read, BackendError for what cannot be asked.
        """
        if isinstance(image, (bytes, bytearray)):
            image = open_image(bytes(image))
        elif isinstance(image, (str, os.PathLike)):
            image = Path(image)
        turns = [Turn("user", question)] if isinstance(question, str) else list(question)
        call = self.events if stream else self.answer  # type: ignore[attr-defined]
        return call(image, turns, Options(**options), guards)
