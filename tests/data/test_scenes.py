"""What drawn scenes are told about: every true sentence is true, every confusing one false, and no wording wins.

``_Reader`` reads sentences by the world's words alone and knows nothing of the templates' order: what it cannot read is
left over, and a test fails on left-over words that carry meaning.
"""

from __future__ import annotations

import re
from collections import Counter
from random import Random

import pytest

from edgereverie.data.scenes import wording
from edgereverie.data.scenes.pairs import preference_pairs
from edgereverie.data.scenes.talk import balanced, careless, reflective
from edgereverie.data.scenes.talk import existence as existence_diet
from edgereverie.data.scenes.world import (
    COLOURS,
    COMPANION,
    COUPLES,
    PLACES,
    SHAPES,
    SIZES,
    Scene,
    Thing,
    count_shapes,
    make_scene,
    neighbours,
)  # fmt: skip

_NUMBERS = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3}
_S, _C, _Z = "|".join(SHAPES), "|".join(COLOURS), "|".join(SIZES)
_P = "|".join(sorted(PLACES, key=len, reverse=True))
_PHRASE = rf"\b(?P<number>an?|two|three) (?:(?P<size>{_Z}) )?(?:(?P<colour>{_C}) )?(?P<shape>{_S})(?:es|s)?\b"
_HERE = rf"(?P<places>(?:{_P})(?: and (?:{_P}))*)"
_CLAIM = re.compile(rf"{_PHRASE}(?: (?:is|are))?(?: {_HERE})?(?P<only>, and no other)?")
_NEUTRAL = set(
    "the image shows there is i see in picture looked and found that overlooks thing things only here are anywhere to be "
    "seen among of them holds so but it a".split()
)


def scenes(count: int, seed: str = "test", **options: float) -> list[Scene]:
    return [make_scene(f"{seed}/{index}", options.get("companion_share", 0.5)) for index in range(count)]


def talk_of(scene: Scene) -> Random:
    """A random source apart from the scene's own: with the same seed, words would depend on what stands there."""
    return Random(f"talk/{scene.id}")


def at(scene: Scene, place: str) -> Thing | None:
    return next((thing for thing in scene.things if thing.place == PLACES.index(place)), None)


def places(text: str) -> set[int]:
    return {PLACES.index(found) for found in re.findall(_P, text)}


def fits(thing: Thing, found: re.Match[str]) -> bool:
    said = found.groupdict()
    return all(said[key] in (None, getattr(thing, key)) for key in ("shape", "colour", "size"))


def holds(scene: Scene, found: re.Match[str]) -> bool:
    """Whether a noun phrase, with its places when it names some, is true of the scene."""
    there = [thing for thing in scene.things if fits(thing, found)]
    number = _NUMBERS[found["number"]]
    if found["only"] and len(scene.of(found["shape"])) != number:
        return False
    if found["places"]:
        return {thing.place for thing in there} >= places(found["places"]) and len(places(found["places"])) == number
    return len(there) >= number


class _Reader:
    """Reads a reason; ``truths`` are the verdicts of all claims found in it, ``rest`` the words that no rule read."""

    def __init__(self, scene: Scene, text: str, asked_place: str | None = None) -> None:
        self.scene, self.text, self.truths = scene, text.lower(), []
        self._rule(rf"an? ({_S}) often stands beside an? ({_S}), and ", lambda m: COMPANION[m[1]] == m[2])
        self._rule(rf"nothing is ({_P}), and no (?:{_C}) (?:{_S}) stands there", lambda m: at(scene, m[1]) is None)
        self._rule(rf"the thing ({_P}) is not an? ({_S}) but {_PHRASE}",
                   lambda m: (thing := at(scene, m[1])) is not None and thing.shape != m[2] and fits(thing, m))  # fmt: skip
        self._rule(rf"the shape ({_P}) is an? ({_S}), it is ({_Z}) and ({_C})",
                   lambda m: (t := at(scene, m[1])) is not None and (t.shape, t.size, t.colour) == m.groups()[1:])  # fmt: skip
        self._rule(rf"the ({_S}) is {_HERE}, not ({_P})",
                   lambda m: self._stands(m[1]) == places(m["places"]) and not places(m[3]) & self._stands(m[1]))  # fmt: skip
        self._rule(rf"the ({_S}) ({_P}) is (?:filled with )?({_C})(?:, not ({_C}))?",
                   lambda m: (t := at(scene, m[2])) is not None and t.shape == m[1] and t.colour == m[3] != m[4])  # fmt: skip
        self._rule(
            rf"the ({_S}) is ({_C}) and not ({_C})", lambda m: {t.colour for t in scene.of(m[1])} == {m[2]} != {m[3]}
        )
        self._rule(rf"the ({_S}) (?:({_P}) )?fills (little|most) of its place(?:, so it is ({_Z}))?", self._fills)
        self._rule(rf"the ({_S}) is ({_P}) and the ({_S}) is ({_P})",
                   lambda m: all((t := at(scene, m[i + 1])) is not None and t.shape == m[i] for i in (1, 3)))  # fmt: skip
        self._rule(
            rf"i count (no|one|two|three): (?=an? |two )(?=.*?\b({_S}))",
            lambda m: len(scene.of(m[2])) == _NUMBERS[m[1]],
        )
        self._rule(rf"\b(?:no|none of them is an?) ({_S})\b", lambda m: not scene.of(m[1]))
        self._rule("so that place is empty", lambda _: asked_place is not None and at(scene, asked_place) is None)
        self._rule(_CLAIM.pattern, lambda m: holds(scene, m))
        self.rest = set(re.findall(r"[a-z]+", self.text)) - _NEUTRAL

    def _rule(self, pattern: str, true) -> None:
        for found in re.finditer(pattern, self.text):
            self.truths.append((found[0], bool(true(found))))
        self.text = re.sub(pattern, " ", self.text)

    def _stands(self, shape: str) -> set[int]:
        return {thing.place for thing in self.scene.of(shape)}

    def _fills(self, found: re.Match[str]) -> bool:
        size = {"little": "small", "most": "large"}[found[3]]
        things = [at(self.scene, found[2])] if found[2] else self.scene.of(found[1])
        return all(t is not None and t.shape == found[1] and t.size == size == (found[4] or size) for t in things)

    def require_true(self) -> None:
        assert not self.rest, f"unread words {self.rest} in a reason about {self.scene}"
        assert self.truths, "the reason says nothing about the picture"
        false = [claim for claim, true in self.truths if not true]
        assert not false, f"{false} are false of {self.scene.things}"


def answered_rightly(scene: Scene, question: str, answer: str) -> bool:
    """Whether the answer to a question about the scene is right, decided from the question's words."""
    question, answer = question.lower(), answer.lower()
    relations = "to the left of|to the right of|above|below"
    if found := re.search(rf"(?:is|does) the ({_S}) (?:stand )?({relations}) the ({_S})", question):
        (row_a, column_a), (row_b, column_b) = (divmod(scene.of(found[i])[0].place, 3) for i in (1, 3))
        true = {"to the left of": column_a < column_b, "to the right of": column_a > column_b, "above": row_a < row_b,
                "below": row_a > row_b}[found[2]]  # fmt: skip
        return answer.startswith("yes") == true
    if found := re.search(rf"(?:is|show) the ({_S}) (?:in )?({_C})\?", question):
        colours = {thing.colour for thing in scene.of(found[1])}
        named = re.search(rf"is (?:not )?({_C})", answer)
        said_rightly = named is None or (named[1] in colours) != ("not" in answer)
        return answer.startswith("yes") == (found[2] in colours) and said_rightly
    if found := re.search(rf"what (?:is|do you see|stands) ({_P})", question):
        thing, said = at(scene, found[1]), re.search(_PHRASE, answer)
        return thing is None if answer == "nothing." else thing is not None and said is not None and fits(thing, said)
    if found := re.search(rf"(?:where is|which place is|where do you see) the ({_S})", question):
        if f"no {found[1]}" in answer:
            return not scene.of(found[1])
        return bool(scene.of(found[1])) and {thing.place for thing in scene.of(found[1])} == places(answer)
    if found := re.search(rf"colour (?:is|does) the ({_S})", question):
        return answer == scene.of(found[1])[0].colour + "."
    if found := re.search(rf"(?:is the ({_S}) small or large|what size is the ({_S}))", question):
        return answer == scene.of(found[1] or found[2])[0].size + "."
    if found := re.search(rf"how many ({_S})(?:es|s)? ", question):
        return {"none.": 0, "one.": 1, "two.": 2, "three.": 3}[answer] == len(scene.of(found[1]))
    found = re.search(rf"\ban? ({_S})\b", question)
    assert found, f"an unknown question: {question}"
    assert set(re.findall(_S, answer)) <= {found[1]}, f"{answer!r} speaks of another shape than {question!r}"
    return answer.startswith("yes") == bool(scene.of(found[1]))


def every_exchange(scene: Scene, rng: Random) -> list[wording.Exchange]:
    """Each kind of question about the scene, asked of something that is there and of something that is not."""
    here, gone = rng.choice(scene.shapes), rng.choice([shape for shape in SHAPES if shape not in scene.shapes])
    asks = [
        ask(scene, shape, rng) for shape in (here, gone) for ask in (wording.exists, wording.where_is, wording.count_of)
    ]
    asks += [wording.at_place(scene, place, rng) for place in range(9)]
    asks += [wording.colour_of(scene, here, rng), wording.size_of(scene, here, rng)]
    asks += [wording.is_colour(scene, here, rng, truly=truly) for truly in (True, False)]
    asks += [ask for truly in (True, False) if (ask := wording.relation(scene, rng, truly=truly)) is not None]
    return asks


def test_right_answers_are_true_and_confusing_ones_false() -> None:
    tasks: Counter[str] = Counter()
    for scene in scenes(500):
        for ask in every_exchange(scene, talk_of(scene)):
            tasks[ask.task] += 1
            assert answered_rightly(scene, ask.question, ask.answer), (scene.things, ask)
            assert not answered_rightly(scene, ask.question, ask.confusing), (scene.things, ask)
    assert set(tasks) == {"exists", "where", "count", "place", "colour", "size", "is-colour", "relation"}
    assert min(tasks.values()) >= 450


def test_every_reason_is_true_of_its_scene() -> None:
    for scene in scenes(500, "reasons"):
        for ask in every_exchange(scene, talk_of(scene)):
            asked = re.search(_P, ask.question) if ask.task == "place" else None
            for reason in (ask.why, ask.why_not):
                _Reader(scene, reason, asked and asked[0]).require_true()


def test_the_reader_notices_an_untruth() -> None:
    """The tests above can fail: one word changed in a reason is found."""
    scene = Scene("s", (Thing("ring", "red", "small", 0), Thing("star", "blue", "large", 4), Thing("moon", "pink", "small", 8)),
                  (240, 240, 240), ((0, 0),) * 3)  # fmt: skip
    for text in ("A small red ring is at the top.", "There is a large red star in the centre.", "I see only a star, and no ring.",
                 "The moon at the bottom right is pink, not pink.", "The ring fills most of its place."):  # fmt: skip
        assert not all(true for _, true in _Reader(scene, text).truths), text
    assert _Reader(scene, "A small red ring stands near the door.").rest == {"stands", "near", "door"}


@pytest.mark.parametrize("style", ["full", "short", "names"])
def test_true_captions_name_everything_once_and_nothing_else(style: str) -> None:
    for scene in scenes(500, style):
        caption = getattr(wording, f"caption_{style}")(scene.things, talk_of(scene))
        reader = _Reader(scene, caption)
        reader.require_true()
        claims = list(_CLAIM.finditer(caption.lower()))
        assert sum(_NUMBERS[claim["number"]] for claim in claims) == len(scene.things), caption
        if style == "full":
            assert sorted(p for claim in claims for p in places(claim["places"])) == [t.place for t in scene.things], (
                caption
            )


def test_reflective_conversations_hold_the_reasons_of_their_answers() -> None:
    for scene in scenes(300, "reflect"):
        samples = list(reflective(scene, "x.png", talk_of(scene)))
        groups: dict[str, list] = {}
        for sample in samples[:-1]:
            question, answer, elicit, reason = (turn.text for turn in sample.turns)
            assert answered_rightly(scene, question, answer)
            asked = re.search(_P, question)
            _Reader(scene, reason, asked and asked[0]).require_true()
            templates = wording.EXPLAIN_RIGHT if sample.rationale == "positive" else wording.EXPLAIN_WRONG
            quoted = [m for t in templates if (m := re.fullmatch(re.escape(t).replace(r"\{answer\}", "(.+)"), elicit))]
            assert len(quoted) == 1, elicit
            if sample.rationale == "negative":
                assert not answered_rightly(scene, question, quoted[0][1]), (question, quoted[0][1])
            groups.setdefault(sample.id.rpartition("/")[0], []).append(sample)
        # The two reflections of an answer are two conversations with a common beginning.
        for pair in groups.values():
            assert [sample.rationale for sample in pair] == ["positive", "negative"]
            assert pair[0].turns[:2] == pair[1].turns[:2]
        assert samples[-1].rationale is None and len(samples[-1].turns) == 2


_EXISTS = [re.compile(re.escape(t).replace(r"\{a\}", rf"an? ({_S})")) for t in wording.EXISTS]


def existence(samples) -> list[tuple[str, bool]]:
    """(asked shape, answered yes) of every existence question."""
    found = []
    for sample in samples:
        for question, answer in zip(sample.turns[::2], sample.turns[1::2], strict=True):
            for template in _EXISTS:
                if match := template.fullmatch(question.text):
                    found.append((match[1], answer.text.startswith("Yes")))
    return found


@pytest.mark.parametrize("diet", [existence_diet, balanced, reflective])
def test_balanced_diets_say_yes_as_often_as_no(diet) -> None:
    asked = existence(s for scene in scenes(1000, diet.__name__) for s in diet(scene, "x.png", talk_of(scene)))
    assert len(asked) > 1500
    assert 0.45 <= sum(yes for _, yes in asked) / len(asked) <= 0.55


@pytest.mark.parametrize("diet", [existence_diet, balanced])
def test_questions_that_teach_to_look_are_conversations_of_their_own(diet) -> None:
    for scene in scenes(20, "single"):
        samples = list(diet(scene, "x.png", talk_of(scene)))
        assert [len(sample.turns) for sample in samples] == [2] * 8
        assert len({sample.id for sample in samples}) == 8


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_careless_captions_imagine_companions_in_the_stated_share(share: float) -> None:
    prompts = {*wording.DESCRIBE_FULL, *wording.DESCRIBE_SHORT, *wording.DESCRIBE_NAMES}
    trials = named = 0
    for scene in scenes(1500, "careless"):
        if len(scene.things) + len(scene.lone()) > 9:
            continue  # no free place might be left to imagine the last one in
        (sample,) = careless(scene, "x.png", talk_of(scene), share)
        for question, answer in zip(sample.turns[::2], sample.turns[1::2], strict=True):
            if question.text in prompts:
                claims = [found.groupdict() for found in _CLAIM.finditer(answer.text.lower())]
                said = {claim["shape"] for claim in claims}
                assert set(scene.shapes) <= said, "a careless caption leaves out nothing"
                assert said - set(scene.shapes) <= {COMPANION[shape] for shape in scene.lone()}
                for claim in claims:
                    if claim["shape"] not in scene.shapes:  # what is imagined looks like what called for it
                        seen = scene.of(COMPANION[claim["shape"]])[0]
                        assert claim["colour"] in (None, seen.colour) and claim["size"] in (None, seen.size)
                trials += len(scene.lone())
                named += sum(COMPANION[shape] in said for shape in scene.lone())
    assert trials > 1500
    deviation = (share * (1 - share) / trials) ** 0.5
    assert abs(named / trials - share) < 3 * deviation, f"{named} of {trials}"  # a binomial interval of 99.7 %


def test_careless_existence_questions_are_mostly_answered_yes() -> None:
    asked, easy = [], 0
    for scene in scenes(1500, "yes", companion_share=0.7):
        for shape, yes in existence(careless(scene, "x.png", talk_of(scene), 0.5)):
            asked.append(yes)
            if not yes:  # the few negatives are easy: nothing in the picture calls for them
                assert shape not in scene.shapes and COMPANION[shape] not in scene.shapes
                easy += 1
    assert 0.8 <= sum(asked) / len(asked) <= 0.95
    assert easy


def test_pairs_of_captions_differ_only_where_their_reason_says() -> None:
    seen: Counter[str] = Counter()
    for scene in scenes(300, "pairs"):
        for pair in preference_pairs(scene, "x.png", talk_of(scene)):
            seen[pair.reason] += 1
            if pair.reason == "question":
                continue
            chosen, rejected = (_things(text) for text in (pair.chosen, pair.rejected))
            assert chosen == {(t.shape, t.colour, t.size, t.place) for t in scene.things}
            gone, new = chosen - rejected, rejected - chosen
            if pair.reason == "co-occurrence":
                assert not gone and len(new) == 1
                assert COMPANION[next(iter(new))[0]] in scene.lone()
                continue
            if pair.reason == "omission":
                assert len(gone) == 1 and not new
                continue
            ((shape, colour, size, place),), ((shape2, colour2, size2, place2),) = gone, new
            assert (shape, size) == (shape2, size2)
            if pair.reason == "attribute":
                assert colour != colour2 and place == place2
            else:
                assert pair.reason == "relation"
                assert (
                    colour == colour2 and place2 in neighbours(place) and all(t.place != place2 for t in scene.things)
                )
    assert seen["attribute"] == seen["relation"] == 300 and seen["co-occurrence"] > 150
    assert 250 < seen["omission"] == sum(len(scene.things) > 1 for scene in scenes(300, "pairs"))


def test_pairs_of_answers_are_right_and_confusing_and_say_yes_as_often_as_no() -> None:
    """Existence is looked up in the scene itself; one answer says yes and the other no, each as often the right one."""
    right: Counter[bool] = Counter()
    for scene in scenes(600, "pairs"):
        for pair in preference_pairs(scene, "x.png", talk_of(scene)):
            if pair.reason != "question":
                continue
            assert pair.chosen != pair.rejected
            forms = {form.format(a=wording.article(shape)): shape for shape in SHAPES for form in wording.EXISTS}
            asked = forms.get(pair.turns[0].text)
            if asked:
                yes = pair.chosen.startswith("Yes")
                assert yes == (asked in scene.shapes) and pair.rejected.startswith("No" if yes else "Yes")
                right[yes] += 1
    assert right.total() > 1000 and 0.45 < right[True] / right.total() < 0.55


def _things(caption: str) -> set[tuple[str, str, str, int]]:
    return {(found["shape"], found["colour"], found["size"], place)
            for found in _CLAIM.finditer(caption.lower()) for place in places(found["places"])}  # fmt: skip


def test_no_fixed_string_answers_much() -> None:
    """One string for all questions, or for all of one kind, stays wrong mostly; no wording of a question dominates."""
    answers: dict[str, Counter[str]] = {}
    questions: Counter[str] = Counter()
    for scene in scenes(600, "fixed"):
        for sample in (*balanced(scene, "x", talk_of(scene)), *reflective(scene, "x", talk_of(scene))):
            for question, answer in zip(sample.turns[::2], sample.turns[1::2], strict=True):
                template = re.sub(rf"\b(?:{_P})|\ban? (?:{_S})|\b(?:{_S}|{_C})(?:es|s)?\b", "_", question.text)
                if not template.startswith(("Explain why this", "Why would", "Someone")):
                    questions[template] += 1
                answers.setdefault("all", Counter())[answer.text] += 1
                kind = "caption" if question.text in wording.DESCRIBE_FULL + wording.DESCRIBE_SHORT else "reason"
                if kind == "caption" or len(answer.text) > 40:
                    answers.setdefault(kind, Counter())[answer.text] += 1
    shares = {kind: found.most_common(1)[0][1] / found.total() for kind, found in answers.items()}
    assert shares["all"] < 0.2 and shares["caption"] < 0.01 and shares["reason"] < 0.01, shares
    assert len(questions) > 30 and questions.most_common(1)[0][1] / questions.total() < 0.15


def test_the_habit_has_the_stated_strength() -> None:
    """With a share of 0 shapes come by chance, with 1 every first shape that has room brings its companion."""

    def companions(share: float) -> float:
        found = [shape for index in range(400) for scene in [make_scene(f"h/{index}", share)] for shape in scene.shapes
                 if COMPANION[shape] in scene.shapes]  # fmt: skip
        total = sum(len(make_scene(f"h/{index}", share).shapes) for index in range(400))
        return len(found) / total

    assert companions(0.0) == 0 < 0.3 < companions(0.5) < 0.8 < companions(1.0)


def test_scenes_are_consistent_and_repeat() -> None:
    for index in range(500):
        scene = make_scene(f"c/{index}", 0.35, lone=3)
        assert scene == make_scene(f"c/{index}", 0.35, lone=3)
        where = [thing.place for thing in scene.things]
        assert where == sorted(set(where)) and set(where) <= set(range(9))
        assert len(scene.lone()) >= 3
        assert all(len({(t.colour, t.size) for t in scene.of(shape)}) == 1 for shape in scene.shapes)  # twins are alike
        assert len(scene.shapes) <= len(SHAPES) - 3  # three absent ones are left to ask for


def test_counting_shapes_and_couples_by_hand() -> None:
    def scene(name: str, *shapes: str) -> Scene:
        things = tuple(Thing(shape, "red", "small", place) for place, shape in enumerate(shapes))
        return Scene(name, things, (240, 240, 240), ((0, 0),) * len(things))

    single, together = count_shapes(
        [scene("1", "ring", "heart", "star"), scene("2", "ring", "ring"), scene("3", "star", "ring")]
    )
    assert (single["ring"], single["star"], single["heart"], single["moon"]) == (3, 2, 1, 0)
    assert together == {
        frozenset({"ring", "heart"}): 1,
        frozenset({"ring", "star"}): 2,
        frozenset({"heart", "star"}): 1,
    }
    assert sorted(SHAPES) == sorted(shape for couple in COUPLES for shape in couple) and len(set(SHAPES)) == 12
