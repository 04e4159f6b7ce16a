"""POPE: yes-or-no questions about objects, half of them about objects that are not there (Li et al., EMNLP 2023).

    pope/random.jsonl  popular.jsonl  adversarial.jsonl      {"question_id", "image", "text", "label"} per line
    (or coco_pope_random.json ..., as the authors name them, or one file of that form alone; MARINE's labels, which have an
    ``id`` and no text, can be scored and not asked)

Six scorers are in use. Where one of them would stop with a division by zero, the figure is nan instead; where it prints 0,
it is 0. Their figures carry one set of names here, so that they stand side by side, and their own names as titles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgereverie.errors import DataError
from edgereverie.evaluation.benchmarks import _pope_answers as answer_forms
from edgereverie.evaluation.benchmarks import _pope_metrics as metrics
from edgereverie.evaluation.benchmarks.base import Benchmark, Counted, Item, Mark, Tally, Variant, per_unit
from edgereverie.evaluation.rows import rows_of, value_of
from edgereverie.evaluation.source import Source
from edgereverie.text import yes_no

SPLITS = ("random", "popular", "adversarial")
OVERALL = "overall"


@dataclass(frozen=True, slots=True)
class PopeItem(Item):
    """label: is yes the right answer? split: how absent objects were chosen."""

    label: bool


class Pope(Benchmark):
    """The three splits."""

    name = "pope"
    max_tokens = 32  # the rules read the first sentence only

    def __init__(self) -> None:
        self.variants = {
            "official": Variant(
                "AoiDragon/POPE evaluate.py, also LLaVA's eval_pope.py",
                metrics.OFFICIAL,
                _counting(lambda text, truth: yes_no.pope_official(text), metrics.COLUMNS),
            ),
            "vcd": Variant(
                "DAMO-NLP-SG/VCD experiments/eval/eval_pope.py, also cd_rethink's",
                metrics.VCD,
                _counting(yes_no.pope_vcd, metrics.COLUMNS),
            ),
            "opera": Variant(
                "shikiw/OPERA pope_eval.py",
                metrics.OFFICIAL,
                _counting(lambda text, truth: yes_no.pope_opera(text), metrics.COLUMNS),
            ),
            "marine": Variant("Linxi-ZHAO/MARINE eval/eval_pope.py", metrics.MARINE, _count_marine),
            "lmms": Variant(
                "EvolvingLMMs-Lab/lmms-eval tasks/pope/utils.py",
                metrics.LMMS,
                _counting(lambda text, truth: yes_no.pope_lmms(text), metrics.UNREAD_COLUMNS),
            ),
            "vlmevalkit": Variant(
                "open-compass/VLMEvalKit dataset/utils/yorn.py, exact matching", metrics.VLMEVALKIT, _count_vlmevalkit
            ),
        }

    def items(self, source: Source, limit: int | None = None) -> list[PopeItem]:
        """All splits' questions, ids as ``adversarial/17``. limit: the first so many images of each split."""
        if source.folder.is_file():
            split = _split_of(source.folder)
            source.chosen([split] if split else [])
            return _split(source, source.folder, split, limit)
        return [item for split in source.chosen(SPLITS) for item in _split(source, _file(source, split), split, limit)]

    def answers(self, path: Path, items: Sequence[PopeItem]) -> dict[str, str]:
        """Rows that name their question (LLaVA, VCD, MARINE and others), or ``{question, answer}`` in the questions' order."""
        return answer_forms.read(path, items)


def _file(source: Source, split: str) -> Path:
    """The split's questions under one of its names, or the one file that bears the split in its name."""
    names = (f"{split}.jsonl", f"coco_pope_{split}.json")
    if found := source.find("pope", *names):
        return found
    folders = (source.folder / "pope", source.folder)
    others = sorted({path for folder in folders for path in folder.glob(f"*pope*_{split}*.json*") if path.is_file()})
    if len(others) > 1:
        raise DataError(
            f"{source.folder}: {len(others)} files hold {split} questions: {', '.join(path.name for path in others)}.",
            hint="Name the file itself instead of its folder; the versions differ in their questions.",
        )
    return others[0] if others else source.file("pope", *names)


def _split_of(path: Path) -> str:
    """The split that a file's name tells; nothing for a file of somebody's own."""
    found = [split for split in SPLITS if split in path.name]
    return found[0] if len(found) == 1 else ""


def _split(source: Source, path: Path, split: str, limit: int | None) -> list[PopeItem]:
    prefix = f"{split}/" if split else ""
    places: dict[str, str] = {}
    pictures: dict[str, Path] = {}
    items = []
    for where, row in rows_of(path):
        question_id, picture, label = row.get("question_id", row.get("id")), row.get("image"), row.get("label")
        question = row.get("text", None if source.pictures else "")
        id = f"{prefix}{question_id}"
        sound = type(question_id) in (int, str) and type(picture) is type(question) is str and label in ("yes", "no")
        if not sound or id in places:
            raise _fault(row, where, places.get(id, ""))
        places[id] = where
        if picture not in pictures:
            pictures[picture] = source.picture("pope", picture, where)
        items.append(PopeItem(id, pictures[picture], question, label, picture, label == "yes", split=split))
    if not items:
        raise DataError(f"{path}: the file holds no questions.")
    kept = set(list(pictures)[:limit])
    return items if limit is None else [item for item in items if item.unit in kept]


def _fault(row: Mapping[str, Any], where: str, before: str) -> DataError:
    """What is wrong with a row that is no question, or one whose id stands in ``before`` too."""
    id = "question_id" if "question_id" in row or "id" not in row else "id"
    value_of(row, id, (int, str), where)
    for key in ("label", "image", *(["text"] if "text" in row or not before else [])):
        value_of(row, key, str, where)
    if row["label"] not in ("yes", "no"):
        return DataError(f"{where}: the label is {row['label']!r}, expected 'yes' or 'no'.")
    return DataError(f"{where}: question_id {row[id]} stands in {before} already.")


Reading = Callable[[str, bool], bool | None]
"""(answer, truth) -> whether the scorer counts it as a yes, None where it reads neither."""


def _counting(reading: Reading, columns: tuple[str, ...]) -> Callable[[Sequence[PopeItem], Mapping[str, str]], Counted]:
    def count(items: Sequence[PopeItem], texts: Mapping[str, str]) -> Counted:
        said = _read(items, texts, reading)
        counts = _one_hot(items, said)[:, : len(columns)]
        return Counted(_by_split(items, counts, columns), _marks(items, said))

    return count


def _count_marine(items: Sequence[PopeItem], texts: Mapping[str, str]) -> Counted:
    """Empty answers are left out, but count for the length of answers."""
    said = _read(items, texts, lambda text, truth: yes_no.pope_marine(text))
    kept = _one_hot(items, said)[:, : len(metrics.COLUMNS)]
    lengths = [(len(texts[item.id].split()), 1) for item in items]
    counts = np.hstack([kept, np.array(lengths, np.int64).reshape(-1, 2)])
    return Counted(_by_split(items, counts, metrics.MARINE_COLUMNS), _marks(items, said, "left out: an empty answer"))


def _count_vlmevalkit(items: Sequence[PopeItem], texts: Mapping[str, str]) -> Counted:
    """A question in several splits counts in each of them, and as often in the row ``overall``."""
    said = _read(items, texts, lambda text, truth: yes_no.vlmevalkit(text))
    counts = _one_hot(items, said)
    overall = _tally(OVERALL, items, counts, metrics.UNREAD_COLUMNS)
    return Counted((overall, *_by_split(items, counts, metrics.UNREAD_COLUMNS)), _marks(items, said))


def _read(items: Sequence[PopeItem], texts: Mapping[str, str], reading: Reading) -> list[bool | None]:
    """Models mostly give the same few answers, so each distinct one is read once."""
    known: dict[tuple[str, bool], bool | None] = {}
    said = []
    for item in items:
        key = (texts[item.id], item.label)
        if key not in known:
            known[key] = reading(*key)
        said.append(known[key])
    return said


# Place among metrics.UNREAD_COLUMNS by (truth, what was read).
_PLACE = {
    (True, True): 0, (False, True): 1, (False, False): 2, (True, False): 3, (True, None): 4, (False, None): 5,
}  # fmt: skip


def _one_hot(items: Sequence[PopeItem], said: Sequence[bool | None]) -> np.ndarray:
    """(items, len(UNREAD_COLUMNS)) with a single one in each row."""
    places = [_PLACE[item.label, yes] for item, yes in zip(items, said, strict=True)]
    return np.eye(len(metrics.UNREAD_COLUMNS), dtype=np.int64)[places]


def _by_split(items: Sequence[PopeItem], counts: np.ndarray, columns: tuple[str, ...]) -> tuple[Tally, ...]:
    of = np.array([item.split for item in items])
    tallies = []
    for split in dict.fromkeys(item.split for item in items):
        here = np.flatnonzero(of == split)
        tallies.append(_tally(split, [items[place] for place in here], counts[here], columns))
    return tuple(tallies)


def _tally(split: str, items: Sequence[PopeItem], counts: np.ndarray, columns: tuple[str, ...]) -> Tally:
    units, summed = per_unit([item.unit for item in items], counts, len(columns))
    return Tally(split, units, columns, summed, len(items))


_NOTES = {True: "said yes to what is not there", False: "said no to what is there", None: "neither yes nor no was read"}
_READ = {True: "yes", False: "no", None: "unread"}


def _marks(items: Sequence[PopeItem], said: Sequence[bool | None], unread: str = _NOTES[None]) -> tuple[Mark, ...]:
    notes = {**_NOTES, None: unread}
    marks = []
    for item, yes in zip(items, said, strict=True):
        right = yes == item.label
        marks.append(Mark(item.id, _READ[yes], float(right), float(not right), "" if right else notes[yes]))
    return tuple(marks)


BENCHMARK = Pope()
