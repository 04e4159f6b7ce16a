"""An answer's text in parts: plain stretches, and stretches that claims stand in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from edgereverie.records import Answer, Claim, Verdict

Why = Callable[[Claim], str]
MARKS: dict[Verdict, str] = {"supported": "", "contradicted": "[!]", "unverified": "[?]"}
_WORST: tuple[Verdict, ...] = ("contradicted", "unverified", "supported")


@dataclass(frozen=True, slots=True)
class Piece:
    """Characters that the same claims cover. verdict: of the narrowest of them, the worst where several are as narrow;
    None in plain text. ends: the worst verdict of the claims that end here, None where none does; a claim inside
    one that is as doubtful is not told again."""

    text: str
    verdict: Verdict | None = None
    ends: Verdict | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """A plain stretch, or one whose claims overlap each other and nothing outside it. claims: in the order of the text."""

    pieces: tuple[Piece, ...]
    claims: tuple[Claim, ...] = ()

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)

    @property
    def verdict(self) -> Verdict | None:
        """The worst of its claims'."""
        return worst(self.claims)


def worst(claims: Sequence[Claim]) -> Verdict | None:
    return min((claim.verdict for claim in claims), key=_WORST.index, default=None)


def parts(answer: Answer) -> tuple[list[Part], list[Claim]]:
    """The text in parts, which joined are the text, and the claims that stand nowhere in it."""
    inside = [claim for claim in answer.claims if 0 <= claim.start < claim.end <= len(answer.text)]
    inside.sort(key=lambda claim: (claim.start, -claim.end))
    found: list[Part] = []
    end, index = 0, 0
    while index < len(inside):
        begin = inside[index].start
        if begin > end:
            found.append(Part((Piece(answer.text[end:begin]),)))
        group, end = [inside[index]], inside[index].end
        while (index := index + 1) < len(inside) and inside[index].start < end:
            group.append(inside[index])
            end = max(end, inside[index].end)
        found.append(Part(_pieces(answer.text, group), tuple(group)))
    if end < len(answer.text):
        found.append(Part((Piece(answer.text[end:]),)))
    return found, [claim for claim in answer.claims if claim not in inside]


def _pieces(text: str, claims: Sequence[Claim]) -> tuple[Piece, ...]:
    told = [claim for claim in claims if not any(_says_it(other, claim) for other in claims)]
    borders = sorted({claim.start for claim in claims} | {claim.end for claim in claims})
    out = []
    for start, end in pairwise(borders):
        covering = [claim for claim in claims if claim.start < end and claim.end > start]
        narrowest = min(claim.end - claim.start for claim in covering)
        about = worst([claim for claim in covering if claim.end - claim.start == narrowest])
        out.append(Piece(text[start:end], about, worst([claim for claim in told if claim.end == end])))
    return tuple(out)


def _says_it(outer: Claim, inner: Claim) -> bool:
    """Whether ``inner`` stands inside the longer ``outer`` and is no more doubtful: as doubtful, or a word about a thing that
    is more so."""
    around = outer.start <= inner.start and inner.end <= outer.end
    longer = outer.end - outer.start > inner.end - inner.start
    worse = _WORST.index(outer.verdict) < _WORST.index(inner.verdict)
    return around and longer and (outer.verdict == inner.verdict or (worse and outer.kind == "object"))


def text_of(answer: Answer) -> str:
    """The answer with MARKS behind its claims.

    >>> text_of(Answer("A red ring.", (Claim("A red ring", 0, 10, "ring", 0.1, "contradicted"),)))
    'A red ring[!].'
    """
    return "".join(
        piece.text + (MARKS[piece.ends] if piece.ends else "") for part in parts(answer)[0] for piece in part.pieces
    )


def figures(claim: Claim) -> str:
    """The evidence as it was measured, name by name.

    >>> figures(Claim("a ring", 0, 6, "ring", 0.9, "supported", {"grounding": 4.2}))
    'grounding +4.20'
    """
    return ", ".join(f"{name} {value:+.2f}" for name, value in claim.evidence.items()) or "nothing was measured"
