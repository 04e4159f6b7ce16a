"""The questions of a batch: JSONL, read strictly, every fault noted with its line before anything is asked.

    {"id": "1", "image": "dog.jpg", "question": "Is there a dog?"}
    {"id": "2", "image": "dog.jpg", "turns": [{"role": "user", "text": "..."}, ...], "options": {"max_tokens": 40}}

``image`` may be left out; ``turns`` end with a user's; ``options`` are fields of Options, for this question alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, get_args

from edgereverie.data.faults import Faults, Place, shown
from edgereverie.data.looks import glance, image_root, look_at_all
from edgereverie.data.rows import Row, kind_of, order_fault, suggestion
from edgereverie.data.stream import lines, opened
from edgereverie.records import Options, Role, Turn

_NAMES = tuple(field.name for field in fields(Options))
_BOUNDS: dict[str, tuple[float, float]] = {
    "max_tokens": (1, 1e9), "temperature": (0, 100), "seed": (0, 2**63), "top_k": (0, 1e9), "top_p": (1e-9, 1), "min_p": (0, 1),
    "repetition_penalty": (1e-9, 1e6),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Question:
    """One line. file: the picture's, and digest: of its content; None and empty without one. whole: whether the line had
    turns instead of a question."""

    line: int
    id: str
    image: str | None
    turns: tuple[Turn, ...]
    options: Options
    file: Path | None = None
    digest: str = ""
    whole: bool = False


class Bad(Faults):
    """Faults that also know which lines they spoil. reason: of those that come next, in a few words."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.reason = ""
        self.lines: dict[int | None, str] = {}

    def add(self, place: Place, found: str, fix: str) -> None:
        super().add(place, found, fix)
        self.lines.setdefault(place.line, self.reason)

    def told(self) -> str:
        """How many lines are bad, by reason."""
        counts = Counter(self.lines.values())
        return ", ".join(f"{count:,} {reason}" for reason, count in counts.most_common())


def read_questions(path: Path, base: Options, bad: Bad) -> list[Question]:
    """The questions of the file that are well-formed; the others are noted. Raises DataError when it cannot be read."""
    found: list[Question] = []
    taken: dict[str, int] = {}
    bad.reason = "not a JSON object"
    with opened(path) as stream:
        for place, value in lines(stream, bad):
            bad.reason = "with wrong fields"
            row = Row(value, place, bad)
            question = _question(row, base)
            bad.reason = "whose id is taken"
            if question is not None and question.id in taken:
                row.fault(
                    f"'id' {shown(question.id)} is taken by line {taken[question.id]}.",
                    "Give each question its own id.",
                )
            elif question is not None:
                taken[question.id] = question.line
                found.append(question)
            bad.reason = "not a JSON object"
    if not found and not bad:
        bad.add(Place(), "the file has no questions.", "Write one JSON object per line, with id and question.")
    return found


def with_pictures(
    questions: Sequence[Question], root: Path, bad: Bad, progress: Callable[[int, int], None] | None = None
) -> list[Question]:
    """The questions with their pictures' files and digests; each picture is decoded once, and a bad one noted wherever it
    is asked about."""
    bad.reason = "whose picture cannot be read"
    names = list(dict.fromkeys(question.image for question in questions if question.image))
    folder = image_root(root) if names else None
    glances = {name: glance(folder, name) for name in names} if folder else {}
    usable = {name: path for name, (path, seen) in glances.items() if not seen.kind}
    looks = dict(zip(usable, look_at_all(list(usable.values()), progress), strict=True))
    out = []
    for question in questions:
        if question.image is None:
            out.append(question)
            continue
        path, first = glances[question.image]
        seen = looks.get(question.image, first)
        if seen.kind:
            bad.add(Place(question.line), f"'image': {seen.found}", seen.fix)
        else:
            out.append(replace(question, file=Path(path), digest=seen.sha256))
    return out


def _question(row: Row, base: Options) -> Question | None:
    if not row.keys(("id",), ("image", "question", "turns", "options")):
        return None
    if ("question" in row) == ("turns" in row):
        row.fault("expected either 'question' or 'turns'.", "Write one of the two.")
        return None
    whole = "turns" in row
    text = None if whole else row.text("question")
    turns = _turns(row) if whole else (Turn("user", text),) if text else ()
    question = Question(
        row.place.line or 0, row.name("id") or "", row.image(), turns, _options(row, base), whole=whole
    )  # fmt: skip
    return question if row.sound else None


def _turns(row: Row) -> tuple[Turn, ...]:
    given = row.value["turns"]
    if not isinstance(given, list) or not given:
        row.fault(
            f"'turns' should be a list of turns, it is {shown(given)}.", "Write [{'role': ..., 'text': ...}, ...]."
        )
        return ()
    turns = []
    for number, turn in enumerate(given, 1):
        if not isinstance(turn, dict) or set(turn) != {"role", "text"}:
            row.fault(f"turn {number} is {shown(turn)}.", "Write {'role': ..., 'text': ...} and nothing else.")
        elif turn["role"] not in get_args(Role):
            row.fault(f"turn {number} has the role {shown(turn['role'])}.", suggestion(turn["role"], get_args(Role)))
        elif (text := row.checked_text(f"the text of turn {number}", turn["text"])) is not None:
            turns.append(Turn(turn["role"], text))
    if len(turns) == len(given) and (wrong := order_fault([turn.role for turn in turns], "user")):
        row.fault(*wrong)
    return tuple(turns)


def _options(row: Row, base: Options) -> Options:
    given = row.value.get("options", {})
    if not isinstance(given, dict):
        row.fault(f"'options' should be an object, it is {kind_of(given)}.", "Write {'max_tokens': ...}.")
        return base
    sound = {}
    for name, value in given.items():
        if name not in _NAMES:
            row.fault(f"'options' has no {shown(name)}.", suggestion(name, _NAMES))
        elif problem := _wrong(name, value):
            row.fault(f"'options.{name}' is {shown(value)}.", problem)
        else:
            sound[name] = tuple(value) if name == "stop" else value
    return replace(base, **sound)


def _wrong(name: str, value: Any) -> str:
    """What an option's value should be, when it is not; empty when it is."""
    if name == "grammar":
        return "" if isinstance(value, str) else "Write 'json', or a grammar in GBNF."
    if name == "stop":
        words = isinstance(value, list) and all(isinstance(word, str) and word for word in value)
        return "" if words else "Write a list of words."
    low, high = _BOUNDS[name]
    whole = isinstance(getattr(Options(), name), int)
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or not low <= value <= high:
        return f"Write a {'whole ' if whole else ''}number from {low:g} to {high:g}."
    return ""
