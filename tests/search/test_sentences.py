"""What is thrown away beside language."""

from __future__ import annotations

import pytest

from edgereverie.search.sentences import NO_WORD, fault_of


@pytest.mark.parametrize(
    ("sentence", "reason"),
    [
        ("No.", None),
        ("A red, red rose at 20 \N{DEGREE SIGN}C, \N{GREEK SMALL LETTER ALPHA}.", None),
        ("A cat, a dog, a cow, a hen, a pig, a bee, a fly.", None),
        ("a cat, a cat, a cat, a cat, a cat, a cat.", "a word or phrase six times in a row"),
        ("Ha ha ha ha ha ha.", "a word or phrase six times in a row"),
        ("Waaaaaaaaaaaaah.", "ten equal characters in a row"),
        ("A &nbsp; &nbsp; cat.", "&nbsp; more than once"),
        ("A\n\nb\n\nc\n\nd.", "more than five line breaks"),
        ("A cat \N{GRINNING FACE}.", "strange characters"),
        ("A \N{HANGUL SYLLABLE GA} cat.", "strange characters"),
        ("A cat\N{REPLACEMENT CHARACTER}.", "strange characters"),
        ("A cat\x00.", "strange characters"),
        (" 12.", NO_WORD),
    ],
)  # fmt: skip
def test_what_is_no_sentence_has_a_reason(sentence: str, reason: str | None) -> None:
    assert fault_of(sentence, "What is it?") == reason
