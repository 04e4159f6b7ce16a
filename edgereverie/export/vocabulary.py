"""``tokenizer.json`` as one of GGUF's two kinds of vocabulary that our models have.

``llama``, of SentencePiece: llama.cpp joins the neighbours whose joined piece has the highest score, leftmost first; BPE
applies the merge of the lowest rank, leftmost first. So a piece's score is minus its rank. llama.cpp may also join two
neighbours that no merge names, if their text is a piece. ``gpt2``, byte-level BPE: the merges go into the file as they
are, and ``pre`` names the way in which words are split before. What llama.cpp has no word for (composing of Unicode, say)
makes ids differ; ``compare_ids`` finds that. Our own runtimes give ids and are not touched by it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from edgereverie.chat import ChatFormat
from edgereverie.errors import ExportError

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_ADDED_SCORE = -1000.0
_AS_ONNX = "Export this model as ONNX."
# How words are split (Qwen's and StableLM-2's; OpenAI's cl100k with single digits), and llama.cpp's name for it. Its
# "stablelm2" splits alike; only its detokenizer removes blanks before punctuation, which the tokenizer's own does not.
_PRE = {
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+": "qwen2",
}  # fmt: skip
_PRE_PLAIN = "gpt-2"  # ByteLevel's own splitting: GPT-2's, Phi-2's, GPT-NeoX's


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """One entry per row of the embedding. model: GGUF's word. types: gguf's TokenType values. merges: of ``gpt2``.

    space_prefix: whether a blank is put before each stretch of plain text. strip_right: whether the chat's control tokens
    swallow the blanks that follow them. begins: whether the tokenizer itself puts the first token before a text. unknown:
    the token for what no piece spells, if there is one.
    """

    model: Literal["llama", "gpt2"]
    pre: str
    tokens: list[bytes]
    scores: list[float]
    types: list[int]
    merges: list[str]
    space_prefix: bool
    strip_right: bool
    begins: bool
    unknown: int | None


def read_vocabulary(data: dict[str, Any], rows: int, chat: ChatFormat) -> Vocabulary:
    """Vocabulary of a parsed ``tokenizer.json`` for an embedding with ``rows`` rows; rows without a token are UNUSED.

    Raises ExportError for tokenizers that are neither BPE with byte fallback nor byte-level BPE that splits words as
    llama.cpp can, for one token with two ids, and for more tokens than rows.
    """
    model, pre = data["model"], _pre(data)
    vocabulary: dict[str, int] = model["vocab"]
    added = {token["id"]: token for token in data["added_tokens"]}
    _check_ids(vocabulary, added, rows)
    merges = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]]
    spelt = pre == "default"
    if not spelt and not merges:
        raise ExportError("The tokenizer joins no letters (it has no merges); llama.cpp asks for some.", hint=_AS_ONNX)
    tokens, scores, types = _entries(vocabulary, added, rows, merges)
    if spelt:
        for i, text in enumerate(tokens):
            # llama.cpp finds the token of a byte by its type, however the tokenizer file lists it.
            if _BYTE.fullmatch(text):
                scores[i], types[i] = 0.0, _kind("BYTE")
    unknown = vocabulary.get(model.get("unk_token") or "")
    if unknown is not None:
        types[unknown] = _kind("UNKNOWN")
    controls = [token for token in added.values() if token["content"] in chat.control and token["content"][:2] == "<|"]
    return Vocabulary(
        model="llama" if spelt else "gpt2",
        pre=pre,
        tokens=[token.encode() for token in tokens],
        scores=scores,
        types=types,
        merges=[] if spelt else [" ".join(merge) for merge in merges],
        space_prefix=spelt and _prefixes_each_stretch(data),
        strip_right=sum(token["rstrip"] for token in controls) * 2 > len(controls),
        begins=_begins(data),
        unknown=unknown,
    )


def _kind(name: str) -> int:
    from gguf import TokenType

    return int(TokenType[name])


def _check_ids(vocabulary: dict[str, int], added: dict[int, dict[str, Any]], rows: int) -> None:
    highest = max(*vocabulary.values(), *added, 0)
    if highest >= rows:
        raise ExportError(
            f"The tokenizer's highest id is {highest}, the embedding has {rows} rows.",
            hint="Take tokenizer.json and the weights from the same model.",
        )
    for i, token in added.items():
        if vocabulary.get(token["content"], i) != i:
            raise ExportError(
                f"The tokenizer's token {token['content']!r} is {vocabulary[token['content']]} and, added, {i}; llama.cpp "
                "knows one id for a text.",
                hint=_AS_ONNX,
            )


def _entries(
    vocabulary: dict[str, int], added: dict[int, dict[str, Any]], rows: int, merges: list[tuple[str, ...]]
) -> tuple[list[str], list[float], list[int]]:
    """Texts, scores and types by id."""
    known = {*vocabulary, *(token["content"] for token in added.values())}
    tokens, scores, types = _fillers(rows, known), [_ADDED_SCORE] * rows, [_kind("UNUSED")] * rows
    ranks: dict[str, int] = {}
    for rank, (left, right) in enumerate(merges):
        ranks.setdefault(left + right, rank)
    normal = _kind("NORMAL")
    for text, i in vocabulary.items():
        tokens[i], scores[i], types[i] = text, float(-ranks.get(text, len(ranks))), normal
    for i, token in added.items():
        tokens[i], scores[i] = token["content"], _ADDED_SCORE
        types[i] = _kind("CONTROL" if token["special"] else "USER_DEFINED")
    return tokens, scores, types


def _fillers(rows: int, known: set[str]) -> list[str]:
    """Names for rows without a token, none of them a token: llama.cpp stops the whole process for a text with two ids."""
    names = [f"[PAD{i}]" for i in range(rows)]
    while known & set(names):
        names = [f"[{name}]" for name in names]
    return names


def _pre(data: dict[str, Any]) -> str:
    """llama.cpp's name for how the tokenizer splits words; ``default`` for SentencePiece's, which does not split."""
    model = data["model"]
    if model.get("type") != "BPE":
        raise ExportError(f"The tokenizer is {model.get('type')!r}; a GGUF carries 'BPE'.", hint=_AS_ONNX)
    if model.get("byte_fallback"):
        return "default"
    steps = _steps(data.get("pre_tokenizer"), "pretokenizers")
    kinds = [step["type"] for step in steps]
    if kinds == ["ByteLevel"] and steps[0].get("use_regex", True):
        found: str | None = _PRE_PLAIN
    elif kinds == ["Split", "ByteLevel"] and not steps[1].get("use_regex", True):
        found = _PRE.get(steps[0]["pattern"].get("Regex", ""))
    else:
        found = None
    if found is None or steps[-1].get("add_prefix_space"):
        raise ExportError(
            "The tokenizer has no byte fallback, and splits words in a way that llama.cpp is not known to have "
            f"(pre-tokenizer: {' and '.join(kinds) or 'none'}).",
            hint=_AS_ONNX,
        )
    return found


def _steps(part: dict[str, Any] | None, inner: str) -> list[dict[str, Any]]:
    """A tokenizer's part as the list of its steps."""
    if part is None:
        return []
    return [step for one in part[inner] for step in _steps(one, inner)] if inner in part else [part]


def _prefixes_each_stretch(data: dict[str, Any]) -> bool:
    """Whether every stretch between control tokens gets a blank in front, as llama.cpp does when add_space_prefix is set.

    A Metaspace with "first" puts one before the text's very beginning only. llama.cpp has no such mode, and leaving the
    prefix out is right wherever a text begins with a control token, as every chat does.
    """
    parts = [*_steps(data.get("normalizer"), "normalizers"), *_steps(data.get("pre_tokenizer"), "pretokenizers")]
    return any(
        part.get("type") == "Prepend"
        or (part.get("type") == "Metaspace" and part.get("prepend_scheme", "always") == "always")
        for part in parts
    )


def _begins(data: dict[str, Any]) -> bool:
    return any(
        "SpecialToken" in step.get("single", [{}])[0]
        for step in _steps(data.get("post_processor"), "processors")
        if step.get("type") == "TemplateProcessing"
    )
