"""llama.cpp's own converter as an outside witness: its file of the same language model, tensor by tensor and key by key.

It reads a text model's folder only, so the language model is split off the LLaVA first. It is not on PyPI as a package: set
EDGEREVERIE_LLAMA_CPP to a checkout of llama.cpp, such as vendor/llama.cpp of llama-cpp-python's source archive.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgereverie.backbones.base import open_folder
from edgereverie.export.base import silent
from edgereverie.export.language import write_language
from edgereverie.export.weights import TEXT, Weights

sentencepiece = pytest.importorskip("sentencepiece")
_spec = importlib.util.spec_from_file_location("_witness_models", Path(__file__).with_name("_models.py"))
_models = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = _models
_spec.loader.exec_module(_models)
tiny = _models.tiny

# The converter knows byte-level tokenizers by a hash of what they make of a sentence; a tiny one's is not among them.
_RUN = """
import runpy, sys
folder, pre = sys.argv[1:3]
sys.path[:0] = [folder, folder + "/gguf-py"]
sys.argv = sys.argv[2:]
from conversion.base import TextModel
TextModel.get_vocab_base_pre = lambda self, tokenizer: pre
sys.argv[0] = folder + "/convert_hf_to_gguf.py"
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def convert() -> Callable[[Path, Path, str], Path]:
    checkout = os.environ.get("EDGEREVERIE_LLAMA_CPP")
    if not checkout:
        pytest.skip("EDGEREVERIE_LLAMA_CPP names no llama.cpp")

    def run(folder: Path, out: Path, kind: str) -> Path:
        command = [sys.executable, "-c", _RUN, checkout, "qwen2", str(folder), "--outfile", str(out), "--outtype", kind]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return out

    return run


def with_tokenizer_model(folder: Path, tokens: tuple[str, ...]) -> Path:
    """The folder with SentencePiece's own file instead of tokenizer.json, and added ``tokens`` as Phi-3 declares them."""
    (folder / "tokenizer.json").unlink(missing_ok=True)
    sentencepiece.SentencePieceTrainer.train(
        input=__file__, model_prefix=str(folder / "tokenizer"), vocab_size=tiny.PIECES, model_type="bpe",
        byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False, minloglevel=2,
    )  # fmt: skip
    (folder / "tokenizer.vocab").unlink()
    added = {str(tiny.PIECES + index): {"content": token, "special": True, "rstrip": True, "normalized": False}
             for index, token in enumerate(tokens)}  # fmt: skip
    tiny.write_json(
        folder / "tokenizer_config.json", {"tokenizer_class": "LlamaTokenizer", "added_tokens_decoder": added}
    )
    return folder


def split_off(source: Path, out: Path, architecture: str) -> Path:
    """The language model as a folder of its own, as its authors publish it."""
    from safetensors.torch import save_file

    folder = open_folder(source)
    out.mkdir(parents=True)
    text = dict(folder.config["text_config"]) | {"architectures": [architecture], "torch_dtype": "float32"}
    tiny.write_json(out / "config.json", text)
    tensors = {name.replace(TEXT, "model."): stored.read().contiguous() for name, stored in folder.tensors().items()
               if name.startswith((TEXT, "lm_head."))}  # fmt: skip
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    for file in source.glob("tokenizer*"):
        shutil.copy(file, out)
    if not (out / "tokenizer.model").exists():
        folder.tokenizer().save(str(out / "tokenizer.json"))
    return out


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any], dict[str, str]]:
    """Tensors, metadata, and the tensors' types."""
    from gguf import GGUFReader

    reader = GGUFReader(path)
    value = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    kinds = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    return {tensor.name: np.array(tensor.data) for tensor in reader.tensors}, value, kinds


def phi3(out: Path) -> Path:
    return with_tokenizer_model(_models.phi3_own(out), tiny.PHI3_TOKENS)


def llama(out: Path) -> Path:
    return with_tokenizer_model(_models.llava15_own(out), ())


# By kind: the folder, the class of its language model.
KINDS = {
    "phi3": (phi3, "Phi3ForCausalLM"),
    "llama": (llama, "LlamaForCausalLM"),
    "qwen2": (_models.llava_qwen(False), "Qwen2ForCausalLM"),
}


# What differs in the metadata, and why ours is as it is.
EXPLAINED = {
    "general.name": "theirs is the folder's; ours says whether control tokens swallow blanks, which llama.cpp reads from it",
    "general.size_label": "for lists on the hub; the bundle's manifest counts",
    "phi3.attention.sliding_window": "llama.cpp ignores other values than 0, and warns at each start",
    "*.vocab_size": "the number of tokens, which has to be the embedding's, said twice",
    "qwen2.rope.dimension_count": "the default, written out",
    "tokenizer.chat_template": "the one that the model was tuned with; the split folder has none",
    "tokenizer.ggml.add_bos_token": "as the tokenizer does; llama.cpp's default is to add one, beside the template's",
    "tokenizer.ggml.add_eos_token": "the default, written out",
    "tokenizer.ggml.add_space_prefix": "as the tokenizer does",
    "tokenizer.ggml.bos_token_id": "llama.cpp's default for byte-level vocabularies is token 11, some letter",
    "tokenizer.ggml.eos_token_id": "the token that ends an answer in the chat format",
    "tokenizer.ggml.eot_token_id": "the same, not left to be found by its text",
    "tokenizer.ggml.unknown_token_id": "the default, written out",
    "tokenizer.ggml.scores": "minus the merges' ranks; theirs are SentencePiece's, in the same order",
    "tokenizer.ggml.tokens": "<image> stands in a row that theirs leaves unused",
    "tokenizer.ggml.token_type": "the same",
}


@pytest.mark.parametrize(
    ("kind", "quantization"), [("phi3", "f16"), ("phi3", "q8_0"), ("llama", "f16"), ("qwen2", "f16")]
)
def test_the_converters_file_is_ours(kind, quantization, convert, tmp_path):
    """Every tensor, its type and its bytes; the metadata but for what is explained above."""
    write, architecture = KINDS[kind]
    source = write(tmp_path / "source")
    theirs = convert(split_off(source, tmp_path / "Text-Model", architecture), tmp_path / "theirs.gguf", quantization)
    folder = open_folder(source)
    write_language(tmp_path / "ours.gguf", folder, Weights(folder), quantization.upper(), silent)
    (ours, told, types), (wanted, their_told, their_types) = read(tmp_path / "ours.gguf"), read(theirs)
    assert types == their_types and len(types) >= 15
    assert quantization.upper() in types.values()
    for name, values in wanted.items():
        assert np.array_equal(ours[name].view(np.uint8), values.view(np.uint8)), name
    differing = {key for key in {*told, *their_told} if told.get(key) != their_told.get(key)}
    unexplained = {key.replace(f"{kind}.vocab", "*.vocab") for key in differing} - set(EXPLAINED)
    assert not unexplained, {key: (told.get(key), their_told.get(key)) for key in unexplained}
    image = folder.config["image_token_index"]
    for key in ("tokenizer.ggml.tokens", "tokenizer.ggml.token_type"):
        rows = [i for i, (a, b) in enumerate(zip(told[key], their_told[key], strict=True)) if a != b]
        assert rows in ([], [image])
    if "tokenizer.ggml.scores" in told:
        normal = [i for i, kind_ in enumerate(told["tokenizer.ggml.token_type"]) if kind_ == 1]
        joined = [i for i in normal if len(told["tokenizer.ggml.tokens"][i]) > 1]
        assert len(joined) > 30
        assert sorted(joined, key=lambda i: -told["tokenizer.ggml.scores"][i]) == sorted(
            joined, key=lambda i: -their_told["tokenizer.ggml.scores"][i]
        )
