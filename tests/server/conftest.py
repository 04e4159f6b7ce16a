"""A real model over a scripted engine, and a server for it."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("h11")

from edgereverie.backbones.starter import IMAGE, build_tokenizer
from edgereverie.chat import PHI3
from edgereverie.runtime.model import Model

from ._serving import Running, running


def _scripted() -> Any:
    path = Path(__file__).parent.parent / "runtime" / "conftest.py"
    spec = importlib.util.spec_from_file_location("runtime_conftest", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def nothing_unforeseen(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A traceback in the log is a fault of the server's, whatever the client did. ``caplog.clear()`` takes back one that a
    test asked for."""
    yield
    assert not [record for record in caplog.get_records("call") if record.exc_info or record.name == "asyncio"]


@pytest.fixture(scope="session")
def tokenizer():
    corpus = ["Yes, there is a ring. No, there is no ring in the image. A red star and a moon. Is there a star?"] * 5
    return build_tokenizer(corpus)


@pytest.fixture
def saying(tokenizer) -> Callable[..., Model]:
    """A real model over a scripted engine that says ``text`` to everything, ``pause`` seconds a token.

    Its engine counts the streams that are open (``live``).
    """
    module = _scripted()
    image_token, end = tokenizer.token_to_id("<image>"), tokenizer.token_to_id("<|end|>")
    begin = tokenizer.token_to_id("<|assistant|>")
    size = tokenizer.get_vocab_size()

    class Counted(module.ScriptedStream):
        def __init__(self, engine: Any, fed: Sequence[int] = ()) -> None:
            super().__init__(engine, fed)
            engine.live.add(self)

        def feed(self, *arguments: Any, **named: Any) -> np.ndarray:
            if self.engine.pause:
                time.sleep(self.engine.pause)
            return super().feed(*arguments, **named)

        def fork(self) -> Counted:
            return Counted(self.engine, self.fed)

        def close(self) -> None:
            self.engine.live.discard(self)

    class Counting(module.ScriptedEngine):
        grammar = False

        def open(self) -> Counted:
            return Counted(self)

        def feed_many(self, feeds: Sequence[Any]) -> list[np.ndarray]:
            return [feed.stream.feed(feed.ids, logits=feed.logits) for feed in feeds]

    def make(text: str = "Yes, there is a ring.", pause: float = 0.0, context: int = 2048) -> Model:
        says = [*tokenizer.encode(text, add_special_tokens=False).ids, end]

        def speak(fed: tuple[int, ...]) -> np.ndarray:
            said = len(fed) - 1 - (len(fed) - 1 - fed[::-1].index(begin)) if begin in fed else 0
            logits = np.zeros(size)
            logits[says[min(said, len(says) - 1)]] = 9.0
            return logits

        engine = Counting(size, image_token, IMAGE.tokens, speak, context)
        engine.live, engine.pause = set(), pause
        return Model(engine, tokenizer, PHI3, IMAGE, "scripted")

    return make


@pytest.fixture
def serving() -> Iterator[Callable[..., Running]]:
    """``running`` until the test ends."""
    with ExitStack() as stack:
        yield lambda model, **settings: stack.enter_context(running(model, **settings))
