from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from edgereverie.bundle import Bundle
from edgereverie.export import graphs
from edgereverie.export.base import ParityBound
from edgereverie.export.parity import compare

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
    [("onnx-fp16", 0.01, 1e-5, 0.98), ("onnx-int8", 0.2, 5e-4, 0.9), ("onnx-int4", 2.0, 0.02, 0.4)],
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
        assert not graph.metadata_props and not any(node.metadata_props or node.doc_string for node in graph.graph.node)
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
        "preprocessor_config.json",
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


def test_large_weights_go_beside_the_graph(tmp_path, monkeypatch, bundles):
    graph = onnx.load(bundles("onnx-fp32").file("embed"))
    monkeypatch.setattr(graphs, "INLINE_BYTES", 1000)
    graphs.save(graph, tmp_path / "embed_tokens.onnx")
    assert (tmp_path / "embed_tokens.onnx_data").stat().st_size >= 512 * 256 * 4
    assert (tmp_path / "embed_tokens.onnx_data").stat().st_mode & 0o044
    assert (tmp_path / "embed_tokens.onnx").stat().st_size < 5000
    ids = {"input_ids": np.array([[5, 7]], np.int64)}
    run = [ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, ids)[0]
           for path in (tmp_path / "embed_tokens.onnx", bundles("onnx-fp32").file("embed"))]  # fmt: skip
    assert np.array_equal(*run)


def test_runner_needs_only_onnxruntime(bundles, tmp_path):
    run_alone("run_onnx.py", bundles("onnx-int8"), tmp_path)
