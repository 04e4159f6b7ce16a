"""Tokenizers as GGUF's vocabularies, and the probe that compares both."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edgereverie.backbones.base import open_folder
from edgereverie.errors import ExportError
from edgereverie.export import language
from edgereverie.export.base import silent
from edgereverie.export.language import folder_vocabulary, general_name, write_language
from edgereverie.export.tokenization import compare_ids, probe_texts
from edgereverie.export.vocabulary import _PRE, read_vocabulary
from edgereverie.export.weights import Weights

_spec = importlib.util.spec_from_file_location("_vocabulary_models", Path(__file__).with_name("_models.py"))
_models = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = _models
_spec.loader.exec_module(_models)


def kind(name):
    from gguf import TokenType

    return int(TokenType[name])


def written(folder, path):
    write_language(path, folder, Weights(folder), "F16", silent)
    return path


def test_thousands_of_strings_of_every_kind(tiny):
    texts = probe_texts(tiny.chat)
    assert sum(map(len, texts.values())) == 3000 and len({text for each in texts.values() for text in each}) > 2800
    assert texts == probe_texts(tiny.chat)


def test_llama_cpps_own_ids_equal_the_tokenizers(bundles):
    found = bundles("gguf-f16").parity["tokenization"]
    assert found["strings"] == 3000
    for name in ("words", "ascii", "unicode", "blanks", "chat"):
        same, count = found["by_kind"][name]
        assert same == count, (name, found["differing"])
    # llama.cpp lets </s> swallow blanks in every model that it takes for a Phi-3; the tokenizer file does not.
    assert all("</s>" in text for text in found["differing"])


# What llama.cpp has no word for. Qwen's tokenizers compose Unicode first (the probe holds a decomposed letter).
EXCEPT = {"MoE-LLaVA on Qwen": "unicode", "LLaVA-Interleave": "unicode"}


@pytest.mark.parametrize(
    "name", ["LLaVA-1.5 in LLaVA's layout", "MoE-LLaVA on Qwen", "MoE-LLaVA on StableLM-2", "LLaVA-Interleave"]
)
def test_ids_of_the_other_tokenizers(name, tmp_path):
    """Vicuna's SentencePiece, both tiktoken files, Qwen2's tokenizer.json."""
    folder = open_folder(_models.KINDS[name][1](tmp_path / "m"))
    found = compare_ids(folder.tokenizer(), written(folder, tmp_path / "x.gguf"), folder.chat)
    for part, (same, count) in found["by_kind"].items():
        assert same == count or part == EXCEPT.get(name), (part, found["differing"])
    assert found["equal"] >= 0.95 * found["strings"]


def test_byte_level_vocabularies_as_llama_cpp_reads_them(tmp_path):
    from gguf import GGUFReader

    folder = open_folder(_models.moe_llava("stablelm")(tmp_path / "m"))
    found, tokenizer = folder_vocabulary(folder), folder.tokenizer()
    assert (found.model, found.pre, found.begins, found.space_prefix, found.unknown) == (
        "gpt2",
        "qwen2",
        False,
        False,
        None,
    )
    assert found.merges[:2] == ["t h", "h e"] or "t h" in found.merges
    assert found.types[tokenizer.token_to_id("<|endoftext|>")] == kind("CONTROL")
    fields = GGUFReader(written(folder, tmp_path / "x.gguf")).fields
    value = {name: field.contents() for name, field in fields.items() if name.startswith("tokenizer.ggml.")}
    end = tokenizer.token_to_id("<|endoftext|>")
    assert value["tokenizer.ggml.eos_token_id"] == value["tokenizer.ggml.bos_token_id"] == end
    assert value["tokenizer.ggml.add_bos_token"] is False and "tokenizer.ggml.scores" not in value
    assert value["tokenizer.ggml.merges"] == found.merges


def test_the_id_probe_notices_a_wrong_vocabulary(tiny, tmp_path, monkeypatch):
    right, path = folder_vocabulary(tiny), tmp_path / "wrong.gguf"
    for change in ({"scores": [-score for score in right.scores]}, {"space_prefix": False}):
        monkeypatch.setattr(language, "folder_vocabulary", lambda _, change=change: replace(right, **change))
        found = compare_ids(tiny.tokenizer(), written(tiny, path), tiny.chat)
        assert found["equal"] < 0.7 * found["strings"] and found["differing"]
    monkeypatch.undo()
    monkeypatch.setattr(language, "language_name", lambda *_: "tiny")  # the name that sets strip-right is missing
    same, count = compare_ids(tiny.tokenizer(), written(tiny, path), tiny.chat)["by_kind"]["chat"]
    assert same < count


def test_vocabulary_of_every_row(tiny):
    tokenizer = tiny.tokenizer()
    rows, data = tiny.config["text_config"]["vocab_size"], json.loads(tokenizer.to_str())
    found = read_vocabulary(data, rows, tiny.chat)
    assert len(found.tokens) == len(found.scores) == len(found.types) == rows
    kinds = {"<unk>": "UNKNOWN", "<s>": "CONTROL", "<|end|>": "CONTROL", "<image>": "CONTROL", "<0x0A>": "BYTE",
             "<0xFF>": "BYTE", "▁": "NORMAL"}  # fmt: skip
    assert {text: found.types[tokenizer.token_to_id(text)] for text in kinds} == {t: kind(k) for t, k in kinds.items()}
    known = tokenizer.get_vocab_size()
    assert found.tokens[known:] == [f"[PAD{i}]".encode() for i in range(known, rows)]
    assert set(found.types[known:]) == {kind("UNUSED")}
    assert found.model == "llama" and found.space_prefix and found.strip_right and not found.begins
    with pytest.raises(ExportError, match=r"highest id is \d+, the embedding has 64 rows"):
        read_vocabulary(data, 64, tiny.chat)


def test_no_text_has_two_ids(tiny):
    """llama.cpp ends the process for that, so it is seen here."""
    rows, data = tiny.config["text_config"]["vocab_size"], json.loads(tiny.tokenizer().to_str())
    data["model"]["vocab"] |= {"[PAD509]": 505}
    found = read_vocabulary(data, rows, tiny.chat)
    assert len(set(found.tokens)) == rows and found.tokens[505] == b"[PAD509]" and found.tokens[509] == b"[[PAD509]]"
    data["added_tokens"].append(data["added_tokens"][0] | {"id": 507, "content": "▁"})
    with pytest.raises(ExportError, match=r"'▁' is \d+ and, added, 507"):
        read_vocabulary(data, rows, tiny.chat)


def test_settings_come_from_the_tokenizers_own_flags(tiny):
    data = json.loads((tiny.path / "tokenizer.json").read_text())
    for token in data["added_tokens"]:
        token["rstrip"] = False
    first = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first"}
    data["normalizer"], data["pre_tokenizer"] = None, first
    begin = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    data["post_processor"] = {"type": "TemplateProcessing", "single": [begin, {"Sequence": {"id": "A", "type_id": 0}}]}
    found = read_vocabulary(data, 512, tiny.chat)
    assert not found.strip_right and not found.space_prefix and found.begins
    data["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [first | {"prepend_scheme": "always"}]}
    assert read_vocabulary(data, 512, tiny.chat).space_prefix
    assert "phi-3" not in general_name("llava-phi-3", False) and "phi3" not in general_name("llava_phi3", False)


_QWEN2 = {"type": "Split", "pattern": {"Regex": next(iter(_PRE))},
          "behavior": "Isolated", "invert": False}  # fmt: skip
_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


@pytest.mark.parametrize(
    ("pre_tokenizer", "expected"),
    [
        ({"type": "Sequence", "pretokenizers": [_QWEN2, _BYTES]}, "qwen2"),
        (_BYTES | {"use_regex": True}, "gpt-2"),
        (_BYTES, None),
        (_BYTES | {"use_regex": True, "add_prefix_space": True}, None),
        ({"type": "Sequence", "pretokenizers": [_QWEN2 | {"pattern": {"Regex": r"\p{N}{1,3}|\p{L}+"}}, _BYTES]}, None),
        (None, None),
    ],
)
def test_how_words_are_split_is_known_to_llama_cpp_or_refused(pre_tokenizer, expected, tiny):
    data = json.loads(tiny.tokenizer().to_str()) | {"pre_tokenizer": pre_tokenizer, "normalizer": None}
    data["model"] = data["model"] | {"byte_fallback": False}
    if expected:
        assert read_vocabulary(data, 512, tiny.chat).pre == expected
        with pytest.raises(ExportError, match="joins no letters"):
            read_vocabulary(data | {"model": data["model"] | {"merges": []}}, 512, tiny.chat)
    else:
        with pytest.raises(ExportError, match="no byte fallback, and splits words in a way"):
            read_vocabulary(data, 512, tiny.chat)
    with pytest.raises(ExportError, match="tokenizer is 'Unigram'"):
        read_vocabulary(data | {"model": {"type": "Unigram"}}, 512, tiny.chat)
