"""Claims of all kinds: how they are worded, what short answers claim, what is no claim."""

from __future__ import annotations

import pytest

from edgereverie.text.claims import claims, stated

# text -> statements of what it claims beyond the things themselves
SAID = [
    ("A small red ring.", ["The ring is small.", "The ring is red."]),
    ("The ring is red.", ["The ring is red."]),
    ("The dog's collar is blue.", ["The collar is blue."]),
    ("A black and white cat.", ["The cat is black and white."]),
    ("A dark brown dog and a light blue car.", ["The dog is dark brown.", "The car is light blue."]),
    ("A metal fence and a wooden table.", ["The fence is made of metal.", "The table is wooden."]),
    ("The vase is made of glass.", ["The vase is made of glass."]),
    ("The ring is not red but blue.", ["The ring is not red.", "The ring is blue."]),
    ("The circle is blue, not red.", ["The circle is blue.", "The circle is not red."]),
    ("A ring is at the top. It is red.", ["The ring is at the top.", "The ring is red."]),
    ("There is a ring, which is red.", ["The ring is red."]),
    ("Three dogs.", ["There are three dogs."]),
    ("There are 13 people.", ["There are thirteen people."]),
    ("At least six people.", ["There are at least six people."]),
    ("A pair of shoes.", ["There are two shoes."]),
    ("A pair of scissors.", []),
    ("Two of the men are here.", ["There are at least two men."]),
    ("There is one ring.", ["There is one ring."]),
    ("About fifty people, two other dogs.", []),
    ("A ring at the left.", ["The ring is at the left."]),
    ("A bird in the upper left corner of the image.", ["The bird is in the upper left corner."]),
    ("In the background, there are a tree and a house.", ["The tree is in the background.", "The house is in the background."]),
    ("At the top left is a ring.", ["The ring is at the top left."]),
    ("Two stars are at the left and at the right.",
     ["There are two stars.", "There is a star at the left.", "There is a star at the right."]),
    ("A man riding a horse.", ["The man is riding a horse."]),
    ("A man rides a horse.", ["The man rides a horse."]),
    ("The dog chases the cat.", ["The dog chases the cat."]),
    ("A star to the left of the ring.", ["The star is to the left of the ring."]),
    ("A cat under the table.", ["The cat is under the table."]),
    ("A cup is placed on top of the books.", ["The cup is placed on top of the books."]),
    ("A man with a hat.", ["The man has a hat."]),
    ("The man isn't wearing a hat.", ["The man is not wearing a hat."]),
    ("A woman sitting on a couch, holding a book.", ["The woman is sitting on a couch.", "The woman is holding a book."]),
    ("A man in a jacket riding a horse.", ["The man is in the jacket.", "The man is riding a horse."]),
    ("A chair on the left side of the couch.", ["The chair is on the left side of the couch."]),
    ("A dog sleeping.", ["The dog is sleeping."]),
    ("The overall atmosphere is peaceful and lovely.", []),
    ("A lovely dog.", []),
    ("The ring might be red.", []),
    ("The dog is possibly brown.", []),
    ("A heart often stands beside a ring.", []),
    ("", []),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), SAID)
def test_what_is_said_of_things(text: str, expected: list[str]) -> None:
    assert sorted(c.statement for c in claims("", text) if c.kind != "object") == sorted(expected)


# question, answer -> statements of everything that is claimed
ANSWERS = [
    ("Is the ring red?", "Yes.", ["The ring is red."]),
    ("Is the ring red?", "No, it is blue.", ["The ring is not red.", "The ring is blue."]),
    ("Is the ring orange?", "Yes.", ["The ring is orange."]),
    ("Is the square small?", "No.", ["The square is not small."]),
    ("Does the image show the ring in red?", "Yes.", ["The ring is red."]),
    ("What colour is the ring?", "Red.", ["The ring is red."]),
    ("What color are the dogs?", "Black and white.", ["The dogs are black and white."]),
    ("Is the ring small or large?", "Small.", ["The ring is small."]),
    ("What is the vase made of?", "Glass.", ["The vase is made of glass."]),
    ("How many stars are there?", "Two.", ["There are two stars."]),
    ("How many stars are there?", "2", ["There are two stars."]),
    ("How many stars are there?", "One.", ["There is one star."]),
    ("How many stars are there?", "There are two.", ["There are two stars."]),
    ("How many stars are there?", "None.", ["There is no star."]),
    ("Are there three dogs in the image?", "No.", ["There are not three dogs."]),
    ("Where is the moon?", "At the top.", ["The moon is at the top."]),
    ("Where is the cat?", "Under the table.", ["The cat is under the table.", "There is a table."]),
    ("Is the moon at the left of the image?", "No.", ["The moon is not at the left."]),
    ("Is the ring to the left of the star?", "Yes.", ["The ring is to the left of the star."]),
    ("Is the ring left of the star?", "No.", ["The ring is not left of the star."]),
    ("Does the ring stand above the star?", "No.", ["The ring does not stand above the star."]),
    ("Is there a ring to the left of the star?", "Yes.", ["The ring is to the left of the star."]),
    ("Is the man riding a horse?", "No.", ["The man is not riding a horse."]),
    ("Does the man have a hat?", "Yes.", ["The man has a hat."]),
    ("What is at the left?", "A ring.", ["The ring is at the left.", "There is a ring."]),
    ("What is at the left?", "Nothing.", []),
    ("Is there a small red ring?", "No.", ["There is no small red ring."]),
    ("Is there a ring?", "I cannot see a ring.", ["There is no ring."]),
    ("Where is the moon?", "There is no moon in the image.", ["There is no moon."]),
    ("Which is right?\nA. a dog\nB. a cat", "A.", []),
    ("Which is right?\nA. a dog\nB. a cat", "B", []),
]


@pytest.mark.parametrize(("question", "answer", "expected"), ANSWERS)
def test_what_an_answer_claims(question: str, answer: str, expected: list[str]) -> None:
    assert sorted(claim.statement for claim in claims(question, answer)) == sorted(expected)


# statement -> the question that a yes confirms, and the one that a no confirms
ASKED = [
    ("There is a ring.", "Is there a ring in the image?", "Is it true that there is no ring in the image?"),
    ("There are jeans.", "Are there jeans in the image?", "Is it true that there are no jeans in the image?"),
    ("The ring is red.", "Is the ring red?", "Is it true that the ring is not red?"),
    ("There are three dogs.", "Are there three dogs in the image?",
     "Is it true that there are not three dogs in the image?"),
    ("The ring is at the left.", "Is the ring at the left of the image?",
     "Is it true that the ring is not at the left of the image?"),
    ("The star is to the left of the ring.", "Is the star to the left of the ring?",
     "Is it true that the star is not to the left of the ring?"),
    ("The dogs are under the table.", "Are the dogs under the table?", "Is it true that the dogs are not under the table?"),
    ("The man has a hat.", "Does the man have a hat?", "Is it true that the man does not have a hat?"),
    ("There is no ring.", "Is there a ring in the image?", "Is it true that there is no ring in the image?"),
]  # fmt: skip


@pytest.mark.parametrize(("statement", "question", "denial"), ASKED)
def test_how_a_claim_is_asked_about(statement: str, question: str, denial: str) -> None:
    claim = stated(statement)
    assert (claim.statement, claim.question, claim.denial) == (statement, question, denial)


@pytest.mark.parametrize("statement", [s for s, *_ in ASKED])
def test_the_contrary_of_the_contrary_is_the_claim(statement: str) -> None:
    claim = stated(statement)
    contrary = stated(claim.opposite)
    assert contrary.present is not claim.present
    assert contrary.opposite == statement


def test_content_words_are_the_claims_own_and_its_things() -> None:
    text = "A small red ring is to the left of the star."
    found = {claim.statement: [text[a:b] for a, b in claim.content] for claim in claims("", text)}
    assert found["There is a ring."] == ["ring"]
    assert found["The ring is red."] == ["ring", "red"]
    assert found["The ring is to the left of the star."] == ["ring", "left", "star"]


def test_a_statement_that_claims_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no statement"):
        stated("Hmm.")
