"""Preference pairs as POVID and CSR publish them (github.com/YiyangZhou/POVID, github.com/YiyangZhou/CSR).

    {"id", "image", "conversations": [human, gpt], "rejected_conversations": [human, gpt]}

The human turns of both sides are the prompt and must agree; the last gpt turns are the chosen and the rejected answer.
CSR's construction script writes the whole templated prompt (``A chat between ... USER: ... ASSISTANT:``) as the human
turn; the template is taken off, since training puts it on again. Pairs of two equal answers, which the same script
makes when its search leaves one path, are dropped and counted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from edgereverie.data.faults import shown
from edgereverie.data.rows import Row, Tally
from edgereverie.data.sources._conversations import conversation, turns_of
from edgereverie.data.sources.base import RowSource
from edgereverie.records import PreferencePair, Turn

SAME_ANSWERS = "chosen and rejected are the same"
_TEMPLATED = re.compile(r"A chat between .*?USER:\s*(?P<text>.*?)\s*ASSISTANT:\s*", re.DOTALL)
_SIDES = ("conversations", "rejected_conversations")


class Preference(RowSource):
    name: ClassVar = "preference"
    kind: ClassVar = "pairs"
    holds: ClassVar = ("id", "image", "turns", "chosen", "rejected", "rejected_image")

    def detect(self, first_record: Mapping[str, Any]) -> bool:
        return set(_SIDES) <= set(first_record)

    def records(self, row: Row, tally: Tally) -> list[PreferencePair]:
        if not row.keys(("id", *_SIDES), ("image",), tally):
            return []
        name, image = row.name("id"), row.image()
        chosen, rejected = (turns_of(row, side, tally) for side in _SIDES)
        if not row.sound or name is None:
            return []
        if chosen[:-1] != rejected[:-1]:
            ours, theirs = _difference(chosen[:-1], rejected[:-1])
            row.fault(
                f"the prompts of both sides differ: {shown(ours)} and {shown(theirs)}.",
                "Write the same turns before the answers.",
            )
            return []
        if chosen[-1] == rejected[-1]:
            tally.dropped[SAME_ANSWERS] += 1
            return []
        prompt = tuple(Turn(turn.role, _untemplated(turn, tally)) for turn in chosen[:-1])
        return [PreferencePair(name, image, prompt, chosen[-1].text, rejected[-1].text, source=self.name)]

    def row(self, record: PreferencePair) -> dict[str, Any]:
        image = {} if record.image is None else {"image": record.image}
        answers = zip(_SIDES, (record.chosen, record.rejected), strict=True)
        sides = {side: conversation((*record.turns, Turn("assistant", text)), record.image) for side, text in answers}
        return {"id": record.id, **image, **sides}


def _untemplated(turn: Turn, tally: Tally) -> str:
    templated = _TEMPLATED.fullmatch(turn.text) if turn.role == "user" else None
    if templated is None or not templated["text"].strip():
        return turn.text
    tally.noted["chat template taken off the prompt"] += 1
    return templated["text"]


def _difference(chosen: tuple[Turn, ...], rejected: tuple[Turn, ...]) -> tuple[str, str]:
    """The first texts that differ; a number of turns where one side is longer."""
    for ours, theirs in zip(chosen, rejected, strict=False):
        if ours != theirs:
            return ours.text, theirs.text
    return f"{len(chosen)} turns", f"{len(rejected)} turns"


SOURCE = Preference()
