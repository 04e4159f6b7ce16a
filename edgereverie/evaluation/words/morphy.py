"""Dictionary forms by WordNet's morphy, as nltk 3.8.1 applies it: exceptions, else endings taken off until a lemma is found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_ENDINGS = {
    "n": (("s", ""), ("ses", "s"), ("ves", "f"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"),
          ("men", "man"), ("ies", "y")),
    "v": (("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", "")),
    "a": (("er", ""), ("est", ""), ("er", "e"), ("est", "e")),
    "r": (),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class WordNet:
    """By part of speech (n, v, a, r): its lemmas, and the irregular forms with the lemmas that they stand for."""

    lemmas: Mapping[str, frozenset[str]]
    irregular: Mapping[str, Mapping[str, tuple[str, ...]]]

    def lemma(self, word: str, part: str = "n") -> str:
        """The shortest of the lemmas that the word can stand for, the word itself where there is none.

        >>> few = WordNet({"n": frozenset({"men", "man", "dog"})}, {"n": {"men": ("man",)}})
        >>> few.lemma("dogs"), few.lemma("men"), few.lemma("catss")
        ('dog', 'men', 'catss')
        """
        known, irregular = self.lemmas[part], self.irregular[part]
        if word in irregular:
            found = [form for form in (word, *irregular[word]) if form in known]
            return min(found, key=len, default=word)
        forms = _shortened([word], part)
        found = [form for form in (word, *forms) if form in known]
        while forms and not found:
            forms = _shortened(forms, part)
            found = [form for form in forms if form in known]
        return min(found, key=len, default=word)


def _shortened(forms: list[str], part: str) -> list[str]:
    return [form[: len(form) - len(old)] + new for form in forms for old, new in _ENDINGS[part] if form.endswith(old)]
