"""What an answer must follow, and what a backend that knows grammars makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

# One JSON object (RFC 8259). Blanks are bounded: a model could go on with them for ever.
_JSON = r"""
root   ::= object
value  ::= object | array | string | number | "true" | "false" | "null"
object ::= "{" blank ( member ( "," blank member )* )? "}" blank
member ::= string ":" blank value blank
array  ::= "[" blank ( value blank ( "," blank value blank )* )? "]"
string ::= "\"" ( plain | "\\" escape )* "\""
plain  ::= [^"\\\x00-\x1F\x7F]
escape ::= ["\\/bfnrt] | "u" [0-9a-fA-F]{4}
number ::= "-"? ( "0" | [1-9] [0-9]{0,17} ) ( "." [0-9]{1,17} )? ( [eE] [-+]? [0-9]{1,3} )?
blank  ::= ( " " | "\n" [ \t]{0,16} )?
"""


class Constraint(Protocol):
    """The state of one answer's grammar."""

    def allow(self, tokens: Sequence[int] | np.ndarray) -> np.ndarray:
        """Which of these ids may come next, bool; an end of turn only where the answer may end."""
        ...

    def accept(self, token: int) -> None:
        """That token came. Only one that is allowed may."""
        ...

    def close(self) -> None: ...


# Tokens of many vocabularies hold the blank before their word, which is no part of the answer's text.
START = "edgereverie-answer"
_START = f'{START} ::= " "? root'


def grammar_text(grammar: str) -> str:
    """GBNF of ``json`` or of the grammar itself; the answer follows its rule START, which is its root after a blank or none."""
    return f"{_JSON if grammar.strip().lower() == 'json' else grammar}\n{_START}\n"
