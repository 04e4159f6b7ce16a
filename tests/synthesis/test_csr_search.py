"""The tree of sentences that a search builds: figures by hand, rules as published."""

from __future__ import annotations

import importlib.util
from math import log
from pathlib import Path

import numpy as np
import pytest

from edgereverie.records import Turn
from edgereverie.search.sentences import NO_WORD
from edgereverie.synthesis.csr.search import NO_ROOM, SAID_BEFORE, Settings, search, survivors
from edgereverie.synthesis.csr.trees import Tree

_spec = importlib.util.spec_from_file_location("_toy", Path(__file__).parents[1] / "search" / "_toy.py")
_toy = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_toy)
END, PERIOD, A, B, C = range(5)
ToyVoice, by_last, drawn = _toy.ToyVoice, _toy.by_last, _toy.drawn
ASK = (Turn("user", "What is it?"),)
PICTURE = Path("seen.png")
TABLE = by_last(
    {
        None: {A: 0.6, B: 0.3, C: 0.1},
        A: {PERIOD: 0.5, B: 0.4, END: 0.1},
        B: {PERIOD: 0.7, A: 0.2, END: 0.1},
        C: {END: 0.9, PERIOD: 0.1},
        PERIOD: {END: 0.8, A: 0.2},
    }
)


@pytest.mark.parametrize(("number", "kept"), [(0, []), (4, [3, 2, 1, 0]), (5, [4, 1, 0]), (15, [14, 1, 0])])
def test_of_five_or_more_the_best_and_the_two_worst_survive(number: int, kept: list[int]) -> None:
    """As published: ``new[: int(5/2) - 1] + new[-int(5/2):]`` of the candidates from the best to the worst."""
    assert survivors([float(at) for at in range(number)], 5) == kept


def test_a_tree_by_hand() -> None:
    """Two beams at a penalty of log 4; the picture makes A likelier, .6 instead of .3.

    Beginning: A .6 and "." .5; then B .3 > A .15, and A .2 > "." .7/4, and "." .5. Both survive, for two are all.
    Behind either: the end .8, then A .2 = the end .8/4: the end, the lower token, again. So both answers are whole.
    """
    blind = by_last(
        {None: {A: 0.3, B: 0.6, C: 0.1}, A: {PERIOD: 0.5, B: 0.4, END: 0.1}, B: {PERIOD: 0.8, A: 0.1, C: 0.1}}
    )
    voice = ToyVoice(lambda fed, seen: (TABLE if seen else blind)(fed, seen) if fed[-1:] != (PERIOD,) else {END: 1.0})
    tree = search(PICTURE, ASK, voice, Settings(beams=2, diversity=log(4), characters=99), None)
    assert [tree.text(number) for number in tree.answers()] == [" ant.", " bee ant."]
    first, second = tree.nodes[1:3]
    assert (first.parent, first.tokens, first.final) == (0, 2, True)
    assert first.log_prob == pytest.approx(log(0.6 * 0.5), abs=1e-6)
    assert first.relevance == pytest.approx(log(0.6 / 0.3) / 2, abs=1e-6)  # "." is as likely without the picture
    assert second.relevance == pytest.approx((log(0.3 / 0.6) + log(0.2 / 0.1)) / 3, abs=1e-6)
    assert second.score == pytest.approx(log(0.3 * 0.2 * 0.5) / 3, abs=1e-6)


@pytest.mark.parametrize("seed", range(1, 7))
def test_a_grown_tree_keeps_the_published_rules(seed: int) -> None:
    """What was continued at each depth had survived it; siblings differ; nothing is left open."""
    voice = ToyVoice(drawn(seed))
    tree = search(PICTURE, ASK, voice, Settings(diversity=1.0, sentence_tokens=4, characters=40), None)
    assert voice.open_now == 0 and voice.most_open <= 12
    depth = {number: len(tree.path(number)) for number in range(1, len(tree.nodes))}
    assert max(depth.values()) >= 3 and any(tree.answers())
    crowded = 0
    for level in range(1, max(depth.values())):
        here = [number for number in depth if depth[number] == level and goes_on(tree, number)]
        ranked = sorted(here, key=lambda number: -tree.nodes[number].score)
        crowded += len(ranked) >= 5
        survived = ranked[:1] + ranked[-2:] if len(ranked) >= 5 else ranked
        assert {tree.nodes[number].parent for number in depth if depth[number] == level + 1} <= set(survived)
    assert crowded
    for number in depth:
        said = [tree.nodes[other].added for other in tree.siblings(number)]
        assert len(set(said)) == len(said) <= 5


def goes_on(tree: Tree, number: int) -> bool:
    """Whether the sentence was neither too long nor followed by the end, which is a token without a word."""
    node = tree.nodes[number]
    words = node.added.count(" ") + node.added.count(".")
    return len(tree.text(number)) < 40 and words == node.tokens


def test_equal_groups_are_one_sentence_and_counted() -> None:
    voice = ToyVoice(by_last({None: {A: 1.0}, A: {PERIOD: 1.0}, PERIOD: {END: 1.0}}))
    tree = search(PICTURE, ASK, voice, Settings(diversity=3.0), None)
    assert len(tree.nodes) == 2 and tree.dropped == {SAID_BEFORE: 4} and list(tree.answers()) == [1]


def test_an_answer_does_not_end_before_it_begins_and_wordless_sentences_are_none() -> None:
    voice = ToyVoice(by_last({None: {END: 0.8, PERIOD: 0.2}}))
    tree = search(PICTURE, ASK, voice, Settings(beams=2, diversity=0.0), None)
    assert len(tree.nodes) == 1 and tree.dropped == {NO_WORD: 2} and not list(tree.answers())


def test_characters_and_context_end_an_answer() -> None:
    """An answer of " ant." for ever: after 12 characters it is three sentences long; a context of 3 + 4 holds two."""
    rule = by_last({None: {A: 1.0}, A: {PERIOD: 1.0}, PERIOD: {A: 1.0}})
    tree = search(PICTURE, ASK, ToyVoice(rule), Settings(diversity=0.0, characters=12), None)
    assert [tree.text(number) for number in tree.answers()] == [" ant. ant. ant."]
    tree = search(PICTURE, ASK, ToyVoice(rule, context=7), Settings(diversity=0.0, characters=99), None)
    assert [tree.text(number) for number in tree.answers()] == [" ant. ant."]
    tree = search(PICTURE, ASK, ToyVoice(rule, context=3), Settings(), None)
    assert tree.dropped == {NO_ROOM: 1} and len(tree.nodes) == 1


def test_streams_are_given_back_when_the_judge_fails() -> None:
    class Broken:
        identity = "broken"

        def relevance(self, image: Path, sentences: list[str]) -> list[float]:
            raise RuntimeError("no verdict")

    voice = ToyVoice(TABLE)
    with pytest.raises(RuntimeError, match="no verdict"):
        search(PICTURE, ASK, voice, Settings(), Broken())
    assert voice.open_now == 0


def test_a_judge_sees_the_sentences_and_spares_the_second_reading() -> None:
    class Length:
        identity = "length"

        def relevance(self, image: Path, sentences: list[str]) -> list[float]:
            assert image == PICTURE
            return [float(len(sentence)) for sentence in sentences]

    tree = search(PICTURE, ASK, ToyVoice(TABLE), Settings(diversity=log(4), characters=30), Length())
    assert all(node.relevance == len(node.added.strip()) for node in tree.nodes[1:])


def test_a_tree_comes_back_from_its_text() -> None:
    tree = search(PICTURE, ASK, ToyVoice(drawn(1)), Settings(sentence_tokens=4, characters=30), None)
    again = Tree.load(tree.dump())
    assert again == tree and again.dump() == tree.dump()
    assert np.isfinite([node.relevance for node in again.nodes]).all()
