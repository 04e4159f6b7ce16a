"""Claims about drawn scenes are judged by the scene itself: what is told of it is true, what was spoilt is false."""

from __future__ import annotations

from random import Random

import pytest

from edgereverie.data.scenes import wording
from edgereverie.data.scenes.pairs import preference_pairs
from edgereverie.data.scenes.talk import exchanges
from edgereverie.data.scenes.world import Scene, Thing, make_scene
from edgereverie.data.truth import true_of
from edgereverie.records import Claim
from edgereverie.text.claims import claims, stated

# A red ring at the top left, blue twins at the left and at the bottom, a large black moon in the centre.
SCENE = Scene("s", (Thing("ring", "red", "small", 0), Thing("star", "blue", "small", 3), Thing("moon", "black", "large", 4),
                    Thing("star", "blue", "small", 7)), (240, 240, 240), ((0.0, 0.0),) * 4)  # fmt: skip
STATEMENTS = [
    ("There is a ring.", True), ("There is a heart.", False), ("There is a dog.", False), ("There is no dog.", True),
    ("There is no ring.", False), ("There is a small red ring.", True), ("There is a large ring.", False),
    ("The ring is red.", True), ("The ring is blue.", False), ("The ring is white.", False), ("The ring is shiny.", None),
    ("The ring is not blue.", True), ("The heart is red.", False), ("The heart is not red.", None), ("The moon is big.", True),
    ("There are two stars.", True), ("There are three stars.", False), ("There is one star.", False),
    ("There is one ring.", True),    ("There are at least two stars.", True), ("There are not three stars.", True),
    ("The ring is at the top left.", True), ("The ring is at the top.", False), ("The moon is in the centre.", True),
    ("The moon is in the background.", None), ("There is a star at the left.", True), ("The stars are at the left.", False),
    ("The ring is to the left of the moon.", True), ("The ring is to the right of the moon.", False),
    ("The ring is above the moon.", True), ("The ring is below the moon.", False), ("The ring is next to the star.", True),
    ("The ring is next to the moon.", False), ("The ring is above the heart.", False), ("The ring is riding a moon.", None),
]  # fmt: skip


@pytest.mark.parametrize(("statement", "expected"), STATEMENTS)
def test_truth_of_a_statement(statement: str, expected: bool | None) -> None:
    said = stated(statement)
    assert said.statement == statement
    assert true_of(SCENE, said) is expected
    claim = Claim(said.text, said.start, said.end, said.subject, 0.5, "unverified", kind=said.kind, statement=statement)
    assert true_of(SCENE, claim) is expected


@pytest.mark.parametrize("seed", range(80))
def test_what_is_told_of_a_scene_is_true_and_what_was_spoilt_is_not(seed: int) -> None:
    rng = Random(seed)
    scene = make_scene(f"truth-{seed}", 0.5)
    for caption in (wording.caption_full, wording.caption_short, wording.caption_names):
        text = caption(scene.things, rng)
        found = claims("Describe the image.", text)
        assert {true_of(scene, claim) for claim in found} == {True}, text
        assert len([claim for claim in found if claim.kind == "object"]) == len(wording.groups(scene.things))
    full = claims("", wording.caption_full(scene.things, rng))
    assert sum(claim.kind == "attribute" for claim in full) == 2 * len(wording.groups(scene.things))
    assert sum(claim.kind == "position" for claim in full) == len(scene.things)
    for ask in exchanges(scene, rng):
        assert all(true_of(scene, claim) for claim in claims(ask.question, ask.answer)), (ask.question, ask.answer)
        wrong = [true_of(scene, claim) for claim in claims(ask.question, ask.confusing)]
        assert False in wrong or not wrong, (ask.question, ask.confusing)
    for pair in preference_pairs(scene, "scene.png", rng):
        if pair.reason in ("co-occurrence", "attribute", "relation"):
            assert False in [true_of(scene, claim) for claim in claims(pair.turns[0].text, pair.rejected)], (
                pair.rejected
            )
