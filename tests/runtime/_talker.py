"""A model that says what is written down for it: an answer for each question, and how sure it is of each word.

Its streams are counted, so that tests see whether all were given back.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgereverie.backbones.starter import IMAGE, build_tokenizer
from edgereverie.chat import PHI3
from edgereverie.errors import BackendError
from edgereverie.runtime.model import Model

_spec = importlib.util.spec_from_file_location("runtime_conftest", Path(__file__).with_name("conftest.py"))
_conftest = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_conftest)

CORPUS = [
    "Yes, there is a ring. No, there is no ring in the image. A red star and a moon. Is there a star? It is blue.",
    "Is this answer right or wrong? Is this answer wrong or right? right wrong Right. Wrong. Two cats and a drop.",
] * 5
SURE = 0.98  # of a scripted token
# The question, whether there is a picture, what was said so far -> the whole answer, which is said SURE-ly, or the
# probabilities of the next word, "" being the answer's end.
Says = Callable[[str, bool, str], str | Mapping[str, float]]


class Question(str):
    """The last question; ``before`` is what was said before it, question and answer in turn."""

    before: tuple[str, ...] = ()


class CountedStream(_conftest.ScriptedStream):
    def __init__(self, engine: Any, fed: Sequence[int] = ()) -> None:
        super().__init__(engine, fed)
        self.live = True
        engine.live += 1

    def fork(self) -> CountedStream:
        assert self.live
        return CountedStream(self.engine, self.fed)

    def feed(self, *args: Any, **named: Any) -> np.ndarray:
        assert self.live, "fed after it was closed"
        self.engine.sound -= 1
        if self.engine.sound < 0:
            raise BackendError("The engine is out of order.")
        return super().feed(*args, **named)

    def close(self) -> None:
        self.engine.live -= self.live
        self.live = False


class CountedEngine(_conftest.ScriptedEngine):
    """live: streams that are open. together: how many streams each feed of several had. sound: feeds until it fails."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.live, self.together, self.sound = 0, [], 10**9

    def open(self) -> CountedStream:
        return CountedStream(self)

    def feed_many(self, feeds: Sequence[Any]) -> list[np.ndarray]:
        self.together.append(len(feeds))
        return super().feed_many(feeds)


def tokenizer() -> Any:
    return build_tokenizer(CORPUS)


def talker(words: Any, says: Says, context: int = 512) -> Model:
    """A model over the tokenizer ``words`` that says what ``says`` has for the last question."""
    begin, user = words.token_to_id("<|assistant|>"), words.token_to_id("<|user|>")
    end, picture = words.token_to_id("<|end|>"), words.token_to_id("<image>")
    size = words.get_vocab_size() + 5  # padding rows, as real checkpoints have

    def rule(fed: tuple[int, ...]) -> np.ndarray:
        if begin not in fed:
            return np.zeros(size)
        texts, marks = [], [at for at, token in enumerate(fed) if token in (begin, user)]
        for at, following in zip(marks, [*marks[1:], len(fed)], strict=True):
            inside = [token for token in fed[at + 1 : following] if token not in (picture, end)]
            texts.append(words.decode(inside).strip())
        start = marks[-1]
        question = Question(texts[-2])
        question.before = tuple(texts[:-2])
        said = fed[start + 1 :]
        script = says(question, picture in fed, words.decode(list(said)))
        if isinstance(script, str):
            ids = [*words.encode(script, add_special_tokens=False).ids, end]
            script = {ids[min(len(said), len(ids) - 1)]: SURE}
        chances = {token if isinstance(token, int) else token_of(words, token, end): p for token, p in script.items()}
        logits = np.full(size, math.log(max(1 - sum(chances.values()), 1e-9) / size))
        for token, chance in chances.items():
            logits[token] = math.log(chance)
        return logits

    return Model(CountedEngine(size, picture, IMAGE.tokens, rule, context), words, PHI3, IMAGE, "talker")


def token_of(words: Any, word: str, end: int) -> int:
    """The one token that the word is, with the blank before it."""
    if not word:
        return end
    token = words.token_to_id(f"▁{word}")
    return words.token_to_id(word) if token is None else token
