"""AMBER's descriptions: the official scorer's steps one by one, its figures by hand and on whole files."""

from __future__ import annotations

import gzip
import json
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from edgereverie.errors import DataError
from edgereverie.evaluation.benchmarks import _amber_descriptions as descriptions
from edgereverie.evaluation.benchmarks import amber
from edgereverie.evaluation.benchmarks._amber_descriptions import Findings, findings
from edgereverie.evaluation.benchmarks._amber_files import AmberItem, Words
from edgereverie.evaluation.benchmarks.amber import BENCHMARK, Amber
from edgereverie.evaluation.benchmarks.base import BenchmarkResult, score_answers
from edgereverie.evaluation.nltk_data import english
from edgereverie.evaluation.similarities import Similarity
from edgereverie.evaluation.similarities.exact import same
from edgereverie.evaluation.source import Source
from edgereverie.registry import Registry

RELATED = {
    "person": ("kid", "guy"), "kid": (), "dog": ("puppy",), "cat": (), "cup": (), "mug": (), "tree": (), "light": ()
}  # fmt: skip
KNOWN = frozenset(RELATED).union(*RELATED.values())
WORDS = Words(RELATED, KNOWN, frozenset({"light"}))


class PlainEnglish:
    """Every word a noun, but one behind "to", and an s at its end the plural's: the table of known words sorts out the rest."""

    def words(self, text: str) -> list[str]:
        return re.findall(r"\w+|[^\w\s]", text)

    def tags(self, words: list[str]) -> list[str]:
        return ["VB" if before == "to" else "NN" for before in ["", *words][: len(words)]]

    def lemma(self, word: str) -> str:
        return word.removesuffix("s")


@pytest.fixture
def real_english() -> None:
    try:
        english()
    except DataError as error:
        pytest.skip(f"{error} {error.hint}")


@pytest.fixture(params=["plain", "real"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Descriptions are read by nltk's data where they are, and by a plain reader anywhere."""
    descriptions._nouns.cache_clear()
    if request.param == "real":
        request.getfixturevalue("real_english")
    else:
        monkeypatch.setattr(descriptions, "english", lambda folder: PlainEnglish())
    yield
    descriptions._nouns.cache_clear()


def item(objects: str, targets: str, id: str = "1") -> AmberItem:
    return AmberItem(id, None, "", objects, f"{id}.jpg", False, tuple(objects.split()), tuple(targets.split()), WORDS,
                     split="generative", kind="description")  # fmt: skip


def like(*pairs: str, by: float = 0.81) -> Similarity:
    return lambda one, other: by if f"{one}-{other}" in pairs else same(one, other)


@pytest.mark.parametrize(
    ("nouns", "objects", "targets", "similarity", "wrong", "covered", "met"),
    [
        ("", "dog", "cat", same, "", (), ()),
        ("dog sky", "dog", "cat", same, "", (0,), ()),  # words outside the table are not mentions
        ("Dog", "dog", "cat", same, "", (), ()),  # the case is kept: an unknown word
        ("puppy puppy", "cup dog", "cat", same, "", (1,), ()),  # a synonym covers its object, once
        ("cup", "dog cup cup", "cat", same, "", (1,), ()),  # of two entries of one name the second is never covered
        ("kid", "kid person", "", same, "", (1,), ()),  # synonyms of all objects come before the objects themselves
        ("light", "light dog", "light", same, "", (), ()),  # safe words cover nothing, and meet nothing
        ("cat cat", "dog", "tree cat", same, "cat cat", (), (1,)),  # mentions are counted, targets flagged
        ("puppy", "cat", "tree dog", same, "puppy", (), (1,)),
        ("tree", "dog", "cat", same, "tree", (), ()),  # made up, and not what was to be expected
        ("mug", "cup", "cat", like("mug-cup"), "", (0,), ()),  # like an object: covers it
        ("mug", "cup", "cat", like("mug-cup", by=0.8), "mug", (), ()),  # more than 0.8, not as much
        ("mug", "dog cup", "tree mug", like("mug-cup"), "", (1,), (1,)),  # covers, and meets its target all the same
        (
            "cat",
            "dog",
            "tree kid cat",
            like("cat-kid"),
            "cat",
            (),
            (1, 2),
        ),  # its own target, and the first that is like it
        ("mug", "dog", "person cup", like("mug-guy", "mug-cup"), "mug", (), (0,)),  # the first alone, by a synonym
        ("mug", "person cup", "cat", like("mug-cup", "mug-kid"), "", (0,), ()),
    ],
)
def test_each_step_of_the_official_scorer(
    nouns: str, objects: str, targets: str, similarity: Similarity, wrong: str, covered: tuple, met: tuple
) -> None:
    found = findings(nouns.split(), item(objects, targets), similarity)
    named = tuple(noun for noun in nouns.split() if noun in KNOWN)
    assert found == Findings(named, tuple(wrong.split()), frozenset(covered), frozenset(met))


def values(result: BenchmarkResult, digits: int = 9) -> dict[str, float]:
    return {score.metric.rpartition("/")[2]: round(100 * score.value, digits) for score in result.scores}


TEXTS = {
    "1": "A guy and two dogs play near a light.\nThere is a cat, and a second cat, on the table to cup.",
    "2": "",
    "3": "Żółw 龜 \N{TURTLE}",
}


def test_figures_by_hand(reader: None) -> None:
    items = [item("person dog cup", "cat tree", "1"), item("tree", "dog", "2"), item("cup", "mug", "3")]
    result = score_answers(BENCHMARK, "official-exact", items, TEXTS)
    # guy, dog, light, cat, cat (to cup is no noun): two made up of five; guy and dog of five objects; two of three clean;
    # cat of four targets.
    assert result.counts() == {"amber/official-exact/generative": {
        "mentions": 5, "hallucinated_mentions": 2, "objects": 5, "covered_objects": 2, "targets": 4, "met_targets": 1,
        "descriptions": 3, "clean_descriptions": 2, "words": 25,
    }}  # fmt: skip
    found = values(result)
    assert found.pop("words") == pytest.approx(100 * 25 / 3)
    # 2 / 5.001, 2 / 5.001, 100 - 2 / 3.001 = 33.36, 1 / 4.001 = 24.99
    assert found == {"chair": 40.0, "cover": 40.0, "hal": 33.4, "cog": 25.0}
    first, second, third = result.marks
    assert (first.read, first.right, first.faults) == ("guy, dog, light, cat", 0.0, 2.0)
    assert first.note == "not in the picture: cat; covered: person, dog"
    assert second.read == third.read == "nothing" and second.right == 1.0 and second.note == ""
    # lmms-eval: three starts, no rounding.
    found = values(score_answers(BENCHMARK, "lmms-exact", items, TEXTS))
    assert found["chair"] == pytest.approx(200 / 5.003) and found["cover"] == pytest.approx(200 / 5.003)
    assert found["hal"] == pytest.approx(100 - 200 / 3.003) and found["cog"] == pytest.approx(100 / 4.003)


def test_the_start_of_the_counters_shows_in_the_second_digit() -> None:
    chair, cover, hal, cog, _ = descriptions.OFFICIAL
    counts = np.array([1, 1, 2, 2, 0, 0, 1, 0, 9])
    found = [round(100 * float(metric.formula(counts)), 9) for metric in (chair, cover, hal, cog)]
    assert found == [99.9, 100.0, 100.0, 0.0]  # 1 / 1.001, 2 / 2.001 = 99.95, 100 - 0, 0 / 0.001
    assert cover.formula(np.stack([counts, counts])).tolist() == [1.0, 1.0]


def test_a_similarity_from_elsewhere_joins_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    outside = metadata.EntryPoint("length", "operator:eq", "edgereverie.evaluation.similarities")
    monkeypatch.setattr(metadata, "entry_points", lambda group: [outside])
    monkeypatch.setattr(
        amber, "SIMILARITIES", Registry("similarity", "edgereverie.evaluation.similarities", "SIMILARITY")
    )
    variants = Amber().variants
    assert next(iter(variants)) == "official"
    assert {"official-exact", "official-length", "lmms", "lmms-en_core_web_lg", "vlmevalkit"} <= set(variants)
    assert "official-en_core_web_lg" not in variants and variants["official"].source.endswith("by en_core_web_lg")
    assert variants["official-length"].source.endswith("words compared by length")


def test_no_similarity_stands_in_for_another(reader: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str) -> None:
        raise OSError(f"Can't find model '{name}'")

    from edgereverie.evaluation.similarities import en_core_web_lg

    fake = type("spacy", (), {"load": staticmethod(load)})
    monkeypatch.setitem(sys.modules, "spacy", fake)
    monkeypatch.setattr(en_core_web_lg, "SIMILARITY", type(en_core_web_lg.SIMILARITY)("en_core_web_lg"))
    with pytest.raises(DataError, match="cannot load the model 'en_core_web_lg'") as caught:
        score_answers(
            BENCHMARK, "official", [item("dog", "cat")], {"1": ""}
        )  # nothing to compare, and missed all the same
    assert "python -m spacy download en_core_web_lg" in caught.value.hint and "-exact" in caught.value.hint


STUBS: dict[str, Similarity] = {"exact": same, "prefix3": lambda one, other: float(one[:3] == other[:3])}


class Stubbed(Amber):
    """The official way of scoring, with the similarities that the golden figures were made with."""

    def __init__(self) -> None:
        self.variants = {name: amber._official(name) for name in STUBS}


def test_golden_descriptions(golden: Path, real_english: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amber, "SIMILARITIES", STUBS)
    items = {item.id: item for item in BENCHMARK.items(Source(golden, pictures=False, splits=("generative",)))}
    rows = json.loads(gzip.decompress((golden / "amber" / "synthetic_generative_responses.json.gz").read_bytes()))
    texts = {str(row["id"]): row["response"] for row in rows}
    for case in json.loads((golden / "expected" / "amber.json").read_text(encoding="utf-8"))["generative"]:
        first, last = map(int, case.get("ids", "1-1004").split("-"))
        chosen = [items[str(id)] for id in range(first, last + 1)]
        found = values(
            score_answers(Stubbed(), case["similarity"], chosen, {item.id: texts[item.id] for item in chosen})
        )
        printed = case["result"]["Generative Task"]
        assert {name: found[name.lower()] for name in printed} == printed, (case["similarity"], case.get("ids"))
