from __future__ import annotations

import json
import shutil
import weakref
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from edgereverie.bundle import Bundle, describe_file
from edgereverie.errors import BundleError, ExportError
from edgereverie.export import onnx_file
from edgereverie.export.base import ParityBound, find_target, load_profile
from edgereverie.export.parity import compare
from edgereverie.export.weights import TEXT, Weights
from edgereverie.export.write import export_bundle
from edgereverie.registry import BACKENDS

from ._folders import published, sized
from .test_gguf import run_alone

NO_BOUND = ParityBound(min_top1=0.0)


@pytest.mark.parametrize("stepwise", [False, True])
def test_fp32_equals_torch_at_once_and_step_by_step(stepwise, bundles, run_onnx, reference, cases):
    chosen = cases[:2] if stepwise else cases
    parity = compare(
        reference, run_onnx(bundles("onnx-fp32"), stepwise=stepwise), chosen, ParityBound(max_logit_diff=2e-4)
    )
    assert parity.passed, parity.faults
    assert parity.greedy == 1.0 and parity.max_feature_diff < 1e-4


@pytest.mark.parametrize(
    ("profile", "largest", "divergence", "top1"),
    [("onnx-fp16", 0.01, 1e-5, 0.98), ("onnx-int8", 0.2, 5e-4, 0.9), ("onnx-int4", 1.0, 0.02, 0.3)],
)
def test_smaller_ones_stay_close(profile, largest, divergence, top1, bundles, run_onnx, reference, cases):
    parity = compare(reference, run_onnx(bundles(profile)), cases, NO_BOUND)
    assert parity.max_logit_diff <= largest and parity.mean_kl <= divergence
    assert parity.top1 >= top1
    sizes = {name: bundles(name).files["decoder"].bytes for name in (profile, "onnx-fp32")}
    assert sizes[profile] < 0.55 * sizes["onnx-fp32"]


def test_two_rows_of_unequal_length_equal_two_runs(bundles, reference, cases):
    """Left padding, masked, with position ids that start at the first real token."""
    short, long = sorted((ids for ids, pixels in cases if pixels is None), key=len)[::2]
    bundle, width = bundles("onnx-fp32"), len(long)
    embed, decoder = (
        ort.InferenceSession(bundle.file(role), providers=["CPUExecutionProvider"]) for role in ("embed", "decoder")
    )
    pad = width - len(short)
    assert pad > 0
    mask = np.array([[0] * pad + [1] * len(short), [1] * width], np.int64)
    feeds = {
        "inputs_embeds": embed.run(None, {"input_ids": np.array([[0] * pad + list(short), list(long)], np.int64)})[0],
        "attention_mask": mask, "position_ids": np.maximum(mask.cumsum(-1) - 1, 0),
    }  # fmt: skip
    empty = {
        i.name: np.zeros((2, i.shape[1], 0, i.shape[3]), np.float32) for i in decoder.get_inputs() if "past" in i.name
    }
    logits = decoder.run(["logits"], feeds | empty)[0]
    for row, ids, skip in ((0, short, pad), (1, long, 0)):
        assert np.abs(logits[row, skip:] - reference.forward(ids, None)).max() < 2e-4


def test_inputs_and_outputs_have_the_names_that_other_tools_read(bundles):
    bundle = bundles("onnx-fp32")
    cache = [f"{n}.{kind}" for n in range(4) for kind in ("key", "value")]
    expected = {
        "vision": (["pixel_values"], ["image_features"]),
        "embed": (["input_ids"], ["inputs_embeds"]),
        "decoder": (
            ["inputs_embeds", "attention_mask", "position_ids", *(f"past_key_values.{kind}" for kind in cache)],
            ["logits", *(f"present.{kind}" for kind in cache)],
        ),
    }
    for role, (inputs, outputs) in expected.items():
        graph = onnx.load(bundle.file(role))
        assert [value.name for value in graph.graph.input] == inputs
        assert [value.name for value in graph.graph.output] == outputs
        axes = {
            dim.dim_param
            for value in (*graph.graph.input, *graph.graph.output)
            for dim in value.type.tensor_type.shape.dim
        }
        assert axes <= {"", "batch_size", "sequence_length", "past_sequence_length", "total_sequence_length"}
        told = {prop.key: prop.value for prop in graph.metadata_props}
        assert told == ({"edgereverie.cache": "concat"} if role == "decoder" else {})
        assert {entry.domain: entry.version for entry in graph.opset_import}[""] == 20


def test_four_bits_for_the_layers_and_eight_for_the_head(bundles):
    graph = onnx.load(bundles("onnx-int4").file("decoder")).graph
    bits = {
        node.output[0]: {a.name: a.i for a in node.attribute} for node in graph.node if node.op_type == "MatMulNBits"
    }
    assert bits.pop("logits")["bits"] == 8
    assert len(bits) == 4 * 4  # qkv, o, gate_up and down of four layers
    assert all((b["bits"], b["block_size"], b["accuracy_level"]) == (4, 32, 4) for b in bits.values())


def test_folder_as_transformers_js_reads_it(bundles, tiny):
    bundle = bundles("onnx-int4")
    Bundle.load(bundle.folder).check()
    names = {path.relative_to(bundle.folder).as_posix() for path in bundle.folder.rglob("*") if path.is_file()}
    assert names == {
        "bundle.json", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
        "preprocessor_config.json", "prompt.json",
        "processor_config.json", "probe.png", "probe.safetensors", "onnx/vision_encoder_q4.onnx", "onnx/embed_tokens_q4.onnx",
        "onnx/decoder_model_merged_q4.onnx",
    }  # fmt: skip
    read = {name: json.loads((bundle.folder / name).read_text()) for name in names if name.endswith("config.json")}
    assert (
        read["config.json"]["model_type"] == "llava"
        and read["config.json"]["image_token_index"] == tiny.config["image_token_index"]
    )
    assert read["config.json"]["transformers.js_config"] == {"dtype": "q4", "use_external_data_format": {}}
    assert read["tokenizer_config.json"]["chat_template"] == tiny.chat.jinja
    assert read["preprocessor_config.json"]["image_mean"] == list(tiny.image.mean)
    # Its count of image tokens: (96 / 16)^2 + num_additional_image_tokens, nothing taken off.
    assert read["processor_config.json"]["num_additional_image_tokens"] == 0
    vision = ort.InferenceSession(bundle.file("vision"), providers=["CPUExecutionProvider"])
    features = vision.run(None, {"pixel_values": np.zeros((1, 3, 96, 96), np.float32)})[0]
    assert features.shape == (1, (96 // 16) ** 2, 256)


def test_a_folder_of_any_layout_gets_the_files_that_transformers_js_reads(tmp_path):
    """MoE-LLaVA on Phi-2 has none of them: a SigLIP without a class token, a tokenizer in two files, a config of its own."""
    folder = published("MoE-LLaVA-Phi2-384", tmp_path / "model")
    bundle = export_bundle(folder, load_profile("onnx-fp32"), tmp_path / "out", made_from={})
    read = {name: json.loads((bundle.folder / f"{name}.json").read_text()) for name in (
        "config", "generation_config", "tokenizer_config", "preprocessor_config", "processor_config")}  # fmt: skip
    config = read["config"]
    assert (config["model_type"], config["architectures"]) == ("llava", ["LlavaForConditionalGeneration"])
    sizes = ("num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads")
    assert [config["text_config"][key] for key in sizes] == [4, 32, 4, 4]
    assert config["image_token_index"] == folder.tokenizer().token_to_id("<image>")
    ends = [folder.tokenizer().token_to_id(token) for token in folder.chat.stops]
    assert read["generation_config"]["eos_token_id"] == ends
    assert read["tokenizer_config"]["chat_template"] == folder.chat.jinja
    assert "auto_map" not in read["tokenizer_config"], "no code of the publisher's is asked for"
    assert read["preprocessor_config"]["image_mean"] == [0.4, 0.5, 0.6]
    # Its count: (42 / 14)^2 + num_additional_image_tokens; LLaVA drops one of a SigLIP's nine patches.
    assert 9 + read["processor_config"]["num_additional_image_tokens"] == folder.image.tokens == 8
    vision = ort.InferenceSession(bundle.file("vision"), providers=["CPUExecutionProvider"])
    assert vision.run(None, {"pixel_values": np.zeros((1, 3, 42, 42), np.float32)})[0].shape == (1, 8, 32)


def test_large_weights_go_beside_the_graph_in_parts(tmp_path, monkeypatch, bundles, tiny):
    monkeypatch.setattr(onnx_file, "INLINE_BYTES", 1000)
    monkeypatch.setattr(onnx_file, "PART_BYTES", 4_000_000)
    bundle = export_bundle(tiny, load_profile("onnx-fp32"), tmp_path / "out", made_from={"model": "tiny"})
    files = sorted(path.name for path in (bundle.folder / "onnx").glob("decoder*"))
    assert files == ["decoder_model_merged.onnx", "decoder_model_merged.onnx_data", "decoder_model_merged.onnx_data_1",
                     "decoder_model_merged.onnx_data_2"]  # fmt: skip
    external = json.loads((bundle.folder / "config.json").read_text())["transformers.js_config"]
    assert external["use_external_data_format"] == {"vision_encoder": 2, "embed_tokens": 1, "decoder_model_merged": 3}
    assert {role for role in bundle.files if role.startswith("decoder")} == {
        "decoder", "decoder_data", "decoder_data_1", "decoder_data_2"}  # fmt: skip
    assert all(bundle.file(role).stat().st_size <= 4_000_000 for role in bundle.files)
    assert bundle.files["decoder"].bytes < 60_000
    onnx.checker.check_model(bundle.file("decoder"))
    ids = {"input_ids": np.array([[5, 7]], np.int64)}
    run = [ort.InferenceSession(one.file("embed"), providers=["CPUExecutionProvider"]).run(None, ids)[0]
           for one in (bundle, bundles("onnx-fp32"))]  # fmt: skip
    assert np.array_equal(*run)
    offsets = {}
    for tensor in onnx.load(bundle.file("decoder"), load_external_data=False).graph.initializer:
        place = {entry.key: entry.value for entry in tensor.external_data}
        if place:
            offsets.setdefault(place["location"], []).append((int(place["offset"]), int(place["length"])))
    for placed in offsets.values():
        assert all(offset % 65536 == 0 for offset, _ in placed)
        assert all(a + size <= b for (a, size), (b, _) in pairwise(placed))


@pytest.mark.parametrize("profile", ["onnx-fp32", "onnx-int4", "onnx-int4-shared", "onnx-fp16-cuda"])
def test_writing_twice_gives_equal_bytes(profile, tmp_path, bundles, tiny):
    again = export_bundle(tiny, load_profile(profile), tmp_path / "again", made_from={"model": "tiny"})
    assert again.files == bundles(profile).files


@pytest.mark.parametrize(
    ("name", "quantization", "settings", "message"),
    [
        ("llava_phi3, a window of seven", "fp32", {"device": "cuda"}, "fp32 would run on the CPU"),
        (
            "llava_phi3, a window of seven",
            "int8",
            {"algorithm": "hqq"},
            "hqq finds 4-bit blocks; the profile asks for int8",
        ),
    ],
)
def test_settings_that_mean_nothing_together_are_refused(name, quantization, settings, message, tmp_path):
    profile = load_profile("onnx-fp32").model_copy(update={"quantization": quantization, "settings": settings})
    with pytest.raises(ExportError, match=message):
        find_target(sized(name, tmp_path / "model"), profile)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}}, "rope_type is 'dynamic'"),
        ({"hidden_act": "mish"}, "hidden_act is 'mish'"),
    ],
)
def test_language_models_that_no_graph_computes_are_refused_by_name(change, message, tmp_path):
    folder = sized("llava15, four heads over two", tmp_path / "model")
    folder.config["text_config"].update(change)
    with pytest.raises(ExportError, match=message):
        find_target(folder, load_profile("onnx-fp32"))


def test_experts_chosen_with_noise_are_refused(tmp_path):
    folder = sized("moe_llava on Llama", tmp_path / "model")
    folder.config["moe"]["second_expert"] = "gumbel"
    with pytest.raises(ExportError, match=r"moe\.second_expert is 'gumbel'"):
        find_target(folder, load_profile("onnx-fp32"))


def test_widths_and_heads_that_do_not_fit_are_refused(tmp_path):
    folder = published("MoE-LLaVA-StableLM", tmp_path / "model")
    with pytest.raises(ExportError, match=r"blocks of 32, which do not divide .*intermediate_size 48"):
        find_target(folder, load_profile("onnx-int4"))
    shared = load_profile("onnx-fp32").model_copy(update={"settings": {"cache": "shared"}})
    with pytest.raises(ExportError, match="multiples of 16; this model's are 8 and 2"):
        find_target(folder, shared)


@pytest.mark.parametrize("quantization", ["fp32", "int4"])
def test_of_the_language_model_only_what_is_being_written_is_in_memory(quantization, tiny, tmp_path, monkeypatch):
    read, live, peak = Weights.array, Counter(), []

    def counted(self, name):
        values = read(self, name).copy()  # owns its memory, so that views of it keep it alive
        if name.startswith((TEXT, "lm_head")):
            live[name] = values.nbytes
            weakref.finalize(values, live.pop, name)
            peak.append(live.total())
        return values

    monkeypatch.setattr(Weights, "array", counted)
    monkeypatch.setattr(onnx_file, "INLINE_BYTES", 0)
    profile = load_profile("onnx-fp32").model_copy(update={"quantization": quantization})
    export_bundle(tiny, profile, tmp_path / "out", made_from={})
    sizes = [4 * np.prod(Weights(tiny).shape(name)) for name in Weights(tiny).names(TEXT)]
    assert len(peak) >= len(sizes)
    assert max(peak) == max(sizes) < sum(sizes) / 10


@pytest.mark.parametrize("absolute", [False, True])
def test_a_graph_whose_weights_lie_outside_its_folder_is_not_loaded(absolute, bundles, tmp_path):
    """Whole by its manifest, which was written after the change: onnxruntime itself refuses."""
    bundle = bundles("onnx-fp32")
    crafted = tmp_path / "crafted"
    shutil.copytree(bundle.folder, crafted)
    path = crafted / bundle.files["embed"].path
    graph = onnx.load(path)
    table = graph.graph.initializer[-1]
    secret = tmp_path / "secret.bin"
    secret.write_bytes(table.raw_data)
    table.ClearField("raw_data")
    table.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": str(secret) if absolute else "../../secret.bin", "offset": "0"}.items():
        table.external_data.add(key=key, value=value)
    path.write_bytes(graph.SerializeToString())
    embed = describe_file(crafted, bundle.files["embed"].path)
    replace(bundle, folder=crafted, files=dict(bundle.files) | {"embed": embed}).write()
    with pytest.raises(BundleError, match="which is no file of the bundle"):
        BACKENDS.get("onnxrt").load(crafted)


@pytest.mark.parametrize("profile", ["onnx-int8", "onnx-int4-shared", "onnx-fp16-cuda"])
def test_runner_needs_only_onnxruntime(profile, bundles, tmp_path):
    run_alone("run_onnx.py", bundles(profile), tmp_path)
