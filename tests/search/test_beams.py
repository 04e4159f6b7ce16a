"""Diverse beams: figures by hand."""

from __future__ import annotations

import importlib.util
from math import log
from pathlib import Path

import pytest

from edgereverie.records import Turn
from edgereverie.search.beams import diverse_beams

_spec = importlib.util.spec_from_file_location("_toy", Path(__file__).with_name("_toy.py"))
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


def test_each_group_pays_for_what_the_groups_before_it_chose_at_the_same_step() -> None:
    """A penalty of log 4 divides a token's probability by 4 for each earlier group that chose it at this step.

    1: A .6; then "." .5.                                     2: A .6/4 < B .3; "." .7/4 < A .2; "." .5, nobody was here.
    3: A .15 > C .1 > B .3/4; "." .5/4 < B .4; "." .7/4 < A .2; "." .5.      4: C .1 > B .075 > A .6/16; the end .9.
    """
    voice = ToyVoice(TABLE)
    beams = diverse_beams(voice.open(PICTURE, ASK), voice, groups=4, diversity=log(4), most=9)
    assert [beam.ids for beam in beams] == [(A, PERIOD), (B, A, PERIOD), (A, B, A, PERIOD), (C, END)]
    assert [beam.ended for beam in beams] == [False, False, False, True]
    own = [[0.6, 0.5], [0.3, 0.2, 0.5], [0.6, 0.4, 0.2, 0.5], [0.1, 0.9]]
    paid = [[0.6, 0.5], [0.3, 0.2, 0.5], [0.15, 0.4, 0.2, 0.5], [0.1, 0.9]]
    for beam, chances, lowered in zip(beams, own, paid, strict=True):
        assert beam.log_probs == pytest.approx([log(chance) for chance in chances], abs=1e-6)
        assert beam.score == pytest.approx(sum(map(log, lowered)) / len(lowered), abs=1e-6)
    # Together: A, B and C, A of 1 and 3 being one; then 2's A and 3's B; then 3's A. What ends a sentence is not fed.
    assert (voice.feeds, voice.fed, voice.open_now) == (3, 6, 1)


def test_without_a_penalty_all_groups_are_the_greedy_search() -> None:
    voice = ToyVoice(drawn(4))
    beams = diverse_beams(voice.open(PICTURE, ASK), voice, groups=5, diversity=0.0, most=12)
    ids: list[int] = []
    while len(ids) < 12 and ids[-1:] not in ([END], [PERIOD]):
        chances = voice.rule(tuple(ids), True)
        ids.append(max(chances, key=chances.__getitem__))
    assert {beam.ids for beam in beams} == {tuple(ids)}
    assert voice.fed == len(ids) - 1  # what one of them computed serves all


def test_a_sentence_is_cut_off_and_nothing_forbidden_is_said() -> None:
    voice = ToyVoice(by_last({None: {A: 0.5, B: 0.5}, A: {B: 1.0}, B: {A: 0.9, PERIOD: 0.1}}))
    assert diverse_beams(voice.open(PICTURE, ASK), voice, groups=1, diversity=3.0, most=4)[0].ids == (A, B, A, B)
    voice.allowed[A] = False
    assert diverse_beams(voice.open(PICTURE, ASK), voice, groups=1, diversity=3.0, most=4)[0].ids == (B, PERIOD)
