"""``python _slow_model.py WORDS...``: the command line, with a model without weights that says one long sentence slowly.

Its tokens take a while each, so that there is time to press Ctrl-C. At the end it says how many streams are open.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from edgereverie import stages
from edgereverie.backbones.starter import IMAGE, build_tokenizer
from edgereverie.chat import PHI3
from edgereverie.cli.app import main
from edgereverie.runtime.model import Model

SAYS = "There is a red ring and a blue star and a green moon and a pink heart."
spec = importlib.util.spec_from_file_location("scripted", Path(__file__).parent.parent / "runtime" / "conftest.py")
scripted = importlib.util.module_from_spec(spec)
spec.loader.exec_module(scripted)
alive: set[int] = set()


class Stream(scripted.ScriptedStream):
    """Counts itself."""

    def __init__(self, *given: object) -> None:
        super().__init__(*given)
        alive.add(id(self))

    def fork(self) -> Stream:
        return Stream(self.engine, self.fed)

    def close(self) -> None:
        alive.discard(id(self))


class Engine(scripted.ScriptedEngine):
    def open(self) -> Stream:
        return Stream(self)


def model(pause: float) -> Model:
    tokenizer = build_tokenizer([SAYS, "Yes, there is. No. Is there a ring in the image?"] * 20)
    image, end, begin = (tokenizer.token_to_id(name) for name in ("<image>", "<|end|>", "<|assistant|>"))
    size = tokenizer.get_vocab_size()
    says = [*tokenizer.encode(SAYS, add_special_tokens=False).ids, end]

    def rule(fed: tuple[int, ...]) -> np.ndarray:
        logits = np.zeros(size)
        said = fed[::-1].index(begin) if begin in fed else 0
        if said:
            time.sleep(pause)
        logits[says[min(said, len(says) - 1)]] = 9.0
        return logits

    return Model(Engine(size, image, IMAGE.tokens, rule), tokenizer, PHI3, IMAGE, "slow")


if __name__ == "__main__":
    from edgereverie.stages import batching

    loaded = model(float(os.environ.get("PAUSE", "0.02")))
    loaded.bundle = SimpleNamespace(text=lambda: "its manifest")
    stages.open_model = batching.open_model = lambda *_, **__: loaded
    try:
        main(sys.argv[1:])
    finally:
        loaded.close()
        print(f"open streams: {len(alive)}, pictures encoded: {loaded.engine.encoded}")
