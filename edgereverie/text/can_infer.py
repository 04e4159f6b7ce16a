"""Which option of a multiple-choice question an answer names, one function for each published rule.

Both rules are called ``can_infer`` where they come from. They look for an option's letter that stands alone, then for the text
of exactly one option, and give up otherwise. Their quirks are kept, because published figures contain them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

REFUSED = "Z"
_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
_NO_REPLY = "Failed to obtain answer via API"  # what both harnesses write for an answer that never came
_SPACED = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_SAID = re.compile(r"answer\s+is\s+\**([ABCD])", re.IGNORECASE)
_FORMS = ("{}.", "{},", "{}:", "{})", "{}).", "({})", "({}).", ":{}", ":{},", ":{}.", ":{})", ":{}).")


def vlmevalkit(answer: str, options: Mapping[str, str]) -> str | None:
    """The letter that VLMEvalKit reads, REFUSED for a refusal, None where it would ask a judge.

    The rule of ``matching_util.py`` in open-compass/VLMEvalKit: punctuation becomes spaces; where the words hold one of the
    letters alone, it counts when it first stands among the last four; then comes "answer is B" anywhere, whatever follows the
    letter; then the one option whose text is in the answer, unless the answer is longer than twice all options together.

    >>> options = {"A": "a seed", "B": "a leaf"}
    >>> [vlmevalkit(answer, options) for answer in ("B", "(A).", "It is a leaf.", "A or B", "", "Z")]
    ['B', 'A', 'B', None, None, 'Z']
    >>> vlmevalkit("B, definitely, since this is what the picture shows to us all", options) is None
    True
    >>> vlmevalkit("The answer is a riddle to me, I am afraid, and so is the question", options)
    'A'
    """
    return _vlmevalkit_letter(answer, options) or _only_text(answer, options, longest=2)


def _vlmevalkit_letter(answer: str, options: Mapping[str, str]) -> str | None:
    if _NO_REPLY in answer:
        return None
    if any(refusal in answer for refusal in _REFUSALS):
        return REFUSED
    words = answer.translate(_SPACED).split()
    named = [letter for letter in options if letter in words]
    if len(named) == 1 and words.index(named[0]) > len(words) - 5:
        return named[0]
    if not named and REFUSED in words:
        return REFUSED
    said = _SAID.search(answer)
    letter = said[1].upper() if said else None
    return letter if letter in options else None


def lmms(answer: str, options: Mapping[str, str]) -> str | None:
    """The letter that lmms-eval reads, None where it would ask a judge. It may be one that is no option.

    The rule of ``mmbench_evals.py`` in EvolvingLMMs-Lab/lmms-eval, VLMEvalKit's of 2023: one of A to E alone among the words, but
    none where a word is "A" and there are more than three; then one in a form such as "B." or "(B)", form by form; then the one
    option whose text is in the answer. Options behind D are passed over.

    >>> options = {"A": "a seed", "B": "a leaf"}
    >>> [lmms(answer, options) for answer in ("B", "(A).", "It is a leaf.", "A or B", "", "**B**")]
    ['B', 'A', 'B', None, None, None]
    >>> lmms("A picture of B", options), lmms("A picture of a leaf", options), lmms("E", options)
    (None, 'B', 'E')
    """
    return _lmms_letter(answer) or _only_text(answer, {key: options[key] for key in "ABCD" if key in options})


def _lmms_letter(answer: str) -> str | None:
    if _NO_REPLY in answer:
        return None
    words = answer.split()
    article = "A" in words and len(words) > 3
    for form in ("{}", *_FORMS):
        named = [letter for letter in "ABCDE" if form.format(letter) in words]
        if len(named) == 1 and not (form == "{}" and article):
            return named[0]
    return None


def _only_text(answer: str, options: Mapping[str, str], longest: int | None = None) -> str | None:
    """The letter of the one option whose text is in the answer. longest: in lengths of all options, None for any."""
    lowered = answer.lower()
    if longest is not None and len(lowered) > longest * sum(len(text) for text in options.values()):
        return None
    named = [letter for letter, text in options.items() if text.lower() in lowered]
    return named[0] if len(named) == 1 else None
