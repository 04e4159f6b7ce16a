"""Tokenizers from whatever a folder has, against SentencePiece itself, a plain tiktoken loop, and transformers' own GPT-2."""

from __future__ import annotations

import base64
import json
import re
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgereverie.backbones._tokenizers import read_tokenizer, with_image_token
from edgereverie.errors import BackboneError

CORPUS = (
    "Is there a red ring left of the blue square? Yes, there is a red ring. How many stars are in the picture? "
    "A chat between a curious user and an artificial intelligence assistant. USER: What is this? ASSISTANT: It's a ring. "
    "naïve café, 12 stars 345, ÄÖÜ ß, 日本語, don't we'll I'm they've\n\n  two  blanks\tand a tab "
)
TEXTS = (
    "Is there a ring?", " there", "  two  blanks ", "naïve café ß", "日本語 and 中文", "🦜 parrot", "line\nbreak\n\n", "12345 a1",
    "don't I'LL we've", "", "a", "\t\tx", "e\u0301",
)  # fmt: skip


# SentencePiece


@pytest.fixture(scope="module")
def spm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer.model that SentencePiece itself trained, with Llama's settings."""
    trainer = pytest.importorskip("sentencepiece").SentencePieceTrainer
    out = tmp_path_factory.mktemp("spm")
    (out / "corpus.txt").write_text(CORPUS * 3, encoding="utf-8")
    trainer.train(
        input=str(out / "corpus.txt"), model_prefix=str(out / "tokenizer"), vocab_size=400, model_type="bpe",
        byte_fallback=True, split_digits=True, allow_whitespace_only_pieces=True, normalization_rule_name="identity",
        remove_extra_whitespaces=False, minloglevel=2,
    )  # fmt: skip
    return out


def test_sentencepiece_gives_sentencepieces_own_ids(spm: Path) -> None:
    processor = pytest.importorskip("sentencepiece").SentencePieceProcessor(model_file=str(spm / "tokenizer.model"))
    tokenizer = read_tokenizer(spm)
    assert tokenizer.get_vocab_size() == processor.get_piece_size() == 400
    for text in (*TEXTS, *CORPUS.split(". ")):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert ids == processor.encode(text), text
        assert tokenizer.decode(ids) == processor.decode(ids), text


@settings(max_examples=60, deadline=None)
@given(text=st.text(alphabet=st.sampled_from("ringthe sqUER:?.é日🦜1\n"), max_size=30))
def test_sentencepiece_on_any_text(spm: Path, text: str) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    processor = sentencepiece.SentencePieceProcessor(model_file=str(spm / "tokenizer.model"))
    assert read_tokenizer(spm).encode(text, add_special_tokens=False).ids == processor.encode(text)


def test_sentencepiece_control_tokens_are_never_text(spm: Path) -> None:
    tokenizer = read_tokenizer(spm)
    ids = tokenizer.encode("<s>USER: a</s>", add_special_tokens=False).ids
    assert ids[0] == tokenizer.token_to_id("<s>") and ids[-1] == tokenizer.token_to_id("</s>")
    assert tokenizer.decode(ids) == "USER: a"


def test_unigram_models_are_refused(tmp_path: Path, tiny: ModuleType) -> None:
    data = bytearray(tiny.model_proto(tiny.pieces()))
    data[-1] = 1  # trainer_spec.model_type: UNIGRAM
    (tmp_path / "tokenizer.model").write_bytes(bytes(data))
    with pytest.raises(BackboneError, match=r"tokenizer\.model: .*not a BPE model"):
        read_tokenizer(tmp_path)


def test_truncated_model_is_an_error_with_its_file(tmp_path: Path, tiny: ModuleType) -> None:
    whole = tiny.model_proto(tiny.pieces())
    (tmp_path / "tokenizer.model").write_bytes(whole[: len(whole) // 2 + 3])
    with pytest.raises(BackboneError, match=r"tokenizer\.model: the tokenizer cannot be read"):
        read_tokenizer(tmp_path)


def test_added_tokens_keep_their_ids(tmp_path: Path, tiny: ModuleType) -> None:
    """Phi-3's control tokens over a plain tokenizer.model, from tokenizer_config.json; then the image token."""
    (tmp_path / "tokenizer.model").write_bytes(tiny.model_proto(tiny.pieces()))
    decoder = {str(tiny.PIECES + i): {"content": text, "special": True, "rstrip": True, "normalized": False}
               for i, text in enumerate(tiny.PHI3_TOKENS)}  # fmt: skip
    tiny.write_json(tmp_path / "tokenizer_config.json", {"added_tokens_decoder": decoder})
    tokenizer = read_tokenizer(tmp_path)
    assert [tokenizer.token_to_id(text) for text in tiny.PHI3_TOKENS] == list(range(tiny.PIECES, tiny.PIECES + 5))
    assert with_image_token(tokenizer, "<image>") == tiny.PIECES + 5 == with_image_token(tokenizer, "<image>")
    tiny.write_json(tmp_path / "tokenizer_config.json", {"added_tokens_decoder": {"999": {"content": "<|end|>"}}})
    with pytest.raises(BackboneError, match=r"'<\|end\|>' should be 999, the vocabulary makes it 371"):
        read_tokenizer(tmp_path)


# tiktoken


def ranks_of(corpus: str, merges: int) -> dict[bytes, int]:
    """A byte-level BPE learned the plain way, most frequent pair first: tiktoken's rank files come from the same rule."""
    ranks = {bytes([byte]): byte for byte in range(256)}
    words = [[word.encode()[i : i + 1] for i in range(len(word.encode()))] for word in re.findall(r" ?\w+|\W", corpus)]
    for rank in range(256, 256 + merges):
        pairs: dict[tuple[bytes, bytes], int] = {}
        for word in words:
            for pair in pairwise(word):
                pairs[pair] = pairs.get(pair, 0) + 1
        left, right = max(pairs, key=lambda pair: (pairs[pair], pair))
        ranks[left + right] = rank
        for word in words:
            for at in range(len(word) - 1):
                if word[at : at + 2] == [left, right]:
                    word[at : at + 2] = [left + right]
    return ranks


def tiktoken_ids(text: str, ranks: dict[bytes, int]) -> list[int]:
    """tiktoken's own loop (src/lib.rs, byte_pair_merge): a whole word if it is known, else the lowest rank first."""
    regex = pytest.importorskip("regex")
    pattern = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ids = []
    for word in regex.findall(pattern, text):
        parts = [word.encode()[i : i + 1] for i in range(len(word.encode()))]
        if word.encode() in ranks:
            ids.append(ranks[word.encode()])
            continue
        while True:
            known = [(ranks[a + b], at) for at, (a, b) in enumerate(pairwise(parts)) if a + b in ranks]
            if not known:
                break
            at = min(known)[1]
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        ids += [ranks[part] for part in parts]
    return ids


@pytest.fixture(scope="module", params=["arcade100k", "qwen"])
def tiktoken_folder(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[bytes, int]]:
    out, ranks = tmp_path_factory.mktemp("tiktoken"), ranks_of(CORPUS, 90)
    lines = [base64.b64encode(token) + b" " + str(rank).encode() for token, rank in ranks.items()]
    (out / f"{request.param}.tiktoken").write_bytes(b"\n".join(lines) + b"\n")
    return out, ranks


def test_tiktoken_gives_tiktokens_ids(tiktoken_folder: tuple[Path, dict[bytes, int]]) -> None:
    import unicodedata

    folder, ranks = tiktoken_folder
    tokenizer = read_tokenizer(folder)
    composed = (folder / "qwen.tiktoken").is_file()
    for text in (*TEXTS, *CORPUS.split(". ")):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        wanted = unicodedata.normalize("NFC", text) if composed else text
        assert ids == tiktoken_ids(wanted, ranks), text
        assert tokenizer.decode(ids) == wanted


def test_tiktoken_control_tokens_follow_the_vocabulary(tiktoken_folder: tuple[Path, dict[bytes, int]]) -> None:
    """StableLM-2 leaves one id free (100,256) before <|endoftext|> (100,257); Qwen none (151,643)."""
    folder, ranks = tiktoken_folder
    tokenizer = read_tokenizer(folder)
    gap = 1 if (folder / "arcade100k.tiktoken").is_file() else 0
    assert tokenizer.token_to_id("<|endoftext|>") == len(ranks) + gap
    control = 32 if gap else 208
    assert with_image_token(tokenizer, "<image>") == len(ranks) + gap + control
    assert tokenizer.encode("a<|endoftext|>", add_special_tokens=False).ids == [97, len(ranks) + gap]


def test_damaged_tiktoken(tmp_path: Path) -> None:
    (tmp_path / "qwen.tiktoken").write_bytes(b"IQ== 0\nIg==\n")
    with pytest.raises(BackboneError, match=r"qwen\.tiktoken: the tokenizer cannot be read"):
        read_tokenizer(tmp_path)


# GPT-2's two files


def test_vocabulary_and_merges(tmp_path: Path) -> None:
    """Phi-2's kind, against the tokenizer that transformers makes of the same two files."""
    transformers = pytest.importorskip("transformers")
    ranks = ranks_of(CORPUS, 60)
    from edgereverie.backbones._tokenizers import _byte_letters

    letters = _byte_letters()
    spelt = {"".join(letters[byte] for byte in token): rank for token, rank in ranks.items()} | {"<|endoftext|>": 316}
    split = []
    for token in list(ranks)[256:]:
        at = next(i for i in range(1, len(token)) if token[:i] in ranks and token[i:] in ranks)
        split.append(" ".join("".join(letters[byte] for byte in part) for part in (token[:at], token[at:])))
    (tmp_path / "vocab.json").write_text(json.dumps(spelt), encoding="utf-8")
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(split) + "\n", encoding="utf-8")
    reference = transformers.GPT2Tokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"))
    tokenizer = read_tokenizer(tmp_path)
    for text in (*TEXTS, *CORPUS.split(". "), "a<|endoftext|>b"):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert ids == reference.encode(text, add_special_tokens=False), text
        assert tokenizer.decode(ids, skip_special_tokens=False) == text
