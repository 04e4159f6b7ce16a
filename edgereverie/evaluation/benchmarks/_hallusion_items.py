"""HallusionBench's questions: which stand or fall together, and where they come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgereverie.errors import DataError
from edgereverie.evaluation.answer_files import some
from edgereverie.evaluation.benchmarks._broken import Broken
from edgereverie.evaluation.benchmarks.base import Item
from edgereverie.evaluation.rows import rows_of, value_of
from edgereverie.evaluation.source import Source

CATEGORIES = ("VD", "VS")
IMAGE = "image"  # questions with a figure alone, which are all that lmms-eval and VLMEvalKit ask
_KEYS = ("category", "subcategory", "set_id", "figure_id", "question_id")
_FIGURES = "hallusion_bench"  # the folder that the authors' archive of figures unpacks to


@dataclass(frozen=True, slots=True)
class HallusionItem(Item):
    """One question about one figure, or about none.

    split: VD where it cannot be answered without its figure, VS where the figure supplements what is known. visual: ``0`` asked
    without a figure, ``1`` with one as it was found, ``2`` with one that was altered. yes: is yes the right answer?
    reference: the right answer as a sentence. unit: the sets of its subcategory that bear its number, which hold whole groups.
    """

    subcategory: str
    set_id: str
    figure_id: str
    question_id: str
    visual: str
    yes: bool
    reference: str

    @property
    def pair(self) -> tuple[str, ...]:
        """What the same question about other figures of the set shares."""
        return (self.split, self.subcategory, self.set_id, self.question_id)

    @property
    def figure(self) -> tuple[str, ...]:
        """What the other questions about the same figure share."""
        return (self.split, self.subcategory, self.set_id, self.figure_id)

    @property
    def original(self) -> bool:
        """Whether it is the first of its pair: VD about the figure as it was found, VS without any."""
        return self.figure_id == "0"

    @property
    def figureless(self) -> bool:
        """Whether not to know is right, and no figure is there to be consistent about."""
        return self.split == "VS" and self.original


def items_of(source: Source, limit: int | None) -> list[HallusionItem]:
    """The questions of the chosen categories, or those with a figure. limit: the first so many sets, so that no group is torn.

    Raises DataError that lists what is wrong with the file.
    """
    path = source.file("hallusionbench", "HallusionBench.json", "HallusionBench.json.gz")
    splits = source.chosen((*CATEGORIES, IMAGE))
    chosen = [name for name in splits if name in CATEGORIES] or CATEGORIES
    source = _with_figures(source)
    broken = Broken(path)
    first: dict[str, str] = {}
    items = []
    for where, row in rows_of(path):
        with broken.row():
            item = _item(row, where, source, chosen)
            if item.id in first:
                raise DataError(f"{where}: the question {item.id} stands at {first[item.id]} already.")
            first[item.id] = where
            items.append(item)
    originals = {item.pair for item in items if item.original}
    if lonely := [item.id for item in items if item.pair not in originals]:
        broken.add(f"{path}: {len(lonely)} questions whose pair has none with figure_id 0: {some(lonely)}.")
    broken.check(
        "Every row is one question as the authors publish it; `edgereverie data get hallusionbench` fetches them."
    )
    if not items:
        raise DataError(f"{path}: the file holds no questions.")
    items = [item for item in items if item.split in chosen and not (IMAGE in source.splits and item.visual == "0")]
    kept = set(list(dict.fromkeys(item.unit for item in items))[:limit])
    return [item for item in items if item.unit in kept]


def id_of(row: Mapping[str, Any]) -> str | None:
    """The item's id that the row tells, ``VD_illusion_0_1_2``: category, subcategory, set, figure, question."""
    values = [row.get(key) for key in _KEYS]
    if any(isinstance(value, bool) or not isinstance(value, (str, int)) for value in values):
        return row["id"] if isinstance(row.get("id"), str) else None
    return "_".join(map(str, values))


def grouped(items: Iterable[HallusionItem], key: Any) -> dict[tuple[str, ...], list[HallusionItem]]:
    """The items by what they share, in first-seen order."""
    groups: dict[tuple[str, ...], list[HallusionItem]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def _item(row: Mapping[str, Any], where: str, source: Source, chosen: Sequence[str]) -> HallusionItem:
    category, subcategory, set_id, figure_id, question_id = (
        str(value_of(row, key, (str, int), where)) for key in _KEYS
    )
    visual, truth = (str(value_of(row, key, (str, int), where)) for key in ("visual_input", "gt_answer"))
    for key, value, allowed in (
        ("category", category, CATEGORIES),
        ("visual_input", visual, "012"),
        ("gt_answer", truth, "01"),
    ):
        if value not in tuple(allowed):
            raise DataError(f"{where}: {key!r} is {value!r}, expected {' or '.join(allowed)}.")
    question, reference = (value_of(row, key, str, where) for key in ("question", "gt_answer_details"))
    image = None
    if visual != "0":
        name = value_of(row, "filename", str, where).removeprefix("./").removeprefix(f"{_FIGURES}/")
        # A category that is not wanted needs no figures.
        image = (source if category in chosen else replace(source, pictures=False)).picture(
            "hallusionbench", name, where
        )
    return HallusionItem(
        "_".join((category, subcategory, set_id, figure_id, question_id)),
        image, question, _told(truth == "1", reference), f"{subcategory}/{set_id}",
        split=category, kind=f"{category}/{subcategory}", subcategory=subcategory, set_id=set_id, figure_id=figure_id,
        question_id=question_id, visual=visual, yes=truth == "1", reference=reference,
    )  # fmt: skip


def _told(yes: bool, reference: str) -> str:
    word = "yes" if yes else "no"
    return reference if reference.lower().startswith(word) else f"{word}: {reference}"


def _with_figures(source: Source) -> Source:
    """The source with the figures where their archive puts them, unless it says where they are."""
    places = (source.folder / "hallusionbench" / _FIGURES, source.folder / _FIGURES)
    found: Path | None = next((place for place in places if place.is_dir()), None)
    return source if source.images or found is None else replace(source, images=found)
