"""Whether a question leaves the answer open, or asks for one of a few: yes or no, or a choice that it lists."""

from __future__ import annotations

import re

_AUXILIARY = re.compile(
    r"(?:is|are|was|were|do|does|did|can|could|will|would|should|has|have|had|am|may|might)(?:n['’]t)?\b", re.IGNORECASE
)
# "Can you describe it?" asks for a description. "Can you see a dog?" is answered with yes or no.
_REQUEST = re.compile(
    r"(?:can|could|will|would|do|may|might)\s+(?:you|i|we)\s+(?:please\s+|kindly\s+|also\s+)*"
    r"(?:describe|tell|list|name|explain|say|give|write|summari[sz]e|provide|show|count|identify|elaborate|caption|"
    r"have (?:a|the)|get (?:a|the)|know wh\w+)\b",
    re.IGNORECASE,
)
_TOLD = re.compile(r"\b(?:answer|reply|respond)\b[^.?!]*\b(?:yes|no)\b[^.?!]*\b(?:yes|no)\b", re.IGNORECASE)
_OPTIONS = re.compile(r"(?:^|\n)\s*\(?[A-D1-4][).:]\s*\S")
_INLINE = re.compile(r"(?:\([A-D]\)|\b[A-D][).])\s+\S")
_LETTER = re.compile(
    r"\b(?:option|choice)(?:['’]s)?\s+letter\b|\bletter of the (?:\w+ )?(?:option|choice)", re.IGNORECASE
)
_SENTENCE = re.compile(r"[^.?!\n]+[.?!]?")


def is_closed(question: str) -> bool:
    """True for questions of yes or no and of multiple choice. Read from the last sentence that asks something.

    >>> is_closed("Is there a ring in the image?"), is_closed("Look at it. Do you see a star here?")
    (True, True)
    >>> is_closed("Describe the image."), is_closed("Can you describe the image?"), is_closed("What colour is it?")
    (False, False, False)
    >>> is_closed("What is it?\\nA. a ring\\nB. a star"), is_closed("A dog is here. Answer with yes or no.")
    (True, True)
    >>> is_closed("Is it small or large?"), is_closed("")
    (False, False)
    """
    if _TOLD.search(question) or _LETTER.search(question):
        return True
    if len(_OPTIONS.findall(question)) > 1 or len(_INLINE.findall(question)) > 1:
        return True
    asked = [match.group().strip() for match in _SENTENCE.finditer(question) if match.group().rstrip().endswith("?")]
    if not asked or not _AUXILIARY.match(asked[-1]) or _REQUEST.match(asked[-1]):
        return False
    return re.search(r"\bor\b(?!\s+(?:not|no|more|less)\b)", asked[-1], re.IGNORECASE) is None
