"""What kind of answer a question wants: one of a few that it lists, a description, or something between."""

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
_DESCRIBE = re.compile(
    r"(?:(?:can|could|would|will) you\s+)?(?:please\s+|now\s+)*(?:describe|caption|list|name|depict|summari[sz]e|narrate|"
    r"tell (?:me|us) (?:about|what)|(?:give|write|provide) .*\b(?:description|caption|account|summary)|"
    r"what (?:can|do) you (?:see|notice|observe)|what does (?:the|this) \w+ (?:show|depict|contain)|"
    r"what (?:is|are|'s|objects are|things are) (?:all )?(?:in|on|shown in|visible in|happening in|going on in) (?:the|this) "
    r"(?:image|picture|photo\w*|scene)|which \w+ are in (?:the|this) (?:image|picture|photo\w*|scene))\b",
    re.IGNORECASE,
)
_PLACED = re.compile(
    r"\b(?:at|to|on|near|beside|above|below|left|right|top|bottom|corner|behind|under)\b", re.IGNORECASE
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


def is_description(question: str) -> bool:
    """True where a picture is to be told of as a whole.

    >>> [is_description(text) for text in ("Describe the image.", "What do you see in this picture, and where?")]
    [True, True]
    >>> [is_description(text) for text in ("What is in the centre?", "What do you see at the left?", "How many are there?")]
    [False, False, False]
    """
    found = _DESCRIBE.match(question.strip())
    if found is None:
        return False
    asks = found.group().lower().startswith(("what", "which"))
    return not (asks and _PLACED.search(question[: question.find("?") + 1 or None]))
