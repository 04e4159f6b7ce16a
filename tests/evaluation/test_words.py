"""Words, tags and lemmas by rules of nltk 3.8.1: small models written by hand, and nltk's own data where they are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from edgereverie.errors import DataError
from edgereverie.evaluation import nltk_data
from edgereverie.evaluation.nltk_data import english, present
from edgereverie.evaluation.words import treebank
from edgereverie.evaluation.words.perceptron import Tagger
from edgereverie.evaluation.words.punkt import Punkt


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("", []),
        ("A dog, 3,5 cats.", ["A", "dog", ",", "3,5", "cats", "."]),
        ("dogs,, cats", ["dogs", ",", ",", "cats"]),
        ("a,,b", ["a", ",", ",b"]),  # the comma behind a comma stays with what follows
        ("the end.)", ["the", "end", ".", ")"]),
        ("mr. dog", ["mr.", "dog"]),
        ('"Yes," he said.', ["``", "Yes", ",", "''", "he", "said", "."]),
        ("it's the dogs' toy; don't!", ["it", "'s", "the", "dogs", "'", "toy", ";", "do", "n't", "!"]),
        ("I cannot, gonna 'tis wanna go", ["I", "can", "not", ",", "gon", "na", "'t", "is", "wan", "na", "go"]),
        ("we cannot go", ["we", "can", "not", "go"]),
        ("wait... (or --not)", ["wait", "...", "(", "or", "--", "not", ")"]),
        ("«dog» “cat”", ["«", "dog", "»", "“", "cat", "”"]),
        ("a\u2014b 50% #1 @x", ["a\u2014b", "50", "%", "#", "1", "@", "x"]),
        ("5:30, a:b", ["5:30", ",", "a", ":", "b"]),
        ("'a dog' 'n' 'cat'", ["'", "a", "dog", "'", "'n", "'", "'cat", "'"]),
    ],
)
def test_words_of_a_sentence(sentence: str, words: list[str]) -> None:
    assert treebank.words(sentence) == words


SOME = Punkt(
    frozenset({"st", "e.g", "inc"}), frozenset({"the"}), frozenset({("no", "##number##")}),
    {"then": 1 << 1 | 1 << 6, "smith": 1 << 2, "walks": 1 << 5},
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", []),
        ("   ", []),
        ("One. Two? Three! Four", ["One.", "Two?", "Three!", "Four"]),
        ("on St. John road. A dog", ["on St. John road.", "A dog"]),
        ("at Inc. The dog", ["at Inc.", "The dog"]),  # often starts a sentence
        ("at inc. Then he went", ["at inc.", "Then he went"]),  # otherwise written small
        ("no. 5 is it. no. six", ["no. 5 is it.", "no.", "six"]),  # a known pair
        ("J. Smith walks. j. walks", ["J. Smith walks.", "j. walks"]),  # initials
        ("it is 5. walks", ["it is 5. walks"]),  # ordinals
        ("wait... walks", ["wait... walks"]),
        ('He said "Yes." Then "No!" (Why?) So.', ['He said "Yes."', 'Then "No!"', "(Why?)", "So."]),
        ("One.\n\nTwo.\nThree", ["One.", "Two.", "Three"]),
        ("dog.cat. e.g. this", ["dog.cat.", "e.g. this"]),
        ("really?! yes", ["really?!", "yes"]),
    ],
)
def test_sentences_of_a_text(text: str, sentences: list[str]) -> None:
    assert SOME.sentences(text) == sentences


def test_tags_follow_the_words_around_and_the_tags_before() -> None:
    """the: certain. After DT a word scores 2 for NN; after NN 3 for VB; "run" 1 for VB; ties go to the later name."""
    weights = {"i-1 tag DT": {"NN": 2.0}, "i-1 tag NN": {"VB": 3.0}, "i word run": {"VB": 1.0}, "bias": {"JJ": 0.5}}
    tagger = Tagger(weights, {"the": "DT"}, ["DT", "JJ", "NN", "VB"])
    words = "the run run the run stop".split()
    assert tagger.tag(words) == ["DT", "NN", "VB", "DT", "NN", "VB"]
    assert tagger.tag_at("run the the run".split(), [3]).keys() == {
        -2,
        -1,
        1,
        2,
        3,
    }  # two certain words before: 0 tells nothing
    assert tagger.tag_at(words, [5])[5] == "VB"
    assert Tagger({}, {}, ["NN", "VB", "JJ"]).tag(["x"]) == ["VB"]
    assert tagger.tag([]) == []


def test_shapes_of_numbers_and_compounds() -> None:
    weights = {f"i word {shape}": {shape: 1.0} for shape in ("!HYPHEN", "!YEAR", "!DIGITS", "dog")}
    tagger = Tagger(weights, {}, ["!DIGITS", "!HYPHEN", "!YEAR", "", "dog"])
    assert tagger.tag(["x-ray", "1990", "19901", "3rd", "Dog"]) == ["!HYPHEN", "!YEAR", "!DIGITS", "!DIGITS", "dog"]
    assert tagger.tag(["--", "-dog"]) == ["dog", "dog"]  # all 0: the last name


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The three models in nltk's form, small, and no other place where they could be found."""
    monkeypatch.setattr(nltk_data, "_places", lambda folder: [folder, folder / "nltk"])
    root = tmp_path / "nltk_data"
    files = {
        "tokenizers/punkt_tab/english/abbrev_types.txt": "st\ndr",
        "tokenizers/punkt_tab/english/collocations.tab": "a\tb",
        "tokenizers/punkt_tab/english/sent_starters.txt": "the",
        "tokenizers/punkt_tab/english/ortho_context.tab": "john\t8",
        "corpora/wordnet/index.noun": "  1 licence\ndog n 1 0\nmouse n 1 0\n",
        "corpora/wordnet/noun.exc": "mice mouse\n",
        **{f"corpora/wordnet/{name}": "" for name in ("index.adj", "index.adv", "adj.exc", "adv.exc", "verb.exc")},
        "corpora/wordnet/index.verb": "ride v 1 0\n",
    }
    name = "averaged_perceptron_tagger_eng"
    for part, content in {"weights": {"bias": {"NN": 1.0}}, "tagdict": {"on": "IN"}, "classes": ["IN", "NN"]}.items():
        files[f"taggers/{name}/{name}.{part}.json"] = json.dumps(content)
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    return root


@pytest.mark.parametrize("layout", ["folders", "archives", "archives side by side"])
def test_models_are_read_from_folders_and_from_nltks_archives(data: Path, layout: str) -> None:
    for folder in ("tokenizers/punkt_tab", "taggers/averaged_perceptron_tagger_eng", "corpora/wordnet"):
        if layout != "folders":
            place = data / (folder if layout == "archives" else Path(folder).name)
            shutil.make_archive(str(place), "zip", (data / folder).parent, (data / folder).name)
            shutil.rmtree(data / folder)
    assert present(data)
    found = english(data)
    words = found.words("Dogs on st. John. Mice")
    assert words == ["Dogs", "on", "st.", "John", ".", "Mice"]
    assert found.tags(words) == ["NN", "IN", "NN", "NN", "NN", "NN"]
    lemmas = [found.lemma("dogs"), found.lemma("mice"), found.lemma("riding", "v"), found.lemma("cats")]
    assert lemmas == ["dog", "mouse", "ride", "cats"]


def test_what_is_missing_or_broken_is_named(data: Path) -> None:
    assert not present(data.parent)
    with pytest.raises(DataError, match="nltk's tokenizers/punkt_tab is in none of") as raised:
        english(data.parent)
    assert "data get nltk" in (raised.value.hint or "")
    tags = data / "taggers" / "averaged_perceptron_tagger_eng" / "averaged_perceptron_tagger_eng.weights.json"
    whole = tags.read_bytes()
    tags.write_text("{")
    with pytest.raises(DataError, match="averaged_perceptron_tagger_eng: not JSON"):
        english(data)
    tags.write_bytes(whole)
    (data / "corpora" / "wordnet" / "noun.exc").unlink()
    with pytest.raises(DataError, match=r"noun\.exc: cannot be read"):
        english(data)
    (data / "tokenizers" / "punkt_tab.zip").write_bytes(b"PK\x05")
    (data / "tokenizers" / "punkt_tab").rename(data / "elsewhere")
    with pytest.raises(DataError, match=r"punkt_tab\.zip: the file is not a zip"):
        present(data)


@pytest.mark.skipif(not present(), reason="no nltk data; `edgereverie data get nltk`, and NLTK_DATA to its folder")
def test_nltks_own_models() -> None:
    """Documented by nltk's authors: the fox that jumps, "us" whose shortest lemma is "u", "as" that becomes "a"."""
    found = english()
    words = "The quick brown fox jumps over the lazy dog".split()
    assert found.tags(words) == ["DT", "JJ", "NN", "NN", "VBZ", "IN", "DT", "JJ", "NN"]
    pairs = [found.lemma(word) for word in ("dogs", "churches", "aardwolves", "abaci", "hardrock", "us", "as")]
    assert pairs == ["dog", "church", "aardwolf", "abacus", "hardrock", "u", "a"]
    text = "Good muffins cost $3.88\nin New York.  Please buy me\ntwo of them.\n\nThanks."
    assert found.words(text) == [
        "Good", "muffins", "cost", "$", "3.88", "in", "New", "York", ".", "Please", "buy", "me", "two", "of", "them",
        ".", "Thanks", ".",
    ]  # fmt: skip
