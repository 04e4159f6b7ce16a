"""A model in a process of its own: ``python -m edgereverie.stages._worker`` answers on standard output what it is asked on
standard input, a JSON line each.

    {"model", "backend", "guard"}                 -> {"backend", "device"}
    {"image", "questions", "room"}                -> {"answers": [...]}, or {"error", "message", "hint"}

It ends with its input, so that it does not outlive the process that started it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from edgereverie.errors import EdgeReverieError


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; who started this one ends it
    with os.fdopen(os.dup(1), "wb") as replies:
        os.dup2(2, 1)  # what libraries print is no reply
        try:
            _serve(sys.stdin.buffer, replies)
        except EdgeReverieError as error:
            _say(replies, {"error": type(error).__name__, "message": str(error), "hint": error.hint})
        except BrokenPipeError:
            os._exit(1)  # nobody listens any more


def _serve(requests: BinaryIO, replies: BinaryIO) -> None:
    from edgereverie.evaluation.journal import answer_json
    from edgereverie.stages._answerers import asking
    from edgereverie.stages.backbones import open_model

    told = json.loads(requests.readline())
    with open_model(told["model"], backend=told["backend"]) as model:
        answer = asking(model, told["guard"])
        _say(replies, {"backend": model.engine.backend, "device": model.engine.device})
        for line in requests:
            row = json.loads(line)
            image = None if row["image"] is None else Path(row["image"])
            found = answer(image, row["questions"], row["room"])
            _say(replies, {"answers": [answer_json(replace(one, record=())) for one in found]})


def _say(replies: BinaryIO, value: Any) -> None:
    replies.write(json.dumps(value).encode() + b"\n")
    replies.flush()


if __name__ == "__main__":
    main()
