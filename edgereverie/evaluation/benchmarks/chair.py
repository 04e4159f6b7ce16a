"""CHAIR: how many of the objects that a caption names are not in the picture (Rohrbach et al., EMNLP 2018).

On COCO, with ``synonyms.txt`` (80 objects and the words for them) and what the pictures hold, as ``_chair_truth`` finds it:

    chair/synonyms.txt
    chair/gt_objects.json, or COCO's instances and captions of 2014
    chair/images.txt       the pictures to ask about, one id or file name per line; may be left out

On other pictures, with a vocabulary of their own:

    chair.jsonl            header: {"edgereverie": "chair", "version": 1, "vocabulary": {"ring": ["ring", "rings"]},
                           "prompt": "Describe the image."}, then {"image": "0001.png", "objects": ["ring"]} per image
    images/

CHAIR_i counts mentions, CHAIR_s captions, recall distinct objects. Both rates fall when a model says less, so words
and objects per caption stand beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgereverie.errors import DataError
from edgereverie.evaluation.answer_files import by_id
from edgereverie.evaluation.benchmarks._chair_items import ChairItem, Coco, coco_items, own_items, true_objects
from edgereverie.evaluation.benchmarks._chair_truth import image_id
from edgereverie.evaluation.benchmarks._chair_words import Named, Reader, pattern_reader, wordnet_reader
from edgereverie.evaluation.benchmarks.base import Benchmark, Counted, Mark, Tally, Variant, per_unit
from edgereverie.evaluation.nltk_data import english
from edgereverie.evaluation.rows import rows_of
from edgereverie.evaluation.source import Source
from edgereverie.evaluation.statistics import Metric, ratio

COLUMNS = (
    "mentions", "hallucinated_mentions", "captions", "hallucinated_captions", "true_objects", "named_objects", "words",
)  # fmt: skip
_IDS, _TEXTS = ("image_id", "image", "id", "question_id"), ("caption", "text", "answer", "response")


def _quotient(top: str, bottom: str, times: int = 1) -> Any:
    i, j = COLUMNS.index(top), COLUMNS.index(bottom)
    return lambda counts: times * ratio(counts[..., i], counts[..., j])


def _metrics(times: int = 1) -> tuple[Metric, ...]:
    share = times == 1
    return (
        Metric("chair_i", "CHAIR_i", _quotient("hallucinated_mentions", "mentions", times), "lower", share),
        Metric("chair_s", "CHAIR_s", _quotient("hallucinated_captions", "captions", times), "lower", share),
        Metric("recall", "Recall", _quotient("named_objects", "true_objects", times), share=share),
        Metric("words", "Words per caption", _quotient("words", "captions"), better=None, share=False),
        Metric("objects", "Objects per caption", _quotient("mentions", "captions"), better=None, share=False),
    )


class Chair(Benchmark):
    """Captions, scored against the objects that are really there."""

    name = "chair"
    max_tokens = 160

    def __init__(self) -> None:
        opera = "shikiw/OPERA chair.py (WordNet's lemmas by part of speech; nltk 3.8.1)"
        lmms = "EvolvingLMMs-Lab/lmms-eval coco_cap_chair (as OPERA's, in percent)"
        maxlinn = (
            "Maxlinn/CHAIR-metric-standalone chair.py, after LisaAnne/Hallucination (pattern's singular; nltk 3.8.1)"
        )
        self.variants = {
            "maxlinn": Variant(maxlinn, _metrics(), _counting(_as_maxlinn)),
            "opera": Variant(opera, _metrics(), _counting(_as_opera)),
            "lmms": Variant(lmms, _metrics(100), _counting(_as_opera)),
            "table": Variant("the header's table of forms, as it stands", _metrics(), _counting(_as_table)),
        }

    def items(self, source: Source, limit: int | None = None) -> list[ChairItem]:
        """One captioning request for each image; the id is COCO's, or the image's name.

        limit: the first so many of ``chair.jsonl`` or ``images.txt``; without these, so many of val2014, drawn with seed 0, a
        smaller number always among a larger. (Papers draw 500, each with a seed of its own: name theirs in images.txt.)
        """
        own = source.find("chair", "chair.jsonl")
        if own:
            return own_items(source, own)[:limit]
        return coco_items(source, limit)

    def default(self, items: Sequence[ChairItem]) -> str:
        """The header's table where there is one, else the official scorer."""
        return self.ways(items)[0]

    def ways(self, items: Sequence[ChairItem]) -> list[str]:
        """COCO's scorers for COCO's pictures, the table for others."""
        coco = any(isinstance(item.vocabulary, Coco) for item in items)
        return [name for name in self.variants if (name == "table") != coco]

    def answers(self, path: Path, items: Sequence[ChairItem]) -> dict[str, str]:
        """Rows with ``image_id`` (or ``image``, COCO's file name) and ``caption``, as OPERA and others write them."""
        coco = any(isinstance(item.vocabulary, Coco) for item in items)
        return by_id(rows_of(path), items, _coco_id if coco or not items else _id, _TEXTS)

    def asked(self, source: Source, limit: int | None, answers: Path) -> list[ChairItem]:
        """``items``; where neither a list nor a limit says which, those that the file describes."""
        if source.find("chair", "chair.jsonl") or limit is not None:
            return self.items(source, limit)
        rows = [row for _, row in rows_of(answers)]
        if not rows:
            raise DataError(f"{answers}: the file holds no captions.")
        return coco_items(source, described={id for row in rows for one in _together(row) if (id := _coco_id(one))})


def _together(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The answers on one line of an evaluation's journal; of other files, the row itself."""
    answers = row.get("answers")
    return [one for one in answers if isinstance(one, dict)] if isinstance(answers, list) else [row]


def _id(row: Mapping[str, Any]) -> str | None:
    found = next((row[key] for key in _IDS if isinstance(row.get(key), (int, str))), None)
    return None if found is None or isinstance(found, bool) else str(found)


def _coco_id(row: Mapping[str, Any]) -> str | None:
    found = _id(row)
    return None if found is None else image_id(found)


def _as_table(items: Sequence[ChairItem]) -> Reader:
    vocabulary = items[0].vocabulary
    if isinstance(vocabulary, Coco):
        raise DataError("COCO's pictures have no table of forms of their own.", hint="Score them as maxlinn or opera.")

    def read(caption: str) -> Named:
        found = vocabulary.mentions(caption)
        named = tuple((" ".join(caption[one.start : one.end].lower().split()), one.object) for one in found)
        return Named(len(caption.split()), named)

    return read


def _as_maxlinn(items: Sequence[ChairItem]) -> Reader:
    return pattern_reader(_coco(items).synonyms)


def _as_opera(items: Sequence[ChairItem]) -> Reader:
    coco = _coco(items)
    return wordnet_reader(coco.synonyms, english(coco.folder))


def _coco(items: Sequence[ChairItem]) -> Coco:
    vocabulary = items[0].vocabulary
    if not isinstance(vocabulary, Coco):
        raise DataError("These pictures have a vocabulary of their own, and COCO's scorers know COCO's alone.",
                        hint="Score them as table.")  # fmt: skip
    return vocabulary


def _counting(
    reader: Callable[[Sequence[ChairItem]], Reader],
) -> Callable[[Sequence[ChairItem], Mapping[str, str]], Counted]:
    """Counts under one reading of captions, people's and the model's alike."""

    def count(items: Sequence[ChairItem], texts: Mapping[str, str]) -> Counted:
        read = reader(items)
        rows, marks = [], []
        for item in items:
            found, true = read(texts[item.id]), true_objects(item.objects, item.captions, read)
            rows.append(_row(found, true))
            marks.append(_mark(item.id, found, true))
        units, counts = per_unit([item.unit for item in items], rows, len(COLUMNS))
        return Counted((Tally("", units, COLUMNS, counts, len(items)),), tuple(marks))

    return count


def _row(found: Named, true: frozenset[str]) -> tuple[int, ...]:
    named = [name for _, name in found.objects]
    wrong = sum(name not in true for name in named)
    return (len(named), wrong, 1, int(wrong > 0), len(true), len(true & set(named)), found.words)


def _mark(id: str, found: Named, true: frozenset[str]) -> Mark:
    wrong = [word if word == name else f"{word} ({name})" for word, name in found.objects if name not in true]
    note = f"not in the picture: {', '.join(dict.fromkeys(wrong))}" if wrong else ""
    read = ", ".join(dict.fromkeys(name for _, name in found.objects))
    return Mark(id, read, float(not wrong), float(len(wrong)), note)


BENCHMARK = Chair()
