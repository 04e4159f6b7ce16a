"""Which answers a report shows: the worst mistakes, those that tell the runs apart first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from edgereverie.evaluation.benchmarks.base import Item, Mark
from edgereverie.records import Answer

if TYPE_CHECKING:
    from edgereverie.evaluation.kept import KeptRun
    from edgereverie.evaluation.run import Run

MOST = 60  # exhibits of a report: some three megabytes of photographs
OTHER = "wrong"


@dataclass(frozen=True, slots=True)
class Reading:
    """What one way of scoring made of an answer. scorer: ``pope/official``."""

    scorer: str
    mark: Mark

    @property
    def wrong(self) -> bool:
        return is_wrong(self.mark)


@dataclass(frozen=True, slots=True)
class Said:
    """What one run (by its label) said. readings: one for each way of scoring, the one that the report goes by first."""

    label: str
    answer: Answer
    readings: tuple[Reading, ...] = ()

    @property
    def wrong(self) -> bool:
        return bool(self.readings) and self.readings[0].wrong

    @property
    def faults(self) -> float:
        return self.readings[0].mark.faults if self.readings else 0.0


@dataclass(frozen=True, slots=True)
class Exhibit:
    """One question for the gallery: what was asked, what is true, and what each run said.

    part: split or kind of the question. image: None for a question without a picture.
    """

    image: Path | None
    question: str
    truth: str
    said: tuple[Said, ...]
    benchmark: str = ""
    part: str = ""
    id: str = ""

    @property
    def disputed(self) -> bool:
        """Whether it is a mistake of one run and not of another."""
        return len({one.wrong for one in self.said}) > 1

    @property
    def changed(self) -> bool:
        """Whether the runs say different things."""
        return len({one.answer.text for one in self.said}) > 1

    @property
    def mistakes(self) -> tuple[str, ...]:
        """The kinds of mistake that its answers make, in words."""
        return tuple(dict.fromkeys(mistake(one.readings[0].mark) for one in self.said if one.wrong))


def is_wrong(mark: Mark) -> bool:
    """Whether a scorer found any fault with an answer; one that is graded is wrong below the full grade."""
    return mark.right < 1 or mark.faults > 0


def mistake(mark: Mark) -> str:
    """The kind of mistake: what a mark notes, up to the colon behind which the particular things stand.

    >>> mistake(Mark("1", "ring, star", 0, 1, "not in the picture: star")), mistake(Mark("2", "unread", 0))
    ('not in the picture', 'not understood')
    """
    return mark.note.partition(":")[0].strip() or ("not understood" if mark.read == "unread" else OTHER)


def exhibits(kept: Sequence[KeptRun], most: int = MOST) -> tuple[Exhibit, ...]:
    """The worst mistakes of every benchmark, as many of each and in turn; a picture stands for a benchmark once.

    First what one run has wrong and another right, then by the number of faults. Kinds of mistake take turns in what is
    chosen, so that a frequent one does not crowd out the others.
    """
    names = list(dict.fromkeys(run.benchmark for one in kept for run in one.runs))
    share = max(1, most // max(1, len(names)))
    return tuple(_in_turn([_worst(_candidates(name, kept), share) for name in names]))


def _candidates(benchmark: str, kept: Sequence[KeptRun]) -> list[Exhibit]:
    """Every question that some run's first scorer found a mistake in the answer to, in the order asked."""
    columns = [(one.label, run) for one in kept for run in one.runs if run.benchmark == benchmark]
    wrong = {mark.id for _, run in columns for result in run.results[:1] for mark in result.marks if is_wrong(mark)}
    said: dict[str, list[Said]] = {}
    for label, run in columns:
        for id, one in _told(label, run, wrong):
            said.setdefault(id, []).append(one)
    items: dict[str, Item] = {item.id: item for _, run in reversed(columns) for item in run.items if item.id in said}
    return [
        Exhibit(item.image, item.question, item.truth, tuple(said[id]), benchmark, item.kind or item.split, id)
        for id, item in items.items()
    ]


def _told(label: str, run: Run, wanted: Set[str]) -> Iterator[tuple[str, Said]]:
    marks = [(result.scorer, {mark.id: mark for mark in result.marks if mark.id in wanted}) for result in run.results]
    for prediction in run.predictions:
        id = prediction.id
        if id in wanted:
            readings = tuple(Reading(scorer, found[id]) for scorer, found in marks if id in found)
            yield id, Said(label, prediction.answer, readings)


def _worst(found: Sequence[Exhibit], most: int) -> list[Exhibit]:
    """The worst first; of those that are as bad, no question a second time before every other stood once."""
    asked: Counter[tuple[object, ...]] = Counter()
    places = []
    for one in found:
        bad = (not one.disputed, -max(said.faults for said in one.said), not one.changed)
        places.append((*bad, asked[*bad, one.question]))
        asked[*bad, one.question] += 1
    ranked = [found[i] for i in sorted(range(len(found)), key=places.__getitem__)]
    by_mistake: dict[str, list[Exhibit]] = {}
    for one in ranked:
        by_mistake.setdefault(one.mistakes[0], []).append(one)
    chosen: dict[Path | str, Exhibit] = {}
    for one in _in_turn(by_mistake.values()):
        chosen.setdefault(one.image or one.id, one)
    rank = {one.id: place for place, one in enumerate(ranked)}
    return sorted(list(chosen.values())[:most], key=lambda one: rank[one.id])


def _in_turn(lists: Iterable[Sequence[Exhibit]]) -> Iterator[Exhibit]:
    return (one for row in zip_longest(*lists) for one in row if one is not None)
