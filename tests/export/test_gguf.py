"""What the GGUF target writes, refuses and says about itself."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgereverie.bundle import Bundle
from edgereverie.errors import BundleError, ExportError
from edgereverie.export.base import ParityBound, find_target, load_profile
from edgereverie.export.parity import compare
from edgereverie.export.quantise import open_llama
from edgereverie.export.targets.gguf import TARGET
from edgereverie.shipped import shipped_profiles

F16, Q4_K_M = load_profile("gguf-f16"), load_profile("gguf-q4-k-m")


def with_config(folder, **changes):
    """The folder with parts of its config changed; weights are never looked at."""
    config = dict(folder.config)
    for key, value in changes.items():
        config[key] = dict(config[key]) | value if isinstance(value, dict) and key in config else value
    return replace(folder, described=replace(folder.described, config=config))


def test_every_shipped_profile_names_a_quantization_of_its_target():
    names = [name for name in shipped_profiles() if name.startswith("gguf-")]
    assert len(names) >= 9
    for name in names:
        profile = load_profile(name)
        assert profile.target == "gguf" and profile.quantization in TARGET.quantizations
        assert name == "gguf-" + profile.quantization.lower().replace("_", "-")


def test_every_quantization_is_known_to_who_packs_it():
    from gguf import GGMLQuantizationType, LlamaFileType

    from edgereverie.export.targets import gguf

    llama = open_llama("test")
    for quantization in gguf._PACKED_HERE:
        assert quantization in GGMLQuantizationType.__members__
        assert quantization == "F32" or f"MOSTLY_{quantization}" in LlamaFileType.__members__
    for quantization in gguf._PACKED_BY_LLAMA:
        assert hasattr(llama, f"LLAMA_FTYPE_MOSTLY_{quantization}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text_config": {"model_type": "gemma2"}}, "language model is 'gemma2'; no architecture"),
        ({"text_config": {"model_type": "stablelm"}}, "language model is 'stablelm'; no architecture"),
        ({"text_config": {"model_type": "phi"}}, r"Phi-2: .* side by side.* No architecture of llama\.cpp"),
        ({"text_config": {"rope_parameters": {"rope_type": "longrope", "rope_theta": 10000.0, "factor": 32.0,
                                              "short_factor": [1.0] * 32, "long_factor": [2.0] * 32}}},
         "rope type is 'longrope'"),
        ({"text_config": {"hidden_act": "gelu"}}, "activation is 'gelu'"),
        ({"text_config": {"head_dim": 32}}, "8 heads of 32 are not the model's width of 256|heads of 32"),
        ({"text_config": {"hidden_size": "wide"}}, "no language model can be read from it"),
    ],
)  # fmt: skip
def test_what_a_gguf_cannot_carry_is_refused_from_the_config_alone(tiny, change, message):
    with pytest.raises(ExportError, match=message) as caught:
        TARGET.check(with_config(tiny, **change), F16)
    assert caught.value.hint


MOE = {"moe_layers_idx": [0, 2], "num_experts": [4, 4], "top_k_experts": 2}
STABLELM = {"model_type": "stablelm", "rms_norm_eps": None, "layer_norm_eps": 1e-5}


@pytest.mark.parametrize(
    ("text", "moe", "message"),
    [
        ({}, {"num_experts": [4, 2]}, r"different numbers of experts \(\[2, 4\]\)"),
        ({}, {"second_expert": "gumbel"}, "draws the second expert with noise"),
        ({"model_type": "phi"}, {}, "Phi-2: .* and it has experts"),
        (STABLELM, {"top_k_experts": 1}, r"one expert, weighted with its probability.*'phimoe' has not"),
        (STABLELM | {"use_parallel_residual": True}, {}, "side by side"),
        (STABLELM | {"qk_layernorm": True}, {}, "norms of queries and keys"),
        ({"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 64, "max_window_layers": 1}, {},
         "look back 64 tokens only"),
    ],
)  # fmt: skip
def test_experts_that_cannot_be_said_exactly_are_refused(tiny, text, moe, message):
    from edgereverie.registry import BACKBONES

    sparse = replace(with_config(tiny, text_config=text, moe=MOE | moe), backbone=BACKBONES.get("moe_llava"))
    with pytest.raises(ExportError, match=message) as caught:
        TARGET.check(sparse, F16)
    assert caught.value.hint


def test_phi_2_is_refused_with_the_reason(tiny):
    """Not only with the list of what it leaves as."""
    from edgereverie.registry import BACKBONES

    folder = replace(with_config(tiny, text_config={"model_type": "phi"}, moe=MOE), backbone=BACKBONES.get("moe_llava"))
    with pytest.raises(ExportError, match="with GELU and biases, and it has experts") as caught:
        find_target(folder, F16)
    assert "ONNX" in caught.value.hint


def test_what_leaves_as_gguf_says_so():
    from edgereverie.export.architectures.base import ARCHITECTURES
    from edgereverie.registry import BACKBONES

    carried = [ARCHITECTURES.get(name) for name in ARCHITECTURES.names()]
    for name in BACKBONES.names():
        backbone = BACKBONES.get(name)
        for kind, targets in backbone.exports.items():
            sparse = backbone.model_type == "moe_llava"
            known = any(kind in (one.sparse if sparse else one.dense) for one in carried)
            assert known == ("gguf" in targets), (name, kind)


def test_k_quants_need_rows_of_256(tiny):
    narrow = with_config(tiny, text_config={"intermediate_size": 480})
    with pytest.raises(ExportError, match=r"blocks of 256.*intermediate_size 480") as caught:
        TARGET.check(narrow, Q4_K_M)
    assert "Q8_0" in caught.value.hint
    TARGET.check(narrow, load_profile("gguf-q8-0"))


def test_bundle_holds_what_its_manifest_says(bundles):
    bundle = bundles("gguf-f16")
    Bundle.load(bundle.folder).check()
    assert {path.name for path in bundle.folder.iterdir()} == {entry.path for entry in bundle.files.values()} | {
        "bundle.json"
    }
    assert bundle.quantization == "F16" and bundle.made_from["profile"] == "gguf-f16"
    assert bundle.made_from["versions"]["gguf"] and bundle.parity["limits"] == []


def test_probe_features_are_torchs(bundles, reference, tiny):
    from PIL import Image
    from safetensors.numpy import load_file

    from edgereverie.image import prepare

    bundle = bundles("gguf-f16")
    expected = reference.encode(prepare(Image.open(bundle.file("probe_image")), tiny.image))
    stored = load_file(bundle.file("probe_features"))["features"]
    assert stored.shape == (tiny.image.tokens, 256) and np.abs(stored - expected).max() < 1e-5
    import onnxruntime as ort

    session = ort.InferenceSession(bundle.file("vision"), providers=["CPUExecutionProvider"])
    pixels = prepare(Image.open(bundle.file("probe_image")), tiny.image)[None]
    assert np.abs(session.run(None, {"pixel_values": pixels})[0][0] - expected).max() < 1e-4


def test_metadata_that_third_party_tools_read(bundles, tiny):
    from gguf import GGUFReader

    reader = GGUFReader(bundles("gguf-f16").file("model"))
    value = {name: field.contents() for name, field in reader.fields.items()}
    tokenizer = tiny.tokenizer()
    assert value["general.architecture"] == "phi3" and value["general.file_type"] == 1
    assert value["phi3.block_count"] == 4 and value["phi3.context_length"] == 2048
    assert value["tokenizer.chat_template"] == tiny.chat.jinja
    end, begin = tokenizer.token_to_id("<|end|>"), tokenizer.token_to_id("<s>")
    assert value["tokenizer.ggml.eos_token_id"] == value["tokenizer.ggml.eot_token_id"] == end
    assert value["tokenizer.ggml.bos_token_id"] == begin


def test_truncated_gguf_is_noticed_by_the_bundle_and_by_llama_cpp(bundles, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(bundles("gguf-f16").folder, copy)
    model = copy / "model.gguf"
    model.write_bytes(model.read_bytes()[:-5000])
    with pytest.raises(BundleError, match=r"model.gguf \(model\) has .* bytes"):
        Bundle.load(copy).check(hashes=False)
    llama = open_llama("test")
    assert not llama.llama_model_load_from_file(str(model).encode(), llama.llama_model_default_params())


# Blocks of 256 with 6 to 3 bits, by llama.cpp. A model of random weights hardly prefers one token to the next, so many top
# tokens change where the distribution as a whole does not: that is the stricter bound.
@pytest.mark.parametrize(
    ("quantization", "top1", "divergence"),
    [("Q6_K", 0.8, 1e-3), ("Q5_K_M", 0.65, 3e-3), ("Q4_K_M", 0.5, 0.01), ("Q3_K_M", 0.35, 0.02), ("IQ4_XS", 0.5, 0.01)],
)
def test_what_llama_cpp_packs_keeps_most_top_tokens(
    quantization, top1, divergence, tiny, run_gguf, reference, cases, tmp_path
):
    from edgereverie.export.base import Job, silent
    from edgereverie.export.targets.gguf import _write_model
    from edgereverie.export.weights import Weights

    profile = F16.model_copy(update={"quantization": quantization, "settings": {"importance": False}})
    _write_model(Job(tiny, Weights(tiny), profile, tmp_path, list, silent))
    assert [path.name for path in tmp_path.iterdir()] == ["model.gguf"]
    parity = compare(reference, run_gguf(tmp_path / "model.gguf"), cases, ParityBound(min_top1=0.0))
    assert parity.top1 >= top1 and parity.mean_kl <= divergence, parity


def test_runner_needs_only_llama_cpp_and_onnxruntime(bundles, tmp_path):
    run_alone("run_gguf.py", bundles("gguf-f16"), tmp_path)


def run_alone(runner: str, bundle: Bundle, tmp_path: Path) -> None:
    from edgereverie.shipped import shipped

    code = ("import builtins, runpy, sys; real = builtins.__import__\n"
            "def guarded(name, *a, **k):\n"
            "    assert name.partition('.')[0] not in ('edgereverie', 'torch', 'transformers'), name\n"
            "    return real(name, *a, **k)\n"
            "builtins.__import__ = guarded; sys.argv = sys.argv[1:]\n"
            "runpy.run_path(sys.argv[0], run_name='__main__')")  # fmt: skip
    script = shipped("export") / "runners" / runner
    command = [sys.executable, "-c", code, str(script), str(bundle.folder), str(bundle.file("probe_image")), "A ring?"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() and not done.stderr, done.stderr


@pytest.mark.parametrize("quantization", ["Q2_K", "IQ2_XS"])
def test_two_bits_of_a_model_with_experts(quantization, tiny, cases, tmp_path):
    """step35's shared experts are zeros that no input was measured of; llama.cpp asks for all matrices' importance there."""
    from gguf import GGUFReader

    from edgereverie.backbones._upcycle import write_upcycled
    from edgereverie.backbones.base import open_folder
    from edgereverie.export.base import Job, silent
    from edgereverie.export.targets.gguf import _write_model
    from edgereverie.export.weights import Weights

    (tmp_path / "moe").mkdir()
    write_upcycled(tiny, tmp_path / "moe", layers="1,2")
    folder = open_folder(tmp_path / "moe")
    (tmp_path / "out").mkdir()
    profile = F16.model_copy(update={"quantization": quantization})
    files = _write_model(Job(folder, Weights(folder), profile, tmp_path / "out", lambda: cases, silent))
    assert files["importance"] == "importance.gguf"
    names = {tensor.name for tensor in GGUFReader(tmp_path / "out" / "model.gguf").tensors}
    assert "blk.1.ffn_up_shexp.weight" in names and "blk.2.ffn_down_exps.weight" in names
