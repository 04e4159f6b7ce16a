"""A LLaVA-Phi-3 as published, with a tokenizer that SentencePiece trained, leaves as GGUF and is tokenized there as here."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from edgereverie import stages
from edgereverie.bundle import Bundle

pytest.importorskip("torch")
pytest.importorskip("llama_cpp")

ROWS = 600  # of the trained vocabulary; Phi-3's control tokens and the image token follow


@pytest.fixture
def published(tiny: ModuleType, tmp_path: Path) -> Path:
    """LLaVA's own layout: a plain tokenizer.model, Phi-3's tokens in tokenizer_config.json, the tower apart."""
    trainer = pytest.importorskip("sentencepiece").SentencePieceTrainer
    corpus = Path(stages.__file__).with_name("exporting.py")
    trainer.train(
        input=str(corpus), model_prefix=str(tmp_path / "tokenizer"), vocab_size=ROWS, model_type="bpe", byte_fallback=True,
        split_digits=True, allow_whitespace_only_pieces=True, normalization_rule_name="identity",
        remove_extra_whitespaces=False, minloglevel=2,
    )  # fmt: skip
    text = tiny.PHI3 | {"vocab_size": ROWS + 28, "hidden_size": 64, "pad_token_id": ROWS, "eos_token_id": ROWS}
    rest, tower = tiny.split_tower(tiny.original_names(tiny.make_llava(text, ROWS + len(tiny.PHI3_TOKENS))))
    folder = tmp_path / "LLaVA-Phi-3"
    folder.mkdir()
    tiny.write_json(folder / "config.json", tiny.llava_config(text, "llava_phi", "openai/clip-vit-tiny-patch14-28"))
    added = {str(ROWS + index): {"content": token, "special": True, "rstrip": True, "normalized": False}
             for index, token in enumerate(tiny.PHI3_TOKENS)}  # fmt: skip
    tiny.write_json(folder / "tokenizer_config.json", {"added_tokens_decoder": added})
    (tmp_path / "tokenizer.model").rename(folder / "tokenizer.model")
    tiny.write_weights(folder, rest)
    tiny.write_tower(tmp_path / "clip-vit-tiny-patch14-28", tiny.TOWER, tower)
    return folder


def test_a_trained_vocabulary_is_the_same_in_llama_cpp(published: Path, tmp_path: Path) -> None:
    """All kinds of text and every chat. A control token in the midst of a sentence may take or leave the blank behind it."""
    (bundle,) = stages.export(published, ["gguf-f16"], tmp_path / "out", allow_parity_failure=True)
    found = Bundle.load(bundle).parity["tokenization"]["by_kind"]
    assert {kind: equal == count for kind, (equal, count) in found.items() if kind != "control"} == dict.fromkeys(
        ("words", "ascii", "unicode", "blanks", "chat"), True
    )
    # Two of the seven tokens do otherwise in llama.cpp, two of three times with a blank behind them: some 19 %.
    assert found["control"][0] >= 375 and found["control"][1] == 500
