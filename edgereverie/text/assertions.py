"""What a sentence says about one thing, ready to be asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from edgereverie.records import ClaimKind
from edgereverie.text.english import is_plural
from edgereverie.text.noun_phrases import Phrase, Word, noun_start
from edgereverie.text.statements import Clause


@dataclass(frozen=True, slots=True)
class Assertion:
    """One checkable claim of a text; ``text`` stands at ``[start:end]`` of it.

    subject: the thing in its dictionary form. clause: the claim as a sentence and as questions. value: what is said of it, in
    a normal form: ``red``, ``three``, ``top left``, ``riding``. other: the second thing of a relation. present: False where
    the text says that it is not so. content: where the words stand that carry it, without articles and the like.
    """

    kind: ClaimKind
    text: str
    start: int
    end: int
    subject: str
    clause: Clause
    present: bool = True
    value: str = ""
    other: str = ""
    content: tuple[tuple[int, int], ...] = ()

    @property
    def statement(self) -> str:
        """A sentence of its own, which reads as this claim again."""
        return self.clause.statement(self.present)

    @property
    def opposite(self) -> str:
        """The statement of the contrary."""
        return self.clause.statement(not self.present)

    @property
    def question(self) -> str:
        """Yes speaks for the claim with present=True."""
        return self.clause.question()

    @property
    def denial(self) -> str:
        """No speaks for the claim with present=True."""
        return self.clause.denial()

    @property
    def key(self) -> tuple[str, str, str, str, bool]:
        """What is claimed, wherever it stands."""
        return self.kind, self.subject, self.value, self.other, self.present

    @property
    def polarity(self) -> float:
        return 1.0 if self.present else -1.0


def assertion(
    text: str,
    words: list[Word],
    kind: ClaimKind,
    where: tuple[int, int],
    clause: Clause,
    subject: str,
    content: list[int],
    *,
    value: str = "",
    other: str = "",
    present: bool = True,
    about: tuple[int, int] | None = None,
) -> Assertion:
    """A claim told by words[where[0]:where[1]]. about: where the thing is named that it is about."""
    start, end = words[where[0]].start, words[where[1] - 1].end
    return Assertion(
        kind, text[start:end], start, end, subject, clause,
        present, value, other, (*([about] if about else []), *((words[i].start, words[i].end) for i in content)),
    )  # fmt: skip


class Thing(NamedTuple):
    """What is spoken of. noun: as the text has it, with the nouns before it. one: in the singular. many: it is a plural.
    where: its place in the text, None where another text names it.
    """

    noun: str
    subject: str
    many: bool
    one: str
    where: tuple[int, int] | None = None


def thing(words: list[Word], phrase: Phrase) -> Thing:
    name = noun(words, phrase)
    head = words[phrase.last - 1]
    return Thing(name, phrase.subject, is_many(words, phrase), _singular(name, phrase), (head.start, head.end))


def noun(words: list[Word], phrase: Phrase) -> str:
    """The noun as the text has it, with the nouns before it: clock tower, traffic lights."""
    return " ".join(word.text for word in words[noun_start(words, phrase) : phrase.last])


def one_of(words: list[Word], phrase: Phrase) -> str:
    """The same in the singular: clock tower, traffic light."""
    return _singular(noun(words, phrase), phrase)


def _singular(name: str, phrase: Phrase) -> str:
    *before, _ = name.split(" ")
    return " ".join([*before, phrase.subject.split(" ")[-1]])


def is_many(words: list[Word], phrase: Phrase) -> bool:
    return is_plural(words[phrase.last - 1].text)
