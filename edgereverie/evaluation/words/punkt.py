"""Where sentences end, as Punkt decides it (Kiss and Strunk 2006), with the decisions of nltk 3.8.1's English model.

A period ends a sentence unless it belongs to an abbreviation, an initial, a number or a known pair of words; what follows may
overrule that. ``Punkt()`` without a model knows no abbreviations.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

_NON_WORD = r"""[)";}\]*:@'({\[!?]"""
_RUN = r"(?:-{2,}|\.{2,}|(?:\.\s){2,}\.)"
_TOKEN = re.compile(
    rf"""{_RUN}|(?=[^("`{{\[:;&#*@)}}\]\-,])\S+?(?=\s|$|{_NON_WORD}|{_RUN}|,(?=$|\s|{_NON_WORD}|{_RUN}))|\S"""
)
_END = re.compile(rf"[.?!](?=(?P<after>{_NON_WORD}|\s+(?P<next>\S+)))")
_CLOSING = re.compile(r"""["')\]}]+?(?:\s+|(?=--)|$)""", re.MULTILINE)
_NUMBER = re.compile(r"^-?[.,]?\d[\d,.\-]*\.?$")
_INITIAL = re.compile(r"[^\W\d]\.$")
_ELLIPSIS = re.compile(r"\.\.+$")
_SPACE = " \t\n\r\v\f"
_UPPER_INSIDE, _UPPER, _LOWER_FIRST, _LOWER = (
    1 << 2,
    0b1110,
    1 << 4,
    0b1110000,
)  # how a word was seen in the training text


@dataclass(frozen=True, slots=True)
class Punkt:
    """abbreviations and starters: lower case, without the period. pairs: words that a period between them does not part.
    contexts: how a word was written in the training text, as bits."""

    abbreviations: frozenset[str] = frozenset()
    starters: frozenset[str] = frozenset()
    pairs: frozenset[tuple[str, ...]] = frozenset()
    contexts: Mapping[str, int] = field(default_factory=dict)

    def sentences(self, text: str) -> list[str]:
        """The text's sentences in order; white space between them is left out.

        >>> Punkt(frozenset({"st"})).sentences("It is on St. John road. A dog (brown.) Who?")
        ['It is on St. John road.', 'A dog (brown.)', 'Who?']
        """
        return [text[start:end] for start, end in _with_closing_marks(text, self._cut(text))]

    def _cut(self, text: str) -> Iterator[tuple[int, int]]:
        start = 0
        for match, context in _contexts(text):
            if self._ends(context):
                yield start, match.end()
                start = match.start("next") if match["next"] else match.end()
        yield start, len(text.rstrip())

    def _ends(self, context: str) -> bool:
        """Does a token other than the last end a sentence?"""
        tokens = [token for line in context.split("\n") for token in _TOKEN.findall(line)]
        return any(self._breaks(token, after) for token, after in pairwise(tokens))

    def _breaks(self, token: str, after: str) -> bool:
        if not token.endswith("."):
            return token in ("?", "!")
        ellipsis, initial = _ELLIPSIS.match(token) is not None, _INITIAL.match(token) is not None
        abbreviation = self._is_abbreviation(token)
        kind, next_kind = _kind(token), _kind(after)
        bare = _bare(kind)
        if self._ends_alone(after):
            next_kind = _bare(next_kind)
        if (bare, next_kind) in self.pairs:
            return False
        starts = self._starts(after, next_kind)
        if (abbreviation or ellipsis) and not initial and (starts or self._is_starter(after, next_kind)):
            return True
        if initial or bare == "##number##":
            # "J. Bach": nothing is known of the next word, except that it is never written small.
            never_small = after[0].isupper() and not self.contexts.get(next_kind, 0) & _LOWER
            if starts is False or (starts is None and initial and never_small):
                return False
        return self._ends_alone(token)

    def _is_abbreviation(self, token: str) -> bool:
        bare = token[:-1].lower()
        known = bare in self.abbreviations or bare.rsplit("-", 1)[-1] in self.abbreviations
        return known and token.endswith(".") and not token.endswith("..") and token != "."

    def _ends_alone(self, token: str) -> bool:
        """Does the token end a sentence, whatever follows?"""
        if token in ("?", "!", "."):
            return True
        return token.endswith(".") and not token.endswith("..") and not self._is_abbreviation(token)

    def _is_starter(self, token: str, kind: str) -> bool:
        return token[0].isupper() and kind in self.starters

    def _starts(self, token: str, kind: str) -> bool | None:
        """Does the token start a sentence, by the case of its first letter? None where nothing is known."""
        if token in (";", ":", ",", ".", "!", "?"):
            return False
        seen = self.contexts.get(kind, 0)
        if token[0].isupper() and seen & _LOWER and not seen & _UPPER_INSIDE:
            return True
        if token[0].islower() and (seen & _UPPER or not seen & _LOWER_FIRST):
            return False
        return None


def _bare(kind: str) -> str:
    return kind[:-1] if len(kind) > 1 and kind.endswith(".") else kind


def _kind(token: str) -> str:
    return _NUMBER.sub("##number##", token.lower())


def _contexts(text: str) -> Iterator[tuple[re.Match[str], str]]:
    """Possible ends of sentences, each with the word before and what follows; of several in one word only the last."""
    held: re.Match[str] | None = None
    start = stop = 0
    for match in _END.finditer(text):
        before = text[stop : match.start()]
        space = max(map(before.rfind, _SPACE))
        word = stop + space + 1 if space > 0 else start
        if held and stop <= word:
            yield held, text[start:stop] + held[0] + held["after"]
        held, start, stop = match, word, match.start()
    if held:
        yield held, text[start:stop] + held[0] + held["after"]


def _with_closing_marks(text: str, cuts: Iterator[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Quotes and brackets that follow a period go to the sentence that it ends."""
    moved = 0
    cut = list(cuts)
    for number, (start, end) in enumerate(cut):
        start += moved
        marks = None
        if number + 1 < len(cut):
            after_start, after_end = cut[number + 1]
            marks = _CLOSING.match(text[after_start:after_end])
        moved = marks.end() if marks else 0
        if marks:
            yield start, after_start + len(marks[0].rstrip())
        elif text[start:end]:
            yield start, end
