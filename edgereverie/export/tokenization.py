"""Does llama.cpp tokenize as the tokenizer does? Asked of the written file, with thousands of strings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from edgereverie.chat import ChatFormat, render
from edgereverie.export.quantise import load_vocabulary, open_llama
from edgereverie.records import Turn

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_EACH = 500  # strings of each kind
_WORDS = (
    "is there a red ring to the left of the small blue cross Yes No Describe picture answer reason "
    "therefore object HALLUCINATION snake_case 3.14 1,024 e-mail it's don't WE'LL 12345 2026 naïve"
).split()
_SCRIPTS = "äöüßéñçøł ελλάδα кириллица 漢字かな交じり 한국어 עברית العربية हिन्दी 😀👍🏽👩‍👩‍👧 ½€™… ﬁ Å é\u200b\u00a0"


def probe_texts(chat: ChatFormat) -> dict[str, list[str]]:
    """Strings of the kinds that tokenizers disagree about, always the same ones, 3,000 in all."""
    rng = Random("vocabulary probe")
    control = [token for token in chat.control if token != chat.image_token]

    def sentence() -> str:
        return " ".join(rng.choices(_WORDS, k=rng.randint(1, 12))) + rng.choice(["", ".", "?", "!", "..."])

    def conversation() -> str:
        turns = [Turn("user", sentence()), Turn("assistant", sentence()), Turn("user", sentence())]
        return "".join(text for text, _ in render(chat, turns, image=False))

    kinds: dict[str, Callable[[], str]] = {
        "words": sentence,
        "ascii": lambda: "".join(chr(rng.randint(33, 126)) for _ in range(rng.randint(1, 24))),
        "unicode": lambda: "".join(rng.choices(_SCRIPTS, k=rng.randint(1, 16))).strip(" ") or "é",
        "blanks": lambda: sentence() + rng.choice(["  ", "   ", "\n", "\n\n", "\t", " \n "]) + sentence(),
        "control": lambda: sentence() + rng.choice(control) + rng.choice(["", " ", "\n"]) + sentence(),
        "chat": conversation,
    }
    return {kind: [make() for _ in range(_EACH)] for kind, make in kinds.items()}


def compare_ids(tokenizer: Tokenizer, gguf: Path, chat: ChatFormat) -> dict[str, Any]:
    """How often llama.cpp's own tokenization of the written file gives the ids of ``tokenizer.json``.

    Returns strings and equal (counts), by_kind, and up to twelve differing strings. Loads the vocabulary only.
    """
    llama = open_llama("Comparing the tokenization")
    by_kind: dict[str, list[int]] = {}
    differing: list[str] = []
    with load_vocabulary(llama, gguf) as tokenize:
        for kind, texts in probe_texts(chat).items():
            equal = [tokenizer.encode(text, add_special_tokens=False).ids == tokenize(text) for text in texts]
            by_kind[kind] = [sum(equal), len(texts)]
            differing += [text for text, same in zip(texts, equal, strict=True) if not same]
    return {
        "strings": sum(count for _, count in by_kind.values()),
        "equal": sum(same for same, _ in by_kind.values()),
        "by_kind": by_kind,
        "differing": differing[:12],
    }
