"""Claims taken out of texts: what is left is read as a person would, and on real captions it claims the rest and nothing new."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from random import Random

import pytest

from edgereverie.records import Claim
from edgereverie.runtime.guards._rewrite import closure, without
from edgereverie.text.claims import claims, stated

# text, subjects of the things or statements that are wrong, what is left
REWRITES = [
    ("A ring and a star.", ["star"], "A ring."),
    ("A ring and a star.", ["ring"], "A star."),
    ("A ring, a star and two crosses.", ["star"], "A ring and two crosses."),
    ("A ring, a star and two crosses.", ["ring", "star"], "Two crosses."),
    ("There are a ring and a star.", ["star"], "There is a ring."),
    ("There is a ring and two stars.", ["ring"], "There are two stars."),
    ("The image shows a red ring at the top and a star in the centre.", ["ring"], "The image shows a star in the centre."),
    ("I see a ring, a star, and a moon. It is dark.", ["moon"], "I see a ring and a star. It is dark."),
    ("A ring is at the top. A star is at the left.", ["star"], "A ring is at the top."),
    ("A ring is at the top. A star is at the left. It is blue.", ["star"], "A ring is at the top."),
    ("A star is here. It is blue. They shine. A ring is red.", ["star"], "A ring is red."),
    ("A man is riding a horse.", ["horse"], "There is a man."),
    ("Two men are riding a horse.", ["horse"], "There are two men."),
    ("A man with a hat.", ["hat"], "A man."),
    ("A man sits on a bench with a dog.", ["dog"], "A man sits on a bench."),
    ("The woman holds an umbrella.", ["umbrella"], "There is a woman."),
    ("A star.", ["star"], ""),
    ("A ring.", [], "A ring."),
    ("There is a small red ring at the top.", ["The ring is red."], "There is a small ring at the top."),
    ("There is a small red ring at the top.", ["The ring is at the top."], "There is a small red ring."),
    ("An orange cat.", ["The cat is orange."], "A cat."),
    ("The ring is red and small.", ["The ring is red."], "The ring is small."),
    ("The ring is red and small.", ["The ring is small."], "The ring is red."),
    ("The ring is red.", ["The ring is red."], "The ring is possibly red."),
    ("A ring is at the left. The ring is red.", ["The ring is red."], "A ring is at the left."),
    ("There are three dogs.", ["There are three dogs."], "There are dogs."),
    ("Three dogs are at the left.", ["There are three dogs."], "Dogs are at the left."),
    ("There is a pair of shoes on the floor.", ["There are two shoes."], "There are shoes on the floor."),
    ("A man is riding a horse.", ["The man is riding a horse."], "There is a man and a horse."),
    ("In the background, there is a tree.", ["The tree is in the background."], "There is a tree."),
    ("Two stars are at the left and at the right.", ["There is a star at the left."], "Two stars are at the right."),
    ("A black and white cat sleeps under the old table.", ["The cat sleeps under the table."],
     "There is a black and white cat and an old table."),
    ("A ring.\n\nA star is red. A moon.", ["star"], "A ring.\n\nA moon."),
]  # fmt: skip


def held(text: str) -> list[Claim]:
    return [
        Claim(c.text, c.start, c.end, c.subject, 0.5, "unverified", {}, c.kind, c.statement) for c in claims("", text)
    ]


@pytest.mark.parametrize(("text", "wrong", "expected"), REWRITES)
def test_what_is_left_is_a_text(text: str, wrong: list[str], expected: str) -> None:
    found = held(text)
    bad = [one for one in found if one.statement in wrong or (one.kind == "object" and one.subject in wrong)]
    assert len({one.statement for one in bad}) == len(wrong)
    assert without(text, found, bad) == expected


def sample(golden: Path, n: int) -> list[str]:
    found = []
    for path in sorted((golden / "chair" / "captions").glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as stream:
            found += [json.loads(line)["caption"] for line in stream]
    return Random(11).sample(found, n)


def ugly(text: str) -> set[str]:
    """Marks of a careless cut."""
    return set(re.findall(r"  |\s[,.;]|,\s*[.,]|\b(?:and|with|of|the|an?|is|are)\s*[.,]|\.[A-Z][a-z]", text))


def check(caption: str, rng: Random) -> tuple[int, int]:
    """How many claims should stay, and how many of them were lost."""
    found = held(caption)
    wrong = [one for one in found if rng.random() < rng.choice((0.05, 0.1, 0.3))] or found[:1]
    left = without(caption, found, wrong)
    keys = [stated(one.statement).key for one in found]
    gone = closure(keys, [stated(one.statement).key for one in wrong])
    claimed = {claim.key for claim in claims("", left)}
    assert not claimed & gone, left
    assert claimed <= set(keys), left
    assert ugly(left) <= ugly(caption), left
    assert not left or left[0] == left[0].upper()
    for sentence in re.split(r"(?<=[.!?])\s+", left):
        assert sentence in caption or sentence[-9:] in caption or sentence.endswith((".", "!", "?")), sentence
    assert without(left, held(left), []) == left
    return len(set(keys) - gone), len(set(keys) - gone - claimed)


def test_captions_without_any_of_their_claims_claim_the_rest(golden: Path) -> None:
    """Whatever is taken out is gone, nothing is new, and of what should stay at least 99.5 % does (99.9 % was measured on
    2,000 captions)."""
    rng = Random(3)
    counts = [check(caption, rng) for caption in sample(golden, 220) if claims("", caption)]
    assert sum(lost for _, lost in counts) <= 0.005 * sum(kept for kept, _ in counts)


@pytest.mark.slow
def test_many_captions_without_any_of_their_claims_claim_the_rest(golden: Path) -> None:
    rng = Random(4)
    counts = [check(caption, rng) for caption in sample(golden, 2000) if claims("", caption)]
    assert sum(lost for _, lost in counts) <= 0.005 * sum(kept for kept, _ in counts)
