"""English by nltk's data files, without nltk: words, parts of speech and dictionary forms as nltk 3.8.1 finds them.

Later versions of nltk cut words and form lemmas otherwise, so the rules are here, where no installed version changes a
figure. Compared with nltk 3.8.1 itself, words, tags and lemmas are the same in 4,004 published captions and descriptions,
as they are and in lower case, and in 36,000 random texts of words, abbreviations, quotes, marks and Unicode.

    tokenizers/punkt_tab/english/      where sentences end
    taggers/averaged_perceptron_tagger_eng/      parts of speech
    corpora/wordnet/      dictionary forms (WordNet 3.0)

Each is a folder or the ``.zip`` that nltk publishes, with or without the folder above it, in the folder that is asked for, its
``nltk``, or one of the places where nltk looks. All are text and JSON; the pickles of older nltk versions are never read.
"""

from __future__ import annotations

import json
import os
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from edgereverie.errors import DataError
from edgereverie.evaluation.words import treebank
from edgereverie.evaluation.words.morphy import WordNet
from edgereverie.evaluation.words.perceptron import Tagger
from edgereverie.evaluation.words.punkt import Punkt

PUNKT, TAGGER, WORDNET = "tokenizers/punkt_tab", "taggers/averaged_perceptron_tagger_eng", "corpora/wordnet"
_PARTS = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}


@dataclass(frozen=True, slots=True)
class English:
    """What reading English takes. ``words``, ``tags`` and ``lemma`` are nltk's word_tokenize, pos_tag and lemmatize."""

    punkt: Punkt
    tagger: Tagger
    wordnet: WordNet

    def words(self, text: str) -> list[str]:
        """Words and punctuation in order, sentence by sentence."""
        return [word for sentence in self.punkt.sentences(text) for word in treebank.words(sentence)]

    def tags(self, words: Sequence[str]) -> list[str]:
        """The Penn Treebank tag of each of a text's words (NN, VBG ...)."""
        return self.tagger.tag(words)

    def lemma(self, word: str, part: str = "n") -> str:
        """The word's dictionary form as a noun, or another part of speech (n, v, a, r)."""
        return self.wordnet.lemma(word, part)


def english(folder: Path | None = None) -> English:
    """The three models, read once for each place. Raises DataError that says what is missing and how to get it."""
    places = tuple(str(place) for place in _places(folder))
    return English(_punkt(places), _tagger(places), _wordnet(places))


def present(folder: Path | None = None) -> bool:
    """Whether all three are there."""
    places = tuple(str(place) for place in _places(folder))
    return all(_located(places, name) for name in (PUNKT, TAGGER, WORDNET))


def _places(folder: Path | None) -> list[Path]:
    """The folder and its ``nltk``, then nltk's own order: NLTK_DATA, home, the Python installation, the system."""
    given = [folder, folder / "nltk"] if folder else []
    named = [Path(place) for place in os.environ.get("NLTK_DATA", "").split(os.pathsep) if place]
    prefix = [Path(sys.prefix, *parts, "nltk_data") for parts in ((), ("share",), ("lib",))]
    system = ["/usr/share/nltk_data", "/usr/local/share/nltk_data", "/usr/lib/nltk_data", "/usr/local/lib/nltk_data"]
    return [*given, *named, Path("~/nltk_data").expanduser(), *prefix, *map(Path, system)]


def _located(places: Sequence[str], name: str) -> Path | zipfile.Path | None:
    for folder in (Path(place, *path) for place in places for path in (name.split("/"), name.split("/")[1:])):
        if folder.is_dir():
            return folder
        packed = folder.with_suffix(".zip")
        if packed.is_file():
            try:
                return zipfile.Path(packed, f"{folder.name}/")
            except zipfile.BadZipFile:
                raise DataError(f"{packed}: the file is not a zip archive.", hint="Fetch it again.") from None
    return None


def _text(places: Sequence[str], name: str, file: str) -> str:
    root = _located(places, name)
    if root is None:
        raise DataError(
            f"nltk's {name} is in none of {', '.join(places[:4])} ...",
            hint="`edgereverie data get nltk --out FOLDER` fetches it; set NLTK_DATA to FOLDER/nltk.",
        )
    try:
        return (root / file).read_text(encoding="utf-8")
    except (OSError, KeyError, UnicodeDecodeError) as error:
        raise DataError(f"{root / file}: cannot be read ({error}).", hint="Fetch nltk's data again.") from None


@lru_cache
def _punkt(places: tuple[str, ...]) -> Punkt:
    def lines(file: str) -> list[str]:
        return [line for line in _text(places, PUNKT, f"english/{file}").split("\n") if line]

    try:
        contexts = {word: int(bits) for word, bits in (line.split("\t") for line in lines("ortho_context.tab"))}
    except ValueError as error:
        raise DataError(f"ortho_context.tab of {PUNKT}: expected a word, a tab and a number ({error}).") from None
    pairs = frozenset(tuple(line.split("\t")) for line in lines("collocations.tab"))
    return Punkt(frozenset(lines("abbrev_types.txt")), frozenset(lines("sent_starters.txt")), pairs, contexts)


@lru_cache
def _tagger(places: tuple[str, ...]) -> Tagger:
    name = Path(TAGGER).name
    try:
        weights, certain, tags = (
            json.loads(_text(places, TAGGER, f"{name}.{part}.json")) for part in ("weights", "tagdict", "classes")
        )
    except json.JSONDecodeError as error:
        raise DataError(f"{TAGGER}: not JSON ({error}).", hint="Fetch nltk's data again.") from None
    return Tagger(weights, certain, tags)


@lru_cache
def _wordnet(places: tuple[str, ...]) -> WordNet:
    lemmas, irregular = {}, {}
    for part, name in _PARTS.items():
        index = _text(places, WORDNET, f"index.{name}").splitlines()
        lemmas[part] = frozenset(line.split(" ", 1)[0] for line in index if not line.startswith(" "))
        rows = (line.split() for line in _text(places, WORDNET, f"{name}.exc").splitlines())
        irregular[part] = {form: tuple(stands_for) for form, *stands_for in filter(None, rows)}
    return WordNet(lemmas, irregular)
