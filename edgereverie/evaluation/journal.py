"""An append-only record of answers, so that a killed evaluation goes on where it stopped.

    {"edgereverie": "answers", "version": 1, "fingerprint": "..."}
    {"answers": [{"id": "random/1", "answer": {...}}, ...]}

Answers that were made together stand on one line, so that a crash loses all of them or none: asked again, they are made in the
same company and come out the same, to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from edgereverie.errors import DataError
from edgereverie.evaluation.append_only import AppendOnly
from edgereverie.records import Answer, Claim, Prediction, Token, as_json

VERSION = 1
_EVERY = 1.0  # seconds: small models answer a picture faster than a disk writes
_FIELDS = tuple(field.name for field in fields(Answer))


class Journal:
    """Answers on disk, by question id. fingerprint: what was asked of what; another one is refused."""

    def __init__(self, path: Path, fingerprint: str) -> None:
        header = {"edgereverie": "answers", "version": VERSION, "fingerprint": fingerprint}
        other = "the journal belongs to another run: model, questions or settings differ."
        self._file = AppendOnly(path, header, other)
        self.path, self.answers = path, dict[str, Answer]()
        for where, row in self._file.rows:
            self._read(row, where)

    def add(self, predictions: Iterable[Prediction]) -> None:
        """Write down what was answered together, all at once, before anything else is asked."""
        predictions = list(predictions)
        rows = [{"id": prediction.id, "answer": answer_json(prediction.answer)} for prediction in predictions]
        self._file.append([{"answers": rows}], every=_EVERY)
        self.answers.update((prediction.id, prediction.answer) for prediction in predictions)

    def _read(self, row: Mapping[str, Any], where: str) -> None:
        try:
            found = [(str(one["id"]), answer_from_json(one["answer"])) for one in row["answers"]]
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{where}: not answers of this journal ({error}).", hint="Delete it to start over."
            ) from None
        for id, answer in found:
            if id in self.answers:
                raise DataError(f"{where}: {id!r} was answered before.", hint="Delete the journal to start over.")
            self.answers[id] = answer


def answer_json(answer: Answer) -> dict[str, Any]:
    """The answer as plain JSON values."""
    values = {name: getattr(answer, name) for name in _FIELDS}
    return values | {"claims": as_json(answer.claims), "record": as_json(answer.record)}


def answer_from_json(row: Mapping[str, Any]) -> Answer:
    """The Answer that ``answer_json`` wrote. Raises KeyError or TypeError when it is not one."""
    claims = tuple(Claim(**claim) for claim in row["claims"])
    record = tuple(Token(**token) for token in row["record"])
    return Answer(**{**row, "claims": claims, "record": record, "guards": tuple(row["guards"])})
