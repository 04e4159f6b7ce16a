"""Similarity of words by the vectors of a spaCy model."""

from __future__ import annotations

import warnings
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from edgereverie.errors import DataError, MissingPackage

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc


class SpacySimilarity:
    """``nlp(one).similarity(nlp(other))`` of spaCy, each word read and each pair compared once.

    model: an installed package such as ``en_core_web_lg``, or a folder; loaded when the first pair is compared. Raises
    MissingPackage without spaCy, DataError without the model.
    """

    def __init__(self, model: str) -> None:
        self.model = model
        self._docs: dict[str, Doc] = {}
        self._found: dict[tuple[str, str], float] = {}

    @property
    def available(self) -> bool:
        return find_spec("spacy") is not None and (Path(self.model).is_dir() or find_spec(self.model) is not None)

    def __call__(self, one: str, other: str) -> float:
        found = self._found.get((one, other))
        if found is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # "no word vectors": such a word is like nothing
                found = self._found[one, other] = float(self._read(one).similarity(self._read(other)))
        return found

    def _read(self, word: str) -> Doc:
        if word not in self._docs:
            self._docs[word] = self._language(word)
        return self._docs[word]

    @cached_property
    def _language(self) -> Language:
        try:
            import spacy
        except ImportError as error:
            if error.name != "spacy":
                raise
            raise MissingPackage(
                "spacy", f"Comparing words by {self.model} (scorers that end in -exact do without)", "eval"
            ) from None
        try:
            return spacy.load(self.model)
        except OSError as error:
            raise DataError(
                f"spaCy cannot load the model {self.model!r} ({str(error).splitlines()[0]}).",
                hint=f"`python -m spacy download {self.model}` installs it. Scorers that end in -exact need no model; "
                "their figures are not comparable with those that do.",
            ) from None
