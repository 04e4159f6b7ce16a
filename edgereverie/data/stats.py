"""What a data set is made of: labels, tasks, lengths, the balance of yes and no, the objects it speaks of, licences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from edgereverie.data.catalogue import item
from edgereverie.data.lengths import Lengths
from edgereverie.data.looks import Progress
from edgereverie.data.mix import NONE, Counts, counts
from edgereverie.errors import DataError
from edgereverie.records import PreferencePair, Sample, Turn
from edgereverie.text.asking import asked_object, says_yes
from edgereverie.text.claims import claims

QUANTILES = {"least": 0.0, "5 %": 0.05, "median": 0.5, "95 %": 0.95, "most": 1.0}
OBJECTS = 25  # the most frequent ones that are told
_EVERY = 256

Record = Sample | PreferencePair


@dataclass(frozen=True, slots=True)
class Statistics:
    """Figures of a data set.

    rounds: records by their number of questions. per_picture: records of one picture, quantiles. lengths: quantiles of each
    part of a record, in ``unit``. refused: records that the backbone's chat format cannot hold. yes_no: questions by how
    they are answered, all of them and those for the existence of something. objects: how often each is claimed to be there
    and denied. licences: records by licence.
    """

    counts: Counts
    text_only: int
    rounds: Mapping[str, int]
    per_picture: Mapping[str, float]
    unit: str
    lengths: Mapping[str, Mapping[str, float]]
    refused: int
    yes_no: Mapping[str, Mapping[str, int]]
    objects: Mapping[str, Mapping[str, int]]
    licences: Mapping[str, int]


@dataclass(slots=True)
class _Tallies:
    lengths: dict[str, list[int]] = field(default_factory=dict)
    yes_no: dict[str, Counter[str]] = field(
        default_factory=lambda: {"all questions": Counter(), "existence": Counter()}
    )
    claimed: Counter[str] = field(default_factory=Counter)
    denied: Counter[str] = field(default_factory=Counter)
    refused: int = 0


def statistics(
    records: Sequence[Record], lengths: Lengths | None = None, progress: Progress | None = None
) -> Statistics:
    """The figures of samples or pairs. lengths: counts a backbone's tokens; without it, words are counted.

    Objects are read by rule from the answers (``text.claims``), rationales and rejected answers left out.
    """
    tallies, pictures = _Tallies(), Counter(record.image for record in records if record.image is not None)
    for number, record in enumerate(records, 1):
        _measure(record, lengths, tallies)
        for question, answer in _rounds(record):
            _read(question, answer, tallies)
        if progress is not None and (number % _EVERY == 0 or number == len(records)):
            progress(number, len(records))
    named = (tallies.claimed + tallies.denied).most_common(OBJECTS)
    return Statistics(
        counts=counts(records),
        text_only=sum(record.image is None for record in records),
        rounds={str(rounds): number for rounds, number in sorted(Counter(map(_questions, records)).items())},
        per_picture=quantiles(list(pictures.values())) if pictures else {},
        unit="words" if lengths is None else f"tokens of {lengths.name}",
        lengths={part: quantiles(values) for part, values in tallies.lengths.items()},
        refused=tallies.refused,
        yes_no={
            kind: {answer: found[answer] for answer in ("yes", "no", "other")} for kind, found in tallies.yes_no.items()
        },
        objects={name: {"there": tallies.claimed[name], "denied": tallies.denied[name]} for name, _ in named},
        licences=licences(records),
    )


def licences(records: Iterable[Record]) -> dict[str, int]:
    """Records by licence, most frequent first; ``none`` where nothing is told.

    Rows of REVERIE's and LRV-Instruction's published files have no licence of their own: the data set's counts.
    """
    published = {name: item(name).licence for name in ("reverie", "lrv")}
    found = Counter(record.licence or published.get(record.source, NONE) for record in records)
    return dict(found.most_common())


def quantiles(values: Sequence[int]) -> dict[str, float]:
    """Quantiles that are values of the data (the least that so many do not exceed), and the mean.

    >>> quantiles([4, 1, 3, 2])
    {'least': 1, '5 %': 1, 'median': 2, '95 %': 4, 'most': 4, 'mean': 2.5}
    """
    found = np.quantile(values, list(QUANTILES.values()), method="inverted_cdf").tolist()
    return dict(zip(QUANTILES, found, strict=True)) | {"mean": float(np.mean(values))}


def _questions(record: Record) -> int:
    return sum(turn.role == "user" for turn in record.turns)


def _rounds(record: Record) -> Iterator[tuple[str, str]]:
    """Questions with their answers; the rationale, which is no answer to a question about the picture, left out."""
    turns = record.turns
    if isinstance(record, PreferencePair):
        turns = (*turns, Turn("assistant", record.chosen))
    elif record.rationale is not None:
        turns = turns[:-2]
    for asked, answered in pairwise(turns):
        if asked.role == "user":
            yield asked.text, answered.text


def _measure(record: Record, lengths: Lengths | None, tallies: _Tallies) -> None:
    measure: Callable[[str], int] = lengths.text if lengths is not None else lambda text: len(text.split())
    parts = list(_parts(record))
    for part, text in parts:
        tallies.lengths.setdefault(part, []).append(measure(text))
    if lengths is None:
        whole = sum(len(turn.text.split()) for turn in record.turns)
        if isinstance(record, PreferencePair):
            whole += max(len(record.chosen.split()), len(record.rejected.split()))
    else:
        try:
            whole = lengths.record(record)
        except DataError:
            tallies.refused += 1
            return
    tallies.lengths.setdefault("whole record", []).append(whole)


def _parts(record: Record) -> Iterator[tuple[str, str]]:
    for question, answer in _rounds(record):
        yield "question", question
        if isinstance(record, Sample):
            yield "answer", answer
    if isinstance(record, PreferencePair):
        yield "chosen", record.chosen
        yield "rejected", record.rejected
    elif record.rationale is not None:
        yield "rationale", record.turns[-1].text


def _read(question: str, answer: str, tallies: _Tallies) -> None:
    yes = says_yes(answer)
    word = "other" if yes is None else "yes" if yes else "no"
    tallies.yes_no["all questions"][word] += 1
    if asked_object(question) is not None:
        tallies.yes_no["existence"][word] += 1
    seen = {(claim.subject, claim.present) for claim in claims(question, answer) if claim.kind == "object"}
    tallies.claimed.update(subject for subject, present in seen if present)
    tallies.denied.update(subject for subject, present in seen if not present)
