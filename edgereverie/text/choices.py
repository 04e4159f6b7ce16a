"""Which letter an answer to a ScienceQA question names, one function for each published rule; None where it reads none.

Another scorer, VLMEvalKit's, reads them as it reads all multiple choice: see ``can_infer``.
"""

from __future__ import annotations

import re

_LETTERS = frozenset("ABCDE")
_SAID = re.compile(r"The answer is ([A-Z]).")


def scienceqa_llava(text: str) -> str | None:
    """The rule of ``eval_science_qa.py`` in haotian-liu/LLaVA.

    A letter from A to E alone; or in front, before a full stop and a space; or the one place where "The answer is X" stands with
    any further character, which is meant to be the full stop. A letter beyond the question's choices is wrong, not unread.

    >>> [scienceqa_llava(text) for text in ("B", "B. a leaf", "The answer is C.", "The answer is Z!")]
    ['B', 'B', 'C', 'Z']
    >>> [scienceqa_llava(text) for text in ("B.", "b", "(B)", "The answer is C", "The answer is A. The answer is A.")]
    [None, None, None, None, None]
    """
    if text in _LETTERS:
        return text
    if text[:1] in _LETTERS and text[1:3] == ". ":
        return text[0]
    said = _SAID.findall(text)
    return said[0] if len(said) == 1 else None


def scienceqa_lmms(text: str) -> str | None:
    """The rule of ``tasks/scienceqa/utils.py`` in EvolvingLMMs-Lab/lmms-eval.

    Stripped, one character in either case, or a capital with a full stop behind it, whatever follows.

    >>> [scienceqa_lmms(text) for text in (" b ", "B.", "B.a leaf", "b. a leaf", "The answer is C.", "")]
    ['B', 'B', 'B', None, None, None]
    """
    said = text.strip()
    if len(said) == 1:
        return said.upper()
    return said[0] if said[:1].isupper() and said[1:2] == "." else None
