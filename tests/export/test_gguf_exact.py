"""The text part of every kind of model, in llama.cpp, against transformers on the folder that it was made from."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgereverie.backbones.base import ModelFolder, open_folder
from edgereverie.export.architectures.base import find_architecture
from edgereverie.export.base import silent
from edgereverie.export.graphs import load_vision, vision_features
from edgereverie.export.language import write_language
from edgereverie.export.weights import Weights

torch = pytest.importorskip("torch")
_spec = importlib.util.spec_from_file_location("_export_models", Path(__file__).with_name("_models.py"))
_models = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = _models
_spec.loader.exec_module(_models)
KINDS = _models.KINDS
PROMPTS = 100


@dataclass
class Made:
    """A folder with the model in PyTorch; ``engine`` runs a GGUF of it in llama.cpp, on the features that belong to it."""

    folder: ModelFolder
    reference: Any
    run: Callable[[Path], Any]
    architecture: str

    def write(self, path: Path, quantization: str) -> Path:
        write_language(path, self.folder, Weights(self.folder), quantization, silent)
        return path

    def engine(self, path: Path) -> Any:
        architecture, model = find_architecture(self.folder)
        tower = load_vision(self.folder, Weights(self.folder).changed(architecture.changes(model)))
        engine = self.run(path)
        engine.image_token = self.folder.config["image_token_index"]
        engine.encode = lambda pixels: vision_features(tower, pixels)
        return engine


@pytest.fixture(scope="module")
def made(tmp_path_factory, make_reference, run_gguf) -> Callable[[str], Made]:
    kept: dict[str, Made] = {}

    def of(kind: str) -> Made:
        if kind not in kept:
            architecture, write = KINDS[kind]
            folder = open_folder(write(tmp_path_factory.mktemp("kind")))
            kept[kind] = Made(folder, make_reference(folder), run_gguf, architecture)
        return kept[kind]

    return of


def prompts(made: Made, count: int = PROMPTS) -> list[tuple[list[int], np.ndarray | None]]:
    """Random tokens, in every other prompt around a picture."""
    rng, image = np.random.default_rng(3), made.folder.config["image_token_index"]
    spec = made.folder.image
    found = []
    for index in range(count):
        words = rng.integers(3, 260, rng.integers(2, 24)).tolist()
        if index % 2:
            found.append((words, None))
            continue
        at = int(rng.integers(0, len(words)))
        pixels = rng.standard_normal((3, spec.size, spec.size)).astype(np.float32)
        found.append(([*words[:at], *[image] * spec.tokens, *words[at:]], pixels))
    return found


@dataclass
class Distance:
    """Of llama.cpp's logits from torch's: the largest and the mean difference, the share of equal top tokens; and how far
    torch's logits spread."""

    largest: float
    mean: float
    top1: float
    spread: float


def distance(made: Made, path: Path, count: int = PROMPTS) -> Distance:
    engine, differences, tops, spreads = made.engine(path), [], [], []
    try:
        for ids, pixels in prompts(made, count):
            wanted = made.reference._logits(ids, None if pixels is None else made.reference.encode(pixels))
            found = engine._logits(ids, None if pixels is None else engine.encode(pixels))
            differences.append(np.abs(wanted - found))
            tops.append(wanted.argmax(-1) == found.argmax(-1))
            spreads.append(wanted.std())
    finally:
        engine.close()
    whole = np.concatenate(differences)
    return Distance(
        float(whole.max()), float(whole.mean()), float(np.concatenate(tops).mean()), float(np.mean(spreads))
    )


@pytest.mark.parametrize("kind", KINDS)
def test_llama_cpp_computes_what_torch_computes(kind, made, tmp_path):
    """In 32 bits, so that nothing but the order of sums differs."""
    one = made(kind)
    assert find_architecture(one.folder)[0].name == one.architecture
    found = distance(one, one.write(tmp_path / "x.gguf", "F32"))
    assert found.spread > 0.5, "weak logits would agree whatever is computed"
    assert found.largest <= 2e-4 and found.top1 == 1.0, found


@pytest.mark.parametrize("kind", KINDS)
def test_f16_holds_the_same_numbers_rounded_once(kind, made, tmp_path):
    """The file to the bit; and its logits, which llama.cpp computes from inputs that it rounds to 16 bits too. Where a
    router's two best experts are nearly equal, that rounding exchanges them, so single logits have no bound there.
    """
    one = made(kind)
    exact, half = (tensors(one.write(tmp_path / f"{kind_}.gguf", kind_)) for kind_ in ("F32", "F16"))
    assert list(exact) == list(half)
    for name, values in exact.items():
        small = values.ndim == 1 or "ffn_gate_inp" in name
        assert half[name].dtype == (np.float32 if small else np.float16)
        assert np.array_equal(half[name], values.astype(half[name].dtype)), name
    found = distance(one, tmp_path / "F16.gguf", 30)
    assert found.mean <= 0.005 * found.spread and found.top1 >= 0.98, found
    if one.architecture not in ("step35", "phimoe"):
        assert found.largest <= 0.03 * found.spread, found


def tensors(path: Path) -> dict[str, np.ndarray]:
    from gguf import GGUFReader

    return {tensor.name: np.array(tensor.data) for tensor in GGUFReader(path).tensors}


@pytest.mark.parametrize("kind", ["LLaVA-1.5 in LLaVA's layout", "LLaVA-Phi-3 in LLaVA's layout", "LLaVA-Interleave",
                                  "MoE-LLaVA on Qwen", "MoE-LLaVA on StableLM-2"])  # fmt: skip
def test_plain_llama_cpp_python_answers_as_torch_does(kind, made, tmp_path):
    """Nothing of ours runs it: the file is loaded by its path, asked by its own chat template, and says torch's tokens."""
    import llama_cpp

    one = made(kind)
    llm = llama_cpp.Llama(str(one.write(tmp_path / "x.gguf", "F32")), n_ctx=256, n_threads=1, verbose=False)
    try:
        ids = prompts(one, 2)[1][0]
        said = [token for token, _ in zip(llm.generate(ids, temp=0.0, repeat_penalty=1.0), range(8), strict=False)]
        wanted = list(ids)
        for _ in said:
            wanted.append(int(one.reference._logits(wanted, None)[-1].argmax()))
        assert said == wanted[len(ids) :]
        question = [{"role": "user", "content": "Is there a ring?"}]
        answer = llm.create_chat_completion(messages=question, max_tokens=4, temperature=0.0)
        assert answer["usage"]["completion_tokens"] >= 1
    finally:
        llm.close()


def test_a_mistake_of_each_kind_shows(made, tmp_path, monkeypatch):
    """The comparisons above can fail: without each trick of an architecture the logits are far from torch's."""
    from edgereverie.export.architectures import _plan, phimoe

    def same(values: Any, **_: Any) -> Any:
        return values

    for kind, module, trick in (
        ("LLaVA-1.5 in transformers' layout", _plan, "neighbours"),
        ("MoE-LLaVA on StableLM-2", phimoe, "without_output_mean"),
        ("MoE-LLaVA on StableLM-2", phimoe, "without_row_mean"),
        ("MoE-LLaVA on Phi-3", _plan, "lower"),
    ):
        one = made(kind)
        if trick == "lower":
            monkeypatch.setattr(_plan, "upper", lambda values, rows: values[rows:])
            monkeypatch.setattr(_plan, "lower", lambda values, rows: values[:rows])
        else:
            monkeypatch.setattr(module, trick, same)
        found = distance(one, one.write(tmp_path / "x.gguf", "F32"), 4)
        assert found.largest > 0.2, (kind, trick, found)
        monkeypatch.undo()


@pytest.mark.parametrize("kind", ["LLaVA-Phi-3's adapter", "MoE-LLaVA on StableLM-2"])
@pytest.mark.parametrize("quantization", ["F16", "Q4_0"])
def test_written_twice_is_the_same_file(kind, quantization, made, tmp_path):
    one = made(kind)
    first, second = (one.write(tmp_path / name, quantization) for name in ("a.gguf", "b.gguf"))
    assert first.read_bytes() == second.read_bytes()


def test_linears_of_the_importance_matrix(made):
    """By name of a matrix its linears, all of which the model has, with the inputs that the matrix multiplies."""
    from edgereverie.export.language import language_linears

    for kind in KINDS:
        one = made(kind)
        linears = language_linears(one.folder, Weights(one.folder))
        for name, paths in linears.items():
            for path in paths:
                assert isinstance(one.reference.model.get_submodule(path), torch.nn.Linear), (kind, name, path)
    phi, stable = (language_linears(made(kind).folder, Weights(made(kind).folder))
                   for kind in ("MoE-LLaVA on Phi-3", "MoE-LLaVA on StableLM-2"))  # fmt: skip
    experts = "model.language_model.layers.0.mlp.experts"
    assert phi["blk.0.ffn_up_exps.weight"] == tuple(f"{experts}.{index}.gate_up_proj" for index in range(4))
    assert stable["blk.1.ffn_down_exps.weight"] == ("model.language_model.layers.1.mlp.down_proj",) * 4
    assert stable["output.weight"] == ("lm_head",) and "blk.0.ffn_gate_shexp.weight" not in phi
