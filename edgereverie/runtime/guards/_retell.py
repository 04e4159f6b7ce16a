"""Telling anew what is right in a sentence that does not stand without its wrong claims."""

from __future__ import annotations

import re
from collections.abc import Sequence

from edgereverie.runtime.guards._edits import be, tidy
from edgereverie.text.assertions import Assertion
from edgereverie.text.english import is_plural, with_article

_DEFINITE = re.compile(r"^(?:the|this|that|these|those|its|his|her|their|another|other)\s+", re.IGNORECASE)
_COUNTED = re.compile(
    r"^(?:an?|one|two|three|four|five|six|seven|eight|nine|ten|several|some|many|few|multiple|\d+)\b", re.IGNORECASE
)


def retold(sentence: str, good: Sequence[Assertion], known: set[tuple]) -> str:
    """ "There is ..." with the good things as the sentence names them, then what else is right. known: what was told before.

    Places of ``good`` count from the sentence's beginning.
    """
    named, told = [], []
    for thing in (claim for claim in good if claim.kind == "object" and claim.present):
        inner = [
            claim for claim in good if thing.start <= claim.start and claim.end <= thing.end and claim is not thing
        ]
        if thing.key in known and all(claim.key in known for claim in inner):
            continue
        named.append(_named(thing, [claim for claim in inner if claim.kind in ("attribute", "count")], sentence))
        told += [id(claim) for claim in (thing, *inner) if claim.kind in ("object", "attribute", "count")]
    rest = [claim for claim in good if id(claim) not in told and claim.key not in known]
    opening = [f"There {be(named[0])} {joined(list(dict.fromkeys(named)))}."] if named else []
    return tidy(
        " ".join(
            [*opening, *dict.fromkeys(claim.statement for claim in rest if claim.kind != "object" or not claim.present)]
        )
    )


def plainly(good: Sequence[Assertion]) -> str:
    """Each claim as a sentence of its own."""
    return " ".join(dict.fromkeys(claim.statement for claim in good))


def joined(parts: Sequence[str]) -> str:
    """
    >>> joined(["a ring", "a star", "two moons"])
    'a ring, a star and two moons'
    """
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def _named(thing: Assertion, inner: Sequence[Assertion], sentence: str) -> str:
    """The thing with its right number and looks, brought in for the first time."""
    name = thing.statement.removeprefix("There is ").removeprefix("There are ").removesuffix(".")
    bare = _COUNTED.sub("", name).strip() if name.startswith(("a ", "an ")) else name
    words = sentence[thing.start : thing.end].lower()
    noun = " ".join(_DEFINITE.sub("", words).split()[-len(bare.split()) :])
    looks = [claim.value for claim in inner if claim.kind == "attribute" and claim.present]
    number = next((claim.value for claim in inner if claim.kind == "count"), "")
    described = " ".join([*(look for look in looks if not look.startswith("made of")), noun])
    if number:
        return f"{number} {described}"
    return described if is_plural(noun.split()[-1]) else with_article(described)
