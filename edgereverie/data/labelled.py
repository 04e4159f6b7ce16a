"""Pictures with questions whose answers can be judged: what a runtime is calibrated on.

Read are
    annotations     scenes.jsonl, COCO's instances_*.json, Visual Genome's files: as ``data.annotations`` reads them
    objects.jsonl   {"image", "objects": [names]} a line: the objects in each picture, all of those that any line names
    questions.jsonl {"image", "question", "answer": "yes" | "no"} a line; POPE's "text" and "label" are read, too
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from edgereverie.data.annotations import read_annotations
from edgereverie.data.annotations.base import Annotated, Thing
from edgereverie.data.faults import Faults
from edgereverie.data.rows import Row
from edgereverie.data.stream import lines, opened
from edgereverie.errors import DataError
from edgereverie.image import resolve_under
from edgereverie.text.english import is_plural

DESCRIBE = ("Describe the image.", "Describe the image in detail.", "What is in the picture?", "What does the image show?")
_NAMES = {"question": ("question", "text"), "answer": ("answer", "label")}


@dataclass(frozen=True, slots=True)
class Labelled:
    """One question about one picture. yes: its right answer, None where it is none of yes or no. known: what is known of
    the picture, by which the claims of the answer are judged; None where nothing but ``yes`` is.
    """

    id: str
    image: str
    question: str
    yes: bool | None = None
    known: Annotated | None = None


def read_labelled(path: Path, pictures: Path, *, images: int | None, seed: int) -> list[Labelled]:
    """The questions about ``images`` pictures (all without it), drawn by the seed; those of a picture stand together.

    Of an annotated picture, one description is asked for, and of two things whether they are there: one that is, and one
    that is not. pictures: the image root. Raises DataError for a file that is unknown, faulty or empty, or a picture that is
    not there.
    """
    if path.suffix == ".jsonl" and path.name != "scenes.jsonl":
        found = list(_by_picture(path, pictures))
    else:
        found = [_questions(one, seed) for one in read_annotations(path, images=pictures) if one.things]
    if not found:
        raise DataError(f"{path}: no picture with anything to ask about.", hint="Give pictures with objects or questions.")
    order = Random(seed).sample(range(len(found)), min(images or len(found), len(found)))
    return [question for index in order for question in found[index]]


def _by_picture(path: Path, pictures: Path) -> Iterator[list[Labelled]]:
    faults = Faults(path)
    questions: dict[str, list[Labelled]] = {}
    objects: dict[str, list[str]] = {}
    with opened(path) as stream:
        for number, (place, value) in enumerate(lines(stream, faults), 1):
            row = Row(value, place, faults)
            if (image := _image(row, pictures)) is None:
                continue
            if "objects" in row:
                objects.setdefault(image, []).extend(_objects(row))
            elif (asked := _yes_or_no(row)) is not None:
                one = Labelled(f"{number}", image, asked[0], asked[1])
                questions.setdefault(image, []).append(one)
    faults.check()
    if objects and questions:
        raise DataError(f"{path}: some lines have objects, others questions.", hint="Put them in two files.")
    yield from questions.values()
    vocabulary = frozenset(name for names in objects.values() for name in names)
    for image, names in objects.items():
        if names:
            things = tuple(Thing(name) for name in dict.fromkeys(names))
            yield _questions(Annotated(image, things=things, exhaustive=vocabulary, source=path.name), 0)


def _image(row: Row, pictures: Path) -> str | None:
    if not row.keys(("image",), ("objects", *_NAMES["question"], *_NAMES["answer"], "question_id", "id")):
        return None
    image = row.image()
    if image is None:
        if row.sound:
            row.fault("'image' is null.", "Name the picture's file.")
        return None
    if not resolve_under(pictures, image).is_file():
        row.fault(f"{pictures / image}: no such image.", "Image paths start at --pictures.")
        return None
    return image


def _objects(row: Row) -> list[str]:
    names = row.value["objects"]
    if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
        row.fault("'objects' is not a list of names.", 'Write ["dog", "traffic light"].')
        return []
    return [name.strip().lower() for name in names]


def _yes_or_no(row: Row) -> tuple[str, bool] | None:
    keys = {what: next((name for name in names if name in row), None) for what, names in _NAMES.items()}
    if None in keys.values():
        row.fault("neither 'objects' nor a 'question' with its 'answer'.", 'Write {"image", "question", "answer"}.')
        return None
    question = row.text(keys["question"])
    answer = row.choice(keys["answer"], ("yes", "no", "Yes", "No"))
    return None if question is None or answer is None else (question, answer.lower() == "yes")


def _questions(known: Annotated, seed: int) -> list[Labelled]:
    rng = Random(f"{seed}/{known.image}")
    asked = [Labelled(f"{known.image}/describe", known.image, rng.choice(DESCRIBE), None, known)]
    present = sorted({thing.name for thing in known.things} & (known.exhaustive or {thing.name for thing in known.things}))
    absent = sorted(known.exhaustive - {thing.name for thing in known.things})
    for name, there in ((rng.choice(present or [""]), True), (rng.choice(absent or [""]), False)):
        if name:
            question = f"Are there any {name}" if is_plural(name.split()[-1]) else f"Is there {_article(name)} {name}"
            one = Labelled(f"{known.image}/{name}", known.image, f"{question} in the image?", there, known)
            asked.append(one)
    return asked


def _article(name: str) -> str:
    return "an" if name[0].lower() in "aeiou" else "a"


def pictures_of(questions: Sequence[Labelled]) -> list[str]:
    """The pictures, in the questions' order."""
    return list(dict.fromkeys(one.image for one in questions))
