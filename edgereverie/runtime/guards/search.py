"""Descriptions by search: several next sentences at each place, and the one goes on that the picture speaks for."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace

from edgereverie.records import Answer
from edgereverie.runtime.drafting import Draft
from edgereverie.runtime.generation import generate
from edgereverie.runtime.request import Piece, Request, Retraction
from edgereverie.runtime.sampling import measured
from edgereverie.runtime.voice import ModelVoice
from edgereverie.search.beams import Beam, View, diverse_beams
from edgereverie.search.ranks import costs
from edgereverie.search.sentences import fault_of
from edgereverie.text.questions import is_description


@dataclass(frozen=True, slots=True)
class Search:
    """CSR's search and reward (arXiv 2405.14622), one sentence at a time.

    beams, diversity: sentences tried at each place, and what the same token at the same step costs a later one. weight: of
    the picture's gain per token against likelihood, by ranks. sentence_tokens: the longest sentence. The answer ends where
    the likeliest continuation is its end.

    Questions that ask for less are answered plainly. Temperature plays no part: sentences differ because they must. On drawn
    scenes its descriptions are no truer than greedy ones (``benchmarks/guards.py``), so no profile has it.
    """

    name: str = "search"
    beams: int = 5
    diversity: float = 3.0
    weight: float = 0.9
    sentence_tokens: int = 70

    def generate(self, request: Request) -> Generator[Piece | Retraction, None, Answer]:
        if reason := _idle(request):
            answer = yield from generate(request)
            return replace(answer, reason=reason)
        draft, views = Draft(request), list[View]()
        try:
            voice = ModelVoice(request.model)
            views.append(voice.open(request.image, request.turns))
            views.append(voice.open(None, request.turns))
            ids: tuple[int, ...] = ()
            while draft.ended is None:
                found = self._next(request, voice, views, ids, draft.left)
                if found is None:
                    draft.ended = "stop"
                    break
                words, ended = found
                yield from _told(draft, views[0], words)
                ids += words
                if ended or draft.ended:
                    draft.ended = "stop"
                elif not draft.left:
                    draft.ended = "length"
                else:
                    views[1].follow(words)
        finally:
            for view in views:
                view.close()
        if rest := draft.finish():
            yield Piece(rest)
        return draft.answer()

    def _next(
        self, request: Request, voice: ModelVoice, views: list[View], ids: tuple[int, ...], left: int
    ) -> tuple[tuple[int, ...], bool] | None:
        """The best next sentence's tokens, and whether it ends the answer; None when there is nothing more to say."""
        most = min(self.sentence_tokens, left)
        beams = diverse_beams(
            views[0], voice, groups=self.beams, diversity=self.diversity, most=most, unended=not ids
        )  # fmt: skip
        before, kept = voice.text(ids), dict[str, Beam]()
        for at, beam in enumerate(beams):
            added = voice.text(ids + _words(beam))[len(before) :]
            if at == 0 and beam.ended and not added.strip():
                return None
            if at == 0 or (added.strip() and not fault_of(added, request.question)):
                kept.setdefault(added, beam)
        sentences = list(kept.values())
        gains = [
            (sum(beam.log_probs[: len(_words(beam))]) - views[1].log_prob(_words(beam))) / len(_words(beam))
            for beam in sentences
        ]
        worth = costs([beam.score for beam in sentences], gains, self.weight)
        best = sentences[min(range(len(sentences)), key=worth.__getitem__)]
        return _words(best), best.ended


def _words(beam: Beam) -> tuple[int, ...]:
    return beam.ids[:-1] if beam.ended else beam.ids


def _told(draft: Draft, view: View, words: tuple[int, ...]) -> Generator[Piece, None, None]:
    """Show the sentence, and move the stream behind it."""
    rows = [view.row, *view.stream.feed(words, logits="all")]
    view.row = rows[-1]
    for token, row in zip(words, rows, strict=False):
        if piece := draft.add(token, measured(row, token, int(row.argmax()))):
            yield Piece(piece)
        if draft.ended:
            return


def _idle(request: Request) -> str:
    """Why the answer is a plain one, or nothing."""
    if request.image is None:
        return "search: there is no picture that could speak for a sentence"
    if not is_description(request.question):
        return "search: the question does not ask for a description"
    return "search: a grammar decides what can be said" if request.options.grammar else ""


GUARD = Search()
