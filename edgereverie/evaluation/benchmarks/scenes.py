"""Scenes: descriptions of drawn pictures, of which every claim is judged by the exact truth. The project's own benchmark.

    folder/scenes.jsonl    {"id", "image", "things": [{"shape", "colour", "size", "place"}, ...]} per line
    folder/images/         as `edgereverie data scenes FOLDER` draws them

Claims are found by the grammar of the text (``text.claims``): that a thing is there, its attributes, its number, where it
stands and how to another one. ``data.truth`` says of each whether the scene makes it true. What a text says twice is one
claim, and a claim that a drawn scene cannot decide ("the ring is shiny") takes no part but in ``undecided``. Shares fall when a
model says less, so recall, claims and words stand beside them.

Where held-out pictures are there, those in train/ are not asked about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from edgereverie.data.annotations.scenes import read, scene_of
from edgereverie.data.scenes.wording import article
from edgereverie.data.scenes.world import PLACES, Scene
from edgereverie.data.truth import true_of
from edgereverie.errors import DataError
from edgereverie.evaluation.answer_files import by_id
from edgereverie.evaluation.benchmarks.base import Benchmark, Counted, Item, Mark, Tally, Variant, per_unit
from edgereverie.evaluation.rows import rows_of
from edgereverie.evaluation.source import Source
from edgereverie.evaluation.statistics import Formula, Metric, ratio
from edgereverie.text.assertions import Assertion
from edgereverie.text.claims import claims

PROMPT = "Describe the image."
KINDS = ("object", "attribute", "count", "position", "relation")
_VERDICTS = ("true", "false", "undecided")
COLUMNS = (
    "descriptions", "hallucinated_descriptions", *_VERDICTS, "objects", "named_objects", "words",
    *(f"{verdict}_{kind}" for kind in KINDS for verdict in ("true", "false")),
)  # fmt: skip


def _share(top: str | Sequence[str], *bottom: str) -> Formula:
    """Summed columns over others."""
    above = [COLUMNS.index(name) for name in ([top] if isinstance(top, str) else top)]
    below = [COLUMNS.index(name) for name in bottom]
    return lambda counts: ratio(counts[..., above].sum(axis=-1), counts[..., below].sum(axis=-1))


METRICS = (
    Metric("hallucinated", "Hallucinated claims", _share("false", "true", "false"), better="lower"),
    *(
        Metric(
            f"hallucinated_{kind}", f"Hallucinated {kind}s", _share(f"false_{kind}", f"true_{kind}", f"false_{kind}"),
            better="lower",
        )
        for kind in KINDS
    ),
    Metric(
        "hallucinated_descriptions", "Descriptions with a false claim",
        _share("hallucinated_descriptions", "descriptions"), better="lower",
    ),
    Metric("false", "False claims per description", _share("false", "descriptions"), better="lower", share=False),
    Metric("recall", "Recall", _share("named_objects", "objects")),
    Metric("claims", "Claims per description", _share(_VERDICTS, "descriptions"), better=None, share=False),
    Metric("undecided", "Undecided claims", _share("undecided", *_VERDICTS), better=None),
    Metric("words", "Words per description", _share("words", "descriptions"), better=None, share=False),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ScenesItem(Item):
    """scene: what stands where in the picture."""

    scene: Scene = field(repr=False)


class Scenes(Benchmark):
    """One description of each picture."""

    name = "scenes"
    max_tokens = 160

    def __init__(self) -> None:
        source = "edgereverie: text.claims, data.truth"
        self.variants = {"claims": Variant(source, METRICS, _count)}

    def items(self, source: Source, limit: int | None = None) -> list[ScenesItem]:
        """The id is the picture's name. limit: the first so many pictures."""
        path = source.find(self.name, "scenes.jsonl")
        if path is None:
            raise DataError(
                f"{source.folder / 'scenes.jsonl'}: no such file.",
                hint=f"`edgereverie data scenes {source.folder}` draws scenes into a new folder.",
            )
        scenes = [scene_of(annotated) for annotated in read(path)]
        heldout = [scene for scene in scenes if not scene.id.startswith("train/")]
        asked = (heldout or scenes)[:limit]
        if not asked:
            raise DataError(f"{path}: the file holds no scenes.")
        return [self._item(source, scene, path) for scene in asked]

    def _item(self, source: Source, scene: Scene, path: Path) -> ScenesItem:
        image = source.picture(self.name, scene.id, str(path))
        return ScenesItem(scene.id, image, PROMPT, _told_of(scene), scene.id, scene)

    def answers(self, path: Path, items: Sequence[ScenesItem]) -> dict[str, str]:
        """Rows with ``image`` (or ``image_id`` or ``id``) and ``text`` (or ``caption`` or ``answer``)."""
        ids = ("image", "image_id", "id")
        return by_id(
            rows_of(path),
            items,
            lambda row: next((row[key] for key in ids if isinstance(row.get(key), str)), None),
            ("text", "caption", "answer"),
        )


class Judged(NamedTuple):
    """A text's claims, each once, by what the scene makes of them. named: shapes of the scene that the text says are there."""

    true: list[Assertion]
    false: list[Assertion]
    undecided: list[Assertion]
    named: frozenset[str]


def judged(scene: Scene, question: str, text: str) -> Judged:
    """What is true of a text about a scene.

    >>> from edgereverie.data.scenes.world import Thing
    >>> scene = Scene("", (Thing("ring", "red", "small", 0),), (255, 255, 255), ((0.0, 0.0),))
    >>> found = judged(scene, PROMPT, "A blue ring is at the top left. There is a star.")
    >>> [claim.statement for claim in found.false], sorted(found.named)
    (['The ring is blue.', 'There is a star.'], ['ring'])
    """
    found = {claim.key: claim for claim in claims(question, text)}.values()
    verdicts = [(claim, true_of(scene, claim)) for claim in found]
    there = {name for claim in found if claim.present for name in (claim.subject.split()[-1], claim.other)}
    return Judged(
        *([claim for claim, verdict in verdicts if verdict is wanted] for wanted in (True, False, None)),
        named=frozenset(there & set(scene.shapes)),
    )


def _count(items: Sequence[ScenesItem], texts: Mapping[str, str]) -> Counted:
    found = [(item, texts[item.id], judged(item.scene, item.question, texts[item.id])) for item in items]
    rows = [_row(item.scene, text, verdicts) for item, text, verdicts in found]
    units, counts = per_unit([item.unit for item in items], rows, len(COLUMNS))
    marks = tuple(_mark(item, verdicts) for item, _, verdicts in found)
    return Counted((Tally("", units, COLUMNS, counts, len(items)),), marks)


def _row(scene: Scene, text: str, found: Judged) -> list[int]:
    by_kind = (sum(claim.kind == kind for claim in side) for kind in KINDS for side in (found.true, found.false))
    return [
        1, bool(found.false), len(found.true), len(found.false), len(found.undecided),
        len(scene.shapes), len(found.named), len(text.split()), *by_kind,
    ]  # fmt: skip


def _mark(item: ScenesItem, found: Judged) -> Mark:
    wrong = " ".join(claim.statement for claim in found.false)
    read = f"{len(found.true) + len(found.false)} claims, {len(found.false)} false"
    return Mark(item.id, read, float(not found.false), float(len(found.false)), f"not so: {wrong}" if wrong else "")


def _told_of(scene: Scene) -> str:
    """The scene in words, for people."""
    things = [f"{one.size} {one.colour} {one.shape} {PLACES[one.place]}" for one in scene.things]
    return ", ".join(map(article, things))


BENCHMARK = Scenes()
