"""Object mentions: longest first, whole words, any case, any vocabulary."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgereverie.errors import DataError
from edgereverie.text.objects import Mention, ObjectVocabulary

SHAPES = ObjectVocabulary({"cross": ["cross", "crosses"], "ring": ["ring", "rings"], "star": ["star", "stars"]})


def named(vocabulary: ObjectVocabulary, text: str) -> list[str]:
    return [mention.object for mention in vocabulary.mentions(text)]


def test_offsets_point_at_the_surface_form() -> None:
    text = "Two Crosses, a RING."
    assert SHAPES.mentions(text) == [Mention("cross", 4, 11), Mention("ring", 15, 19)]
    assert [text[m.start : m.end] for m in SHAPES.mentions(text)] == ["Crosses", "RING"]


def test_only_whole_words_count() -> None:
    assert named(SHAPES, "The string starts across crossing earrings.") == []
    assert named(SHAPES, "(star),ring;a cross's star-shaped") == ["star", "ring", "cross", "star"]
    assert named(SHAPES, "étoilestar staré") == []


def test_the_longest_form_wins_whatever_the_order_of_the_table() -> None:
    table = {
        "dog": ["dog", "dogs"],
        "hot dog": ["hot dog", "hot dogs"],
        "table": ["table"],
        "dining table": ["dining table"],
    }
    for forms in (table, dict(reversed(table.items()))):
        vocabulary = ObjectVocabulary(forms)
        assert named(vocabulary, "A dog eats hot  dogs at a dining\ntable.") == ["dog", "hot dog", "dining table"]
    for forms in (sports := {"ball": ["baseball"], "bat": ["baseball bat"]}, dict(reversed(sports.items()))):
        assert named(ObjectVocabulary(forms), "a baseball bat, a baseball") == ["bat", "ball"]


def test_forms_are_text_and_not_patterns() -> None:
    vocabulary = ObjectVocabulary({"c": ["c++"], "any": ["a.c"]})
    assert named(vocabulary, "abc a.c c++") == ["any", "c"]


def test_letters_that_equal_only_without_case_do_not_crash() -> None:
    vocabulary = ObjectVocabulary({"kite": ["kite"], "ski": ["ski"]})
    assert named(vocabulary, "a \u212aITE, a \u017fki, a s\u0130k\u0130") == ["kite", "ski"]


@pytest.mark.parametrize(
    ("forms", "word"),
    [
        ({}, "empty"),
        ({"ring": []}, "instead of a list"),
        ({"ring": "ring"}, "instead of a list"),
        ({"ring": ["  "]}, "empty form"),
        ({"ring": ["ring"], "band": ["Ring"]}, "both"),
    ],
)
def test_a_broken_table_is_refused(forms: dict, word: str) -> None:
    with pytest.raises(DataError, match=word):
        ObjectVocabulary(forms)


@given(st.lists(st.sampled_from(["ring", "Rings", "star", "CROSSES", "string", "and", "a", ",", "."]), max_size=30))
def test_mentions_are_the_vocabulary_words_in_order(words: list[str]) -> None:
    text = " ".join(words)
    forms = {"ring": "ring", "rings": "ring", "star": "star", "crosses": "cross"}
    assert named(SHAPES, text) == [forms[word.lower()] for word in words if word.lower() in forms]
    ends = [0] + [m.end for m in SHAPES.mentions(text)]
    assert all(m.start >= end for m, end in zip(SHAPES.mentions(text), ends, strict=False))
