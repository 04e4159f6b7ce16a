"""A ``tokenizers.Tokenizer`` from whatever a published folder has: no tokenizer package beside that one, no remote code.

Read in this order: ``tokenizer.json``; a SentencePiece BPE ``tokenizer.model``; a tiktoken file (StableLM-2's arcade100k,
Qwen's); ``vocab.json`` with ``merges.txt`` (Phi-2's, GPT-2's). Tokens that were added later come from
``tokenizer_config.json`` and ``added_tokens.json``.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgereverie.errors import BackboneError

if TYPE_CHECKING:
    from tokenizers import AddedToken, Tokenizer

_AGAIN = "Copy or download this file again."


def read_tokenizer(folder: Path) -> Tokenizer:
    """The folder's tokenizer. Raises BackboneError when there is none that is known here, or it is damaged."""
    from tokenizers import Tokenizer

    if (path := folder / "tokenizer.json").is_file():
        try:
            return Tokenizer.from_file(str(path))
        except Exception as error:  # the Rust side raises plain Exception
            raise BackboneError(f"{path}: the tokenizer cannot be read ({error}).", hint=_AGAIN) from None
    for path, read in _readers(folder):
        try:
            tokenizer = read(path)
        except (OSError, ValueError, KeyError, IndexError, TypeError, struct.error, binascii.Error) as error:
            raise BackboneError(f"{path}: the tokenizer cannot be read ({error!r}).", hint=_AGAIN) from None
        _add_tokens(tokenizer, folder)
        return tokenizer
    raise BackboneError(
        f"{folder}: no tokenizer: neither tokenizer.json nor tokenizer.model, a .tiktoken file, or vocab.json with merges.txt.",
        hint="Copy the tokenizer's files from the published folder.",
    )


def _readers(folder: Path) -> Iterator[tuple[Path, Callable[[Path], Tokenizer]]]:
    if (path := folder / "tokenizer.model").is_file():
        yield path, from_sentencepiece
    for path in sorted(folder.glob("*.tiktoken")):
        if path.name in TIKTOKENS:
            yield path, from_tiktoken
    if (path := folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        yield path, from_vocabulary


def _add_tokens(tokenizer: Tokenizer, folder: Path) -> None:
    """The added tokens under their own ids: each must be the next free one, or in the vocabulary already."""
    config, added = folder / "tokenizer_config.json", folder / "added_tokens.json"
    tokens: dict[int, AddedToken] = {}
    if added.is_file():
        for text, token_id in _json(added).items():
            tokens[int(token_id)] = _added(text, {})
    if config.is_file():
        for token_id, told in _json(config).get("added_tokens_decoder", {}).items():
            tokens[int(token_id)] = _added(told["content"], told)
    for token_id in sorted(tokens):
        token = tokens[token_id]
        (tokenizer.add_special_tokens if token.special else tokenizer.add_tokens)([token])
        if (got := tokenizer.token_to_id(token.content)) != token_id:
            raise BackboneError(
                f"{folder}: the added token {token.content!r} should be {token_id}, the vocabulary makes it {got}.",
                hint="Take all tokenizer files from the same checkpoint.",
            )


def _added(text: str, told: Mapping[str, Any]) -> AddedToken:
    from tokenizers import AddedToken

    flags = {key: bool(told.get(key, False)) for key in ("single_word", "lstrip", "rstrip", "normalized")}
    return AddedToken(text, **flags, special=bool(told.get("special", True)))


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BackboneError(f"{path}: cannot be read ({error}).", hint=_AGAIN) from None


def with_image_token(tokenizer: Tokenizer, token: str) -> int:
    """The id of the image token, which becomes the next free one where the tokenizer has none."""
    from tokenizers import AddedToken

    if (known := tokenizer.token_to_id(token)) is None:
        tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False)])
        known = tokenizer.token_to_id(token)
    return known


# SentencePiece

_NORMAL, _UNKNOWN, _CONTROL, _USER = 1, 2, 3, 4  # ModelProto.SentencePiece.Type
_BPE = 2  # TrainerSpec.ModelType


@dataclass(frozen=True, slots=True)
class _Piece:
    text: str
    score: float
    kind: int


def from_sentencepiece(path: Path) -> Tokenizer:
    """A BPE ``tokenizer.model`` with byte fallback (Llama's, Vicuna's, Phi-3's), as Llama's own converter reads it.

    A blank is put before the text and after each control token, as Llama's "legacy" tokenizer does: LLaVA was trained so.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

    pieces, model_type = _model_proto(path.read_bytes())
    if model_type != _BPE:
        raise ValueError("not a BPE model: trainer_spec.model_type is not 2")
    ids = {piece.text: index for index, piece in enumerate(pieces)}
    unknown = next((piece.text for piece in pieces if piece.kind == _UNKNOWN), None)
    tokenizer = Tokenizer(
        models.BPE(
            vocab=ids, merges=_merges_by_score(pieces, ids), unk_token=unknown, fuse_unk=True, byte_fallback=True
        )
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    for piece in pieces:
        if piece.kind in (_UNKNOWN, _CONTROL):
            tokenizer.add_special_tokens([AddedToken(piece.text, special=True, normalized=False)])
        elif piece.kind == _USER:
            tokenizer.add_tokens([AddedToken(piece.text, special=False, normalized=False)])
    return tokenizer


def _merges_by_score(pieces: list[_Piece], ids: Mapping[str, int]) -> list[tuple[str, str]]:
    """All pairs that make a piece, the likeliest piece first: SentencePiece joins the pair whose piece scores best."""
    merges = []
    for piece in pieces:
        if piece.kind != _NORMAL:
            continue
        halves = ((piece.text[:cut], piece.text[cut:]) for cut in range(1, len(piece.text)))
        known = sorted(
            (pair for pair in halves if pair[0] in ids and pair[1] in ids), key=lambda p: (ids[p[0]], ids[p[1]])
        )
        merges += [(piece.score, len(left), len(right), (left, right)) for left, right in known]
    merges.sort(key=lambda merge: merge[:3], reverse=True)
    return [pair for *_, pair in merges]


def _model_proto(data: bytes) -> tuple[list[_Piece], int]:
    """The pieces and trainer_spec.model_type of a ModelProto (sentencepiece_model.proto)."""
    pieces, model_type = [], 1
    for number, value in _fields(data):
        if number == 1:
            told = dict(_fields(value))
            score = struct.unpack("<f", told[2])[0] if 2 in told else 0.0
            pieces.append(_Piece(told[1].decode(), score, told.get(3, _NORMAL)))
        elif number == 2:
            model_type = dict(_fields(value)).get(3, 1)
    if not pieces:
        raise ValueError("no pieces in it")
    return pieces, model_type


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """A protobuf message's (field number, value): int for a varint, bytes for the rest."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        wire = key & 7
        if wire == 0:
            value, at = _varint(data, at)
        else:
            size = {1: 8, 5: 4}.get(wire)
            if size is None and wire == 2:
                size, at = _varint(data, at)
            if size is None or at + size > len(data):
                raise ValueError(f"not a protobuf message, or cut short at byte {at:,}")
            value, at = data[at : at + size], at + size
        yield key >> 3, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


# tiktoken

_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True, slots=True)
class Tiktoken:
    """What a tiktoken file does not say: the tokens after its vocabulary, how many ids stay free before them, and whether
    text is brought to Unicode's composed form first."""

    control: tuple[str, ...]
    gap: int
    composed: bool


TIKTOKENS = {
    # tokenization_arcade100k.py of stabilityai/stablelm-2-1_6b: 100,256 ranks, the control tokens from 100,257
    "arcade100k.tiktoken": Tiktoken(
        ("<|endoftext|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<gh_stars>", "<filename>",
         "<issue_start>", "<issue_comment>", "<issue_closed>", "<jupyter_start>", "<jupyter_text>", "<jupyter_code>",
         "<jupyter_output>", "<empty_output>", "<commit_before>", "<commit_msg>", "<commit_after>", "<reponame>",
         "<|endofprompt|>", "<|im_start|>", "<|im_end|>", "<|pause|>", *(f"<|reg{i}|>" for i in range(8)), "<|extra0|>"),
        1, False,
    ),
    # tokenization_qwen.py of Qwen/Qwen-1_8B
    "qwen.tiktoken": Tiktoken(
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|extra_{i}|>" for i in range(205))), 0, True
    ),
}  # fmt: skip


def from_tiktoken(path: Path) -> Tokenizer:
    """Ranked byte strings ("base64 rank" in each line) as a byte-level BPE that joins what tiktoken joins."""
    from tokenizers import Tokenizer

    told = path.stat()
    return Tokenizer.from_str(_from_tiktoken(path, told.st_size, told.st_mtime_ns))


@lru_cache(maxsize=4)
def _from_tiktoken(path: Path, _size: int, _time: int) -> str:
    """The tokenizer, serialized; finding the merges of 150,000 tokens takes seconds, so once for each state of the file."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    kind = TIKTOKENS[path.name]
    ranks: dict[bytes, int] = {}
    for line in path.read_bytes().splitlines():
        if line:
            token, rank = line.split()
            ranks[base64.b64decode(token)] = int(rank)
    spelt = _byte_letters()
    text = {token: "".join(spelt[byte] for byte in token) for token in ranks}
    vocabulary = {text[token]: rank for token, rank in ranks.items()}
    merges = [(text[left], text[right]) for left, right in _merges_by_rank(ranks)]
    following = max(ranks.values()) + 1
    for gap in range(following, following + kind.gap):  # ids that no text becomes, so that control tokens get theirs
        vocabulary[f"<|unused_{gap}|>"] = gap
    # tiktoken looks a whole word up before it joins bytes.
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=True))
    if kind.composed:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in kind.control])
    return tokenizer.to_str()


def _merges_by_rank(ranks: Mapping[bytes, int]) -> list[tuple[bytes, bytes]]:
    """The one pair each token is last joined from when its bytes are joined by rank, in the order of the ranks."""
    merges = []
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        parts = [token[i : i + 1] for i in range(len(token))]
        while len(parts) > 2:
            pairs = [ranks.get(left + right, rank) for left, right in pairwise(parts)]
            best = min(pairs)
            if best >= rank:
                break
            at = pairs.index(best)
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        if len(parts) == 2:
            merges.append((parts[0], parts[1]))
    return merges


def _byte_letters() -> list[str]:
    """The letter that stands for each byte in byte-level BPE: itself where it can be seen, else one from 256 on (GPT-2)."""
    seen = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    hidden = iter(range(256, 512))
    return [chr(byte if byte in seen else next(hidden)) for byte in range(256)]


# GPT-2's two files


def from_vocabulary(path: Path) -> Tokenizer:
    """``vocab.json`` and the ``merges.txt`` beside it: a byte-level BPE with GPT-2's splitting of words (Phi-2's)."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    vocabulary = _json(path)
    lines = (path.parent / "merges.txt").read_text(encoding="utf-8").split("\n")
    merges = [tuple(line.split(" ")) for line in lines if line and not line.startswith("#version")]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if "<|endoftext|>" in vocabulary:
        tokenizer.add_special_tokens([AddedToken("<|endoftext|>", special=True, normalized=False)])
    return tokenizer
