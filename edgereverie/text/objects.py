"""Which objects a text names, and where: the reading half of CHAIR, for any vocabulary.

A vocabulary is data: each object's dictionary form with the surface forms that mean it, plurals included. Nothing is
stemmed, so what counts as a mention can be read off the table.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgereverie.errors import DataError


@dataclass(frozen=True, slots=True)
class Mention:
    """An object named at ``text[start:end]``; ``object`` is its dictionary form."""

    object: str
    start: int
    end: int


class ObjectVocabulary:
    """Finds the objects of a synonym table in text.

    forms: dictionary form -> surface forms; list every form that should count, the dictionary form too. Spaces in a
    form match any white space. Raises DataError for an empty table, an object without forms, an empty form, or one
    form that would mean two objects.
    """

    def __init__(self, forms: Mapping[str, Sequence[str]]) -> None:
        if not forms:
            raise DataError("The object vocabulary is empty.", hint='Give at least {"ring": ["ring", "rings"]}.')
        owner: dict[str, str] = {}
        for name, surfaces in forms.items():
            if isinstance(surfaces, str) or not surfaces:
                raise DataError(f"Object {name!r} of the vocabulary has {surfaces!r} instead of a list of forms.")
            for surface in surfaces:
                _own(owner, _normal(surface), name)
        self.forms = {name: tuple(surfaces) for name, surfaces in forms.items()}
        # Longest first, so that "hot dog" is never read as "dog".
        longest = sorted(owner, key=lambda form: (-len(form), form))
        self._owner = tuple(owner[form] for form in longest)
        choices = "|".join("(" + r"\s+".join(map(re.escape, form.split(" "))) + ")" for form in longest)
        self._pattern = re.compile(rf"(?<!\w)(?:{choices})(?!\w)", re.IGNORECASE)

    @property
    def objects(self) -> tuple[str, ...]:
        """The dictionary forms, in the table's order."""
        return tuple(self.forms)

    def mentions(self, text: str) -> list[Mention]:
        """All mentions in reading order, without overlaps: the longest form wins, whole words only, any case.

        >>> shapes = ObjectVocabulary({"cross": ["cross", "crosses"], "ring": ["ring", "rings"]})
        >>> [(m.object, m.start, m.end) for m in shapes.mentions("A CROSS, two crosses; the string rings.")]
        [('cross', 2, 7), ('cross', 13, 20), ('ring', 33, 38)]
        """
        found = self._pattern.finditer(text)
        return [Mention(self._owner[match.lastindex - 1], match.start(), match.end()) for match in found]


def _normal(surface: str) -> str:
    return " ".join(surface.lower().split())


def _own(owner: dict[str, str], form: str, name: str) -> None:
    if not form:
        raise DataError(f"Object {name!r} of the vocabulary has an empty form.")
    if owner.setdefault(form, name) != name:
        raise DataError(
            f"The form {form!r} stands for both {owner[form]!r} and {name!r} in the object vocabulary.",
            hint="Keep it under one of them.",
        )
