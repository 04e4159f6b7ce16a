"""The vision file says what torch computes: exactly where llama.cpp evaluates it rightly, and else with its one fault.

The fault (docs/llama-cpp-clip.md) is imitated in torch: the class token after the patches, positions counted from the first
patch, and the rows after the first projected. What then remains between torch and mtmd is rounding.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from edgereverie.backbones.base import ModelFolder, open_folder
from edgereverie.bundle import Bundle, describe_file
from edgereverie.errors import BackendError, BundleError, ExportError
from edgereverie.export.base import silent
from edgereverie.export.clip_sample import _write_model, write_sample
from edgereverie.export.mmproj import check_mmproj, write_mmproj
from edgereverie.export.probe import draw_probe, write_probe
from edgereverie.export.weights import Weights
from edgereverie.image import prepare
from edgereverie.runtime.mtmd import MtmdEncoder, compare_features, run_probe, vocabulary

torch = pytest.importorskip("torch")
pytest.importorskip("llama_cpp.mtmd_cpp")

NAMES = {"lm_head.": "lm_head.", "model.language_model.": "model.language_model.",
         "model.vision_tower.": "model.vision_tower.",
         "model.multi_modal_projector.": "model.multi_modal_projector."}  # fmt: skip
CLIP = {"model_type": "clip_vision_model", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4,
        "num_attention_heads": 2, "image_size": 56, "patch_size": 14, "projection_dim": 32}  # fmt: skip
SIGLIP = {key: value for key, value in CLIP.items() if key != "projection_dim"} | {
    "model_type": "siglip_vision_model", "vision_use_head": False}  # fmt: skip


@pytest.fixture(scope="module")
def published() -> ModuleType:
    path = Path(__file__).parent.parent / "backbones" / "_tiny.py"
    spec = importlib.util.spec_from_file_location("_published_checkpoints", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def make(published: ModuleType, tmp_path: Path) -> Callable[..., tuple[ModelFolder, Any]]:
    """A LLaVA-1.5 of tiny random weights with that tower: (folder, transformers' own model)."""

    def build(tower: dict[str, Any], **config: Any) -> tuple[ModelFolder, Any]:
        from transformers import LlavaConfig, LlavaForConditionalGeneration

        torch.manual_seed(1)
        described = LlavaConfig(vision_config=tower, text_config=published.LLAMA, image_token_index=371, **config)
        model = LlavaForConditionalGeneration(described).eval()
        for name, parameter in model.named_parameters():
            if "norm" in name or "layrnorm" in name or name.endswith("bias"):
                torch.nn.init.normal_(parameter, mean=float(name.endswith("weight")), std=0.2)
            else:
                torch.nn.init.normal_(parameter, std=1.5 * parameter[0].numel() ** -0.5)
        published.write_huggingface(tmp_path / "m", model, NAMES, published.tokenizer_json(["<image>"]))
        return open_folder(tmp_path / "m"), model

    return build


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_sample(tmp_path_factory.mktemp("sample"))


@pytest.fixture(scope="module")
def language_model(sample: Bundle) -> Iterator[Any]:
    """mtmd asks for one, and for nothing that depends on which."""
    with vocabulary(sample.file("model")) as model:
        yield model


@pytest.fixture
def encoded(tmp_path: Path, language_model: Any) -> Callable[..., np.ndarray]:
    """What mtmd makes of a folder's probe picture, from its mmproj in that packing."""

    def encode(folder: ModelFolder, packing: str = "f32") -> np.ndarray:
        path = tmp_path / f"{packing}.gguf"
        write_mmproj(path, folder.config, folder.image, Weights(folder), "tiny", silent, packing)
        encoder = MtmdEncoder(path, folder.image, language_model)
        try:
            return encoder.encode(pixels_of(folder))
        finally:
            encoder.close()

    return encode


def pixels_of(folder: ModelFolder) -> np.ndarray:
    return prepare(draw_probe(folder.image), folder.image)


def features(model: Any, pixels: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return model.get_image_features(torch.from_numpy(pixels)[None]).pooler_output[0].numpy()


def misplaced(model: Any, pixels: np.ndarray) -> np.ndarray:
    """LLaVA's features from a CLIP with llama.cpp's fault, layer by layer with transformers' own layers."""
    tower, layer = model.model.vision_tower, model.config.vision_feature_layer
    with torch.no_grad():
        patches = tower.embeddings.patch_embedding(torch.from_numpy(pixels)[None]).flatten(2).transpose(1, 2)
        stream = torch.cat([patches, tower.embeddings.class_embedding.expand(1, 1, -1)], dim=1)
        stream = tower.pre_layrnorm(stream + tower.embeddings.position_embedding.weight)
        layers = tower.encoder.layers
        for each in layers[: layer if layer >= 0 else len(layers) + 1 + layer]:
            stream = each(stream, attention_mask=None)
        return model.model.multi_modal_projector(stream[:, 1:])[0].numpy()


# llama.cpp looks GELU up in a table of 16-bit floats; feature values here are of size 10.
ROUNDING = 0.03


@pytest.mark.parametrize("layer", [-2, -1, -3, 2])
def test_clip_differs_from_torch_by_the_one_fault_only(make, encoded, layer):
    folder, model = make(CLIP, vision_feature_layer=layer)
    found = encoded(folder)
    assert np.abs(found - misplaced(model, pixels_of(folder))).max() < ROUNDING
    right = compare_features(found, features(model, pixels_of(folder)))
    assert not right.passed and right.worst < 0.9


def test_the_starters_tower_and_an_upcycled_one(tiny, encoded, tmp_path):
    """The MoE's tower lies under the same names, whatever became of its language model."""
    from edgereverie.backbones._upcycle import write_upcycled

    (tmp_path / "moe").mkdir()
    write_upcycled(tiny, tmp_path / "moe", layers="sparse", experts=2, top_k=2, seed=0)
    expected = misplaced(tiny.load(), pixels_of(tiny))
    for folder in (tiny, open_folder(tmp_path / "moe")):
        assert np.abs(encoded(folder) - expected).max() < ROUNDING


@pytest.mark.parametrize("layer", [-1, -2])
def test_siglip_is_encoded_exactly(make, encoded, layer):
    folder, model = make(SIGLIP, vision_feature_layer=layer, vision_feature_select_strategy="full")
    found, expected = encoded(folder), features(model, pixels_of(folder))
    assert folder.image.tokens == 16 == len(found)
    assert np.abs(found - expected).max() < ROUNDING
    assert compare_features(found, expected).passed


# Blocks of 32 with 8 bits, or 8 bits of mantissa: about 1/256 of each weight.
@pytest.mark.parametrize(
    ("packing", "size", "worst"), [("f16", 0.6, 0.9999), ("bf16", 0.6, 0.999), ("q8_0", 0.4, 0.999)]
)
def test_packings(tiny, encoded, tmp_path, packing, size, worst):
    from gguf import GGMLQuantizationType, GGUFReader

    exact, found = encoded(tiny), encoded(tiny, packing)
    assert worst < compare_features(found, exact).worst < 1 - 1e-9  # packed, and not much worse for it
    paths = {name: tmp_path / f"{name}.gguf" for name in ("f32", packing)}
    assert paths[packing].stat().st_size < size * paths["f32"].stat().st_size
    kinds = {tensor.name: tensor.tensor_type for tensor in GGUFReader(paths[packing]).tensors}
    assert kinds["v.blk.0.ffn_up.weight"] == GGMLQuantizationType[packing.upper()] == kinds["mm.0.weight"]
    assert kinds["v.patch_embd.weight"] == GGMLQuantizationType.F16  # unrolled in that type
    assert kinds["v.position_embd.weight"] == kinds["v.blk.0.ln1.weight"] == GGMLQuantizationType.F32


@pytest.mark.parametrize(
    ("vision", "config", "message"),
    [
        ({}, {"vision_feature_select_strategy": "full"}, "vision_feature_select_strategy is 'full'"),
        ({"model_type": "siglip_vision_model", "hidden_act": "gelu_pytorch_tanh"}, {},
         "vision_feature_select_strategy is 'default'"),
        ({"model_type": "dinov2"}, {}, "model_type is 'dinov2'; a GGUF can carry clip_vision_model or siglip"),
        ({"hidden_act": "relu"}, {}, "hidden_act is 'relu'"),
        ({}, {"vision_feature_layer": [-2, -5]}, "lists several layers"),
        ({}, {"multimodal_projector_bias": False}, "multimodal_projector_bias is False"),
        ({"intermediate_size": 128}, {}, "equals its hidden_size"),
    ],
)  # fmt: skip
def test_what_llama_cpp_cannot_evaluate_is_refused(tiny, vision, config, message):
    changed = dict(tiny.config) | config | {"vision_config": dict(tiny.config["vision_config"]) | vision}
    with pytest.raises(ExportError, match=message):
        check_mmproj(changed)


def bundle_of(folder: ModelFolder, model: Any, out: Path) -> Bundle:
    """An mmproj and its probe, torch's features in it."""
    out.mkdir()
    _write_model(out / "model.gguf")
    write_mmproj(out / "mmproj.gguf", folder.config, folder.image, Weights(folder), "tiny", silent)
    probe = write_probe(out, draw_probe(folder.image), features(model, pixels_of(folder)))
    files = {"model": "model.gguf", "mmproj": "mmproj.gguf"} | probe
    bundle = Bundle(folder=out, name="b", target="gguf", quantization="F16", chat="vicuna_v1", image=folder.image, context=64,
                    files={role: describe_file(out, path) for role, path in files.items()})  # fmt: skip
    bundle.write()
    return bundle


def test_the_probe_tells_right_from_wrong(make, tmp_path):
    """llama.cpp evaluates SigLIP rightly and CLIP wrongly; a llama.cpp that is mended makes this test fail: rejoice."""
    wrong = run_probe(write_sample(tmp_path))
    assert not wrong.passed and wrong.cosine < 0.9 and wrong.told().startswith("encodes wrongly (cosine 0.")
    right = bundle_of(*make(SIGLIP, vision_feature_select_strategy="full"), tmp_path / "siglip")
    assert run_probe(right).passed and run_probe(right).told().startswith("encodes as the model was trained")


def test_the_samples_reference_is_a_clip_as_transformers_has_it(tmp_path):
    """numpy's features against transformers' CLIP with the same weights."""
    from safetensors.numpy import load_file
    from transformers import CLIPVisionConfig, CLIPVisionModel

    from edgereverie.export import clip_sample as sample

    config = CLIPVisionConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2,
                              image_size=56, patch_size=14, projection_dim=32)  # fmt: skip
    weights, model = (
        {name: torch.from_numpy(value) for name, value in sample._weights().items()},
        CLIPVisionModel(config),
    )
    renamed = {"v.class_embd": "embeddings.class_embedding", "v.patch_embd.weight": "embeddings.patch_embedding.weight",
               "v.position_embd.weight": "embeddings.position_embedding.weight"}  # fmt: skip
    parts = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
             "attn_out": "self_attn.out_proj", "ln1": "layer_norm1", "ln2": "layer_norm2", "ffn_up": "mlp.fc1",
             "ffn_down": "mlp.fc2"}  # fmt: skip
    for name in weights:
        if name.startswith("v.blk."):
            _, _, layer, part, kind = name.split(".")
            renamed[name] = f"encoder.layers.{layer}.{parts[part]}.{kind}"
        elif name.startswith("v.pre_ln"):
            renamed[name] = name.replace("v.pre_ln", "pre_layrnorm")
    inner = {theirs: weights[ours] for ours, theirs in renamed.items()}
    known = set(model.state_dict())
    prefix = "vision_model." if "vision_model.embeddings.class_embedding" in known else ""
    missing, unexpected = model.load_state_dict({prefix + name: value for name, value in inner.items()}, strict=False)
    assert not unexpected and all("post_layernorm" in name or "position_ids" in name for name in missing)
    pixels = torch.from_numpy(prepare(draw_probe(sample.IMAGE), sample.IMAGE))[None]
    with torch.no_grad():
        states = model.eval()(pixels, output_hidden_states=True).hidden_states[-2][0, 1:]
        hidden = torch.nn.functional.gelu(states @ weights["mm.0.weight"].T + weights["mm.0.bias"], approximate="tanh")
        expected = (hidden @ weights["mm.2.weight"].T + weights["mm.2.bias"]).numpy()
    bundle = write_sample(tmp_path)
    found = load_file(bundle.file("probe_features"))["features"]
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-4)
    assert sum(entry.bytes for entry in bundle.files.values()) < 400_000


def test_without_onnxruntime_the_probe_decides(make, language_model, tmp_path, monkeypatch):
    from edgereverie.runtime.backends import llamacpp

    monkeypatch.setattr(llamacpp, "find_spec", lambda name: None)
    engine = object.__new__(llamacpp.LlamaEngine)
    engine._owned, engine._model, engine.width = [], language_model, 48
    folder, model = make(SIGLIP, vision_feature_select_strategy="full")
    good = bundle_of(folder, model, tmp_path / "good")
    vision = engine._open_vision(good)
    expected = features(model, pixels_of(folder))
    assert np.abs(vision.encode(pixels_of(folder)) - expected).max() < 0.05 + 0.01 * np.abs(expected).max()
    llamacpp._free(engine._owned)
    with pytest.raises(BackendError, match="closed"):
        vision.encode(pixels_of(folder))
    with pytest.raises(BackendError, match="and the installed llama.cpp encodes wrongly".replace(".", r"\.")) as caught:
        engine._open_vision(write_sample(tmp_path))
    assert "onnxruntime" in caught.value.hint
    llamacpp._free(engine._owned)


def test_damaged_files_are_errors_and_no_crash(language_model, tmp_path):
    sample = write_sample(tmp_path)
    whole = sample.file("mmproj").read_bytes()
    for content in (b"", b"GGUF", whole[:200], whole[: len(whole) // 2]):
        sample.file("mmproj").write_bytes(content)
        with pytest.raises(BackendError, match=r"mmproj\.gguf"):
            run_probe(sample)
    sample.file("mmproj").write_bytes(whole)
    with pytest.raises(BackendError, match="takes"):
        encoder = MtmdEncoder(sample.file("mmproj"), sample.image, language_model)
        try:
            encoder.encode_bytes(np.zeros((8, 8, 3), np.uint8))
        finally:
            encoder.close()
    sample.file("model").write_bytes(b"GGUF nothing")
    with pytest.raises(BackendError, match="cannot load the model's vocabulary"):
        run_probe(sample)
    sample.file("probe_features").write_bytes(b"nothing")
    with pytest.raises(BundleError, match="reference features cannot be read"):
        run_probe(sample)


def test_features_of_another_count_fail():
    found = compare_features(np.ones((15, 4)), np.ones((16, 4)))
    assert not found.passed and found.told() == "gives 15 image tokens, the model was trained with 16"
    assert not compare_features(np.full((2, 2), np.nan), np.ones((2, 2))).passed
    assert replace(compare_features(np.eye(3), np.eye(3)), worst=0.96).passed is False


def test_nothing_is_printed_at_the_interpreters_end(tmp_path):
    write_sample(tmp_path).write()
    command = [sys.executable, "-m", "edgereverie.runtime.mtmd", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0 and set(json.loads(done.stdout)) == {"cosine", "worst", "tokens", "expected"}
    assert "closed file" not in done.stderr and "Error" not in done.stderr, done.stderr


def test_the_documented_reproduction_says_what_the_document_says():
    docs = Path(__file__).parent.parent.parent / "docs"
    done = subprocess.run([sys.executable, str(docs / "llama_cpp_clip.py")], capture_output=True, text=True, timeout=300,
                          check=True)  # fmt: skip
    lines = done.stdout.splitlines()
    wrong, same = (float(line.split("cosine mean ")[1].split()[0]) for line in lines[1:])
    assert wrong < 0.95 and same > 0.9999
    document = (docs / "llama-cpp-clip.md").read_text(encoding="utf-8")
    assert all(line.rpartition("  largest")[0] in document for line in lines[1:])
