"""How a question is written, as data: for runners that know no chat format by name.

``prompt.json``: what stands before the question, with a picture (``before``) and without (``before_text``), what stands
after it, what goes between an answer and the next question, the text that the picture's place is marked with, and the
tokens that end an answer.
"""

from __future__ import annotations

import json
from pathlib import Path

from edgereverie.bundle import write_text
from edgereverie.chat import ChatFormat, render
from edgereverie.records import Turn

_QUESTION = "QUESTION"


def prompt_pieces(chat: ChatFormat) -> dict[str, str | list[str]]:
    """The pieces of ``prompt.json``, cut out of what the chat format itself renders.

    >>> from edgereverie.chat import PHI3
    >>> prompt_pieces(PHI3)["before"], prompt_pieces(PHI3)["after"]
    ('<s><|user|>\\n<image>\\n', '<|end|>\\n<|assistant|>\\n')
    """
    before, after = _around(chat, image=True)
    before_text, _ = _around(chat, image=False)
    turns = [Turn("user", "1"), Turn("assistant", "2"), Turn("user", _QUESTION)]
    (_, _), (answer, _), (again, _) = render(chat, turns, image=False)
    return {
        "before": before,
        "before_text": before_text,
        "after": after,
        "between": answer.partition("2")[2] + again.partition(_QUESTION)[0],
        "image": chat.image_token,
        "stops": list(chat.stops),
    }


def _around(chat: ChatFormat, *, image: bool) -> tuple[str, str]:
    ((text, _),) = render(chat, [Turn("user", _QUESTION)], image=image)
    before, _, after = text.partition(_QUESTION)
    return before, after


def write_prompt(out: Path, chat: ChatFormat) -> dict[str, str]:
    """Write ``prompt.json`` into ``out``; returns its role."""
    write_text(out / "prompt.json", json.dumps(prompt_pieces(chat), indent=2, ensure_ascii=False) + "\n")
    return {"prompt": "prompt.json"}
