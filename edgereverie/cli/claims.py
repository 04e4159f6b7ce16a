"""An answer's claims on the terminal: what the picture contradicts is struck, what it leaves open carries a question mark."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgereverie.records import Answer, Verdict
from edgereverie.told.parts import MARKS, parts
from edgereverie.told.text import printable

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

_STYLE: dict[Verdict | None, str] = {None: "", "supported": "", "contradicted": "red strike", "unverified": "yellow"}
_VERDICT: dict[Verdict, str] = {"supported": "green", "contradicted": "red", "unverified": "yellow"}


def marked(answer: Answer) -> Text:
    """The answer with its claims marked; the marks stand without colour too, so a log or a pipe keeps them."""
    from rich.text import Text

    text = Text()
    for part in parts(answer)[0]:
        for piece in part.pieces:
            text.append(printable(piece.text), style=_STYLE[piece.verdict])
            if piece.ends:
                text.append(MARKS[piece.ends], style=_VERDICT[piece.ends])
    return text


def table(answer: Answer) -> Table:
    """One row for each claim: what was claimed, how much the picture supports it, and what speaks for or against it."""
    from rich.table import Table
    from rich.text import Text

    from edgereverie.runtime.evidence import why

    rows = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("claim", "verdict", "support", "evidence"):
        rows.add_column(heading, justify="right" if heading == "support" else "left")
    for claim in answer.claims:
        verdict = Text(claim.verdict, style=_VERDICT[claim.verdict])
        rows.add_row(Text(printable(claim.text)), verdict, f"{claim.support:.2f}", Text(why(claim)))
    return rows


def reasons(answer: Answer) -> Text:
    """The same in words: a line for each claim and one below it for its evidence."""
    from rich.text import Text

    from edgereverie.runtime.evidence import why

    text = Text()
    for claim in answer.claims:
        text.append(printable(claim.statement or claim.text), style="bold")
        text.append(f": {claim.verdict}", style=_VERDICT[claim.verdict])
        text.append(f", support {claim.support:.2f}\n")
        text.append(f"  {why(claim)}\n", style="dim")
    text.rstrip()
    return text
