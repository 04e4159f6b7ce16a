"""The search for answers, a sentence at a time: every survivor of a depth is continued in several ways, few survive.

After CSR's ``inference_csr/sample.py``. What is ours: a sentence is judged and cleaned when it is found, so nothing is built
on one that is thrown away; two groups that say the same are one; and a group that has nothing more to say is no sentence
but the answer's end, where the original drops it as too short and keeps what follows the end token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from edgereverie.records import Turn
from edgereverie.search.beams import Beam, View, Voice, diverse_beams
from edgereverie.search.sentences import fault_of
from edgereverie.synthesis.csr.trees import Node, Tree

SAID_BEFORE, NO_ROOM = "another group says the same", "the prompt fills the model's context"
T = TypeVar("T")


class Judge(Protocol):
    """Who says how much a sentence has to do with a picture. identity: what tells its verdicts from another's."""

    identity: str

    def relevance(self, image: Path, sentences: Sequence[str]) -> list[float]: ...


@dataclass(frozen=True, slots=True)
class Settings:
    """beams: sentences tried at each place, one group each. characters: an answer of so many is not continued."""

    beams: int = 5
    diversity: float = 3.0
    sentence_tokens: int = 70
    characters: int = 1024


@dataclass(slots=True)
class _Place:
    """Where an answer may go on: its last sentence, its tokens, and what is held behind them, with and without the picture."""

    node: int
    ids: tuple[int, ...]
    sighted: View
    blind: View | None

    def views(self) -> list[View]:
        return [self.sighted] if self.blind is None else [self.sighted, self.blind]


def search(image: Path, turns: Sequence[Turn], voice: Voice, settings: Settings, judge: Judge | None) -> Tree:
    """The tree of answers to one prompt.

    judge: None is the model's own image gain: how much likelier, in nats per token, the picture makes the sentence. Then the
    same model reads every sentence once more without the picture, in one feed each.
    """
    return _Search(image, turns, voice, settings, judge).run()


class _Search:
    def __init__(
        self, image: Path, turns: Sequence[Turn], voice: Voice, settings: Settings, judge: Judge | None
    ) -> None:
        self.image, self.turns, self.voice, self.settings, self.judge = image, turns, voice, settings, judge
        self.question = " ".join(turn.text for turn in turns)
        self.tree = Tree()
        self.held: list[View] = []  # everything open, to be closed whatever happens

    def run(self) -> Tree:
        try:
            sighted = self._hold(self.voice.open(self.image, self.turns))
            blind = self._hold(self.voice.open(None, self.turns)) if self.judge is None else None
            places = [_Place(0, (), sighted, blind)]
            if self._room(places[0]) < 1:
                self.tree.dropped[NO_ROOM] += 1
                return self.tree
            while places:
                found = [(place, child, beam) for place in places for child, beam in self._continued(place)]
                going = [one for one in found if not self.tree.nodes[one[1]].final]
                scores = [self.tree.nodes[child].score for _, child, _ in going]
                places = self._moved(places, [going[at] for at in survivors(scores, self.settings.beams)])
            return self.tree
        finally:
            for view in self.held:
                view.close()

    def _hold(self, view: View) -> View:
        self.held.append(view)
        return view

    def _continued(self, place: _Place) -> list[tuple[int, Beam]]:
        """The place's new sentences, in the tree, each with the tokens that say it."""
        beams = diverse_beams(
            place.sighted,
            self.voice,
            groups=self.settings.beams,
            diversity=self.settings.diversity,
            most=self._room(place),
            unended=place.node == 0,
        )
        before, kept = self.tree.text(place.node), dict[str, tuple[Beam, tuple[int, ...]]]()
        for beam in beams:
            words = beam.ids[:-1] if beam.ended else beam.ids
            added = self.voice.text(place.ids + words)[len(before) :]
            if beam.ended and place.node and not added.strip():
                self.tree.nodes[place.node].final = True
            elif added in kept:
                self.tree.dropped[SAID_BEFORE] += 1
            elif reason := fault_of(added, self.question):
                self.tree.dropped[reason] += 1
            else:
                kept[added] = beam, words
        judged = self._judged(place, kept)
        return [
            (self._grown(place, added, beam, words, relevance), beam)
            for (added, (beam, words)), relevance in zip(kept.items(), judged, strict=True)
        ]

    def _judged(self, place: _Place, kept: dict[str, tuple[Beam, tuple[int, ...]]]) -> list[float]:
        if not kept:
            return []
        if self.judge is not None:
            return self.judge.relevance(self.image, [added.strip() for added in kept])
        # Per token: a sum grows with what is told, and a model that is rewarded by it lists everything, asked or not.
        return [
            (sum(beam.log_probs[: len(words)]) - place.blind.log_prob(words)) / len(words)
            for beam, words in kept.values()
        ]

    def _grown(self, place: _Place, added: str, beam: Beam, words: tuple[int, ...], relevance: float) -> int:
        node = Node(place.node, added, self.tree.nodes[place.node].score + beam.score, sum(beam.log_probs),
                    len(beam.ids), relevance)  # fmt: skip
        number = self.tree.add(node)
        full = place.sighted.stream.length + len(words) >= self.voice.context
        node.final = beam.ended or full or len(self.tree.text(number)) >= self.settings.characters
        return number

    def _room(self, place: _Place) -> int:
        return min(self.settings.sentence_tokens, self.voice.context - place.sighted.stream.length)

    def _moved(self, places: Sequence[_Place], going: Sequence[tuple[_Place, int, Beam]]) -> list[_Place]:
        """The survivors' places. The last one of each parent takes its streams over, so few are ever open."""
        last = {id(place): child for place, child, _ in going}
        for place in places:
            if id(place) not in last:
                for view in place.views():
                    self.held.remove(view)
                    view.close()
        found = []
        for place, child, beam in going:
            views = place.views() if last[id(place)] == child else [self._hold(view.fork()) for view in place.views()]
            for view in views:
                view.follow(beam.ids)
            found.append(_Place(child, place.ids + beam.ids, views[0], views[1] if len(views) > 1 else None))
        return found


def survivors(scores: Sequence[float], beams: int) -> list[int]:
    """Which candidates of a depth are continued: as published, of five or more the best one and the two worst.

    >>> survivors([-1.0, -5.0, -2.0, -4.0, -3.0, -6.0], 5), survivors([-2.0, -1.0], 5)
    ([0, 1, 5], [1, 0])
    """
    ordered = sorted(range(len(scores)), key=lambda at: -scores[at])
    if len(ordered) < beams:
        return ordered
    return ordered[: max(1, beams // 2 - 1)] + ordered[-(beams // 2) :]
