"""AMBER: descriptions and yes-or-no questions on existence, attributes and relations (Wang et al., 2023).

``_amber_files`` tells what lies in the folder. Descriptions take nltk's data, and a similarity of words. The official one is
spaCy's en_core_web_lg; any other stands in the scorer's name, as in ``amber/official-exact``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from edgereverie.errors import DataError
from edgereverie.evaluation.answer_files import by_id
from edgereverie.evaluation.benchmarks import _amber_descriptions as descriptions
from edgereverie.evaluation.benchmarks import _amber_questions as questions
from edgereverie.evaluation.benchmarks._amber_files import AmberItem, read_items
from edgereverie.evaluation.benchmarks.base import Benchmark, Counted, Variant
from edgereverie.evaluation.rows import rows_of
from edgereverie.evaluation.similarities import available
from edgereverie.evaluation.source import Source
from edgereverie.registry import SIMILARITIES
from edgereverie.text.yes_no import vlmevalkit


class Amber(Benchmark):
    """1,004 descriptions and 14,216 questions about 1,004 pictures."""

    name = "amber"
    max_tokens = 512

    @cached_property
    def variants(self) -> Mapping[str, Variant]:
        """``official`` and ``lmms`` with the similarity that is theirs, and behind a hyphen with every other that there is."""
        return {way: make(name) for way, (name, make) in _comparing().items()} | {"vlmevalkit": _vlmevalkit()}

    def items(self, source: Source, limit: int | None = None) -> list[AmberItem]:
        return read_items(source, limit)

    def answers(self, path: Path, items: Sequence[AmberItem]) -> dict[str, str]:
        """Rows with ``id`` and ``response``."""
        return by_id(rows_of(path), items, _id_of, ("response", "text", "answer"))

    def asked(self, source: Source, limit: int | None, answers: Path) -> list[AmberItem]:
        """The parts that the file answers at all (descriptions, existence, attributes, relations), each as a whole: the authors
        publish the questions of each on its own, too."""
        items = self.items(source, limit)
        answered = {_id_of(row) for _, row in rows_of(answers)}
        parts = {item.split for item in items if item.id in answered}
        return [item for item in items if item.split in parts] or list(items)

    def ways(self, items: Sequence[AmberItem]) -> list[str]:
        """Those that score what is there: where questions alone are, no similarity matters, and where there are descriptions,
        similarities that are not installed are left out."""
        described, asked = _parts(items)
        comparing = [way for way, (name, _) in _comparing().items() if available(SIMILARITIES.get(name))]
        return [*(comparing if described else ["official"]), *(["vlmevalkit"] if asked else [])]


def _comparing() -> dict[str, tuple[str, Callable[[str], Variant]]]:
    """(similarity, how it is made) of each way of scoring that compares words, first those with the similarity that is theirs."""
    own = {"official": ("en_core_web_lg", _official), "lmms": ("en_core_web_md", _lmms)}
    return own | {
        f"{way}-{name}": (name, make)
        for way, (theirs, make) in own.items()
        for name in SIMILARITIES.names()
        if name != theirs
    }


def _id_of(row: Mapping[str, object]) -> str | None:
    id = row.get("id", row.get("question_id"))
    return str(id) if isinstance(id, (int, str)) and not isinstance(id, bool) else None


def _official(similarity: str) -> Variant:
    def count(items: Sequence[AmberItem], texts: Mapping[str, str]) -> Counted:
        described, asked = _parts(items)
        tallies, marks = descriptions.count_descriptions(described, texts, SIMILARITIES.get(similarity))
        counted = questions.count_official(asked, texts)
        return Counted(counted.tallies + tallies, (*marks, *counted.marks))

    metrics = descriptions.OFFICIAL + questions.OFFICIAL["discriminative"]
    splits = questions.OFFICIAL | {"generative": descriptions.OFFICIAL}
    return Variant(_source("junyangwang0410/AMBER inference.py", similarity), metrics, count, splits=splits)


def _lmms(similarity: str) -> Variant:
    """lmms-eval takes the first spaCy model that it finds, medium, small, large: here each has its name."""

    def count(items: Sequence[AmberItem], texts: Mapping[str, str]) -> Counted:
        described, _ = _parts(items)
        _some(described, "descriptions", "lmms")
        tallies, marks = descriptions.count_descriptions(described, texts, SIMILARITIES.get(similarity))
        return Counted(tallies, tuple(marks))

    return Variant(_source("EvolvingLMMs-Lab/lmms-eval amber_g", similarity), descriptions.LMMS, count)


def _vlmevalkit() -> Variant:
    def count(items: Sequence[AmberItem], texts: Mapping[str, str]) -> Counted:
        _, asked = _parts(items)
        _some(asked, "yes-or-no questions", "vlmevalkit")
        return questions.count_by_dimension(asked, texts, vlmevalkit)

    return Variant(
        "open-compass/VLMEvalKit AMBER_rating, exact matching",
        questions.ACCURACY + questions.MEAN_ACCURACY,
        count,
        splits={"discriminative": questions.MEAN_ACCURACY, **dict.fromkeys(questions.DIMENSIONS, questions.ACCURACY)},
    )


def _source(rule: str, similarity: str) -> str:
    return f"{rule}, words compared by {similarity}"


def _parts(items: Sequence[AmberItem]) -> tuple[list[AmberItem], list[AmberItem]]:
    described = [item for item in items if item.kind == "description"]
    return described, [item for item in items if item.kind != "description"]


def _some(items: Sequence[AmberItem], what: str, way: str) -> None:
    if not items:
        raise DataError(f"amber/{way} scores {what} only, and there are none.", hint="Choose amber/official.")


BENCHMARK = Amber()
