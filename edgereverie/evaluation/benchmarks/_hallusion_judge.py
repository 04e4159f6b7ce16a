"""HallusionBench's judge: is an answer correct, incorrect or unclear, and does it say the same as its pair's first?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgereverie.errors import DataError
from edgereverie.evaluation.answer_files import Faults, Row, some
from edgereverie.evaluation.benchmarks._hallusion_counts import CORRECT, INCORRECT, UNCLEAR, asks_same
from edgereverie.evaluation.benchmarks._hallusion_items import HallusionItem, id_of
from edgereverie.evaluation.benchmarks.base import Judge, JudgeRequest
from edgereverie.evaluation.prompts import prompt
from edgereverie.evaluation.rows import rows_of
from edgereverie.records import Turn

SAME, DIFFERENT = "same", "different"
_VERDICT = re.compile(
    r"\W*(?:(?:mark|verdict|output)\W+)?(?:correct|incorrect|unclear|same|different)\W*", re.IGNORECASE
)
_CHECK = "gpt4v_output_gpt_check"
_SAME_KEYS = ("same", f"{_CHECK}_same")
_CODES = {"0": INCORRECT, "1": CORRECT, "2": UNCLEAR}
_SAME_CODES = {"0": DIFFERENT, "1": SAME}
_FILES = ("hallusion_output_vd_model.json", "hallusion_output_vs_model.json")  # what the authors' script writes


def same_id(item: HallusionItem) -> str:
    """The request whether the item's answer says the same as its pair's first."""
    return f"{item.id}#same"


def verdict_of(reply: str) -> str:
    """CORRECT, INCORRECT or UNCLEAR, as ``utils.py`` reads a judge: "incorrect" anywhere, else "correct" anywhere.

    >>> [verdict_of(reply) for reply in ("Incorrect.", "The answer is correct", "unclear", "")]
    ['incorrect', 'correct', 'unclear', 'unclear']
    """
    said = reply.lower()
    return INCORRECT if INCORRECT in said else CORRECT if CORRECT in said else UNCLEAR


def says_same(reply: str) -> bool:
    """Whether the judge took two answers for the same, which is the word anywhere."""
    return SAME in reply.lower()


def valid(reply: str) -> bool:
    """Whether a reply is one verdict and nothing else. Stricter than the script, which reads a verdict out of anything.

    >>> [valid(reply) for reply in ("correct", "**Incorrect**.", "Verdict: unclear", "Not correct", "correct or unclear", "")]
    [True, True, True, False, False, False]
    """
    return _VERDICT.fullmatch(reply) is not None


def originals(items: Sequence[HallusionItem]) -> dict[tuple[str, ...], HallusionItem]:
    """The first question of each pair, by pair. Raises DataError where it was not asked."""
    found = {item.pair: item for item in items if item.original}
    if lonely := [item.id for item in items if item.pair not in found]:
        raise DataError(
            f"{len(lonely)} questions are judged by their pair's first one, which was not asked: {some(lonely)}.",
            hint="Take the questions without a figure as well, or score by hallusionbench/lmms or hallusionbench/vlmevalkit.",
        )
    return found


def _about_one(item: HallusionItem, answer: str) -> list[JudgeRequest]:
    text = prompt("hallusionbench").filled(question=item.question, reference=item.reference, answer=answer)
    return [JudgeRequest(item.id, (Turn("user", text),))]


def _about_two(items: Sequence[HallusionItem], texts: Mapping[str, str]) -> list[JudgeRequest]:
    """For every answer but the first of a pair: no rule asks whether that says the same as itself."""
    first = originals(items)
    requests = []
    for item in items:
        if not item.original:
            said = {"answer": texts[item.id], "original": texts[first[item.pair].id]}
            requests.append(JudgeRequest(same_id(item), (Turn("user", prompt("hallusionbench_same").filled(**said)),)))
    return requests


def prepared(path: Path, items: Sequence[HallusionItem]) -> dict[str, str]:
    """Replies from what the authors' script keeps: rows of questions with their verdicts.

    path: one file, or the folder with the script's two. ``gpt4v_output_gpt_check`` is 0, 1 or 2, ``same`` 0 or 1, and may be
    missing where no rule asks for it. Raises DataError that lists all that is missing, doubled, unknown or of another kind.
    """
    faults, replies = Faults(), {}
    known = {item.id: item for item in items}
    for where, row in _rows(path):
        id = id_of(row)
        if id is None:
            faults.add("rows that name no question", f"{where} ({', '.join(row) or 'empty'})")
        elif id not in known:
            faults.add("judgements that belong to no question", f"{id} ({where})")
        elif id in replies:
            faults.add("questions judged more than once", f"{id} ({where})")
        else:
            same = next((row[key] for key in _SAME_KEYS if key in row), None)
            replies[id] = _code(row.get(_CHECK), _CODES, f"rows whose {_CHECK} is not 0, 1 or 2", where, faults)
            if same is not None:
                reply = _code(same, _SAME_CODES, "rows whose same is not 0 or 1", where, faults)
                replies[same_id(known[id])] = reply
    first = originals(items)
    for item in items:
        if item.id not in replies:
            faults.add("questions without a judgement", item.id)
        elif same_id(item) not in replies and asks_same(item, replies[item.id], replies.get(first[item.pair].id, "")):
            faults.add("questions without `same`, on which the blame hangs", item.id)
    faults.check("Prepare the file with the very questions that are scored; the authors' evaluation.py writes it.")
    return replies


def _code(value: Any, codes: Mapping[str, str], kind: str, where: str, faults: Faults) -> str:
    known = not isinstance(value, bool) and isinstance(value, (str, int)) and str(value) in codes
    if not known:
        faults.add(kind, f"{value!r} ({where})")
    return codes[str(value)] if known else ""


def _rows(path: Path) -> Iterator[Row]:
    if not path.is_dir():
        yield from rows_of(path)
        return
    found = [path / name for name in _FILES if (path / name).is_file()]
    if not found:
        raise DataError(
            f"{path}: neither {' nor '.join(_FILES)} is in this folder.", hint="Name the judged file itself."
        )
    for file in found:
        yield from rows_of(file)


JUDGE = Judge(
    requests=_about_one,
    valid=valid,
    file=prepared,
    max_tokens=16,
    form="one of the words that were asked for, and nothing else",
    across=_about_two,
)
