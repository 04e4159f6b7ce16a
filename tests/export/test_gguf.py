from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgereverie.backbones.base import open_folder
from edgereverie.bundle import Bundle
from edgereverie.errors import BundleError, ExportError
from edgereverie.export.base import ParityBound, silent
from edgereverie.export.parity import compare
from edgereverie.export.quantise import load_vocabulary, open_llama, quantise
from edgereverie.export.targets.gguf import TARGET, _write_text, general_name
from edgereverie.export.vocabulary import compare_ids, read_vocabulary
from edgereverie.export.weights import Weights

NO_BOUND = ParityBound(min_top1=0.0)


def vocabulary_of(folder):
    data = json.loads((folder.path / "tokenizer.json").read_text())
    return read_vocabulary(data, folder.config["text_config"]["vocab_size"], folder.chat)


@pytest.fixture(scope="module")
def text_gguf(tiny, tmp_path_factory):
    """The tiny language model as a GGUF of one of the types that are packed here."""
    folder = tmp_path_factory.mktemp("gguf")

    def write(quantization: str) -> Path:
        path = folder / f"{quantization}.gguf"
        if not path.exists():
            _write_text(path, tiny, Weights(tiny.path), vocabulary_of(tiny), "tiny-phi3", quantization, silent)
        return path

    return write


def test_the_reference_engine_is_transformers_own_forward(reference, cases):
    for ids, pixels in cases:
        stepped = reference.open().feed(ids, None if pixels is None else reference.encode(pixels), logits="all")
        assert np.abs(stepped - reference.forward(ids, pixels)).max() < 1e-5


# F32: other order of sums only. F16: weights and activations keep 11 bits; the tiny model's layers are amplified 2.5 times,
# which amplifies their rounding too. Q8_0 and Q4_0: blocks of 32 with 8 and 4 bits; random weights are the worst case.
@pytest.mark.parametrize(
    ("quantization", "largest", "top1"),
    [("F32", 2e-4, 1.0), ("F16", 4e-3, 0.995), ("BF16", 0.05, 0.95), ("Q8_0", 0.15, 0.9), ("Q4_0", 2.0, 0.4)],
)
def test_logits_equal_torchs(quantization, largest, top1, text_gguf, run_gguf, reference, cases):
    parity = compare(reference, run_gguf(text_gguf(quantization)), cases, NO_BOUND)
    print(quantization, parity.max_logit_diff, parity.top1, parity.mean_kl)
    assert parity.positions > 200 and parity.image_cases == 3
    assert parity.max_logit_diff <= largest
    assert parity.top1 >= top1


def test_f16_of_a_freshly_initialised_model_is_within_two_thousandths(
    sentences, run_gguf, make_reference, cases, untrained, tmp_path
):
    (tmp_path / "fresh").mkdir()
    fresh = open_folder(untrained(tmp_path / "fresh", sentences * 30, 5))
    _write_text(tmp_path / "fresh.gguf", fresh, Weights(fresh.path), vocabulary_of(fresh), "tiny-phi3", "F16", silent)
    reference = make_reference(fresh)
    engine = run_gguf(tmp_path / "fresh.gguf")
    engine.encode = reference.encode
    parity = compare(reference, engine, cases, NO_BOUND)
    assert parity.max_logit_diff <= 2e-3 and parity.top1 >= 0.995  # what knows nothing has near ties


@pytest.mark.parametrize(("quantization", "top1"), [("Q6_K", 0.8), ("Q5_K_M", 0.7), ("Q4_K_M", 0.5)])
def test_k_quants_keep_most_top_tokens(quantization, top1, text_gguf, run_gguf, reference, cases, tmp_path):
    quantise(text_gguf("F16"), tmp_path / "k.gguf", quantization, threads=1)
    parity = compare(reference, run_gguf(tmp_path / "k.gguf"), cases, NO_BOUND)
    print(quantization, parity.max_logit_diff, parity.top1, parity.mean_kl)
    assert parity.top1 >= top1


def test_k_quants_need_rows_of_256(tiny):
    text = dict(tiny.config["text_config"]) | {"intermediate_size": 480}
    narrow = replace(tiny, described=replace(tiny.described, config=dict(tiny.config) | {"text_config": text}))
    with pytest.raises(ExportError, match=r"blocks of 256.*intermediate_size 480") as caught:
        TARGET.check(narrow, "Q4_K_M")
    assert "Q8_0" in caught.value.hint
    TARGET.check(narrow, "Q8_0")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text_config": {"model_type": "qwen2"}}, "written for 'phi3'"),
        ({"text_config": {"rope_parameters": {"rope_type": "longrope"}}}, "rope type is 'longrope'"),
        ({"vision_config": {"model_type": "siglip_vision_model"}}, "siglip_vision_model"),
        ({"vision_config": {"intermediate_size": 128}}, "equals its hidden_size"),
        ({"vision_feature_layer": [-2, -5]}, "lists several layers"),
        ({"vision_feature_select_strategy": "full"}, "vision_feature_select_strategy is 'full'"),
    ],
)
def test_what_a_gguf_cannot_carry_is_refused_from_the_config_alone(tiny, change, message):
    config = dict(tiny.config)
    for key, value in change.items():
        config[key] = dict(config[key]) | value if isinstance(value, dict) else value
    with pytest.raises(ExportError, match=message):
        TARGET.check(replace(tiny, described=replace(tiny.described, config=config)), "F16")


def test_bundle_holds_what_its_manifest_says(bundles):
    bundle = bundles("gguf-f16")
    Bundle.load(bundle.folder).check()
    assert {path.name for path in bundle.folder.iterdir()} == {entry.path for entry in bundle.files.values()} | {
        "bundle.json"
    }
    assert (
        bundle.quantization == "F16"
        and bundle.made_from["profile"] == "gguf-f16"
        and bundle.made_from["versions"]["gguf"]
    )


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


def test_mmproj_as_other_tools_read_it(bundles, tiny):
    from gguf import GGUFReader

    reader = GGUFReader(bundles("gguf-f16").file("mmproj"))
    value = {name: field.contents() for name, field in reader.fields.items()}
    expected = {
        "general.architecture": "clip", "general.type": "mmproj", "clip.has_vision_encoder": True, "clip.projector_type": "mlp",
        "clip.use_gelu": False, "clip.vision.image_size": 96, "clip.vision.patch_size": 16, "clip.vision.embedding_length": 128,
        "clip.vision.feed_forward_length": 512, "clip.vision.block_count": 5, "clip.vision.projection_dim": 256,
        "clip.vision.attention.head_count": 4, "clip.vision.feature_layer": [4],
    }  # fmt: skip
    assert {name: value[name] for name in expected} == expected
    assert "clip.use_silu" not in value
    assert value["clip.vision.image_mean"] == pytest.approx(tiny.image.mean)
    assert value["clip.vision.image_std"] == pytest.approx(tiny.image.std)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    assert not [name for name in tensors if "post_ln" in name]
    per_layer = {f"v.blk.{n}.{part}.{kind}" for n in range(5) for kind in ("weight", "bias")
                 for part in ("attn_q", "attn_k", "attn_v", "attn_out", "ln1", "ln2", "ffn_up", "ffn_down")}  # fmt: skip
    outside = {"v.class_embd", "v.patch_embd.weight", "v.position_embd.weight", "v.pre_ln.weight", "v.pre_ln.bias",
               "mm.0.weight", "mm.0.bias", "mm.2.weight", "mm.2.bias"}  # fmt: skip
    assert set(tensors) == per_layer | outside
    weights = Weights(tiny.path)
    for name, source in {
        "v.blk.3.ffn_up.weight": "vision.encoder.layers.3.mlp.fc1.weight",
        "v.blk.4.ffn_down.bias": "vision.encoder.layers.4.mlp.fc2.bias",
        "v.blk.0.ln2.weight": "vision.encoder.layers.0.layer_norm2.weight",
        "v.patch_embd.weight": "vision.embeddings.patch_embedding.weight",
        "mm.0.weight": "projector.linear_1.weight", "v.pre_ln.bias": "vision.pre_layrnorm.bias",
    }.items():  # fmt: skip
        expected_values = weights.array(source)
        assert tensors[name].data.shape == expected_values.shape
        assert np.allclose(tensors[name].data, expected_values, rtol=1e-3, atol=1e-6)


def test_mmproj_loads_in_llama_cpp(bundles):
    mtmd = pytest.importorskip("llama_cpp.mtmd_cpp")
    llama = open_llama("test")
    bundle = bundles("gguf-f16")
    model = llama.llama_model_load_from_file(str(bundle.file("model")).encode(), llama.llama_model_default_params())
    settings = mtmd.mtmd_context_params_default()
    settings.use_gpu, settings.warmup, settings.n_threads = False, False, 1
    context = mtmd.mtmd_init_from_file(str(bundle.file("mmproj")).encode(), model, settings)
    assert context and mtmd.mtmd_support_vision(context)
    mtmd.mtmd_free(context)
    llama.llama_model_free(model)


def test_truncated_gguf_is_noticed_by_the_bundle_and_by_llama_cpp(bundles, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(bundles("gguf-f16").folder, copy)
    model = copy / "model.gguf"
    model.write_bytes(model.read_bytes()[:-5000])
    with pytest.raises(BundleError, match=r"model.gguf \(model\) has .* bytes"):
        Bundle.load(copy).check(hashes=False)
    llama = open_llama("test")
    assert not llama.llama_model_load_from_file(str(model).encode(), llama.llama_model_default_params())
    model.write_bytes(model.read_bytes()[:2000])
    with pytest.raises(ExportError, match=r"llama\.cpp cannot read it"), load_vocabulary(llama, model):
        pass


def test_llama_cpps_own_ids_equal_the_tokenizers(bundles, tiny):
    found = bundles("gguf-f16").parity["tokenization"]
    assert found["strings"] == 440
    for kind in ("words", "ascii", "unicode", "blanks", "chat"):
        same, count = found["by_kind"][kind]
        assert same == count, (kind, found["differing"])
    # llama.cpp lets </s> swallow blanks in every model that it takes for a Phi-3; the tokenizer file does not.
    assert all("</s>" in text for text in found["differing"])


def test_the_id_probe_notices_a_wrong_vocabulary(tiny, tmp_path):
    right = vocabulary_of(tiny)
    path = tmp_path / "wrong.gguf"
    for change in ({"scores": [-score for score in right.scores]}, {"space_prefix": False}):
        _write_text(path, tiny, Weights(tiny.path), replace(right, **change), "tiny-phi3", "F16", silent)
        found = compare_ids(tiny.tokenizer(), path, tiny.chat)
        assert found["equal"] < 0.7 * found["strings"] and found["differing"]
    _write_text(
        path, tiny, Weights(tiny.path), right, "tiny", "F16", silent
    )  # the name that sets strip-right is missing
    same, count = compare_ids(tiny.tokenizer(), path, tiny.chat)["by_kind"]["chat"]
    assert same < count


def test_vocabulary_of_every_row(tiny):
    from gguf import TokenType

    tokenizer = tiny.tokenizer()
    rows = tiny.config["text_config"]["vocab_size"]
    found = read_vocabulary(json.loads(tokenizer.to_str()), rows, tiny.chat)
    assert len(found.tokens) == len(found.scores) == len(found.types) == rows
    kinds = {"<unk>": TokenType.UNKNOWN, "<s>": TokenType.CONTROL, "<|end|>": TokenType.CONTROL, "<image>": TokenType.CONTROL,
             "<0x0A>": TokenType.BYTE, "<0xFF>": TokenType.BYTE, "▁": TokenType.NORMAL}  # fmt: skip
    assert {text: found.types[tokenizer.token_to_id(text)] for text in kinds} == {
        text: int(kind) for text, kind in kinds.items()
    }
    known = tokenizer.get_vocab_size()
    assert found.tokens[known:] == [f"[PAD{i}]".encode() for i in range(known, rows)]
    assert set(found.types[known:]) == {int(TokenType.UNUSED)}
    assert found.space_prefix and found.strip_right and not found.begins
    with pytest.raises(ExportError, match=r"highest id is \d+, the embedding has 64 rows"):
        read_vocabulary(json.loads(tokenizer.to_str()), 64, tiny.chat)


def test_settings_come_from_the_tokenizers_own_flags(tiny):
    data = json.loads((tiny.path / "tokenizer.json").read_text())
    for token in data["added_tokens"]:
        token["rstrip"] = False
    data["normalizer"], data["pre_tokenizer"] = (
        None,
        {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first"},
    )
    begin = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    data["post_processor"] = {"type": "TemplateProcessing", "single": [begin, {"Sequence": {"id": "A", "type_id": 0}}]}
    found = read_vocabulary(data, 512, tiny.chat)
    assert not found.strip_right and not found.space_prefix and found.begins
    data["pre_tokenizer"]["prepend_scheme"] = "always"
    assert read_vocabulary(data, 512, tiny.chat).space_prefix
    assert "phi-3" not in general_name("llava-phi-3", False) and "phi3" not in general_name("llava_phi3", False)
    data["model"] = data["model"] | {"byte_fallback": False}
    with pytest.raises(ExportError, match="byte fallback"):
        read_vocabulary(data, 512, tiny.chat)


def test_metadata_that_third_party_tools_read(bundles, tiny):
    from gguf import GGUFReader

    reader = GGUFReader(bundles("gguf-f16").file("model"))
    value = {name: field.contents() for name, field in reader.fields.items()}
    tokenizer = tiny.tokenizer()
    assert (
        value["general.architecture"] == "phi3"
        and value["phi3.block_count"] == 4
        and value["phi3.context_length"] == 2048
    )
    assert value["tokenizer.chat_template"] == tiny.chat.jinja
    assert (
        value["tokenizer.ggml.eos_token_id"] == value["tokenizer.ggml.eot_token_id"] == tokenizer.token_to_id("<|end|>")
    )
    assert value["tokenizer.ggml.bos_token_id"] == tokenizer.token_to_id("<s>")


def test_sharded_bf16_weights_give_the_same_file_as_one_shard(tiny, tmp_path):
    import torch
    from transformers import LlavaForConditionalGeneration

    model = LlavaForConditionalGeneration.from_pretrained(tiny.path, dtype=torch.bfloat16)
    files = []
    for name, size in (("one", "5GB"), ("many", "2MB")):
        folder = tmp_path / name
        shutil.copytree(tiny.path, folder, ignore=shutil.ignore_patterns("*.safetensors"))
        model.save_pretrained(folder, max_shard_size=size)
        opened = open_folder(folder)
        _write_text(
            tmp_path / f"{name}.gguf", opened, Weights(folder), vocabulary_of(opened), "tiny-phi3", "BF16", silent
        )
        files.append((tmp_path / f"{name}.gguf").read_bytes())
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 3
    assert files[0] == files[1]
    expected = model.model.language_model.layers[2].mlp.down_proj.weight.float().detach().numpy()
    assert np.array_equal(Weights(tmp_path / "many").array("text.layers.2.mlp.down_proj.weight"), expected)


def test_damaged_and_foreign_weights_are_named(tiny, tmp_path):
    from safetensors.numpy import load_file, save_file

    file = tmp_path / "model.safetensors"
    whole = (tiny.path / "model.safetensors").read_bytes()
    file.write_bytes(whole[:-100])
    with pytest.raises(ExportError, match="cut short or damaged"):
        Weights(tmp_path)
    tensors = load_file(tiny.path / "model.safetensors")
    name = next(name for name in tensors if name.endswith("layers.1.mlp.down_proj.weight"))
    vocabulary = vocabulary_of(tiny)

    def write(changed):
        save_file(changed, file)
        _write_text(
            tmp_path / "x.gguf", replace(tiny, path=tmp_path), Weights(tmp_path), vocabulary, "n", "F16", silent
        )

    shutil.copy(tiny.path / "tokenizer.json", tmp_path)
    with pytest.raises(ExportError, match=r"lack text\.layers\.1\.mlp\.down_proj\.weight"):
        write({key: value for key, value in tensors.items() if key != name})
    with pytest.raises(ExportError, match=r"no place for text\.layers\.1\.mlp\.down_proj\.lora_A\.weight"):
        write(tensors | {name.replace("weight", "lora_A.weight"): np.zeros((8, 512), np.float32)})
    with pytest.raises(ExportError, match=r"shape \(128, 512\), config.json says \(256, 512\)"):
        write(tensors | {name: tensors[name][:128].copy()})
    with pytest.raises(ExportError, match="holds NaN or infinity"):
        write(tensors | {name: np.full_like(tensors[name], np.nan)})
    with pytest.raises(ExportError, match="more than F16 holds"):
        write(tensors | {name: tensors[name] * np.float32(1e8)})


def test_llama_cpps_refusal_becomes_an_export_error(text_gguf, tmp_path):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(text_gguf("F16").read_bytes()[:3000])
    with pytest.raises(ExportError, match=r"llama\.cpp could not quantize to Q4_K_M"):
        quantise(broken, tmp_path / "out.gguf", "Q4_K_M", threads=1)
    assert not (tmp_path / "out.gguf").exists()
    with pytest.raises(ExportError, match="no quantization 'Q4_K_XXL'"):
        quantise(broken, tmp_path / "out.gguf", "Q4_K_XXL")


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
    command = [
        sys.executable,
        "-c",
        code,
        str(script),
        str(bundle.folder),
        str(bundle.file("probe_image")),
        "Is there a ring?",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() and not done.stderr, done.stderr
