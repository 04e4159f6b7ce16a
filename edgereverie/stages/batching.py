"""Many questions at once: JSONL in, JSONL out, each picture looked at once, and nothing asked twice after a kill."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgereverie.data.faults import Place
from edgereverie.data.stream import written
from edgereverie.errors import DataError, EdgeReverieError
from edgereverie.records import Answer, Options, Prediction, as_json
from edgereverie.runtime.profiles import DEFAULT
from edgereverie.stages._console import bar, console, passing
from edgereverie.stages._questions import Bad, Question, read_questions, with_pictures
from edgereverie.stages.backbones import open_model

if TYPE_CHECKING:
    from edgereverie.runtime.model import Model

_VERSION = 1


def batch(
    model: str,
    questions: Path,
    out: Path,
    *,
    images: Path | None = None,
    guard: str = DEFAULT,
    backend: str = "auto",
    device: str = "auto",
    options: Options | None = None,
    skip_bad: bool = False,
    force: bool = False,
) -> Path:
    """Answer every line of ``questions`` into ``out``, in their order: id, image, question or turns, and the answer as JSON.

    images: the folder that the pictures' paths are relative to, by default that of ``questions``. Questions about one
    picture are asked together. Each answer is on the disk before the next question is asked, in ``OUT.journal``: the same
    call goes on after a kill, and refuses to when model, guard, options, questions or pictures are others. ``out`` itself
    appears when it is whole. skip_bad: leave out the lines that cannot be asked, and say how many for which reason;
    otherwise all of them are raised as one DataError before anything is asked. force: begin anew, whatever is there.
    """
    from edgereverie.runtime.guarding import chosen

    chosen(guard)
    journal = _make_way(out, force=force)
    bad = Bad(questions)
    found = read_questions(questions, options or Options(), bad)
    with passing("pictures") as progress:
        found = with_pictures(found, images or questions.parent, bad, progress)
    if not skip_bad:
        bad.check()
    with open_model(model, backend=backend, device=device) as loaded:
        found = _fitting(loaded, found, bad)
        _tell_bad(bad, found, skip_bad)
        if force:
            journal.unlink(missing_ok=True)
        with _alone(journal):
            answers = _answers(loaded, found, guard, journal)
    with written(out) as stream:
        for question in found:
            stream.write(json.dumps(_row(question, answers[question.id]), ensure_ascii=False, allow_nan=False) + "\n")
    journal.unlink()
    return out


def _make_way(out: Path, *, force: bool) -> Path:
    """The journal of ``out``. Raises DataError when ``out`` cannot be written, or is there already."""
    if out.is_dir() or not out.parent.is_dir():
        raise DataError(
            f"{out}: {'a folder' if out.is_dir() else 'its folder does not exist'}.", hint="Name a file to write to."
        )
    journal = out.with_name(out.name + ".journal")
    if out.exists() and not journal.exists() and not force:
        raise DataError(f"{out} exists already.", hint="Choose another file, or pass --force to replace it.")
    return journal


def _fitting(model: Model, questions: Sequence[Question], bad: Bad) -> list[Question]:
    """The questions that the model can be asked: those that do not fit its context or its chat format are noted."""
    from edgereverie.runtime.generation import require_room
    from edgereverie.runtime.request import Request

    bad.reason = "that the model cannot be asked"
    fitting = []
    for question in questions:
        try:
            require_room(Request(model, question.file, question.turns, question.options))
        except EdgeReverieError as error:
            bad.add(Place(question.line), str(error), error.hint or "Ask something else.")
        else:
            fitting.append(question)
    return fitting


def _tell_bad(bad: Bad, found: Sequence[Question], skip_bad: bool) -> None:
    if not bad:
        return
    if not skip_bad or not found:
        bad.check()
    console.print(f"left out {len(bad.lines):,} lines: {bad.told()}", markup=False)


def _answers(model: Model, questions: Sequence[Question], guard: str, path: Path) -> dict[str, Answer]:
    from edgereverie.evaluation.journal import Journal

    journal = Journal(path, _fingerprint(model, questions, guard))
    if journal.answers:
        console.print(f"going on: {len(journal.answers):,} of {len(questions):,} were answered before")
    with bar(f"{model.name}: questions") as progress:
        progress(len(journal.answers), len(questions))
        for group in _by_picture([question for question in questions if question.id not in journal.answers]):
            # Where a cache holds its rows decides the last bits of a sum. From an empty one, answers do not depend on
            # what was asked about other pictures before, nor on where a run was stopped.
            model.sight.forget()
            for question in group:
                answer = model.answer(question.file, question.turns, question.options, guard)
                journal.add([Prediction(question.id, replace(answer, record=()))])
                progress(len(journal.answers), len(questions))
    return journal.answers


def _by_picture(questions: Sequence[Question]) -> list[list[Question]]:
    groups: dict[str, list[Question]] = {}
    for question in questions:
        groups.setdefault(question.digest, []).append(question)
    return list(groups.values())


def _fingerprint(model: Model, questions: Sequence[Question], guard: str) -> str:
    from edgereverie.stages.evaluation import artefact

    # A bundle's manifest has the hashes of all its files, and what it was calibrated to.
    made_of = model.bundle.text() if model.bundle is not None else artefact(model)
    asked = [
        [question.id, question.digest, as_json(question.turns), as_json(question.options)] for question in questions
    ]
    parts = [_VERSION, made_of, model.engine.backend, guard, asked]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _row(question: Question, answer: Answer) -> dict[str, Any]:
    from edgereverie.runtime.evidence import why
    from edgereverie.told.values import json_of

    asked = {"turns": as_json(question.turns)} if question.whole else {"question": question.turns[-1].text}
    return {"id": question.id, "image": question.image, **asked, "answer": json_of(answer, why)}


@contextmanager
def _alone(journal: Path) -> Iterator[None]:
    """Raises DataError when another process is at work on this journal."""
    from edgereverie.synthesis.journal import lock_file

    with journal.open("ab") as stream:
        lock_file(stream, journal)
        yield
