"""An answer on the terminal: what the picture contradicts is struck, what it leaves open carries a question mark."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgereverie.records import Answer

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

_STYLE = {"supported": "", "contradicted": "red strike", "unverified": "yellow"}
_MARK = {"supported": "", "contradicted": "[!]", "unverified": "[?]"}
_VERDICT = {"supported": "green", "contradicted": "red", "unverified": "yellow"}


def marked(answer: Answer) -> Text:
    """The answer with its claims marked; the marks stand without colour too, so a log or a pipe keeps them."""
    from rich.text import Text

    text, position = Text(), 0
    for claim in sorted(answer.claims, key=lambda claim: (claim.start, claim.end)):
        if claim.start < position:  # a claim inside another one: its mark stands in the table
            continue
        text.append(answer.text[position : claim.start])
        text.append(answer.text[claim.start : claim.end], style=_STYLE[claim.verdict])
        text.append(_MARK[claim.verdict], style=_VERDICT[claim.verdict])
        position = claim.end
    text.append(answer.text[position:])
    return text


def table(answer: Answer) -> Table:
    """One row for each claim: what was claimed, how much the picture supports it, and the figures behind that."""
    from rich.table import Table
    from rich.text import Text

    rows = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("claim", "verdict", "support", "evidence"):
        rows.add_column(heading, justify="right" if heading == "support" else "left")
    for claim in answer.claims:
        evidence = ", ".join(f"{name} {value:+.2f}" for name, value in claim.evidence.items())
        verdict = Text(claim.verdict, style=_VERDICT[claim.verdict])
        rows.add_row(Text(claim.text), verdict, f"{claim.support:.2f}", Text(evidence))
    return rows
