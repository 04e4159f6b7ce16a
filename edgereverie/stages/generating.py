"""Pictures, or what people know about them, to training data, by any teacher."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgereverie.errors import DataError, TeacherError
from edgereverie.stages._console import bar, console
from edgereverie.stages.backbones import open_model
from edgereverie.stages.evaluation import artefact

if TYPE_CHECKING:
    from edgereverie.data.annotations.base import Annotated
    from edgereverie.synthesis.budget import Budget, Caps
    from edgereverie.synthesis.generate import Outcome
    from edgereverie.synthesis.inputs import Item
    from edgereverie.synthesis.methods.base import Generator
    from edgereverie.synthesis.teachers.base import Teacher


@dataclass(frozen=True, slots=True)
class TeacherAt:
    """A teacher by name. place: a URL, a bundle, a model folder, or ``starter``. model: of an endpoint that serves
    several. key: the environment variable that holds its key."""

    place: str
    model: str | None = None
    key: str | None = None


def generate(
    method: str,
    out: Path,
    *,
    teacher: TeacherAt,
    judges: Sequence[TeacherAt] = (),
    images: Path | None = None,
    inputs: Path | None = None,
    annotations: Path | None = None,
    captions: Path | None = None,
    caps: Caps | None = None,
    limit: int | None = None,
    concurrency: int = 4,
    seed: int = 0,
) -> Path:
    """Data of one method in the folder ``out``: the canonical file is returned, beside it card, published forms, journal.

    Run again after a kill, Ctrl-C or a cap, it goes on from out/journal.jsonl and gives what an undisturbed run gives.
    images: the image root. inputs: a list of pictures, or a data file whose answers are true. annotations, captions: what
    people wrote about the pictures. Raises DataError or TeacherError; a final file is written only when nothing is open.
    """
    from edgereverie.synthesis.budget import Budget
    from edgereverie.synthesis.generate import generate as run
    from edgereverie.synthesis.generate import require_some
    from edgereverie.synthesis.journal import Journal
    from edgereverie.synthesis.methods import GENERATORS
    from edgereverie.synthesis.output import JOURNAL, write_outcome

    generator: Generator = GENERATORS.get(method)
    noted: Counter[str] = Counter()
    items = _items(generator, images, inputs, annotations, captions, noted)[:limit]
    _check_folder(out, JOURNAL)
    budget = Budget(caps)
    with ExitStack() as open_models:
        asked, *judging = _teachers([teacher, *judges], budget, open_models)
        _tell_where_pictures_go([asked, *judging], items)
        with Journal(out / JOURNAL) as journal:
            held = len(journal)
            with bar(f"generate {method}") as progress:
                outcome = run(
                    generator, items, teacher=asked, judges=judging, journal=journal, budget=budget, seed=seed,
                    concurrency=concurrency, progress=progress,
                )  # fmt: skip
            outcome.tally.noted.update(noted)
            _print_table(outcome, budget, held)
            require_some(outcome, journal.path)
            sources = [path.name for path in (images, inputs, annotations, captions) if path is not None]
            return write_outcome(out, generator, outcome, sources=sources, teacher=asked, judges=judging, seed=seed)


def _items(
    generator: Generator,
    images: Path | None,
    inputs: Path | None,
    annotations: Path | None,
    captions: Path | None,
    noted: Counter[str],
) -> list[Item]:
    """The material; what was passed over in reading it is counted in ``noted``."""
    from edgereverie.data.load import load_samples
    from edgereverie.synthesis import inputs as material

    if captions is not None and annotations is None:
        raise DataError("Captions go with annotations.", hint="Give --annotations, too.")
    if inputs is not None and annotations is not None:
        raise DataError("Inputs and annotations are two ways to say what to use.", hint="Give one of them.")
    if "answers" in generator.takes:
        if images is None or (inputs is None and annotations is None):
            raise DataError(
                f"{generator.name} rewrites answers that are true, and shows the teacher their pictures.",
                hint="Give --images, and --inputs with a data file or --annotations with captions.",
            )
        if inputs is not None:
            loaded = load_samples(inputs, images=images)
            noted.update(loaded.counts.dropped)
            noted.update(loaded.counts.noted)
            found = material.answered(loaded.records, images, noted)
        else:
            found = material.captioned(_described(annotations, captions, images, noted), images, noted)
    elif annotations is not None:
        if "words" not in generator.takes:
            raise DataError(
                f"{generator.name} is made from pictures alone.", hint="Give --images without --annotations."
            )
        found = material.described(_described(annotations, captions, images, noted))
    elif images is None:
        raise DataError("There is nothing to generate from.", hint="Give --images with a folder of pictures.")
    else:
        found = material.pictures_under(images) if inputs is None else material.listed_pictures(inputs, images)
    if not found:
        raise DataError("There is nothing to generate from: no captions, or no answers about pictures.",
                        hint="Name a file that has some.")  # fmt: skip
    return found


def _described(
    annotations: Path, captions: Path | None, images: Path | None, noted: Counter[str]
) -> Iterator[Annotated]:
    from edgereverie.data.annotations import read_annotations
    from edgereverie.data.rows import Tally

    tally = Tally()
    yield from read_annotations(annotations, captions=captions, images=images, tally=tally)
    noted.update(tally.dropped)
    noted.update(tally.noted)


def _check_folder(out: Path, journal: str) -> None:
    if out.exists() and not (out / journal).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} holds something else than a generation.", hint="Choose another --out.")


def _teachers(named: Sequence[TeacherAt], budget: Budget, open_models: ExitStack) -> list[Teacher]:
    """Teacher and judges; one that is named twice is the same."""
    known: dict[TeacherAt, Teacher] = {}
    for one in named:
        if one not in known:
            known[one] = _endpoint(one, budget) if "://" in one.place else _model(one, budget, open_models)
    return [known[one] for one in named]


def _endpoint(named: TeacherAt, budget: Budget) -> Teacher:
    from edgereverie.synthesis.teachers.openai import OpenAi, only_model

    key = None
    if named.key is not None:
        key = os.environ.get(named.key, "").strip()
        if not key:
            raise TeacherError(
                f"The environment variable {named.key} holds no key.", hint=f"Set it first: export {named.key}=..."
            )
    model = named.model or only_model(named.place, key, named.key)
    found = OpenAi(named.place, model, key=key, key_name=named.key, budget=budget)
    if key and found.remote and named.place.startswith("http://"):
        console.print(f"The key travels to {found.remote} without encryption; use https:// where it is offered.")
    return found


def _model(named: TeacherAt, budget: Budget, open_models: ExitStack) -> Teacher:
    from edgereverie.synthesis.teachers.base import InProcess

    if named.model is not None or named.key is not None:
        raise TeacherError(
            f"{named.place} is a model on this machine; a model's name or a key are for endpoints.",
            hint="Leave them out, or name a URL such as http://localhost:8080/v1.",
        )
    model = open_models.enter_context(open_model(named.place))
    identity = f"{model.name} {artefact(model)}"
    return InProcess(model, identity, budget, room=model.engine.context // 2)


def _tell_where_pictures_go(teachers: Sequence[Teacher], items: Sequence[Item]) -> None:
    what = "Pictures leave" if any(item.file is not None for item in items) else "Descriptions of pictures leave"
    for host in dict.fromkeys(one.remote for one in teachers if one.remote):
        console.print(f"{what} this machine for {host}, which was named.")


def _print_table(outcome: Outcome, budget: Budget, held: int) -> None:
    from rich.table import Table
    from rich.text import Text

    from edgereverie.synthesis.output import table_rows

    table, last = Table(box=None, pad_edge=False, show_header=False), ""
    for about, what, number in table_rows(outcome, budget, held):
        table.add_row("" if about == last else about, Text(what), number)
        last = about
    console.print(table)
