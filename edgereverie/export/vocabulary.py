"""``tokenizer.json`` as GGUF's ``llama`` vocabulary, and a probe that compares both on hundreds of strings.

llama.cpp joins the neighbours whose joined piece has the highest score, leftmost first; BPE applies the merge of the
lowest rank, leftmost first. So a piece's score is minus its rank. llama.cpp may also join two neighbours that no merge
names, if their text is a piece; where that happens the ids differ, and ``compare_ids`` finds it. Our own runtimes give
ids and are not touched by it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from edgereverie.chat import ChatFormat, render
from edgereverie.errors import ExportError
from edgereverie.export.quantise import load_vocabulary, open_llama
from edgereverie.records import Turn

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_ADDED_SCORE = -1000.0


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """One entry per row of the embedding. types: gguf's TokenType values.

    space_prefix: whether a blank is put before each stretch of plain text. strip_right: whether the chat's control tokens
    swallow the blanks that follow them. begins: whether the tokenizer itself puts the first token before a text.
    """

    tokens: list[bytes]
    scores: list[float]
    types: list[int]
    space_prefix: bool
    strip_right: bool
    begins: bool


def read_vocabulary(data: dict[str, Any], rows: int, chat: ChatFormat) -> Vocabulary:
    """Vocabulary of a parsed ``tokenizer.json`` for an embedding with ``rows`` rows; rows without a token are UNUSED.

    Raises ExportError for tokenizers that are not byte-fallback BPE, or have more tokens than rows.
    """
    from gguf import TokenType

    model = data["model"]
    if model.get("type") != "BPE" or not model.get("byte_fallback"):
        raise ExportError(
            f"The tokenizer is {model.get('type')!r} without byte fallback, which GGUF's 'llama' kind needs.",
            hint="Export this model as ONNX.",
        )
    vocabulary: dict[str, int] = model["vocab"]
    added = {token["id"]: token for token in data["added_tokens"]}
    highest = max(*vocabulary.values(), *added)
    if highest >= rows:
        raise ExportError(
            f"The tokenizer's highest id is {highest}, the embedding has {rows} rows.",
            hint="Take tokenizer.json and the weights from the same model.",
        )
    merged = _merge_ranks(model["merges"])
    tokens = [f"[PAD{i}]" for i in range(rows)]
    scores = [_ADDED_SCORE] * rows
    types = [int(TokenType.UNUSED)] * rows
    for text, i in vocabulary.items():
        tokens[i], scores[i], types[i] = text, float(-merged.get(text, len(merged))), int(TokenType.NORMAL)
    for i, token in added.items():
        tokens[i], scores[i] = token["content"], _ADDED_SCORE
        types[i] = int(TokenType.CONTROL if token["special"] else TokenType.USER_DEFINED)
    for i, text in enumerate(tokens):
        # llama.cpp finds the token of a byte by its type, however the tokenizer file lists it.
        if _BYTE.fullmatch(text):
            scores[i], types[i] = 0.0, int(TokenType.BYTE)
    if model.get("unk_token") in vocabulary:
        types[vocabulary[model["unk_token"]]] = int(TokenType.UNKNOWN)
    controls = [
        token for token in added.values() if token["content"] in chat.control and token["content"].startswith("<|")
    ]
    return Vocabulary(
        tokens=[token.encode() for token in tokens],
        scores=scores,
        types=types,
        space_prefix=_prefixes_each_stretch(data),
        strip_right=sum(token["rstrip"] for token in controls) * 2 > len(controls),
        begins=_begins(data),
    )


def _merge_ranks(merges: list[Any]) -> dict[str, int]:
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(merges):
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        ranks.setdefault(left + right, rank)
    return ranks


def _prefixes_each_stretch(data: dict[str, Any]) -> bool:
    """Whether every stretch between control tokens gets a blank in front, as llama.cpp does when add_space_prefix is set.

    A Metaspace with "first" puts one before the text's very beginning only. llama.cpp has no such mode, and leaving the
    prefix out is right wherever a text begins with a control token, as every chat does.
    """
    parts = [data.get("normalizer") or {}, data.get("pre_tokenizer") or {}]
    flat = [inner for part in parts for inner in (part.get("normalizers") or part.get("pretokenizers") or [part])]
    return any(
        part.get("type") == "Prepend"
        or (part.get("type") == "Metaspace" and part.get("prepend_scheme", "always") == "always")
        for part in flat
    )


def _begins(data: dict[str, Any]) -> bool:
    processor = data.get("post_processor") or {}
    steps = processor.get("processors", [processor])
    return any(
        "SpecialToken" in step.get("single", [{}])[0] for step in steps if step.get("type") == "TemplateProcessing"
    )


def probe_texts(chat: ChatFormat) -> dict[str, list[str]]:
    """Strings of the kinds that tokenizers disagree about, always the same ones."""
    rng = Random("vocabulary probe")
    words = (
        "is there a red ring to the left of the small blue cross Yes No Describe picture answer reason "
        "therefore object HALLUCINATION snake_case 3.14 1,024 e-mail it's don't"
    ).split()
    scripts = "äöüßéñçøł ελλάδα кириллица 漢字かな交じり 한국어 עברית العربية हिन्दी 😀👍🏽👩‍👩‍👧 ½€™… ﬁ Å é\u200b\u00a0"
    control = [token for token in chat.control if token != chat.image_token]

    def sentence() -> str:
        return " ".join(rng.choices(words, k=rng.randint(1, 12))) + rng.choice(["", ".", "?", "!", "..."])

    return {
        "words": [sentence() for _ in range(120)],
        "ascii": ["".join(chr(rng.randint(33, 126)) for _ in range(rng.randint(1, 24))) for _ in range(80)],
        "unicode": ["".join(rng.choices(scripts, k=rng.randint(1, 16))).strip(" ") or "é" for _ in range(60)],
        "blanks": [sentence() + rng.choice(["  ", "   ", "\n", "\n\n", "\t", " \n "]) + sentence() for _ in range(60)],
        "control": [sentence() + rng.choice(control) + rng.choice(["", " ", "\n"]) + sentence() for _ in range(60)],
        "chat": [
            "".join(
                text
                for text, _ in render(
                    chat,
                    [Turn("user", sentence()), Turn("assistant", sentence()), Turn("user", sentence())],
                    image=False,
                )
            )
            for _ in range(60)
        ],
    }


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
