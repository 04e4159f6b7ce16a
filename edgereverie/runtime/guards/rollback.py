"""Sentences that the picture contradicts are taken back while the answer is written, and tried once more without the thing."""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgereverie.records import Answer, Claim
from edgereverie.runtime.drafting import Draft
from edgereverie.runtime.generation import generate
from edgereverie.runtime.guards._judging import Judge
from edgereverie.runtime.guards.base import ABSTENTION
from edgereverie.runtime.request import Piece, Request, Retraction
from edgereverie.runtime.sampling import choose, measured

_END = re.compile(r"(?:(?<!\d)[.!?]|\n)[\"'”’)\]]*\s*$")
_PRONOUN = re.compile(r"\s*(?:it|its|they|their|these|those|both|this)\b", re.IGNORECASE)
Told = Generator[Piece | Retraction, None, None]


@dataclass(frozen=True, slots=True)
class Rollback:
    """After each sentence its claims are judged. A sentence with a contradicted claim is retracted and written once more.

    In the second try the nouns of the contradicted claims may not be said. It stays when it claims something, nothing of it
    is contradicted, and its least supported claim is better supported than the first one's. Otherwise the sentence is
    dropped: the model goes on as if it had said it, and what follows about "it" is dropped, too. After ``tries`` second
    tries sentences are only dropped. When nothing is left, the answer abstains.

    ``draft`` is the answer with what was dropped, and the record is of that.
    """

    name: str = "rollback"
    tries: int = 3

    def generate(self, request: Request) -> Told:
        if request.image is None or request.options.grammar:
            answer = yield from generate(request)
            cause = "there is no picture to judge by" if request.image is None else "a grammar has no sentences"
            return replace(answer, reason=f"rollback: {cause}")
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
        self._stream, self._row = request.model.begin(request.image, request.turns)
        self._prompt = self._stream.length
        self._judge = Judge(request)
        self.shown, self.claims = "", tuple[Claim, ...]()
        self._changed: list[str] = []  # what was taken back, in words
        self._dropped = False  # the last sentence was

    def close(self) -> None:
        self._stream.close()
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
        row = self._row
        yield from self._write(())
        first = self._judged(before, mark)
        wrong = [claim for claim in first if claim.verdict == "contradicted"]
        orphan = self._dropped and _PRONOUN.match(self._draft.text[before:]) is not None
        if not wrong and not orphan:
            self._keep(first)
            return
        ids, ended = [token.id for token in self._draft.record[mark:]], self._draft.ended
        names = ", ".join(dict.fromkeys(claim.text for claim in wrong))
        why = "it spoke of what was taken back" if orphan else f"the picture contradicts {names}"
        yield from self._retract(said, why)
        if not orphan and self._tries:
            self._tries -= 1
            banned = self._heads(wrong)
            self._back(mark, row)
            yield from self._write(banned)
            second = self._judged(before, mark)
            if self._better(first, second):
                self._changed.append(f"{names}: written anew")
                self._keep(second)
                return
            yield from self._retract(said, "the second try is no better supported")
        self._changed.append("a sentence about it: taken back" if orphan else f"{names}: taken back")
        self._back(mark, row)
        self._again(ids)
        self._draft.ended, self._dropped = ended, True
        if ended:
            self._draft.finish()

    def _write(self, banned: Sequence[int]) -> Told:
        """Tokens to the end of the sentence or of the answer."""
        model, options, draft = self._request.model, self._request.options, self._draft
        begin, allowed = len(draft.text), model.allowed.copy()
        allowed[list(banned)] = False
        while draft.left:
            token, _ = choose(self._row, allowed, options, draft.record, self._rng)
            if token in draft.ends:
                draft.ended = "stop"
                break
            yield from self._show(draft.add(token, measured(self._row, token, int(self._row.argmax()))))
            if draft.ended:
                break
            if draft.left:
                self._row = model.sight.room(lambda token=token: self._stream.feed([token]))[-1]
            if _END.search(draft.text[begin:]):
                break
        if draft.ended is None and not draft.left:
            draft.ended = "length"
        if draft.ended:
            yield from self._show(draft.finish())

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

    def _better(self, first: Sequence[Claim], second: Sequence[Claim]) -> bool:
        if not second or any(claim.verdict == "contradicted" for claim in second):
            return False
        return min(claim.support for claim in second) > min(claim.support for claim in first)

    def _heads(self, wrong: Sequence[Claim]) -> list[int]:
        """The first token of each claim's last word."""
        found = []
        for claim in wrong:
            begin = claim.end - len(claim.text.split()[-1])
            found += [token.id for token in self._draft.record if token.end > begin and token.start < claim.end][:1]
        return found

    def _back(self, mark: int, row: np.ndarray) -> None:
        fed = self._stream.length - self._prompt
        if fed > mark:
            self._stream.rewind(self._prompt + mark)
        self._row = row
        self._draft.back(mark)
        self._judge.back(mark)

    def _again(self, ids: Sequence[int]) -> None:
        """What was said first stands in the context again, and is not shown."""
        drawn = self._draft.drawn
        rows = [self._row]
        if ids:
            rows += list(self._request.model.sight.room(lambda: self._stream.feed(ids, logits="all")))
        for token, row in zip(ids, rows, strict=False):
            self._draft.add(token, measured(row, token, int(row.argmax())))
        self._row, self._draft.drawn = rows[-1], drawn


GUARD = Rollback()
