"""An answer told to people and programs: as text with marks, as JSON, as HTML. What shows answers reads it from here.

    There is a red ring, a heart[!] and a star[?].

[!] stands behind a claim that the picture contradicts, [?] behind one that it leaves open; a claim without a mark is
supported. ``why`` explains a claim's verdict in words and is handed in by those who know the evidence; ``figures`` is the
plain list of it.
"""

from edgereverie.told.markup import fragment, marked_html, page
from edgereverie.told.parts import MARKS, Part, Piece, Why, figures, parts, text_of
from edgereverie.told.text import printable, remarks
from edgereverie.told.values import SCHEMA, finite, json_of

__all__ = [
    "MARKS",
    "SCHEMA",
    "Part",
    "Piece",
    "Why",
    "figures",
    "finite",
    "fragment",
    "json_of",
    "marked_html",
    "page",
    "parts",
    "printable",
    "remarks",
    "text_of",
]
