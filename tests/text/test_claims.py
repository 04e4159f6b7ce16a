"""Reading claims: sentences of drawn scenes and of photographs, and the objects that a person reads in them."""

from __future__ import annotations

from random import Random

import pytest

from edgereverie.data.scenes import wording
from edgereverie.data.scenes.world import SHAPES, make_scene
from edgereverie.text.claims import claims
from edgereverie.text.mentions import mentions
from edgereverie.text.asking import asked_object, says_yes
from edgereverie.text.english import singular

# sentence -> the things that it claims to be there, as a person reads it
SENTENCES = [
    ("There is a small red circle at the left and two dogs.", "circle dog"),
    ("A man is riding a horse.", "man horse"),
    ("The image shows a ring, a star and two crosses.", "ring star cross"),
    ("Star, ring and moon.", "star ring moon"),
    ("Dog.", "dog"),
    ("A ring is at the top left. Two blue stars are at the right.", "ring star"),
    ("In the picture I see an orange arrow in the centre and a large drop at the bottom.", "arrow drop"),
    ("Red.", ""),
    ("Two.", ""),
    ("Nothing.", ""),
    ("At the bottom right.", ""),
    ("Yes.", ""),
    ("No star.", ""),
    ("There is no star in the image.", ""),
    ("I see a ring, two moons and no star.", "ring moon"),
    ("There are no dogs, cats or birds, but a horse.", "horse"),
    ("The thing at the left is not a star but a small ring.", "ring"),
    ("None of them is a ring.", ""),
    ("There isn't a heart here.", ""),
    ("The image does not contain any triangles.", ""),
    ("I cannot see a bicycle.", ""),
    ("The ring is not in the image.", ""),
    ("The ring is missing.", ""),
    ("The ring is not red.", "ring"),
    ("A man without a hat.", "man"),
    ("A man without a hat, with a dog.", "man dog"),
    ("The man isn't wearing a hat.", "man"),
    ("Neither a ring nor a star is visible.", ""),
    ("A blue ring is at the left, but no star is in the picture.", "ring"),
    ("A group of people are standing near a cup of coffee.", "person cup coffee"),
    ("A couple of benches line the street.", "bench street"),
    ("The dog chases the cat.", "dog cat"),
    ("Two dogs chase a cat.", "dog cat"),
    ("A person's hand is visible.", "person hand"),
    ("A man's umbrella and the woman's bag.", "man umbrella woman bag"),
    ("There's an orange and a light on the table.", "orange light table"),
    ("A fork and knife lie next to the plate.", "fork knife plate"),
    ("A fire hydrant stands beside a parked car.", "fire hydrant|car"),
    ("She is eating a hot dog.", "hot dog"),
    ("A smiling woman wearing sunglasses holds a leash.", "woman sunglasses leash"),
    ("Several buses and a few taxis wait at the traffic light.", "bus taxi traffic light"),
    ("Children are playing with kites on a beach.", "child kite beach"),
    ("The kitchen has wooden shelves, knives and a stainless steel sink.", "kitchen shelf knife sink"),
    ("A black and white cat sleeps on a sofa.", "cat sofa"),
    ("A train moving along the tracks passes a large building.", "train track building"),
    ("There are at least 13 people visible, some of them sitting.", "person"),
    ("Additionally, a chair can be seen close to the table.", "chair table"),
    ("A living room with a couch, a rug, and potted plants.", "living room|couch|rug|potted plant"),
    ("The overall atmosphere of the scene is peaceful.", ""),
    ("The cat's tail is long and it looks at a bird.", "cat tail bird"),
    ("A boy in a red jacket, with skis on his feet.", "boy jacket skis foot"),
    ("", ""),
    ("Ein Hund läuft über die Straße.", ""),
]
COMPOUNDS = ("fire hydrant", "hot dog", "traffic light", "living room", "potted plant")


def expected_subjects(written: str) -> list[str]:
    if "|" in written:
        return written.split("|")
    for compound in COMPOUNDS:
        written = written.replace(compound, compound.replace(" ", "_"))
    return [word.replace("_", " ") for word in written.split()]


@pytest.mark.parametrize(("sentence", "subjects"), SENTENCES)
def test_subjects_of_a_sentence(sentence: str, subjects: str) -> None:
    assert [mention.subject for mention in mentions(sentence)] == expected_subjects(subjects)


@pytest.mark.parametrize("sentence", [sentence for sentence, _ in SENTENCES])
def test_a_mention_stands_where_it_says(sentence: str) -> None:
    for mention in mentions(sentence):
        assert sentence[mention.start : mention.end] == mention.text
        assert singular(mention.text.lower().split()[-1]) in (
            mention.subject.split()[-1],
            mention.text.lower().split()[-1],
        )


@pytest.mark.parametrize("seed", range(60))
def test_every_wording_of_a_drawn_scene_is_read_right(seed: int) -> None:
    """Captions name all their things and nothing else; reasons against an answer name the thing that is not there as denied."""
    rng = Random(seed)
    scene = make_scene(f"claims-{seed}", 0.5)
    there = {thing.shape for thing in scene.things}
    for caption in (wording.caption_full, wording.caption_short, wording.caption_names):
        text = caption(scene.things, rng)
        assert {mention.subject for mention in mentions(text)} == there, text
    absent = rng.choice([shape for shape in SHAPES if shape not in there])
    asked = wording.exists(scene, absent, rng)
    assert [(m.subject, m.present) for m in claims(asked.question, asked.answer)] == [(absent, False)], asked.answer
    assert (absent, True) in [(m.subject, m.present) for m in claims(asked.question, asked.confusing)], asked.confusing
    assert {mention.subject for mention in mentions(asked.why)} == there, asked.why


def test_places_count_from_the_beginning_of_the_whole_answer() -> None:
    text = "A ring is here.\n\nThere are two stars."
    assert [(m.text, m.start) for m in mentions(text)] == [("A ring", 0), ("two stars", text.index("two stars"))]


@pytest.mark.parametrize(
    ("question", "subject"),
    [
        ("Is there a ring in the image?", "ring"),
        ("Is there an arrow in the image? Answer yes or no.", "arrow"),
        ("Look at the image. Is there a moon?", "moon"),
        ("Do you see a cross in the picture?", "cross"),
        ("Does the image show a heart?", "heart"),
        ("Can you find a drop here?", "drop"),
        ("Is a hexagon in this picture?", "hexagon"),
        ("Are there any dogs in this image?", "dog"),
        ("Is there a dining table in the image?", "dining table"),
        ("Is there a small red ring?", "small red ring"),
        ("Is the ring red?", None),
        ("Is there a ring to the left of the star?", None),
        ("Does the image show the ring in red?", None),
        ("What is in the picture?", None),
        ("How many rings are there?", None),
        ("", None),
    ],
)
def test_what_a_question_asks_the_existence_of(question: str, subject: str | None) -> None:
    asked = asked_object(question)
    assert (asked.subject if asked else None) == subject


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("Yes.", [("Yes", "ring", True)]),
        ("yes", [("yes", "ring", True)]),
        ("No.", [("No", "ring", False)]),
        ("No, there is no ring.", [("No", "ring", False)]),
        ("Yes, there is a ring.", [("a ring", "ring", True)]),
        ("No, but there is a star.", [("No", "ring", False), ("a star", "star", True)]),
        ("A ring is at the left.", [("A ring", "ring", True)]),
        ("No rings are here.", []),
    ],
)
def test_claims_of_an_answer_to_an_existence_question(answer: str, found: list[tuple[str, str, bool]]) -> None:
    assert [(m.text, m.subject, m.present) for m in claims("Is there a ring in the image?", answer)] == found


def test_a_yes_to_another_question_claims_nothing_by_itself() -> None:
    assert claims("Is the ring red?", "Yes.") == []


@pytest.mark.parametrize(
    ("answer", "verdict"), [("Yes", True), ("No, it is blue.", False), ("Notably, a ring.", None), ("", None)]
)
def test_says_yes(answer: str, verdict: bool | None) -> None:
    assert says_yes(answer) is verdict


@pytest.mark.parametrize(
    ("plural", "one"),
    [("dogs", "dog"), ("crosses", "cross"), ("boxes", "box"), ("benches", "bench"), ("dishes", "dish"), ("cherries", "cherry"),
     ("ties", "tie"), ("horses", "horse"), ("vases", "vase"), ("houses", "house"), ("buses", "bus"), ("glasses", "glass"),
     ("knives", "knife"), ("leaves", "leaf"), ("potatoes", "potato"), ("shoes", "shoe"), ("women", "woman"), ("sheep", "sheep"),
     ("scissors", "scissors"), ("skis", "skis"), ("bus", "bus"), ("grass", "grass"), ("ring", "ring"), ("people", "person")],
)  # fmt: skip
def test_singular(plural: str, one: str) -> None:
    assert singular(plural) == one
