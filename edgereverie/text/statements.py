"""A claim as a sentence of its own, and as the short questions that ask for it, in the words that models are trained on."""

from __future__ import annotations

from typing import NamedTuple

from edgereverie.text.english import VERBS_S, is_plural, plural, with_article


class Clause(NamedTuple):
    """What is said of what. subject: ``the ring``, or ``there``. verb: its base form. tail: what only questions add."""

    subject: str
    rest: str
    plural: bool = False
    verb: str = "be"
    tail: str = ""

    def statement(self, present: bool = True) -> str:
        """
        >>> Clause("the dogs", "brown", plural=True).statement(), Clause("the man", "a hat", verb="have").statement(False)
        ('The dogs are brown.', 'The man does not have a hat.')
        """
        return _sentence(self._said(present) + ".")

    def question(self) -> str:
        """
        >>> Clause("there", "a ring", tail=" in the image").question(), Clause("the man", "a hat", verb="have").question()
        ('Is there a ring in the image?', 'Does the man have a hat?')
        """
        if self.verb == "be":
            return _sentence(f"{self._be()} {self.subject} {self.rest}{self.tail}?")
        return _sentence(f"{self._do()} {self.subject} {self.verb} {self.rest}{self.tail}?")

    def denial(self) -> str:
        """The question that a yes to ``question`` answers with no.

        >>> Clause("there", "a ring", tail=" in the image").denial(), Clause("the ring", "red").denial()
        ('Is it true that there is no ring in the image?', 'Is it true that the ring is not red?')
        """
        return f"Is it true that {self._said(False)}{self.tail}?"

    def _said(self, present: bool) -> str:
        if self.verb == "be":
            if present:
                return f"{self.subject} {self._be()} {self.rest}"
            if self.subject == "there" and self.rest.startswith(("a ", "an ")):
                return f"there is no {self.rest.split(' ', 1)[1]}"
            if self.subject == "there" and not self.rest.split()[0].isdigit() and is_bare(self.rest):
                return f"there {self._be()} no {self.rest}"
            return f"{self.subject} {self._be()} not {self.rest}"
        if present:
            return f"{self.subject} {self.verb if self.plural else third_person(self.verb)} {self.rest}"
        return f"{self.subject} {self._do()} not {self.verb} {self.rest}"

    def _be(self) -> str:
        return "are" if self.plural else "is"

    def _do(self) -> str:
        return "do" if self.plural else "does"


def there_is(noun: str) -> Clause:
    """That there is such a thing, one or several. noun: in the singular, unless it has none.

    >>> there_is("arrow").question(), there_is("jeans").question()
    ('Is there an arrow in the image?', 'Are there jeans in the image?')
    """
    many = is_plural(noun.split()[-1])
    return Clause("there", noun if many else with_article(noun), many, tail=" in the image")


def there_are(number: str, noun: str) -> Clause:
    """That there are so many of it. noun: in the singular.

    >>> there_are("three", "dog").statement(), there_are("one", "ring").question()
    ('There are three dogs.', 'Is there one ring in the image?')
    """
    one = number in ("one", "1")
    return Clause("there", f"{number} {noun if one else plural(noun)}", not one, tail=" in the image")


def base_form(verb: str) -> str:
    """
    >>> [base_form(verb) for verb in ("rides", "watches", "carries", "has", "chases", "ride")]
    ['ride', 'watch', 'carry', 'have', 'chase', 'ride']
    """
    if verb in ("has", "have"):
        return "have"
    if verb.endswith("ies") and len(verb) > 4:
        return verb[:-3] + "y"
    if verb.endswith(("ches", "shes", "sses", "xes", "zzes", "oes")):
        return verb[:-2]
    return verb[:-1] if verb in VERBS_S or (verb.endswith("s") and not verb.endswith("ss")) else verb


def third_person(verb: str) -> str:
    """
    >>> [third_person(verb) for verb in ("ride", "watch", "carry", "have")]
    ['rides', 'watches', 'carries', 'has']
    """
    if verb == "have":
        return "has"
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return verb[:-1] + "ies"
    return verb + ("es" if verb.endswith(("ch", "sh", "ss", "x", "zz", "o")) else "s")


def is_bare(noun: str) -> bool:
    """Whether a noun phrase is a plural without a number: jeans."""
    return len(noun.split()) <= 2 and is_plural(noun.split()[0])


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]
