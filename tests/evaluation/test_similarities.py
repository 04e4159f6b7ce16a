"""Similarities of words: spaCy's own cosine on a small vocabulary, and what is missing is told."""

from __future__ import annotations

import sys

import pytest

from edgereverie.errors import MissingPackage
from edgereverie.evaluation.benchmarks._amber_descriptions import findings
from edgereverie.evaluation.benchmarks._amber_files import AmberItem, Words
from edgereverie.evaluation.similarities._spacy import SpacySimilarity
from edgereverie.registry import SIMILARITIES


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> SpacySimilarity:
    """A model of four words on disk, as spaCy saves them."""
    spacy = pytest.importorskip("spacy")
    import numpy as np

    model = spacy.blank("en")
    table = {"mug": (8, 15), "bowl": (3, 4), "cup": (1, 0), "cat": (0, -1)}
    for word, vector in table.items():
        model.vocab.set_vector(word, np.array(vector, np.float32))
    folder = tmp_path_factory.mktemp("models") / "tiny"
    model.to_disk(folder)
    return SpacySimilarity(str(folder))


def test_spacy_compares_by_the_cosine_of_its_vectors(vectors: SpacySimilarity) -> None:
    assert vectors("mug", "bowl") == pytest.approx((24 + 60) / (17 * 5))
    assert vectors("cup", "bowl") == vectors("bowl", "cup") == pytest.approx(3 / 5)
    assert vectors("cat", "cup") == 0.0
    assert vectors("dog", "dog") == 1.0  # the same word, vector or not
    assert vectors("dog", "cup") == 0.0  # no vector: like nothing, and no warning
    assert vectors("cup cat", "cat") == pytest.approx(0.5**0.5)  # several words: their mean, (0.5, -0.5)


def test_a_description_is_scored_by_spacy(vectors: SpacySimilarity) -> None:
    related = {"bowl": (), "cat": (), "mug": (), "cup": ()}
    item = AmberItem("1", None, "", "", "", objects=("cat", "bowl"), targets=("cup",),
                     words=Words(related, frozenset(related), frozenset()))  # fmt: skip
    found = findings(["mug", "cup"], item, vectors)
    # A mug is like a bowl, 0.99, and not like a cup, 0.47; a cup is not like a bowl, 0.6.
    assert found.covered == {1} and found.met == {0} and found.wrong == ("cup",)


def test_without_spacy_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(
        MissingPackage, match=r"by en_core_web_lg \(scorers that end in -exact do without\) needs the package 'spacy'"
    ):
        SpacySimilarity("en_core_web_lg")("dog", "cat")


def test_names() -> None:
    assert {"exact", "en_core_web_lg", "en_core_web_md", "en_core_web_sm"} <= set(SIMILARITIES.names())
    assert SIMILARITIES.get("en_core_web_md").model == "en_core_web_md"
