"""CHAIR on COCO: what the two official scorers printed for published captions, and the quirks of each, word by word."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from edgereverie.errors import DataError
from edgereverie.evaluation.benchmarks._chair_words import (
    DOUBLE_WORDS,
    Synonyms,
    pattern_reader,
    synonyms_of,
    wordnet_reader,
)
from edgereverie.evaluation.benchmarks.base import score_answers
from edgereverie.evaluation.benchmarks.chair import BENCHMARK
from edgereverie.evaluation.nltk_data import english, present
from edgereverie.evaluation.scoring import score_file
from edgereverie.evaluation.source import Source
from edgereverie.evaluation.words.singular import singular

needs_nltk = pytest.mark.skipif(
    not present(), reason="no nltk data; `edgereverie data get nltk`, and NLTK_DATA to its folder"
)
SCORERS = ["maxlinn", pytest.param("opera", marks=needs_nltk)]
ROWS = """person, man, woman, people, child, children, baby, adult, passenger, biker
bus, minibus
train
skis, ski
sports ball, ball
tie, bow, bow tie
tennis racket, racket
wine glass
hot dog
dog
orange
bird
motorcycle,  motor bike, motorbike
cake,  cheesecake
chair, seat
knife, knive
couch
toilet
cell phone, phone, iPhone
oven, stove top oven
mouse
boat, canoe
scissors
"""


@pytest.fixture
def synonyms(tmp_path: Path) -> Synonyms:
    path = tmp_path / "synonyms.txt"
    path.write_text(ROWS, encoding="utf-8")
    return synonyms_of(path)


def cases(golden: Path) -> dict[str, dict[str, Any]]:
    return json.loads((golden / "expected" / "chair_official.json").read_text())["cases"]


@pytest.mark.parametrize("scorer", SCORERS)
def test_published_captions_give_the_official_figures(golden: Path, scorer: str) -> None:
    """Every file of captions that is there: counts exactly, rates to the last digit."""
    files = {name: case for name, case in cases(golden).items() if (golden / case["file"]).is_file()}
    assert files
    for name, case in files.items():
        run = score_file(BENCHMARK, Source(golden, pictures=False), golden / case["file"], variants=[scorer])
        expected, (result,) = case[scorer], run.results
        counts = result.counts()[f"chair/{scorer}"]
        assert {
            "n_caps": counts["captions"], "n_hallucinated_caps": counts["hallucinated_captions"],
            "n_words": counts["mentions"], "n_hallucinated_words": counts["hallucinated_mentions"],
            "n_gt": counts["true_objects"],
        } == {key: expected[key] for key in expected if key.startswith("n_")}, name  # fmt: skip
        values = {score.metric.rpartition("/")[2]: score.value for score in result.scores}
        rates = [values["chair_s"], values["chair_i"], values["recall"]]
        assert rates == [expected["CHAIRs"], expected["CHAIRi"], expected["Recall"]], name
        if "Len" in expected:
            assert values["words"] == pytest.approx(100 * expected["Len"], abs=1e-9), name


@pytest.mark.parametrize("scorer", SCORERS)
def test_each_published_caption_names_what_the_official_scorer_read(golden: Path, scorer: str) -> None:
    synonyms, seen = synonyms_of(golden / "chair" / "synonyms.txt"), 0
    truth = {id: set(names) for id, names in json.loads(_text(golden / "chair" / "gt_objects.json.gz")).items()}
    read = pattern_reader(synonyms) if scorer == "maxlinn" else wordnet_reader(synonyms, english())
    for name, case in cases(golden).items():
        tokens = golden / "expected" / f"chair_tokens_{scorer}_{name}.jsonl.gz"
        if not tokens.is_file() or not (golden / case["file"]).is_file():
            continue
        for row, caption in zip(_lines(tokens), _lines(golden / case["file"]), strict=True):
            found = read(caption["caption"])
            assert [name for _, name in found.objects] == row["node_words"]
            assert found.words == len(row["words"])
            wrong = [[word, name] for word, name in found.objects if name not in truth[str(row["image_id"])]]
            assert wrong == row["hallucinated"]
            seen += 1
    assert seen


def test_forms_of_the_published_lexicon(golden: Path) -> None:
    """pattern's and WordNet's result for 878 forms, wherever one of them is a word that counts."""
    lexicon = json.loads((golden / "expected" / "chair_lexicon.json").read_text())
    synonyms = synonyms_of(golden / "chair" / "synonyms.txt")
    assert {pair: one for pair, one in lexicon["double_word_dict"].items() if pair.count(" ") == 1} == DOUBLE_WORDS
    telling = synonyms.telling
    for form, (by_pattern, by_wordnet, _) in lexicon["surface_forms"].items():
        ours = singular(form)
        assert ours == by_pattern or not {ours, by_pattern} & telling, form
        if present() and form:
            ours = english().lemma(form)
            assert ours == by_wordnet, form


MAXLINN = [
    ("", []),
    (" \n\t", []),
    ("Dogs and a DOG.", ["dog", "dog"]),
    ("A bus and a minibus.", []),  # "bu", "minibu"
    ("Two buses.", ["bus"]),
    ("Ties.", []),  # "ty"
    ("A tie, two bows, a bow tie.", ["tie", "tie", "tie"]),
    ("canoes and a canoe", ["boat"]),  # "cano"
    ("Men, women, children, people.", ["person"] * 4),
    ("Knives", ["knife"]),
    ("A tennis racket.", ["tennis racket"]),  # "tenni racket": the racket alone counts
    ("sports balls", ["sports ball"]),  # "sport ball": the ball alone counts
    ("skis", ["skis"]),
    ("Two wine glasses and a wine glass.", ["wine glass", "wine glass"]),  # "wine glass", "wine glas"
    ("wine\n\nglasses", ["wine glass"]),
    ("A hot dog, a hot, dog.", ["hot dog", "dog"]),
    ("hot dogs hot dog", ["hot dog", "hot dog"]),
    ("A hot hot dog dog", ["hot dog", "dog"]),  # pairs from the left
    ("baby birds, an adult bird, a baby, a passenger train", ["bird", "bird", "person", "train"]),
    ("The toilet seat.", ["toilet"]),
    ("The seat of the toilet, another seat.", ["toilet"]),
    ("A seat.", ["chair"]),
    ("a motor bike, a motorbike", ["motorcycle"]),  # two spaces in the official table: never found
    ("cheesecake and cake", ["cake"]),
    ("an iPhone and a phone", ["cell phone"]),  # captions are read in lower case
    ("stove top oven", ["oven"]),
    ("a pair of scissors", ["scissors"]),
    ('He said "dog." A "dog", (dog) [dog]; dog: dog/dog', ["dog"] * 5),
    ("dog's dogs' dog, 'dog'", ["dog"] * 3),  # an opening single quote stays with its word ...
    ("dog.dog", []),
    ("dog... dog. . . dog! dog? dog", ["dog"] * 5),
    ("dog-like, hot-dog", []),
    ("dog\u2014dog", []),  # nltk 3.8.1 does not part words at a long dash
    ("a “dog” and a ‘dog’, «dog»", ["dog"] * 3),  # ... unless it is a curly one
    ("dog\u00a0dog\u2028dog", ["dog"] * 3),
    ("Ein Hund. 一只狗. чай 🐶 dog", ["dog"]),
    ("men's mice", ["person", "mouse"]),
    ("skiing, seated, dogged", []),
]


@pytest.mark.parametrize(("caption", "objects"), MAXLINN)
def test_captions_as_maxlinn_reads_them(synonyms: Synonyms, caption: str, objects: list[str]) -> None:
    assert [name for _, name in pattern_reader(synonyms)(caption).objects] == objects


OPERA = [
    ("", []),
    ("A bus and two buses.", ["bus", "bus"]),
    ("Two men and people.", ["person"]),  # "men" is a lemma of WordNet (the workforce) and is no person
    ("A man is wearing ties.", ["person", "tie"]),
    ("The children are playing tennis with rackets.", ["person", "tennis racket"]),
    ("He holds a tennis racket.", ["tennis racket"]),
    ("A group of people skiing on skis.", ["person", "skis", "skis"]),
    ("A woman seated at the table.", ["person", "chair"]),
    ("The toilet with the lid seated.", ["toilet"]),
    ("Two wine glasses.", ["wine glass"]),
    ("The bikers ride.", []),  # not in WordNet, so the plural stays
    ("a baby bird, adult dogs", ["bird", "dog"]),
]


@needs_nltk
@pytest.mark.parametrize(("caption", "objects"), OPERA)
def test_captions_as_opera_reads_them(synonyms: Synonyms, caption: str, objects: list[str]) -> None:
    assert [name for _, name in wordnet_reader(synonyms, english())(caption).objects] == objects


@needs_nltk
def test_lmms_prints_operas_rates_times_a_hundred(golden: Path) -> None:
    case = cases(golden)["opera_llava-1.5_greedy"]
    items = BENCHMARK.asked(Source(golden, pictures=False), None, golden / case["file"])
    texts = BENCHMARK.answers(golden / case["file"], items)
    opera, lmms = (score_answers(BENCHMARK, way, items, texts) for way in ("opera", "lmms"))
    for one, other in zip(opera.scores[:3], lmms.scores[:3], strict=True):
        assert 100 * one.value == pytest.approx(other.value, abs=1e-9)


def test_a_table_of_synonyms_must_hold_words_once(tmp_path: Path) -> None:
    path = tmp_path / "synonyms.txt"
    path.write_text("dog, hound\ncat, hound\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"synonyms\.txt:2: 'hound' stands for 'dog' already"):
        synonyms_of(path)
    path.write_text("\n", encoding="utf-8")
    with pytest.raises(DataError, match="the file is empty"):
        synonyms_of(path)


def _text(path: Path) -> str:
    return gzip.decompress(path.read_bytes()).decode()


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in _text(path).splitlines()]
