"""Sentences that the picture contradicts are taken back while the answer is written, and tried once more without the thing."""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgereverie.records import Answer, Claim, Turn
from edgereverie.runtime.drafting import Draft
from edgereverie.runtime.generation import generate
from edgereverie.runtime.guards._judging import Judge
from edgereverie.runtime.guards._rewrite import without
from edgereverie.runtime.guards.base import ABSTENTION
from edgereverie.runtime.guards.verify import contradicted, placed
from edgereverie.runtime.request import Piece, Request, Retraction
from edgereverie.runtime.sampling import choose, measured
from edgereverie.search.beams import View
from edgereverie.text.questions import is_description

_END = re.compile(r"(?:(?<!\d)[.!?]|\n)[\"'”’)\]]*\s*$")
_PRONOUN = re.compile(r"\s*(?:it|its|they|their|these|those|both|this)\b", re.IGNORECASE)
Told = Generator[Piece | Retraction, None, None]


@dataclass(frozen=True, slots=True)
class Rollback:
    """After each sentence its claims are judged. A sentence with a contradicted claim is retracted and written once more.

    The second try is asked for in the same words with "(avoid: ...)" and the contradicted claims behind them, and goes on
    from what the answer has so far. It stays when it claims something, nothing of it is contradicted, its least supported
    claim is better supported than the first one's, and it still speaks of the things of which something was told wrongly.
    Otherwise only what is right of the first sentence stays, in words that claim nothing new, and the model goes on as if it
    had said all of it; when nothing of it stays, what follows about "it" goes, too. After ``tries`` second tries there are no
    more of them in an answer. When nothing is left, the answer abstains. ``draft`` is the answer with what was taken back,
    and the record is of that.

    For descriptions, where it does about what verify does at more cost, so no profile has it. Other questions are answered
    plainly: asked once more with a hint, a model that is not sure of a short answer says something else that is true and no
    answer (``benchmarks/guards.py``).
    """

    name: str = "rollback"
    tries: int = 3

    def generate(self, request: Request) -> Told:
        if reason := _idle(request):
            answer = yield from generate(request)
            return replace(answer, reason=reason)
        writing = Writing(request, self.tries)
        try:
            yield from writing.write()
        finally:
            writing.close()
        return writing.answer()


class Writing:
    """One answer under way. shown: what the reader sees of the draft; claims: of that, at their places in it."""

    def __init__(self, request: Request, tries: int) -> None:
        self._request, self._tries = request, tries
        self._draft, self._rng = Draft(request), np.random.default_rng(request.options.seed)
        self._main = View(*request.model.begin(request.image, request.turns))
        self._prompt = self._main.stream.length
        self._judge = Judge(request)
        self.shown, self.claims = "", tuple[Claim, ...]()
        self._changed: list[str] = []  # what was taken back, in words
        self._dropped = False  # the last sentence was

    def close(self) -> None:
        self._main.close()
        self._judge.close()

    def write(self) -> Told:
        while self._draft.ended is None:
            yield from self._sentence()
        if not self.shown.strip() and self._changed:
            if self.shown:
                yield Retraction(0, "")
            self.shown = ABSTENTION
            yield Piece(ABSTENTION)

    def answer(self) -> Answer:
        abstained = self.shown == ABSTENTION and bool(self._changed)
        found = self._draft.answer(text=self.shown, claims=self.claims, abstained=abstained,
                                   reason=f"rollback: {'; '.join(self._changed)}" if self._changed else "")  # fmt: skip
        sure = min((claim.support for claim in self.claims), default=found.confidence)
        draft = self._draft.text if self._draft.text != self.shown else None
        return replace(found, confidence=sure, draft=draft)

    def _sentence(self) -> Told:
        mark, before, said = len(self._draft.record), len(self._draft.text), len(self.shown)
        row = self._main.row
        yield from self._write(self._main)
        first = self._judged(before, mark)
        wrong = contradicted(first)
        orphan = self._dropped and _PRONOUN.match(self._draft.text[before:]) is not None
        if not wrong and not orphan:
            self._keep(first)
            return
        ids, ended = [token.id for token in self._draft.record[mark:]], self._draft.ended
        names = ", ".join(dict.fromkeys(claim.text for claim in wrong))
        yield from self._retract(
            said, "it spoke of what was taken back" if orphan else f"the picture contradicts {names}"
        )
        if not orphan and self._tries:
            self._tries -= 1
            self._back(mark, row)
            yield from self._write_avoiding(names)
            second = self._judged(before, mark)
            if _better(first, second, wrong):
                self._changed.append(f"{names}: written anew")
                self._keep(second)
                return
            yield from self._retract(said, "the second try is no better supported")
        self._changed.append("a sentence about it: taken back" if orphan else f"{names}: taken back")
        self._back(mark, row)
        self._again(ids)
        self._draft.ended = ended
        if ended:
            self._draft.finish()
        yield from self._mended(before, first, [] if orphan else wrong)

    def _mended(self, before: int, found: Sequence[Claim], wrong: Sequence[Claim]) -> Told:
        """What is right of the last sentence; nothing, without anything wrong in it."""
        text = self._draft.text[before:]
        moved, bad = ([replace(one, start=one.start - before, end=one.end - before) for one in held]
                      for held in (found, wrong))  # fmt: skip
        left = without(text, moved, bad) if wrong else ""
        if left:
            lead = text[: len(text) - len(text.lstrip())] if self.shown else ""
            yield from self._show(lead + left)
            at = len(self.shown) - len(left)
            kept = placed(self._request, left, moved)
            self.claims += tuple(replace(one, start=one.start + at, end=one.end + at) for one in kept)
        self._dropped = not left

    def _write(self, view: View) -> Told:
        """Tokens to the end of the sentence or of the answer, fed to the view as they come."""
        model, options, draft = self._request.model, self._request.options, self._draft
        begin = len(draft.text)
        while draft.left:
            token, _ = choose(view.row, model.allowed, options, draft.record, self._rng)
            if token in draft.ends:
                draft.ended = "stop"
                break
            yield from self._show(draft.add(token, measured(view.row, token, int(view.row.argmax()))))
            if draft.ended:
                break
            if draft.left:
                model.sight.room(lambda token=token: view.follow([token]))
            if _END.search(draft.text[begin:]):
                break
        if draft.ended is None and not draft.left:
            draft.ended = "length"
        if draft.ended:
            yield from self._show(draft.finish())

    def _write_avoiding(self, names: str) -> Told:
        """The same from a conversation with the hint; what it says is then fed to the plain one. Nothing without room."""
        model, request, mark = self._request.model, self._request, len(self._draft.record)
        turns = (*request.turns[:-1], Turn("user", f"{request.question} (avoid: {names})"))
        ids = [token.id for token in self._draft.record]
        if any(token in names for token in model.chat.control):  # cannot stand in a conversation
            return
        if len(model.prompt(request.image, turns)[0]) + request.options.max_tokens > model.engine.context:
            return
        hinted = View(*model.begin(request.image, turns))
        try:
            if ids:
                model.sight.room(lambda: hinted.follow(ids))
            yield from self._write(hinted)
        finally:
            hinted.close()
        new = [token.id for token in self._draft.record[mark:]]
        if new and self._draft.left:
            model.sight.room(lambda: self._main.follow(new))

    def _show(self, piece: str) -> Told:
        if self._dropped and not self.shown:
            piece = piece.lstrip()
        if piece:
            self.shown += piece
            yield Piece(piece)

    def _retract(self, said: int, why: str) -> Told:
        if said < len(self.shown):
            self.shown = self.shown[:said]
            yield Retraction(said, f"rollback: {why}")

    def _judged(self, before: int, mark: int) -> tuple[Claim, ...]:
        """The last sentence's claims, at their places in the draft."""
        return self._judge.judged(self._draft.text, self._draft.record, before, mark)

    def _keep(self, found: Sequence[Claim]) -> None:
        """The sentence stays: its claims stand in what is shown, which may lack what the draft has before them."""
        self._dropped = False
        by = len(self.shown) - len(self._draft.text)
        self.claims += tuple(replace(claim, start=claim.start + by, end=claim.end + by) for claim in found)

    def _back(self, mark: int, row: np.ndarray) -> None:
        if self._main.stream.length > self._prompt + mark:
            self._main.stream.rewind(self._prompt + mark)
        self._main.row = row
        self._draft.back(mark)
        self._judge.back(mark)

    def _again(self, ids: Sequence[int]) -> None:
        """What was said first stands in the context again, and is not shown."""
        drawn, rows = self._draft.drawn, [self._main.row]
        if ids:
            rows += list(self._request.model.sight.room(lambda: self._main.stream.feed(ids, logits="all")))
        for token, row in zip(ids, rows, strict=False):
            self._draft.add(token, measured(row, token, int(row.argmax())))
        self._main.row, self._draft.drawn = rows[-1], drawn


def _idle(request: Request) -> str:
    """Why the answer is a plain one, or nothing."""
    if request.image is None:
        return "rollback: there is no picture to judge by"
    if not is_description(request.question):
        return "rollback: the question does not ask for a description"
    return "rollback: a grammar has no sentences" if request.options.grammar else ""


def _better(first: Sequence[Claim], second: Sequence[Claim], wrong: Sequence[Claim]) -> bool:
    """Whether the second sentence may stand for the first: better supported, and still about what was told wrongly."""
    if not second or any(claim.verdict == "contradicted" for claim in second):
        return False
    if not {claim.subject for claim in wrong if claim.kind != "object"} <= {claim.subject for claim in second}:
        return False
    return min(claim.support for claim in second) > min(claim.support for claim in first)


GUARD = Rollback()
