"""Which of COCO's 80 objects a caption names, as the two official scorers of CHAIR read it.

Both cut the caption in lower case into words, bring each to a singular or dictionary form, join double words from left to
right ("hot dog", "baby bear"), and look what comes out up in ``synonyms.txt``. They differ in the form only:

``pattern_reader`` (LisaAnne/Hallucination, Maxlinn/CHAIR-metric-standalone) takes pattern's singular. It needs no data:
nltk's 156 abbreviations and 37 pairs, which say where a period ends no sentence, hold no form of any word that counts, so
that the period behind such a word ends one always; and no other word's reading hangs on where sentences end.
``wordnet_reader`` (OPERA and most that came after it) takes WordNet's lemma for the word's part of speech: "skiing" names
skis where it is tagged as a verb, "seated" names a chair. The tag hangs on the words around and on their tags, so nltk's
tagger, its abbreviations and WordNet must be there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from edgereverie.errors import DataError
from edgereverie.evaluation.nltk_data import English
from edgereverie.evaluation.rows import text_of
from edgereverie.evaluation.words import treebank
from edgereverie.evaluation.words.punkt import Punkt
from edgereverie.evaluation.words.singular import singular

_PAIRS = """motor bike, motor cycle, air plane, traffic light, street light, traffic signal, stop light, fire hydrant,
stop sign, parking meter, suit case, sports ball, baseball bat, baseball glove, tennis racket, wine glass, hot dog,
cell phone, mobile phone, teddy bear, hair drier, potted plant, laptop computer, home plate, train track"""
_ANIMALS = "bird cat dog horse sheep cow elephant bear zebra giraffe animal cub".split()
DOUBLE_WORDS = {
    **{pair: pair for pair in " ".join(_PAIRS.split()).split(", ")},
    "bow tie": "tie", "toilet seat": "toilet", "wine glas": "wine glass",
    **{f"{young} {animal}": animal for young in ("baby", "adult") for animal in _ANIMALS},
    "passenger jet": "jet", "passenger train": "train",
}  # fmt: skip
"""Two words that stand for one. pattern takes the s from "glass", hence "glas"; "stove top oven" has three and is never met."""
_FIRST = frozenset(pair.split(" ")[0] for pair in DOUBLE_WORDS)

_KINDS = {"J": "a", "V": "v", "N": "n", "R": "r"}  # first letter of a tag -> part of speech, a noun where it is another


@dataclass(frozen=True, slots=True)
class Named:
    """What a caption names. words: how many it has, punctuation too, a double word as one. objects: (word, its object) in
    the caption's order."""

    words: int
    objects: tuple[tuple[str, str], ...]


Reader = Callable[[str], Named]
"""Caption -> what it names."""


@dataclass(frozen=True, slots=True)
class Synonyms:
    """objects: word or double word -> its object. A line's words are parted by a comma and one space, as the scorers part
    them: where the official file has two spaces ("cheesecake", "motor bike") the word is never found, nor is "iPhone"."""

    objects: Mapping[str, str]

    @property
    def telling(self) -> frozenset[str]:
        """Single words that can change what is found."""
        parts = {part for pair in DOUBLE_WORDS for part in pair.split(" ")}
        return frozenset({*self.objects, *parts} - {""})

    def named(self, forms: Sequence[str]) -> Named:
        """From words in singular or dictionary form.

        >>> few = Synonyms({"dog": "dog", "toilet": "toilet", "seat": "chair", "hot dog": "hot dog"})
        >>> few.named("a hot dog and a dog on the seat of a toilet".split()).objects
        (('hot dog', 'hot dog'), ('dog', 'dog'), ('toilet', 'toilet'))
        """
        joined, place = [], 0
        while place < len(forms):
            pair = " ".join(forms[place : place + 2]) if forms[place] in _FIRST else ""
            joined.append(DOUBLE_WORDS.get(pair, forms[place]))
            place += 2 if pair in DOUBLE_WORDS else 1
        toilet = "toilet" in joined  # whose seat is no chair
        found = [word for word in joined if word in self.objects and not (toilet and word == "seat")]
        return Named(len(joined), tuple((word, self.objects[word]) for word in found))


def synonyms_of(path: Path) -> Synonyms:
    """The official ``synonyms.txt``: an object in each line, then the words that mean it. Raises DataError."""
    rows = [line.strip().split(", ") for line in text_of(path).splitlines() if line.strip()]
    if not rows:
        raise DataError(f"{path}: the file is empty.", hint="`edgereverie data get chair` fetches it.")
    objects: dict[str, str] = {}
    for number, (name, *others) in enumerate(rows, start=1):
        for word in (name, *others):
            if objects.setdefault(word, name) != name:
                raise DataError(f"{path}:{number}: {word!r} stands for {objects[word]!r} already.")
    return Synonyms(objects)


def pattern_reader(synonyms: Synonyms) -> Reader:
    """Reads as Maxlinn's ``chair.py`` does."""
    sentences, form = Punkt().sentences, lru_cache(maxsize=1 << 16)(singular)

    def read(caption: str) -> Named:
        text = caption.lower()
        return synonyms.named([form(word) for sentence in sentences(text) for word in treebank.words(sentence)])

    return read


def wordnet_reader(synonyms: Synonyms, english: English) -> Reader:
    """Reads as OPERA's ``chair.py`` does. Parts of speech are found for those words alone whose object hangs on them."""
    forms = _forms(synonyms, english)

    def read(caption: str) -> Named:
        words = english.words(caption.lower())
        known = [forms(word) for word in words]
        tags = english.tagger.tag_at(words, [place for place, form in enumerate(known) if isinstance(form, dict)])
        return synonyms.named(
            [
                form[_KINDS.get(tags[place][0], "n")] if isinstance(form, dict) else form
                for place, form in enumerate(known)
            ]
        )

    return read


def _forms(synonyms: Synonyms, english: English) -> Callable[[str], str | dict[str, str]]:
    """A word's lemma; by part of speech where they differ in what they tell."""
    telling = synonyms.telling

    @lru_cache(maxsize=1 << 16)
    def forms(word: str) -> str | dict[str, str]:
        lemmas = {part: english.lemma(word, part) for part in "nvar"}
        told = {lemma if lemma in telling else "" for lemma in lemmas.values()}
        return lemmas if len(told) > 1 else lemmas["n"]

    return forms
