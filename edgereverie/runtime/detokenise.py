"""Token ids become text while they arrive: whole characters only, and nothing that a stop word might still claim."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

_BROKEN = "\N{REPLACEMENT CHARACTER}"
_LONGEST_CHARACTER = 4  # bytes of UTF-8; fewer broken ones at the end may be a character's beginning


class Decodes(Protocol):
    def decode(self, ids: Sequence[int]) -> str: ...


class Detokenizer:
    """Adds tokens one by one and hands out the text that each of them completes.

    A tokenizer decodes a token differently at the beginning (SentencePiece drops a leading blank) and inside a text,
    and one character may take several byte tokens. So each step decodes a short window twice, with and without the new
    tokens, and takes the difference; while that ends in a broken character that may still be mended, it waits.
    lead: what the chat format puts before an answer and the model says with it; it is not part of the text. bare: nor are
    blanks at its beginning.
    """

    def __init__(self, tokenizer: Decodes, lead: str = "", bare: bool = False) -> None:
        self._decode = tokenizer.decode
        self._lead, self._bare = lead, bare
        self._ids: list[int] = []
        self._done = 0  # tokens of the window whose text was handed out

    def add(self, token: int) -> str:
        """The text that this token completes; empty while a character is incomplete."""
        self._ids.append(token)
        piece = self._difference()
        broken = len(piece) - len(piece.rstrip(_BROKEN))
        if not piece or 0 < broken < _LONGEST_CHARACTER:
            return ""
        self._ids = self._ids[self._done :]
        self._done = len(self._ids)
        return self._without_lead(piece)

    def finish(self) -> str:
        """What is left at the end: bytes that never became a character show as replacement characters."""
        piece = self._difference()
        self._ids, self._done = [], 0
        return self._without_lead(piece)

    def _without_lead(self, piece: str) -> str:
        lead, self._lead = self._lead, "" if piece else self._lead
        piece = piece.removeprefix(lead)
        if self._bare:
            piece = piece.lstrip()
            self._bare = not piece
        return piece

    def _difference(self) -> str:
        before, text = self._decode(self._ids[: self._done]), self._decode(self._ids)
        if text.startswith(before):
            return text[len(before) :]
        # Bad bytes spoil the whole run of byte tokens that they stand in, also the ones that were handed out already.
        return self._decode(self._ids[self._done :])


class StopWords:
    """Ends a stream of text at the first stop word, which is left out; text that may begin one is held back."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = tuple(word for word in words if word)
        self._held = ""
        self.found = False

    def add(self, piece: str) -> str:
        """The text that is safe to show.

        >>> stop = StopWords(["END"])
        >>> stop.add("the E"), stop.add("N"), stop.add("T "), stop.add("END of it"), stop.found
        ('the ', '', 'ENT ', '', True)
        """
        text = self._held + piece
        starts = [at for word in self._words if (at := text.find(word)) >= 0]
        if starts:
            self.found, self._held = True, ""
            return text[: min(starts)]
        hold = max((n for word in self._words for n in range(1, len(word)) if text.endswith(word[:n])), default=0)
        self._held = text[len(text) - hold :]
        return text[: len(text) - hold]

    def finish(self) -> str:
        """What was held back and turned out to be no stop word."""
        text, self._held = self._held, ""
        return text
