"""Reading yes or no out of a free answer, one function for each published rule.

Scorers disagree on the same text, so the rule is part of a metric's name: a report says ``pope/official``, never just
POPE. Each function gives True for a yes, False for a no, and None where its scorer can read neither. The quirks are kept,
because published figures contain them.
"""

from __future__ import annotations

import re

_POPE_NO = frozenset(("No", "not", "no"))
_OPERA_NO = frozenset(("No", "not", "no", "NO"))
_MARINE_NO = frozenset(("no", "not"))

# VLMEvalKit's list, in its order.
_PUNCTUATION = tuple(';/[]"{}()=+\\_-><@`,?!')
_DIGIT_COMMA = re.compile(r"\d,\d")
_FULL_STOP = re.compile(r"(?<!\d)\.(?!\d)")
_MOST_FULL_STOPS = 32  # VLMEvalKit hands re.UNICODE, which is 32, to ``sub`` as the count: later full stops stay


def pope_official(text: str) -> bool:
    """Whether POPE's own scorer takes the answer for a yes.

    The rule of ``evaluate.py`` in AoiDragon/POPE, and of LLaVA's ``eval_pope.py``: keep what stands before the first
    full stop, delete commas, split on single spaces; one token that is exactly ``No``, ``not`` or ``no`` makes it a no,
    anything else is a yes.

    >>> pope_official("Yes, there is a ring."), pope_official("No, there is no ring.")
    (True, False)
    >>> pope_official("NO"), pope_official(""), pope_official("1. No")
    (True, True, True)
    >>> pope_official("Yes, there is no doubt")
    False
    """
    first = text.split(".", 1)[0].replace(",", "")
    return _POPE_NO.isdisjoint(first.split(" "))


def pope_vcd(text: str, truth: bool) -> bool:
    """Whether VCD's scorer counts the answer as a yes, which hangs on the truth.

    The rule of ``eval_pope.py`` in DAMO-NLP-SG/VCD, and of cd_rethink's: in lower case, a question whose answer is yes asks for
    the letters "yes" anywhere, one whose answer is no for the letters "no" anywhere, also inside "know" or "snow".

    >>> pope_vcd("There is a dog.", True), pope_vcd("There is a dog.", False)
    (False, True)
    >>> pope_vcd("A dog in the snow.", False)
    False
    """
    said = text.lower()
    return "yes" in said if truth else "no" not in said


def pope_opera(text: str) -> bool:
    """Whether OPERA's scorer takes the answer for a yes.

    The rule of ``recorder`` in shikiw/OPERA's ``pope_eval.py``: delete all full stops and commas, split the whole text on single
    spaces; a token ``No``, ``not``, ``no`` or ``NO``, or one that ends in ``n't``, makes it a no.

    >>> pope_opera("1. No"), pope_opera("There isn't one."), pope_opera("No!")
    (False, False, True)
    """
    words = text.replace(".", "").replace(",", "").split(" ")
    return _OPERA_NO.isdisjoint(words) and not any(word.endswith("n't") for word in words)


def pope_marine(text: str) -> bool | None:
    """Whether MARINE's scorer takes the answer for a yes; None for an empty answer, which it leaves out.

    The rule of ``eval/eval_pope.py`` in Linxi-ZHAO/MARINE: what stands before the first full stop, split on any white space; a
    word that is no or not in any case makes it a no. Commas stay, so "No," is a yes.

    >>> pope_marine("NO"), pope_marine("No, there is none."), pope_marine("No, there is no dog."), pope_marine(" ")
    (False, True, False, None)
    """
    if not text.strip():
        return None
    return _MARINE_NO.isdisjoint(word.lower() for word in text.split(".", 1)[0].split())


def pope_lmms(text: str) -> bool | None:
    """What lmms-eval reads: the answer must be the one word, in any case, with nothing but white space around it.

    The rule of ``tasks/pope/utils.py`` in EvolvingLMMs-Lab/lmms-eval.

    >>> pope_lmms(" Yes "), pope_lmms("no"), pope_lmms("Yes.")
    (True, False, None)
    """
    return {"yes": True, "no": False}.get(text.lower().strip())


def vlmevalkit(text: str) -> bool | None:
    """What VLMEvalKit reads without a judge: one of the words yes and no, and not the other.

    The rule of ``YOrN_Extraction`` in open-compass/VLMEvalKit, after its removal of punctuation: each sign of its list is deleted
    when it stands beside a space anywhere (or when the text has a comma between digits), else it becomes a space; full
    stops that are not beside a digit are deleted.

    >>> vlmevalkit("No, there is none."), vlmevalkit("**Yes**"), vlmevalkit("yes,no"), vlmevalkit("Not really.")
    (False, None, None, None)
    """
    words = _unpunctuated(text.lower()).split()
    yes, no = "yes" in words, "no" in words
    return yes if yes != no else None


def mme_official(text: str) -> bool | None:
    """What MME's own scorer reads: in lower case, exactly yes or no, else the first of "yes", "no" in the first 4 characters.

    The rule of ``calculation.py`` in MME's eval_tool. The text is not stripped: two spaces in front hide a yes.

    >>> mme_official("Yes."), mme_official(" yes"), mme_official("  yes"), mme_official("not sure"), mme_official("")
    (True, True, None, False, None)
    """
    return _in_front(text.lower())


def mme_lmms(text: str) -> bool | None:
    """The same as lmms-eval reads it: stripped, without full stops, and "y" or "n" alone count.

    The rule of ``tasks/mme/utils.py`` in EvolvingLMMs-Lab/lmms-eval.

    >>> mme_lmms("  yes"), mme_lmms("N."), mme_lmms("n o"), mme_lmms("x")
    (True, False, None, None)
    """
    said = text.lower().strip().replace(".", "")
    if len(said) == 1:
        return {"y": True, "n": False}.get(said)
    return _in_front(said)


def _in_front(said: str) -> bool | None:
    front = said[:4]
    return True if "yes" in front else False if "no" in front else None


def _unpunctuated(text: str) -> str:
    digits = _DIGIT_COMMA.search(text) is not None
    bare = text
    for sign in _PUNCTUATION:
        if sign in text:
            beside_space = sign + " " in text or " " + sign in text
            bare = bare.replace(sign, "" if beside_space or digits else " ")
    return _FULL_STOP.sub("", bare, count=_MOST_FULL_STOPS)
